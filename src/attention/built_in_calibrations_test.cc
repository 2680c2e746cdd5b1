#include "attention/built_in_calibrations.h"

#include <algorithm>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace tidal {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string CalibrationOf(const std::string& hash, const std::string& layers) {
  return R"({"format":1,"model_hash":")" + hash +
         R"(","plans":[{"preset":"tidal","budget":512,"select":)" + layers + R"(,"full":[0]}]})";
}

TEST(BuiltInCalibrations, AreFoundByTheModelsHash) {
  const std::string first = CalibrationOf(std::string(64, 'a'), "[1]");
  const std::string second = CalibrationOf(std::string(64, 'b'), "[1,3]");
  const std::string broken = CalibrationOf(std::string(64, 'c'), "[9]");
  const EmbeddedText table[] = {{"one", first}, {"two", second}, {"three", broken}};

  const auto found = FindCalibration(table, std::string(64, 'b'), 4, 2);
  ASSERT_TRUE(found.ok()) << found.status().message();
  ASSERT_TRUE(found.value().has_value());
  EXPECT_EQ(found.value()->name(), "the built-in calibration of two");
  EXPECT_THAT(found.value()->entries()[0].select, ElementsAre(1, 3));

  const auto none = FindCalibration(table, std::string(64, 'd'), 4, 2);
  ASSERT_TRUE(none.ok());
  EXPECT_FALSE(none.value().has_value());
  EXPECT_FALSE(FindCalibration({}, std::string(64, 'a'), 4, 2).value().has_value());

  const auto error = FindCalibration(table, std::string(64, 'c'), 4, 2);
  ASSERT_FALSE(error.ok());
  EXPECT_EQ(error.status().code(), StatusCode::kCorrupt);
  EXPECT_THAT(error.status().message(), HasSubstr("the built-in calibration of three"));
}

// What ships has the form of a calibration, each for a model of its own.
TEST(BuiltInCalibrations, ThoseThatShipAreWellFormed) {
  std::vector<std::string> hashes;
  for (const EmbeddedText& calibration : BuiltInCalibrations()) {
    const auto json = nlohmann::json::parse(calibration.text, nullptr, false);
    ASSERT_TRUE(json.is_object()) << calibration.name;
    EXPECT_EQ(json.value("format", 0), 1) << calibration.name;
    const std::string hash = json.value("model_hash", "");
    EXPECT_EQ(hash.size(), 64u) << calibration.name;
    EXPECT_EQ(std::count(hashes.begin(), hashes.end(), hash), 0) << calibration.name;
    hashes.push_back(hash);
  }
}

}  // namespace
}  // namespace tidal
