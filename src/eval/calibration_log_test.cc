#include "eval/calibration_log.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <iterator>
#include <unistd.h>

namespace tidal {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const CalibrationSetup kSetup = {{"model_hash", "ab"}, {"precision", "fast"}};

class Logs : public testing::Test {
 protected:
  Logs() : path_(testing::TempDir() + "tidal_log_" + std::to_string(getpid())) {}
  ~Logs() override { std::filesystem::remove(path_); }

  CalibrationLog Open() const {
    Result<CalibrationLog> log = CalibrationLog::Open(path_, kSetup);
    EXPECT_TRUE(log.ok()) << log.status().message();
    return log.ok() ? std::move(log).value() : CalibrationLog();
  }
  std::string Text() const {
    std::ifstream file(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void Write(const std::string& text) const { std::ofstream(path_, std::ios::binary) << text; }
  Status ErrorOf(const std::string& text) const {
    Write(text);
    return CalibrationLog::Open(path_, kSetup).status();
  }

  std::string path_;
};

TEST_F(Logs, WhatWasAddedIsThereAgain) {
  // Floats that no short decimal is.
  const PlanRows rows = {{0.1F, 1.0F / 3, HUGE_VALF}, {-2.5e-7F, 0, 1}};
  {
    CalibrationLog log = Open();
    EXPECT_EQ(log.Find("w", "tidal", 1), nullptr);
    ASSERT_TRUE(log.Add("w", "tidal", {{0.5F}, {0}}).ok());
    ASSERT_TRUE(log.Add("w", "tidal", rows).ok());
    ASSERT_TRUE(log.Add("v", "tidal", {{7}, {8}}).ok());
    EXPECT_EQ(log.num_read(), 0);
  }
  const CalibrationLog log = Open();
  EXPECT_EQ(log.num_read(), 3);
  const PlanRows* const found = log.Find("w", "tidal", 3);
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(found->kl, rows.kl);
  EXPECT_EQ(found->extra_nats, rows.extra_nats);
  EXPECT_NE(log.Find("w", "tidal", 2), nullptr) << "more rows hold fewer";
  EXPECT_EQ(log.Find("w", "tidal", 4), nullptr);
  EXPECT_THAT(log.Find("v", "tidal", 1)->kl, ElementsAre(7));
  EXPECT_EQ(log.Find("w", "full", 1), nullptr);
}

TEST_F(Logs, ALineThatWasCutOffDoesNotCount) {
  {
    CalibrationLog log = Open();
    ASSERT_TRUE(log.Add("w", "a", {{1}, {1}}).ok());
    ASSERT_TRUE(log.Add("w", "b", {{2}, {2}}).ok());
  }
  const std::string whole = Text();
  // Wherever it was cut, all whole lines are read, and what is added then is read as well.
  for (size_t size = 0; size < whole.size(); ++size) {
    Write(whole.substr(0, size));
    {
      CalibrationLog log = Open();
      ASSERT_TRUE(log.Add("w", "c", {{3}, {3}}).ok());
    }
    const CalibrationLog log = Open();
    EXPECT_NE(log.Find("w", "c", 1), nullptr) << size;
    EXPECT_EQ(log.Find("w", "b", 1), nullptr) << size;
  }
}

TEST_F(Logs, OtherFilesAreRefused) {
  Status status = ErrorOf("{\"calibration_log\":1,\"model_hash\":\"ab\",\"precision\":\"f32\"}\n");
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr(path_));
  EXPECT_THAT(status.message(), HasSubstr("precision \"f32\", this run has \"fast\""));
  EXPECT_THAT(ErrorOf("{\"calibration_log\":1,\"precision\":\"fast\"}\n").message(),
              HasSubstr("model_hash missing"));
  EXPECT_EQ(ErrorOf("{\"calibration_log\":2}\n").code(), StatusCode::kCorrupt);
  EXPECT_EQ(ErrorOf("{\"format\":1}\n").code(), StatusCode::kCorrupt);
  EXPECT_THAT(ErrorOf("some text\n").message(), HasSubstr("line 1: expected a JSON object"));
  const std::string head = "{\"calibration_log\":1,\"model_hash\":\"ab\",\"precision\":\"fast\"}\n";
  const struct {
    const char* line;
    const char* message;
  } cases[] = {
      {R"({"plan":"a","kl":[],"extra_nats":[]})", "line 2: the field \"window\" is missing"},
      {R"({"window":"w","plan":"a","extra_nats":[]})", "\"kl\" is missing or no array"},
      {R"({"window":"w","plan":"a","kl":["x"],"extra_nats":[]})", "\"kl\" has \"x\""},
      {R"({"window":"w","plan":"a","kl":[1],"extra_nats":[]})", "\"kl\" has 1 rows"},
  };
  for (const auto& wrong : cases)
    EXPECT_THAT(ErrorOf(head + wrong.line + "\n").message(), HasSubstr(wrong.message));
}

TEST_F(Logs, PlacesThatCannotBeWrittenAreErrors) {
  EXPECT_EQ(CalibrationLog::Open(testing::TempDir(), kSetup).status().code(), StatusCode::kIo);
  EXPECT_EQ(CalibrationLog::Open(path_ + "/none", kSetup).status().code(), StatusCode::kIo);
}

}  // namespace
}  // namespace tidal
