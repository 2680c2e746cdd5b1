#include <algorithm>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <string>

#include <nlohmann/json.hpp>

#include "attention/sidecar.h"

namespace tidal {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

const std::string kHash(64, 'a');

MeasuredEntry SomeEntry(int32_t budget) {
  MeasuredEntry measured;
  measured.entry.preset = "tidal";
  measured.entry.budget = budget;
  measured.entry.below = 768;
  measured.entry.select = {0, 2};
  measured.entry.scope = SetScope::kKvHead;
  measured.entry.scorer = Scorer::kIndex2;
  measured.measurement = {0.0352, 0.0123456789, -0.001, "six texts"};
  return measured;
}

TEST(SidecarText, IsReadBackToTheSameEntries) {
  const MeasuredEntry entries[] = {SomeEntry(256), SomeEntry(1024)};
  const std::string text = SidecarText(kHash, entries, "");
  const Result<Sidecar> sidecar = Sidecar::Parse("x", text, kHash, 4, 2);
  ASSERT_TRUE(sidecar.ok()) << sidecar.status().message();
  ASSERT_EQ(sidecar->entries().size(), 2u);
  const SidecarEntry& entry = sidecar->entries()[1];
  EXPECT_EQ(entry.preset, "tidal");
  EXPECT_EQ(entry.budget, 1024);
  EXPECT_EQ(entry.below, 768);
  EXPECT_THAT(entry.select, ElementsAre(0, 2));
  EXPECT_THAT(entry.full, ElementsAre());
  EXPECT_EQ(entry.scope, SetScope::kKvHead);
  EXPECT_EQ(entry.scorer, Scorer::kIndex2);
  const auto json = nlohmann::json::parse(text);
  EXPECT_EQ(json["plans"][0]["kl"], 0.012346);
  EXPECT_EQ(json["plans"][0]["scan"], 0.0352);
  EXPECT_EQ(json["plans"][0]["calibrated_on"], "six texts");
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 6) << "a plan a line";
}

TEST(SidecarText, KeepsTheHeadmapAndLayersOfAnEntry) {
  MeasuredEntry measured = SomeEntry(256);
  measured.entry.preset = "kascade";
  measured.entry.select = {1};
  measured.entry.full = {0};
  measured.entry.headmap = {{0, 1}, {1, 1}};
  const Result<Sidecar> sidecar =
      Sidecar::Parse("x", SidecarText(kHash, {&measured, 1}, ""), kHash, 4, 2);
  ASSERT_TRUE(sidecar.ok()) << sidecar.status().message();
  EXPECT_THAT(sidecar->entries()[0].full, ElementsAre(0));
  EXPECT_THAT(sidecar->entries()[0].headmap, ElementsAre(ElementsAre(0, 1), ElementsAre(1, 1)));
}

TEST(SidecarText, PlansOfOtherPresetsStay) {
  const MeasuredEntry entry = SomeEntry(256);
  const std::string plans = R"("plans":[{"preset":"tidal","budget":64,"select":[0]},)"
                            R"({"preset":"kascade","budget":10,"select":[0],"note":"by hand"}]})";
  const std::string existing = R"({"format":1,"model_hash":")" + kHash + "\"," + plans;
  const std::string text = SidecarText(kHash, {&entry, 1}, existing);
  const Result<Sidecar> sidecar = Sidecar::Parse("x", text, kHash, 4, 2);
  ASSERT_TRUE(sidecar.ok()) << sidecar.status().message();
  ASSERT_EQ(sidecar->entries().size(), 2u);
  EXPECT_EQ(sidecar->entries()[0].preset, "kascade");
  EXPECT_EQ(sidecar->entries()[1].budget, 256) << "the old plan of the preset is gone";
  EXPECT_THAT(text, HasSubstr("by hand"));
  // Another model's file, or what is none, leaves nothing.
  const std::string of_another =
      R"({"format":1,"model_hash":")" + std::string(64, 'b') + "\"," + plans;
  for (const std::string& other : {of_another, std::string("[1]"), std::string("{\"plans\":7}")})
    EXPECT_THAT(SidecarText(kHash, {&entry, 1}, other), Not(HasSubstr("by hand")));
}

}  // namespace
}  // namespace tidal
