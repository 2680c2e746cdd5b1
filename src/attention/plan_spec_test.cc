#include "attention/plan_spec.h"

#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "attention/plan_testing.h"

namespace tidal {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Json = nlohmann::json;

// ---- presets

struct PresetRow {
  const char* preset;
  std::vector<int32_t> full, select;  // of a model with 30 layers: R is 12
  Scorer scorer;
  SetScope scope;
  Merge merge;
  const char* budget;  // as PlanJson writes it; null: mass
  double mass;
  int32_t sinks;
  const char* recent;
  int32_t page = 1;
  int32_t floor = 1;
  double refresh_cosine = 2;
};

std::vector<int32_t> AllLayers() {
  std::vector<int32_t> layers(30);
  for (size_t i = 0; i < layers.size(); ++i) layers[i] = static_cast<int32_t>(i);
  return layers;
}

const std::vector<PresetRow>& PresetTable() {
  static const std::vector<PresetRow> table = {
      {"tidal",
       {},
       AllLayers(),
       Scorer::kIndex4,
       SetScope::kShared,
       Merge::kMass,
       "1024",
       0,
       4,
       "64"},
      {"tidal-paper",
       {0, 1, 2, 12},
       {2, 12},
       Scorer::kExact,
       SetScope::kHead,
       Merge::kScore,
       "256",
       0,
       0,
       "0"},
      {"lessismore",
       {0, 1, 2, 12},
       {2, 12},
       Scorer::kExact,
       SetScope::kShared,
       Merge::kRank,
       "512",
       0,
       4,
       "\"25%\""},
      {"quest",
       {0, 1},
       AllLayers(),
       Scorer::kPagesMinMax,
       SetScope::kHead,
       Merge::kScore,
       "512",
       0,
       0,
       "1",
       /*page=*/16},
      {"streaming",
       {},
       AllLayers(),
       Scorer::kNone,
       SetScope::kShared,
       Merge::kMass,
       "512",
       0,
       4,
       "\"rest\""},
      {"tokenselect",
       {},
       AllLayers(),
       Scorer::kExact,
       SetScope::kShared,
       Merge::kMass,
       "2688",
       0,
       128,
       "512",
       1,
       1,
       /*refresh_cosine=*/0.9},
      {"omnikv",
       {0, 1, 2, 12},
       {2, 12},
       Scorer::kExact,
       SetScope::kShared,
       Merge::kMax,
       "512",
       0,
       0,
       "1"},
      {"kascade",
       {0, 2, 12},
       {0, 2, 12},
       Scorer::kExact,
       SetScope::kKvHead,
       Merge::kMass,
       "\"10%\"",
       0,
       0,
       "1",
       1,
       /*floor=*/128},
      {"zipvl",
       {},
       AllLayers(),
       Scorer::kExact,
       SetScope::kShared,
       Merge::kMass,
       nullptr,
       0.975,
       0,
       "1"},
      {"twilight",
       {0, 1},
       AllLayers(),
       Scorer::kIndex4,
       SetScope::kHead,
       Merge::kScore,
       nullptr,
       0.9,
       0,
       "1"},
  };
  return table;
}

TEST(PlanSpecTest, EveryKeyOfEveryPreset) {
  for (const PresetRow& row : PresetTable()) {
    SCOPED_TRACE(row.preset);
    const AttentionPlan plan = Resolved(row.preset);
    EXPECT_EQ(plan.preset, row.preset);
    EXPECT_EQ(MarkedLayers(plan.reads_all), row.full);
    EXPECT_EQ(MarkedLayers(plan.selects), row.select);
    EXPECT_EQ(plan.scorer, row.scorer);
    EXPECT_EQ(plan.scope, row.scope);
    EXPECT_EQ(plan.merge, row.merge);
    const Json json = Json::parse(PlanJson(plan));
    EXPECT_EQ(json.contains("budget"), row.budget != nullptr);
    if (row.budget != nullptr) {
      EXPECT_EQ(json["budget"].dump(), row.budget);
    }
    EXPECT_EQ(json["recent"].dump(), row.recent);
    EXPECT_EQ(plan.mass, row.mass);
    EXPECT_EQ(plan.sinks, row.sinks);
    EXPECT_EQ(plan.page, row.page);
    EXPECT_EQ(plan.floor, row.floor);
    EXPECT_EQ(plan.refresh_cosine, row.refresh_cosine);
    EXPECT_EQ(plan.ceil, 0);
    EXPECT_FALSE(plan.keep_newlines);
    EXPECT_EQ(plan.correct.when, Correction::When::kOff);
    EXPECT_EQ(plan.guard, 0);
    EXPECT_EQ(plan.below, 1024);
    EXPECT_TRUE(plan.headmap.empty());
    EXPECT_TRUE(plan.variants.empty());
  }
  EXPECT_TRUE(Resolved("full").is_full());
}

// ---- another program's reading of the same texts

TokenAmount::Unit UnitOf(const std::string& text) {
  if (text == "rest") return TokenAmount::Unit::kRest;
  return text.ends_with('%') ? TokenAmount::Unit::kPercent : TokenAmount::Unit::kTokens;
}

void ExpectAmount(const TokenAmount& amount, const std::string& text) {
  EXPECT_EQ(amount.unit, UnitOf(text));
  EXPECT_EQ(amount.value, text.empty() || text == "rest" ? 0 : std::stod(text));
}

void ExpectKeys(const AttentionPlan& plan, const Json& expected) {
  const auto text = [&](const char* key) { return expected[key].get<std::string>(); };
  const auto number = [&](const char* key) { return std::stod(text(key)); };
  EXPECT_EQ(NameOf(plan.scorer), text("scorer"));
  EXPECT_EQ(NameOf(plan.scope), text("scope"));
  EXPECT_EQ(NameOf(plan.merge), text("merge"));
  ExpectAmount(plan.budget, text("budget"));
  ExpectAmount(plan.recent, text("recent"));
  EXPECT_EQ(plan.mass, text("mass").empty() ? 0 : number("mass"));
  EXPECT_EQ(plan.floor, number("floor"));
  EXPECT_EQ(plan.ceil, number("ceil"));
  EXPECT_EQ(plan.sinks, number("sinks"));
  EXPECT_EQ(plan.page, number("page"));
  EXPECT_EQ(plan.guard, number("guard"));
  EXPECT_EQ(plan.below, number("below"));
  EXPECT_EQ(plan.keep_newlines, text("keep") == "newline");
  const std::string refresh = text("refresh");
  EXPECT_EQ(plan.refresh_cosine, refresh == "step" ? 2 : std::stod(refresh.substr(3)));
  const std::string correct = text("correct");
  EXPECT_EQ(plan.correct.when, correct == "off" ? Correction::When::kOff : Correction::When::kRows);
  EXPECT_EQ(plan.correct.rows, correct == "off" ? 0 : std::stoi(correct));
}

// tests/data/attention/plan_cases.json: what a Python program that defines the same plans reads in
// their texts, for models with 24, 28 and 30 layers, and how many tokens it keeps: [kv_len, budget,
// sinks, recent, pages].
TEST(PlanSpecTest, ReadsPlansAsTheReferenceProgramDoes) {
  std::ifstream file(TIDAL_SOURCE_DIR "/tests/data/attention/plan_cases.json");
  const Json cases = Json::parse(file);
  EXPECT_EQ(cases.size(), 51u);
  for (const Json& expected : cases) {
    const auto text = expected["plan"].get<std::string>();
    SCOPED_TRACE(text);
    for (const int32_t num_layers : {24, 28, 30}) {
      const AttentionPlan plan = Resolved(text, num_layers);
      ASSERT_EQ(plan.is_full(), text == "full");
      if (plan.is_full()) continue;
      EXPECT_EQ(Json(MarkedLayers(plan.reads_all)), expected[fmt::format("full{}", num_layers)]);
      EXPECT_EQ(Json(MarkedLayers(plan.selects)), expected[fmt::format("select{}", num_layers)]);
      ExpectKeys(plan, expected);
      for (const Json& sizes : expected["sizes"]) {
        const SetSizes got = plan.SizesAt(sizes[0].get<int32_t>());
        EXPECT_EQ(Json({sizes[0], got.token_budget, got.sinks, got.recent, got.pages}), sizes);
      }
    }
  }
}

// ---- layers

TEST(PlanSpecTest, LayersOfAModel) {
  EXPECT_EQ(ReselectionLayer({32, 32, 32}), 7);
  EXPECT_EQ(ReselectionLayer({32, 32, 8}), 13);
  EXPECT_EQ(ReselectionLayer({80, 64, 8}), 14);
  EXPECT_EQ(ReselectionLayer(ModelWith(24)), 10);
  EXPECT_EQ(ReselectionLayer(ModelWith(28)), 11);
  EXPECT_EQ(ReselectionLayer(ModelWith(30)), 12);
  EXPECT_EQ(ReselectionLayer(ModelWith(1)), 0);
  EXPECT_EQ(ReselectionLayer(ModelWith(2)), 1);
  // R may be one of the layers that are named anyway.
  EXPECT_THAT(MarkedLayers(Resolved("tidal-paper", 5).selects), ElementsAre(2));
  EXPECT_THAT(MarkedLayers(Resolved("tidal-paper", 3).reads_all), ElementsAre(0, 1, 2));
}

TEST(PlanSpecTest, FullIsWhatComesBeforeTheFirstSelection) {
  const auto layers = [](std::string_view text) {
    return MarkedLayers(Resolved(text, 6).reads_all);
  };
  EXPECT_THAT(layers("quest:select=3+5"), ElementsAre(0, 1, 2));
  EXPECT_THAT(layers("quest:select=5+3"), ElementsAre(0, 1, 2));
  EXPECT_THAT(layers("quest:select=R"), ElementsAre(0, 1));
  EXPECT_THAT(layers("quest:select=all"), ElementsAre());
  EXPECT_THAT(layers("quest:select=auto"), ElementsAre());
  EXPECT_THAT(layers("quest:full=0+5:select=1"), ElementsAre(0, 5));
  EXPECT_THAT(layers("quest:full=5"), ElementsAre(5));
}

TEST(PlanSpecTest, APlanThatChoosesNothingIsTheFullPlan) {
  for (const char* text : {"full", "full:full=all:select=none", "tidal:select=none",
                           "tidal:full=all:select=none", R"({"preset":"full"})"}) {
    const AttentionPlan plan = Resolved(text);
    EXPECT_TRUE(plan.is_full()) << text;
    EXPECT_EQ(AllFields(plan), AllFields(AttentionPlan())) << text;
  }
  EXPECT_FALSE(Resolved("tidal:full=all:select=all").is_full());
}

// ---- texts and round trips

TEST(PlanSpecTest, JsonSaysTheSame) {
  const std::pair<const char*, const char*> pairs[] = {
      {R"({"preset":"tidal","select":[2,13],"budget":256})", "tidal:select=2+13:budget=256"},
      {R"({"preset":"tidal","full":"all","select":"auto"})", "tidal:full=all:select=auto"},
      {R"({"budget":"6.25%","recent":16,"preset":"tidal"})", "tidal:budget=6.25%:recent=16"},
      {R"({"preset":"tidal","mass":0.9,"floor":96,"ceil":512})",
       "tidal:mass=0.9:floor=96:ceil=512"},
      {R"({"preset":"quest","full":[],"page":64})", "quest:full=none:page=64"},
      {R"( {"preset":"tidal","refresh":"cos0.9","correct":128,"guard":0.5,"below":0} )",
       "tidal:refresh=cos0.9:correct=128:guard=0.5:below=0"},
      {R"({"preset":"streaming","recent":"rest","correct":"turn","keep":"newline"})",
       "streaming:recent=rest:correct=turn:keep=newline"},
      {R"({"preset":"tidal","budget":512.0})", "tidal:budget=512"},
  };
  for (const auto& [json, text] : pairs)
    EXPECT_EQ(AllFields(Resolved(json)), AllFields(Resolved(text))) << json;
}

TEST(PlanSpecTest, TheLaterOfBudgetAndMassCounts) {
  EXPECT_EQ(Resolved("tidal:mass=0.9").budget.value, 0);
  EXPECT_EQ(Resolved("twilight:budget=64").mass, 0);
  EXPECT_EQ(Resolved("tidal:budget=64:mass=0.9").mass, 0.9);
  EXPECT_EQ(Resolved("tidal:mass=0.9:budget=128").budget.value, 128);
  EXPECT_EQ(Resolved("tidal:mass=0.9:budget=128").mass, 0);
}

TEST(PlanSpecTest, KeepsTheTextAsGiven) {
  const Result<PlanSpec> spec = PlanSpec::Parse(" quest:budget=64\n");
  ASSERT_TRUE(spec.ok());
  EXPECT_EQ(spec->text(), "quest:budget=64");
  EXPECT_EQ(spec->preset(), "quest");
  EXPECT_EQ(PlanSpec().text(), "full");
}

TEST(PlanSpecTest, Lists) {
  const Result<std::vector<PlanSpec>> specs = PlanSpec::ParseList(
      "full, tidal:select=2+13 ,{\"preset\":\"tidal\",\"select\":[2,13],\"keep\":\"none\"},quest");
  ASSERT_TRUE(specs.ok()) << specs.status().message();
  ASSERT_EQ(specs->size(), 4u);
  EXPECT_EQ((*specs)[1].text(), "tidal:select=2+13");
  EXPECT_EQ((*specs)[2].preset(), "tidal");
  EXPECT_EQ((*specs)[3].text(), "quest");
  EXPECT_EQ(PlanSpec::ParseList("tidal")->size(), 1u);
  for (const char* text : {"", ",", "full,", ",full", "full,,tidal", "full,x",
                           "{\"preset\":\"tidal\"", "{\"preset\":\"}\",full"}) {
    const Result<std::vector<PlanSpec>> wrong = PlanSpec::ParseList(text);
    EXPECT_EQ(wrong.status().code(), StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(wrong.status().message(), HasSubstr("attention plan \"")) << text;
  }
}

TEST(PlanSpecTest, TextAndJsonReadBack) {
  std::vector<std::string> texts = {
      "tidal:full=0+1+2+13:select=2+13:merge=max:budget=6.1%:floor=77:sinks=1:recent=2",
      "zipvl:mass=0.12345678901234567:floor=96:ceil=512:recent=3.3%:keep=newline",
      "tidal:budget=0.00001%:sinks=0:recent=0:floor=0",
      "tidal:refresh=cos1:correct=turn:guard=1:below=1073741824",
      "tidal:correct=1:scope=head:merge=score:page=1024",
      "quest:scope=kv",
      "streaming:merge=rank:recent=50%",
  };
  for (const PresetRow& row : PresetTable()) texts.emplace_back(row.preset);
  for (const std::string& text : texts) {
    const AttentionPlan plan = Resolved(text);
    EXPECT_EQ(AllFields(Resolved(plan.ToString())), AllFields(plan)) << plan.ToString();
    EXPECT_EQ(AllFields(Resolved(PlanJson(plan))), AllFields(plan)) << PlanJson(plan);
  }
}

TEST(PlanSpecTest, JsonOfAResolvedPlan) {
  EXPECT_EQ(PlanJson(AttentionPlan()), R"({"preset":"full","full":"all","select":"none"})");
  EXPECT_EQ(PlanJson(Resolved("kascade:correct=16:guard=0.5")),
            R"({"preset":"kascade","full":[0,2,12],"select":[0,2,12],"scorer":"exact",)"
            R"("scope":"kv","merge":"mass","budget":"10%","floor":128,"ceil":0,"sinks":0,)"
            R"("recent":1,"keep":"none","page":1,"refresh":"step","correct":16,"guard":0.5,)"
            R"("below":1024})");
  const Json json = Json::parse(PlanJson(Resolved("zipvl")));
  EXPECT_EQ(json["mass"], 0.975);
  EXPECT_FALSE(json.contains("budget"));
  EXPECT_EQ(json["select"], "all");
  EXPECT_EQ(json["full"], "none");
}

}  // namespace
}  // namespace tidal
