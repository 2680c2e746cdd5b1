#include "base/status.h"

#include <gtest/gtest.h>
#include <memory>
#include <string>
#include <vector>

namespace tidal {
namespace {

TEST(Status, DefaultIsOk) {
  const Status status;
  EXPECT_TRUE(status.ok());
  EXPECT_EQ(status.code(), StatusCode::kOk);
  EXPECT_EQ(status.message(), "");
  EXPECT_TRUE(OkStatus().ok());
}

TEST(Status, BuildersGiveTheirKindAndFormat) {
  EXPECT_EQ(InvalidArgument("{}", 1).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(NotFound("{}", 1).code(), StatusCode::kNotFound);
  EXPECT_EQ(Corrupt("{}", 1).code(), StatusCode::kCorrupt);
  EXPECT_EQ(Unsupported("{}", 1).code(), StatusCode::kUnsupported);
  EXPECT_EQ(OutOfMemory("{}", 1).code(), StatusCode::kOutOfMemory);
  EXPECT_EQ(IoError("{}", 1).code(), StatusCode::kIo);
  EXPECT_EQ(Cancelled("{}", 1).code(), StatusCode::kCancelled);
  EXPECT_EQ(Corrupt("{} is {}, expected {}", "alignment", 0, 32).message(),
            "alignment is 0, expected 32");
}

TEST(Status, TextFromOutsideIsNotAFormat) {
  const std::string name = "{}{0}%s";
  EXPECT_EQ(NotFound("no file {}", name).message(), "no file {}{0}%s");
}

TEST(Status, AnnotateNamesThePlaceAndKeepsOkOk) {
  const Status status = Corrupt("3 bytes are missing").Annotate("tensor a").Annotate("m.gguf");
  EXPECT_EQ(status.code(), StatusCode::kCorrupt);
  EXPECT_EQ(status.message(), "m.gguf: tensor a: 3 bytes are missing");
  EXPECT_TRUE(OkStatus().Annotate("m.gguf").ok());
  EXPECT_EQ(OkStatus().Annotate("m.gguf").message(), "");
}

TEST(Result, HoldsAValue) {
  Result<std::string> result(std::string("tide"));
  ASSERT_TRUE(result.ok());
  EXPECT_TRUE(result.status().ok());
  EXPECT_EQ(*result, "tide");
  EXPECT_EQ(result->size(), 4u);
  *result += "s";
  const Result<std::string>& view = result;
  EXPECT_EQ(*view, "tides");
  EXPECT_EQ(view->size(), 5u);
}

TEST(Result, HoldsAnError) {
  const Result<int> result(NotFound("nothing here"));
  EXPECT_FALSE(result.ok());
  EXPECT_EQ(result.status().code(), StatusCode::kNotFound);
}

TEST(Result, MovesAValueThatCannotBeCopied) {
  Result<std::unique_ptr<int>> result(std::make_unique<int>(7));
  const std::unique_ptr<int> value = std::move(result).value();
  EXPECT_EQ(*value, 7);
}

TEST(ResultDeathTest, MisuseIsABrokenInvariant) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        auto value = Result<int>(NotFound("nothing here")).value();
        (void)value;
      },
      "value\\(\\) of an error: nothing here");
  EXPECT_DEATH(Result<int>{OkStatus()}, "a Result needs a value or an error");
}

struct Counter {
  int calls = 0;
  Status Fail() {
    ++calls;
    return IoError("call {}", calls);
  }
  Result<int> Give(bool works) {
    ++calls;
    if (!works) return Unsupported("not this");
    return calls;
  }
};

Status ReturnsEarly(Counter& counter, bool* reached_end) {
  TIDAL_RETURN_IF_ERROR(OkStatus());
  TIDAL_RETURN_IF_ERROR(counter.Fail());
  *reached_end = true;
  return OkStatus();
}

TEST(ReturnIfError, ReturnsTheErrorAndEvaluatesOnce) {
  Counter counter;
  bool reached_end = false;
  const Status status = ReturnsEarly(counter, &reached_end);
  EXPECT_EQ(status.message(), "call 1");
  EXPECT_EQ(counter.calls, 1);
  EXPECT_FALSE(reached_end);
}

Result<int> AddsTwo(Counter& counter, bool second_works) {
  TIDAL_ASSIGN_OR_RETURN(const int first, counter.Give(true));
  int second = 0;
  TIDAL_ASSIGN_OR_RETURN(second, counter.Give(second_works));
  return first + second;
}

TEST(AssignOrReturn, AssignsOrReturns) {
  Counter counter;
  const Result<int> sum = AddsTwo(counter, true);
  ASSERT_TRUE(sum.ok());
  EXPECT_EQ(*sum, 1 + 2);
  EXPECT_EQ(counter.calls, 2);
  EXPECT_EQ(AddsTwo(counter, false).status().code(), StatusCode::kUnsupported);
}

Result<std::unique_ptr<int>> PassesOn() {
  TIDAL_ASSIGN_OR_RETURN(std::unique_ptr<int> value,
                         Result<std::unique_ptr<int>>(std::make_unique<int>(3)));
  return value;
}

TEST(AssignOrReturn, MovesTheValue) {
  const auto result = PassesOn();
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(**result, 3);
}

}  // namespace
}  // namespace tidal
