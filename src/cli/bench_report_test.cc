// What a benchmark says of a device that it cannot ask everything.
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

TEST(BenchReport, OfADeviceHasItsNameAndNoLimitOfThisMachine) {
  BenchMachine machine;
  machine.cpu = "A processor";
  machine.device = "A card";
  const nlohmann::ordered_json json = BenchJson(machine, OneRow());
  EXPECT_EQ(json["machine"]["device"], "A card");
  EXPECT_TRUE(json["machine"]["read_gbps"].is_null());
  EXPECT_TRUE(json["rows"][0]["read_gbps_limit"].is_null());
  EXPECT_FALSE(json["rows"][0].contains("attention_ms"));
  const std::string table = BenchTable(machine, "model", OneRow());
  EXPECT_THAT(table, HasSubstr("model\nA card\n"));
  EXPECT_THAT(table, Not(HasSubstr("A processor")));
  EXPECT_THAT(table, Not(HasSubstr("0%")));
}

TEST(BenchReport, OfTheCpuHasBoth) {
  BenchMachine machine;
  machine.cpu = "A processor";
  machine.read_gbps = 25;
  const nlohmann::ordered_json json = BenchJson(machine, OneRow());
  EXPECT_EQ(json["machine"]["device"], "cpu");
  EXPECT_EQ(json["rows"][0]["read_gbps_limit"], 25);
  EXPECT_TRUE(json["rows"][0].contains("attention_ms"));
  EXPECT_THAT(BenchTable(machine, "model", OneRow()), HasSubstr("A processor: "));
}

}  // namespace
}  // namespace tidal
