#include "attention/sidecar.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <random>

#include <nlohmann/json.hpp>

#include "attention/plan_spec.h"
#include "attention/plan_testing.h"

namespace tidal {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Json = nlohmann::ordered_json;

constexpr int32_t kNumLayers = 6;
constexpr int32_t kNumKvHeads = 2;
const std::string kHash(64, 'a');

Json EntryJson(const std::string& preset, int budget, const std::vector<int>& select) {
  return {{"preset", preset}, {"budget", budget}, {"select", select}};
}

Json FileWith(const std::vector<Json>& plans) {
  return {{"format", 1}, {"model_hash", kHash}, {"plans", plans}};
}

Result<Sidecar> ParseText(std::string_view text) {
  return Sidecar::Parse("m.tidal.json", text, kHash, kNumLayers, kNumKvHeads);
}

Sidecar Parsed(const Json& json) {
  Result<Sidecar> sidecar = ParseText(json.dump());
  EXPECT_TRUE(sidecar.ok()) << sidecar.status().message();
  return sidecar.ok() ? *sidecar : Sidecar();
}

AttentionPlan PlanOf(std::string_view text, const Sidecar& sidecar) {
  const Result<PlanSpec> spec = PlanSpec::Parse(text);
  EXPECT_TRUE(spec.ok()) << spec.status().message();
  const Result<AttentionPlan> plan =
      spec->Resolve({kNumLayers, /*num_heads=*/4, kNumKvHeads, &sidecar});
  EXPECT_TRUE(plan.ok()) << plan.status().message();
  return plan.ok() ? *plan : AttentionPlan();
}

// ---- reading

TEST(SidecarTest, ReadsEveryField) {
  const Sidecar sidecar = Parsed(Json::parse(R"({
    "format": 1, "model_hash": ")" + kHash + R"(", "made_by": {"any": ["thing"]}, "plans": [
      {"preset": "tidal", "budget": 1024, "below": 2048, "select": [1, 4], "full": [0, 5],
       "scope": "kv", "scorer": "index2", "scan": 0.035, "kl": 0.01, "extra_nats": [1],
       "calibrated_on": "books"},
      {"preset": "kascade", "budget": 256, "select": [0, 2], "full": [0],
       "headmap": [[0, 1], [1, 0], [1, 1], [0, 0]]}]})"));
  EXPECT_EQ(sidecar.name(), "m.tidal.json");
  ASSERT_EQ(sidecar.entries().size(), 2u);
  const SidecarEntry& kascade = sidecar.entries()[0];
  EXPECT_EQ(kascade.preset, "kascade");
  EXPECT_EQ(kascade.budget, 256);
  EXPECT_FALSE(kascade.below || kascade.scope || kascade.scorer);
  EXPECT_EQ(Json(kascade.headmap).dump(), "[[0,1],[1,0],[1,1],[0,0]]");
  const SidecarEntry& tidal = sidecar.entries()[1];
  EXPECT_EQ(tidal.preset, "tidal");
  EXPECT_EQ(tidal.below, 2048);
  EXPECT_THAT(tidal.select, ElementsAre(1, 4));
  EXPECT_THAT(tidal.full, ElementsAre(0, 5));
  EXPECT_EQ(tidal.scope, SetScope::kKvHead);
  EXPECT_EQ(tidal.scorer, Scorer::kIndex2);
  EXPECT_TRUE(tidal.headmap.empty());
}

TEST(SidecarTest, WithoutFullTheLayersBeforeTheFirstSelectionAreFull) {
  const Sidecar sidecar = Parsed(FileWith({EntryJson("tidal", 64, {2, 3})}));
  EXPECT_THAT(sidecar.entries()[0].full, ElementsAre(0, 1));
}

TEST(SidecarTest, FindsTheLargestBudgetNotAbove) {
  const Sidecar sidecar =
      Parsed(FileWith({EntryJson("tidal", 1024, {0, 3}), EntryJson("omnikv", 700, {0}),
                       EntryJson("tidal", 256, {0, 1}), EntryJson("tidal", 512, {0, 2})}));
  EXPECT_EQ(sidecar.Find("tidal", 1)->budget, 256);
  EXPECT_EQ(sidecar.Find("tidal", 256)->budget, 256);
  EXPECT_EQ(sidecar.Find("tidal", 511)->budget, 256);
  EXPECT_EQ(sidecar.Find("tidal", 512)->budget, 512);
  EXPECT_EQ(sidecar.Find("tidal", int64_t{1} << 60)->budget, 1024);
  EXPECT_EQ(sidecar.Find("omnikv", 5)->budget, 700);
  EXPECT_EQ(sidecar.Find("quest", 512), nullptr);
  EXPECT_EQ(Sidecar().Find("tidal", 512), nullptr);
}

TEST(SidecarTest, LiesBesideTheModel) {
  EXPECT_EQ(SidecarPath("/m/a.gguf"), "/m/a.tidal.json");
  EXPECT_EQ(SidecarPath("a.b.gguf"), "a.b.tidal.json");
  EXPECT_EQ(SidecarPath("a"), "a.tidal.json");
  EXPECT_EQ(SidecarPath("/tmp"), "/tmp/model.tidal.json");
  EXPECT_EQ(SidecarPath("/tmp/"), "/tmp/model.tidal.json");
}

// ---- what is wrong with a file

std::string ErrorOf(std::string_view text, StatusCode code = StatusCode::kCorrupt) {
  const Result<Sidecar> sidecar = ParseText(text);
  EXPECT_EQ(sidecar.status().code(), code) << text;
  const std::string message = sidecar.status().message();
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  EXPECT_THAT(message, testing::StartsWith("m.tidal.json: "));
  return message;
}

TEST(SidecarTest, AnotherModelsFileIsRefusedByName) {
  Json json = FileWith({});
  json["model_hash"] = std::string(64, 'b');
  EXPECT_EQ(ErrorOf(json.dump(), StatusCode::kInvalidArgument),
            "m.tidal.json: made for another model (model_hash " + std::string(64, 'b') +
                ", this model's is " + kHash + "): remove it or calibrate anew");
}

TEST(SidecarTest, AnyNameGivesOneLine) {
  const Result<Sidecar> sidecar = Sidecar::Parse("a\nb", "x", kHash, kNumLayers, kNumKvHeads);
  EXPECT_THAT(sidecar.status().message(), testing::StartsWith("a\\x0ab: not valid JSON"));
}

TEST(SidecarTest, WrongHeads) {
  EXPECT_THAT(ErrorOf(""), HasSubstr("not valid JSON at byte 1"));
  EXPECT_THAT(ErrorOf("{\"format\":1"), HasSubstr("not valid JSON"));
  EXPECT_THAT(ErrorOf("[]"), HasSubstr("expected an object, found an array"));
  EXPECT_THAT(ErrorOf("{}"), HasSubstr("format is missing, expected 1"));
  EXPECT_THAT(ErrorOf(R"({"format":2})"), HasSubstr("format is 2, expected 1"));
  EXPECT_THAT(ErrorOf(R"({"format":"1"})"), HasSubstr("format is \"1\", expected 1"));
  EXPECT_THAT(ErrorOf(R"({"format":1})"), HasSubstr("model_hash is missing, expected 64"));
  EXPECT_THAT(ErrorOf(R"({"format":1,"model_hash":"AA"})"), HasSubstr("model_hash is \"AA\""));
  EXPECT_THAT(ErrorOf(R"({"format":1,"format":1})"), HasSubstr("key \"format\" is given twice"));
  Json json = FileWith({});
  json["plans"] = 5;
  EXPECT_THAT(ErrorOf(json.dump()), HasSubstr("plans is 5, expected an array"));
  json.erase("plans");
  EXPECT_THAT(ErrorOf(json.dump()), HasSubstr("plans is missing"));
  json["plans"] = Json(5000, EntryJson("tidal", 64, {0}));
  EXPECT_THAT(ErrorOf(json.dump()), HasSubstr("5000 plans, expected at most 4096"));
  EXPECT_THAT(ErrorOf(std::string((size_t{16} << 20) + 1, ' ')),
              HasSubstr("16777217 bytes, expected at most 16777216"));
  EXPECT_THAT(ErrorOf(std::string(1 << 20, '[')), HasSubstr("more than 32 levels"));
}

TEST(SidecarTest, WrongFields) {
  const std::pair<const char*, std::vector<std::pair<const char*, const char*>>> fields[] = {
      {"preset",
       {{"\"full\"", "preset is \"full\", expected one of"},
        {"\"x\"", "preset is \"x\", expected one of full, tidal"},
        {"1", "preset is 1"}}},
      {"budget",
       {{"0", "budget is 0, expected 1 to 1073741824 tokens"},
        {"-1", "budget is -1"},
        {"1.5", "budget is 1.5"},
        {"1073741825", "budget is 1073741825"},
        {"99999999999999999999", "budget is 1e+20"},
        {"\"10%\"", "budget is \"10%\""}}},
      {"below", {{"-1", "below is -1, expected 0 to"}, {"null", "below is null"}}},
      {"select",
       {{"[]", "select is empty, expected an array of at least one layer"},
        {"\"all\"", "select is \"all\", expected an array of layers"},
        {"[6]", "select has 6, expected layers 0 to 5"},
        {"[-1]", "select has -1"},
        {"[1.0]", "select has 1.0"},
        {"[2,1]", "select has layer 1 after 2, expected ascending layers"},
        {"[1,1]", "select has layer 1 after 1"}}},
      {"full",
       {{"[7]", "full has 7"},
        {"{}", "full is an object"},
        {"[]", "layer 0 is neither in full nor in select"},
        {"[0,2]", "layer 1 is neither in full nor in select"}}},
      {"scope", {{"\"x\"", "scope is \"x\", expected shared, kv or head"}, {"1", "scope is 1"}}},
      {"scorer", {{"\"x\"", "scorer is \"x\", expected exact, index4"}, {"[]", "scorer is an"}}},
      {"headmap",
       {{"1", "headmap is 1, expected one array for each of the 3 reuse layers"},
        {"[[0,1]]", "headmap is an array of 1, expected one array for each of the 3 reuse layers"},
        {"[[0],[0],[0]]", "headmap has an array of 1, expected arrays of 2 sets"},
        {"[1,2,3]", "headmap has 1, expected arrays of 2 sets"},
        {"[[0,1],[0,2],[0,1]]", "headmap has 2, expected sets 0 to 1"}}},
  };
  for (const auto& [field, cases] : fields) {
    for (const auto& [value, error] : cases) {
      Json entry = EntryJson("kascade", 64, {2});
      entry[field] = Json::parse(value);
      const std::string text = FileWith({EntryJson("tidal", 64, {0}), entry}).dump();
      EXPECT_THAT(ErrorOf(text), HasSubstr(std::string("plans[1]: ") + error)) << text;
    }
  }
  for (const char* field : {"preset", "budget", "select"}) {
    Json entry = EntryJson("tidal", 64, {2});
    entry.erase(field);
    EXPECT_THAT(ErrorOf(FileWith({entry}).dump()),
                HasSubstr(fmt::format("plans[0]: {} is missing", field)));
  }
  EXPECT_THAT(ErrorOf(FileWith({Json(1)}).dump()), HasSubstr("expected an object, found 1"));
  EXPECT_THAT(ErrorOf(FileWith({EntryJson("tidal", 64, {0}), EntryJson("tidal", 64, {1})}).dump()),
              HasSubstr("two plans of preset tidal with budget 64"));
}

// ---- plans from a sidecar

TEST(SidecarTest, AutoTakesLayersScopeScorerAndBelow) {
  Json entry = EntryJson("tidal", 512, {2, 4});
  entry["full"] = {0, 1, 5};
  entry["scope"] = "kv";
  entry["scorer"] = "index2";
  entry["below"] = 4000;
  const Sidecar sidecar = Parsed(FileWith({entry}));
  for (const char* text : {"tidal", "tidal:select=auto", "tidal:budget=600", "tidal:budget=100"}) {
    const AttentionPlan plan = PlanOf(text, sidecar);
    EXPECT_THAT(MarkedLayers(plan.selects), ElementsAre(2, 4)) << text;
    EXPECT_THAT(MarkedLayers(plan.reads_all), ElementsAre(0, 1, 5)) << text;
    EXPECT_EQ(plan.scope, SetScope::kKvHead) << text;
    EXPECT_EQ(plan.scorer, Scorer::kIndex2) << text;
    EXPECT_EQ(plan.below, 4000) << text;
    EXPECT_TRUE(plan.variants.empty()) << text;
  }
  EXPECT_EQ(PlanOf("tidal:budget=600", sidecar).budget.value, 600);
  EXPECT_EQ(PlanOf("tidal", sidecar).budget.value, 1024);
}

TEST(SidecarTest, WhatTheTextGivesStands) {
  Json entry = EntryJson("tidal", 512, {2, 4});
  entry["scope"] = "kv";
  entry["scorer"] = "index2";
  entry["below"] = 4000;
  const Sidecar sidecar = Parsed(FileWith({entry}));
  const AttentionPlan plan = PlanOf("tidal:full=0+1+3:scope=shared:scorer=exact:below=0", sidecar);
  EXPECT_THAT(MarkedLayers(plan.selects), ElementsAre(2, 4));
  EXPECT_THAT(MarkedLayers(plan.reads_all), ElementsAre(0, 1, 3));
  EXPECT_EQ(plan.scope, SetScope::kShared);
  EXPECT_EQ(plan.scorer, Scorer::kExact);
  EXPECT_EQ(plan.below, 0);
  // Any other selection, and another preset, know nothing of the entry.
  for (const char* text : {"tidal:select=all", "tidal:select=1+2", "quest", "quest:select=auto",
                           "omnikv", "tidal-paper"})
    EXPECT_EQ(AllFields(PlanOf(text, sidecar)), AllFields(Resolved(text, kNumLayers))) << text;
}

TEST(SidecarTest, CalibratedPresetsTakeTheirLayersFromIt) {
  const Sidecar sidecar =
      Parsed(FileWith({EntryJson("omnikv", 512, {1, 3}), EntryJson("tidal-paper", 64, {1})}));
  EXPECT_THAT(MarkedLayers(PlanOf("omnikv", sidecar).selects), ElementsAre(1, 3));
  EXPECT_THAT(MarkedLayers(PlanOf("omnikv", sidecar).reads_all), ElementsAre(0));
  EXPECT_THAT(MarkedLayers(PlanOf("omnikv:select=auto", sidecar).selects), ElementsAre(1, 3));
  EXPECT_THAT(MarkedLayers(PlanOf("omnikv:select=2", sidecar).selects), ElementsAre(2));
  EXPECT_THAT(MarkedLayers(PlanOf("omnikv:full=0+1+2", sidecar).selects), ElementsAre(2));
  EXPECT_THAT(MarkedLayers(PlanOf("tidal-paper", sidecar).selects), ElementsAre(2));
}

TEST(SidecarTest, MassTakesTheLargestBudget) {
  const Sidecar sidecar =
      Parsed(FileWith({EntryJson("tidal", 512, {0, 1}), EntryJson("tidal", 64, {0, 2})}));
  EXPECT_THAT(MarkedLayers(PlanOf("tidal:mass=0.9", sidecar).selects), ElementsAre(0, 1));
  EXPECT_THAT(MarkedLayers(PlanOf("tidal:budget=100", sidecar).selects), ElementsAre(0, 2));
}

TEST(SidecarTest, APercentagePassesFromEntryToEntry) {
  Json larger = EntryJson("tidal", 512, {0, 3});
  larger["below"] = 7;
  const Sidecar sidecar =
      Parsed(FileWith({EntryJson("tidal", 100, {0, 1}), EntryJson("tidal", 256, {0, 2}), larger}));
  const AttentionPlan plan = PlanOf("tidal:budget=6.25%:sinks=0:recent=0", sidecar);
  EXPECT_THAT(MarkedLayers(plan.selects), ElementsAre(0, 1));
  ASSERT_EQ(plan.variants.size(), 2u);
  EXPECT_THAT(MarkedLayers(plan.variants[1].second.selects), ElementsAre(0, 3));
  EXPECT_EQ(plan.variants[1].second.below, 7);
  for (int32_t kv_len = 1; kv_len < 10000; ++kv_len) {
    // ceil(kv_len / 16) tokens: the largest entry that is not above them, else the smallest.
    const int32_t tokens = (kv_len + 15) / 16;
    const int32_t layer = tokens >= 512 ? 3 : tokens >= 256 ? 2 : 1;
    ASSERT_TRUE(plan.At(kv_len).Selects(layer)) << kv_len;
    ASSERT_EQ(MarkedLayers(plan.At(kv_len).selects).size(), 2u) << kv_len;
  }
  // A floor counts: the budget is never less.
  const AttentionPlan floored = PlanOf("tidal:budget=6.25%:floor=300", sidecar);
  EXPECT_TRUE(floored.At(1).Selects(2));
  EXPECT_TRUE(floored.At(8177).Selects(3));
  EXPECT_TRUE(floored.At(8176).Selects(2));
}

TEST(SidecarTest, KascadeMapsHeads) {
  Json entry = EntryJson("kascade", 64, {0, 3});
  entry["full"] = {0, 1};
  entry["headmap"] = {{1, 0}, {0, 0}, {1, 1}};  // layers 2, 4 and 5
  const Sidecar sidecar = Parsed(FileWith({entry}));
  const AttentionPlan plan = PlanOf("kascade", sidecar);
  const std::vector<std::vector<int32_t>> expected = {{}, {}, {1, 0}, {}, {0, 0}, {1, 1}};
  EXPECT_EQ(plan.headmap, expected);
  EXPECT_EQ(Json::parse(PlanJson(plan))["headmap"].dump(), "[[1,0],[0,0],[1,1]]");
  // A layer that the text makes full needs no map; other scopes have no sets per KV head.
  const AttentionPlan fuller = PlanOf("kascade:select=auto:full=0+1+4", sidecar);
  EXPECT_EQ(fuller.headmap, (std::vector<std::vector<int32_t>>{{}, {}, {1, 0}, {}, {}, {1, 1}}));
  EXPECT_TRUE(PlanOf("kascade:scope=shared", sidecar).headmap.empty());
  EXPECT_TRUE(PlanOf("kascade:select=0+2", sidecar).headmap.empty());
}

TEST(SidecarTest, AnEntryThatDoesNotGoWithTheTextIsAnError) {
  Json entry = EntryJson("tidal", 64, {2});
  entry["scorer"] = "pages-minmax";
  const Sidecar sidecar = Parsed(FileWith({entry}));
  const Result<AttentionPlan> plan =
      PlanSpec::Parse("tidal:mass=0.9")->Resolve({kNumLayers, 4, kNumKvHeads, &sidecar});
  EXPECT_THAT(plan.status().message(),
              HasSubstr("mass=0.9 needs probabilities, which scorer=pages-minmax does not give"));
  const Result<AttentionPlan> reuse =
      PlanSpec::Parse("tidal:full=none")->Resolve({kNumLayers, 4, kNumKvHeads, &sidecar});
  EXPECT_THAT(reuse.status().message(), HasSubstr("layer 0 is neither in full nor in select"));
}

// ---- whatever the file

TEST(SidecarTest, MutatedFilesGiveASidecarOrOneLine) {
  Json entry = EntryJson("kascade", 64, {0, 3});
  entry["full"] = {0, 1};
  entry["below"] = 2048;
  entry["headmap"] = {{1, 0}, {0, 0}, {1, 1}};
  const std::string seed =
      FileWith({entry, EntryJson("tidal", 100, {0, 1}), EntryJson("tidal", 256, {0, 2})}).dump();
  const std::string alphabet = "{}[]:,\"\\0123456789.eE-+ntfux \0\xff";
  std::mt19937 random(7);
  int good = 0;
  for (int i = 0; i < 3000; ++i) {
    std::string text = seed;
    for (uint32_t edits = 1 + random() % 3; edits > 0; --edits) {
      const size_t at = random() % text.size();
      if (random() % 3 == 0) {
        text.erase(at, 1 + random() % 8);
      } else if (random() % 2 == 0) {
        text[at] = alphabet[random() % alphabet.size()];
      } else {
        text.insert(at, 1, alphabet[random() % alphabet.size()]);
      }
    }
    const Result<Sidecar> sidecar = ParseText(text);
    if (!sidecar.ok()) {
      ASSERT_EQ(sidecar.status().message().find('\n'), std::string::npos) << text;
      continue;
    }
    ++good;
    for (const char* plan :
         {"tidal:budget=10%", "kascade", "kascade:full=0+1+2", "tidal:mass=0.5"}) {
      const Result<AttentionPlan> resolved =
          PlanSpec::Parse(plan)->Resolve({kNumLayers, 4, kNumKvHeads, &*sidecar});
      ASSERT_TRUE(resolved.ok() || !resolved.status().message().empty());
    }
  }
  EXPECT_GT(good, 50);
}

}  // namespace
}  // namespace tidal
