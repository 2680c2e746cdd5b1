// Wrong plans: each is one line naming the key, the value and what is allowed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <random>

#include "attention/plan_spec.h"
#include "attention/plan_testing.h"

namespace tidal {
namespace {

using testing::HasSubstr;

// What is wrong with a plan, from whichever of the two steps sees it.
std::string ErrorOf(std::string_view text, int32_t num_layers = 30) {
  const Result<PlanSpec> spec = PlanSpec::Parse(text);
  Status status = spec.status();
  if (spec.ok()) status = spec->Resolve(ModelWith(num_layers)).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << text;
  EXPECT_EQ(status.message().find('\n'), std::string::npos) << status.message();
  return status.message();
}

TEST(PlanErrorsTest, UnknownNamesListTheKnownOnes) {
  EXPECT_EQ(ErrorOf("tidle:budget=1"),
            "attention plan \"tidle:budget=1\": unknown preset \"tidle\", expected one of full, "
            "tidal, tidal-paper, lessismore, quest, streaming, tokenselect, omnikv, kascade, "
            "zipvl, twilight");
  EXPECT_EQ(ErrorOf("tidal:bugdet=64"),
            "attention plan \"tidal:bugdet=64\": unknown key \"bugdet\" (value \"64\"), expected "
            "one of full, select, scorer, scope, merge, budget, mass, floor, ceil, sinks, recent, "
            "keep, page, refresh, correct, guard, below");
  EXPECT_THAT(ErrorOf(""), HasSubstr("unknown preset \"\""));
  EXPECT_THAT(ErrorOf("Tidal"), HasSubstr("unknown preset \"Tidal\""));
  EXPECT_THAT(ErrorOf("tidal:headmap=1"), HasSubstr("a headmap comes from a sidecar only"));
}

TEST(PlanErrorsTest, MalformedTexts) {
  EXPECT_THAT(ErrorOf("tidal:"), HasSubstr("\"\" has no value, expected key=value"));
  EXPECT_THAT(ErrorOf("tidal:budget"), HasSubstr("\"budget\" has no value"));
  EXPECT_THAT(ErrorOf("tidal::budget=1"), HasSubstr("\"\" has no value"));
  EXPECT_THAT(ErrorOf("tidal:=5"), HasSubstr("unknown key \"\""));
  EXPECT_THAT(ErrorOf("tidal:budget=512=3"), HasSubstr("budget is \"512=3\""));
  EXPECT_THAT(ErrorOf("tidal:budget=64:budget=128"),
              HasSubstr("budget is given twice, as \"64\" and \"128\""));
  EXPECT_THAT(ErrorOf("tidal:a\nb=\x01\xff"), HasSubstr("unknown key \"a\\x0ab\" (value "
                                                        "\"\\x01\\xff\")"));
  const std::string text = ErrorOf("tidal:select=" + std::string(1000, '9'));
  EXPECT_LT(text.size(), 500u);
  EXPECT_THAT(ErrorOf(std::string(70000, 'x')), HasSubstr("70000 bytes, expected at most 65536"));
}

TEST(PlanErrorsTest, MalformedJson) {
  EXPECT_THAT(ErrorOf("{"), HasSubstr("not valid JSON at byte 2"));
  EXPECT_THAT(ErrorOf("{}"), HasSubstr("preset is missing, expected one of full, tidal"));
  EXPECT_THAT(ErrorOf(R"({"preset":1})"), HasSubstr("preset is number, expected one of"));
  EXPECT_THAT(ErrorOf(R"({"preset":"tidal"} x)"), HasSubstr("not valid JSON"));
  EXPECT_THAT(ErrorOf(R"({"preset":"tidal","budget":1,"budget":2})"),
              HasSubstr("key \"budget\" is given twice"));
  EXPECT_THAT(ErrorOf(R"({"preset":"tidal","budget":null})"),
              HasSubstr("\"budget\" is null, expected a number, a string or an array of layers"));
  EXPECT_THAT(ErrorOf(R"({"preset":"tidal","select":["2"]})"),
              HasSubstr("\"select\" is an array of other values"));
  EXPECT_THAT(ErrorOf(R"({"preset":"tidal","select":[[2]]})"), HasSubstr("an array of other"));
  EXPECT_THAT(ErrorOf(R"({"preset":"tidal","select":[-1]})"), HasSubstr("select is \"-1\""));
  EXPECT_THAT(ErrorOf(R"({"preset":"tidal","budget":18446744073709551615})"),
              HasSubstr("budget is \"18446744073709551615\""));
  EXPECT_THAT(ErrorOf(R"({"preset":"tidal","budget":1e999})"), HasSubstr("not valid JSON"));
  EXPECT_THAT(ErrorOf(R"({"preset":"tidal","budget":0.5})"), HasSubstr("budget is \"0.5\""));
  EXPECT_THAT(ErrorOf(R"({"preset":"tidal","headmap":[1]})"), HasSubstr("from a sidecar only"));
  EXPECT_THAT(ErrorOf("{\"preset\":\"tidal\",\"x\":\"\xff\"}"), HasSubstr("not valid JSON"));
  EXPECT_THAT(ErrorOf("{\"a\":" + std::string(40, '[')),
              HasSubstr("more than 32 levels of arrays and objects"));
}

TEST(PlanErrorsTest, ValuesOutOfBounds) {
  const std::pair<std::string, std::vector<const char*>> keys[] = {
      {"full",
       {"", "auto", "-1", "1++2", "+1", "1+", "1,2", "1+1", "R+R", "4096", "x", "all+1",
        "99999999999999999999", " 1", "0x1"}},
      {"select", {"", "none+1", "2+2", "-1", "4096", "Auto"}},
      {"scorer", {"", "index", "index8", "Exact"}},
      {"scope", {"", "all", "heads"}},
      {"merge", {"", "sum"}},
      {"budget",
       {"", "0", "-5", "+5", "1.5", "1073741825", "99999999999999999999", "0%", "-1%", "100.5%",
        "nan%", "inf%", "%", "1e9", "rest", "5 %"}},
      {"mass", {"", "0", "-0.5", "1.01", "nan", "inf", "90%", "0.9x", "1e-400"}},
      {"floor", {"", "-1", "1073741825", "10%"}},
      {"ceil", {"", "-1", "1.5"}},
      {"sinks", {"", "-1", "4%", "1073741825"}},
      {"recent", {"", "-1", "0%", "101%", "Rest", "1073741825"}},
      {"keep", {"", "newlines", "all"}},
      {"page", {"", "0", "-1", "3", "24", "2048", "16.0"}},
      {"refresh", {"", "4", "cos", "cos0", "cos1.1", "cos-1", "cosnan", "steps"}},
      {"correct", {"", "on", "0", "-1", "1073741825"}},
      {"guard", {"", "-0.1", "1.1", "nan", "off"}},
      {"below", {"", "-1", "1073741825", "1k"}},
  };
  for (const auto& [key, values] : keys) {
    for (const char* value : values) {
      const std::string text = fmt::format("tidal:{}={}", key, value);
      const std::string error = ErrorOf(text);
      EXPECT_THAT(error, HasSubstr(fmt::format("{} is \"{}\", expected ", key, value))) << text;
    }
  }
}

TEST(PlanErrorsTest, LayersThatAreNotThere) {
  EXPECT_EQ(ErrorOf("tidal:select=2+30"),
            "attention plan \"tidal:select=2+30\": select has layer 30, but the model has layers 0 "
            "to 29");
  EXPECT_THAT(ErrorOf("tidal:full=30"), HasSubstr("full has layer 30"));
  EXPECT_THAT(ErrorOf("tidal-paper", 2), HasSubstr("select has layer 2, but the model has layers "
                                                   "0 to 1"));
  EXPECT_THAT(ErrorOf("tidal:full=none:select=2"),
              HasSubstr("layer 0 is neither in full nor in select and has no selection layer "
                        "before it"));
  EXPECT_THAT(ErrorOf("tidal:full=0:select=2"), HasSubstr("layer 1 is neither"));
  EXPECT_THAT(ErrorOf("tidal:full=0+1:select=none"), HasSubstr("layer 2 is neither"));
}

TEST(PlanErrorsTest, KeysThatExcludeEachOther) {
  const std::pair<const char*, const char*> cases[] = {
      {"tidal:merge=score",
       "merge=score ranks by one head's score and needs scope=head, but "
       "scope=shared"},
      {"tidal-paper:scope=kv", "needs scope=head, but scope=kv"},
      {"quest:scope=kv:scorer=exact", "needs scope=head, but scope=kv"},
      {"lessismore:mass=0.9", "mass=0.9 does not go with merge=rank"},
      {"lessismore:page=16", "page=16 does not go with merge=rank"},
      {"tidal:mass=0.9:page=16", "mass=0.9 does not go with page=16"},
      {"quest:mass=0.9:page=1", "mass=0.9 needs probabilities, which scorer=pages-minmax does not"},
      {"streaming:mass=0.9:recent=8", "mass=0.9 needs probabilities, which scorer=none does not"},
      {"streaming:mass=0.9", "recent=rest is what a budget leaves, but mass=0.9 decides"},
      {"quest:guard=0.5", "guard=0.5 needs a selected mass, which scorer=pages-minmax does not"},
      {"streaming:guard=0.5", "guard=0.5 needs a selected mass, which scorer=none does not"},
      {"zipvl:floor=9:ceil=8", "floor=9 is above ceil=8"},
      {"full:budget=64", "budget=64 does not go with the preset full, which reads everything"},
      {"full:select=2", "select=2 does not go with the preset full"},
      {"full:full=none", "full=none does not go with the preset full"},
  };
  for (const auto& [text, error] : cases) EXPECT_THAT(ErrorOf(text), HasSubstr(error)) << text;
  for (const char* text :
       {"quest:scope=kv", "quest:scope=shared", "streaming:merge=score", "tidal:scope=head",
        "quest:merge=rank", "zipvl:floor=9:ceil=9", "zipvl:floor=9:ceil=0", "lessismore:scope=kv"})
    EXPECT_FALSE(Resolved(text).is_full()) << text;
}

TEST(PlanErrorsTest, ABudgetBelowWhatIsAlwaysKept) {
  EXPECT_EQ(ErrorOf("tidal:budget=67"),
            "attention plan \"tidal:budget=67\": budget=67 is less than the 68 tokens always kept "
            "(sinks 4 + recent 64): raise budget, or lower sinks or recent");
  EXPECT_THAT(ErrorOf("streaming:budget=3"), HasSubstr("(sinks 4 + recent 0)"));
  EXPECT_THAT(ErrorOf("tokenselect:budget=639"), HasSubstr("the 640 tokens always kept"));
  EXPECT_THAT(ErrorOf("tidal:budget=100:recent=100%"), HasSubstr("the 104 tokens always kept"));
  EXPECT_THAT(ErrorOf("tidal:sinks=1073741824:recent=1073741824:budget=1073741824"),
              HasSubstr("the 2147483648 tokens always kept"));
  for (const char* text : {"tidal:budget=68", "tidal:budget=67:page=16", "tidal:budget=0.1%",
                           "lessismore:budget=4", "streaming:budget=4", "quest:budget=1"})
    EXPECT_FALSE(Resolved(text).is_full()) << text;
}

// ---- whatever the text

TEST(PlanErrorsTest, MutatedTextsGivePlansOrOneLine) {
  std::mt19937 random(20241124);
  const std::string alphabet = ":=+,%{}[]\"\\.0123456789RabcdefnosxyzE-\n\0\xff";
  const std::string seeds[] = {
      "tidal:full=0+1+2+13:select=2+13:merge=max:budget=6.25%:floor=77:sinks=1:recent=2",
      "zipvl:mass=0.9:floor=96:ceil=512:recent=3.3%:keep=newline:refresh=cos0.9:correct=turn",
      PlanJson(Resolved("tidal:select=2+13:budget=10%:guard=0.5:correct=16")),
      "full,tidal,{\"preset\":\"quest\",\"select\":[1,2,3]},streaming:recent=rest",
  };
  int plans = 0;
  for (int i = 0; i < 4000; ++i) {
    std::string text = seeds[static_cast<size_t>(i) % std::size(seeds)];
    for (uint32_t edits = 1 + random() % 2; edits > 0 && !text.empty(); --edits) {
      const size_t at = random() % text.size();
      const char letter = alphabet[random() % alphabet.size()];
      switch (random() % 4) {
        case 0:
          text[at] = letter;
          break;
        case 1:
          text.insert(at, 1, letter);
          break;
        case 2:
          text.erase(at, 1 + random() % 5);
          break;
        default:
          text.insert(at, text.substr(random() % text.size(), random() % 20));
          break;
      }
    }
    const Result<std::vector<PlanSpec>> specs = PlanSpec::ParseList(text);
    if (!specs.ok()) {
      ASSERT_EQ(specs.status().message().find('\n'), std::string::npos) << text;
      continue;
    }
    for (const PlanSpec& spec : *specs) {
      const Result<AttentionPlan> plan = spec.Resolve(ModelWith(1 + i % 40));
      ASSERT_TRUE(plan.ok() || !plan.status().message().empty());
      if (!plan.ok() || plan->is_full()) continue;
      ++plans;
      ASSERT_EQ(plan->reads_all.size(), plan->selects.size());
      for (const int32_t kv_len : {1, 1000, 1 << 30}) {
        const SetSizes sizes = plan->SizesAt(kv_len);
        ASSERT_GE(sizes.token_budget, 0);
        ASSERT_LE(sizes.sinks, kv_len);
        ASSERT_LE(sizes.recent, kv_len);
      }
    }
  }
  EXPECT_GT(plans, 100);
}

}  // namespace
}  // namespace tidal
