// The best logits of rows against a full sort and sums in double.
#include "cuda/candidates.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "cuda/device_testing.h"

namespace tidal {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kMax = std::numeric_limits<float>::max();

enum Kind : int {
  kNormal,
  kTies,       // 40 values or so
  kFew,        // numbers here and there among NaN and minus infinity
  kNone,       // NaN and minus infinity
  kEqual,      // one value
  kAscending,  // the best in the last groups
  kRun,        // the best in one run of columns
  kApart,      // 32 that lead, each in a run of 256 of its own
  kInfinite,   // plus infinity, the largest number and NaN beside it
  kZeros,      // of both signs, above all else
  kSpread,     // over all exponents
  kNumKinds,
};

std::vector<float> RowOf(int kind, int64_t cols, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 3);
  std::vector<float> row(static_cast<size_t>(cols));
  for (float& logit : row) logit = normal(random);
  const auto any = [&]() -> float& { return row[random() % row.size()]; };
  switch (kind) {
    case kTies:
      for (float& logit : row) logit = std::round(2 * logit) / 2;
      break;
    case kFew:
      for (size_t i = 0; i < row.size(); ++i)
        if (random() % 4096 != 0) row[i] = i % 2 == 0 ? kNan : -kInf;
      break;
    case kNone:
      for (size_t i = 0; i < row.size(); ++i) row[i] = i % 3 == 0 ? kNan : -kInf;
      break;
    case kEqual:
      std::fill(row.begin(), row.end(), -2.5f);
      break;
    case kAscending:
      std::sort(row.begin(), row.end());
      break;
    case kRun:
      for (size_t i = row.size() / 3; i < std::min(row.size(), row.size() / 3 + 700); ++i)
        row[i] += 30;
      break;
    case kApart:
      for (size_t i = 96 * 256; i < std::min<size_t>(row.size(), 128 * 256); i += 256) row[i] += 50;
      break;
    case kInfinite:
      for (int i = 0; i < 60; ++i) any() = i % 3 == 0 ? kInf : (i % 3 == 1 ? kNan : kMax);
      break;
    case kZeros:
      for (float& logit : row) logit = logit > 6 ? (random() % 2 == 0 ? 0.0f : -0.0f) : logit - 6;
      break;
    case kSpread:
      for (float& logit : row) logit = std::ldexp(logit, static_cast<int>(random() % 240) - 120);
      break;
    default:
      break;
  }
  return row;
}

struct Expected {
  std::vector<Candidate> best;
  double exp_sum = 0;
  double allowed = 0;  // rounding of exp_sum
};

Expected ExpectedOf(const std::vector<float>& row, size_t n) {
  Expected expected;
  for (size_t i = 0; i < row.size(); ++i)
    if (row[i] > -kInf) expected.best.push_back({row[i], static_cast<int32_t>(i)});
  const std::vector<Candidate> all = expected.best;
  std::stable_sort(expected.best.begin(), expected.best.end(),
                   [](const Candidate& a, const Candidate& b) { return a.logit > b.logit; });
  if (expected.best.size() > n) expected.best.resize(n);
  if (all.empty()) return expected;
  const double most = std::min(expected.best[0].logit, kMax);
  for (const Candidate& candidate : all) {
    const double below = most - std::min(candidate.logit, kMax);
    expected.exp_sum += std::exp(-below);
    // Two differences in float32, which add up to this one; two powers, of two units in the last
    // place each.
    expected.allowed += std::exp(-below) * (0x1p-21 + below * 0x1p-24);
  }
  return expected;
}

class CudaCandidatesTest : public CudaTest {
 protected:
  static constexpr int64_t kPadding = 3;  // between rows, which then lie unaligned

  static std::vector<DeviceCandidates> Select(const std::vector<std::vector<float>>& rows,
                                              const std::vector<DeviceCandidateRow>& wanted,
                                              uint8_t garbage) {
    const size_t cols = rows[0].size();
    const size_t stride = cols + kPadding;
    std::vector<float> logits(rows.size() * stride, kMax);
    for (size_t i = 0; i < rows.size(); ++i)
      std::copy(rows[i].begin(), rows[i].end(),
                logits.begin() + static_cast<ptrdiff_t>(i * stride));
    const auto num_rows = static_cast<int32_t>(rows.size());
    const DeviceArray<float> device_logits(logits);
    const DeviceArray<DeviceCandidateRow> device_wanted(wanted);
    const DeviceArray<uint8_t> scratch(std::vector<uint8_t>(
        static_cast<size_t>(CandidateScratchBytes(num_rows, static_cast<int32_t>(cols))), garbage));
    const DeviceArray<DeviceCandidates> out{std::vector<DeviceCandidates>(rows.size())};
    const CandidateCall call = {.logits = device_logits.data(),
                                .stride = static_cast<int64_t>(stride),
                                .cols = static_cast<int32_t>(cols),
                                .num_rows = num_rows,
                                .rows = device_wanted.data(),
                                .scratch = scratch.data(),
                                .out = out.data()};
    EXPECT_EQ(SelectCandidates(call, nullptr), cudaSuccess);
    return out.Read();
  }

