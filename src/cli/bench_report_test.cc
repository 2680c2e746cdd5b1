// What a benchmark says of where it ran.
#include "cli/bench_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace tidal {
namespace {

using testing::HasSubstr;
using testing::Not;

std::vector<BenchRow> OneRow() {
  BenchRow row;
  row.test = "tg4";
  row.plan.text = "full";
  row.tokens = 4;
  row.tokens_per_s = {100};
  row.profiles.resize(1);
  row.profiles[0].weight_bytes = 400;
  return {row};
}

TEST(BenchReport, OfADeviceHasItsNameAndLimit) {
  BenchMachine machine;
  machine.cpu = "A processor";
  machine.device = "A card";
  machine.read_gbps = 3000;
  const nlohmann::ordered_json json = BenchJson(machine, OneRow());
  EXPECT_EQ(json["machine"]["device"], "A card");
  EXPECT_EQ(json["machine"]["read_gbps"], 3000);
  // 100 bytes a token: 100 / 3e12 s.
  EXPECT_NEAR(json["rows"][0]["limit_ms_per_token"].get<double>(), 3.3e-8, 1e-6);
  EXPECT_FALSE(json["rows"][0].contains("attention_ms")) << "nothing timed its parts";
  const std::string table = BenchTable(machine, "model", OneRow());
  EXPECT_THAT(table, HasSubstr("model\nA card: reads 3000.0 GB/s\n"));
  EXPECT_THAT(table, Not(HasSubstr("A processor")));
}

TEST(BenchReport, OfTheCpuHasPartsOfTheRepetitions) {
  BenchMachine machine;
  machine.cpu = "A processor";
  machine.read_gbps = 25;
  std::vector<BenchRow> rows = OneRow();
  rows[0].part_profiles.resize(1);
  rows[0].part_profiles[0].full_ms = 6;
  rows[0].part_tokens = 2;
  const nlohmann::ordered_json json = BenchJson(machine, rows);
  EXPECT_EQ(json["machine"]["device"], "cpu");
  EXPECT_EQ(json["rows"][0]["read_gbps_limit"], 25);
  EXPECT_EQ(json["rows"][0]["attention_ms"]["full"], 3);
  EXPECT_THAT(BenchTable(machine, "model", OneRow()), HasSubstr("A processor: "));
}

}  // namespace
}  // namespace tidal