  static void Compare(const DeviceCandidates& got, const Expected& expected, bool wants_softmax,
                      const std::string& what) {
    ASSERT_EQ(got.size, static_cast<int64_t>(expected.best.size())) << what;
    for (size_t i = 0; i < expected.best.size(); ++i) {
      ASSERT_EQ(got.candidates[i].id, expected.best[i].id) << what << " place " << i;
      ASSERT_EQ(got.candidates[i].logit, expected.best[i].logit) << what << " place " << i;
    }
    const double exp_sum = wants_softmax ? expected.exp_sum : 0;
    EXPECT_LE(std::abs(got.exp_sum - exp_sum), expected.allowed) << what;
  }
};

TEST_F(CudaCandidatesTest, AreTheBeginOfAFullSort) {
  constexpr int kCounts[] = {1, 2, 40, kMaxCandidates};
  for (const int64_t cols : {1, 100, 32000, 151936, 262144}) {
    for (int kind = 0; kind < kNumKinds; ++kind) {
      // Of as many rows as the kind says, each with another number.
      const auto num_rows = static_cast<size_t>(kind % 8 + 1);
      std::vector<std::vector<float>> rows;
      std::vector<DeviceCandidateRow> wanted;
      for (size_t i = 0; i < num_rows; ++i) {
        const int of_row = i < 4 ? kind : static_cast<int>(i) % kNumKinds;
        rows.push_back(RowOf(of_row, cols,
                             static_cast<uint32_t>(cols + kind * 10) + static_cast<uint32_t>(i)));
        wanted.push_back({.count = kCounts[(i + static_cast<size_t>(kind)) % 4],
                          .wants_softmax = static_cast<int32_t>(i + num_rows) % 2});
      }
      const std::vector<DeviceCandidates> got = Select(rows, wanted, 0xff);
      for (size_t i = 0; i < num_rows; ++i) {
        Compare(got[i], ExpectedOf(rows[i], static_cast<size_t>(wanted[i].count)),
                wanted[i].wants_softmax != 0,
                "cols " + std::to_string(cols) + " kind " + std::to_string(kind) + " row " +
                    std::to_string(i) + " count " + std::to_string(wanted[i].count));
      }
    }
  }
}

// Every kind with every number, in one row of a size that a model has.
TEST_F(CudaCandidatesTest, EveryKindWithEveryNumber) {
  for (int kind = 0; kind < kNumKinds; ++kind) {
    const std::vector<float> row = RowOf(kind, 49152, static_cast<uint32_t>(kind));
    for (const int count : {1, 2, 31, 33, 40, 65, 97, kMaxCandidates}) {
      const std::vector<DeviceCandidates> got =
          Select({row}, {{.count = count, .wants_softmax = 1}}, 0);
      Compare(got[0], ExpectedOf(row, static_cast<size_t>(count)), true,
              "kind " + std::to_string(kind) + " count " + std::to_string(count));
    }
  }
}

TEST_F(CudaCandidatesTest, SizesAroundGroupsAndParts) {
  for (const int64_t cols : {2, 63, 64, 65, 255, 256, 257, 2047, 2048, 2049, 12288, 12289, 50257}) {
    for (const int kind : {kNormal, kTies, kAscending}) {
      const std::vector<float> row = RowOf(kind, cols, static_cast<uint32_t>(cols));
      const std::vector<DeviceCandidates> got =
          Select({row, row}, {{.count = 40, .wants_softmax = 1}, {.count = 1}}, 0xff);
      const std::string what = "cols " + std::to_string(cols) + " kind " + std::to_string(kind);
      Compare(got[0], ExpectedOf(row, 40), true, what);
      Compare(got[1], ExpectedOf(row, 1), false, what);
    }
  }
}

TEST_F(CudaCandidatesTest, GiveTheSameBitsInAnyBatch) {
  std::vector<std::vector<float>> rows;
  std::vector<DeviceCandidateRow> wanted;
  for (uint32_t i = 0; i < 8; ++i) {
    rows.push_back(RowOf(static_cast<int>(i) % 2, 151936, i));
    wanted.push_back({.count = 40, .wants_softmax = 1});
  }
  const std::vector<DeviceCandidates> together = Select(rows, wanted, 0);
  for (size_t i = 0; i < rows.size(); ++i) {
    const std::vector<DeviceCandidates> alone = Select({rows[i]}, {wanted[i]}, 0xff);
    EXPECT_EQ(alone[0].exp_sum, together[i].exp_sum);
    for (size_t k = 0; k < 40; ++k)
      EXPECT_EQ(alone[0].candidates[k].id, together[i].candidates[k].id);
  }
}

TEST_F(CudaCandidatesTest, MoreColumnsThanThereIsRoomForAreRefused) {
  const DeviceArray<float> one(std::vector<float>(1));
  const CandidateCall call = {
      .logits = one.data(), .cols = kMaxCandidateCols + 1, .num_rows = 1, .scratch = one.data()};
  EXPECT_EQ(SelectCandidates(call, nullptr), cudaErrorInvalidValue);
}

}  // namespace
}  // namespace tidal
