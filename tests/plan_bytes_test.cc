// The bytes of the cache that a decoded row reads, as the executor counts them, against the
// formulas of docs/attention_plans.md, written here from the model's numbers.

#include <cstdint>
#include <gtest/gtest.h>

#include "engine_testing.h"
#include "plan_testing.h"

namespace tidal {
namespace {

constexpr int32_t kLayers = 4;
constexpr int64_t kKvHeads = 2;
constexpr int64_t kGqaRatio = 3;
constexpr int64_t kHeadDim = 64;
constexpr int64_t kPrompt = 1000;
constexpr int64_t kKvLen = kPrompt + 1;
constexpr double kTolerance = 0.02;

// Bytes of a cached row of K and V of one KV head.
int64_t RowBytes(CacheType type) {
  switch (type) {
    case CacheType::kF32:
      return kHeadDim * 8;
    case CacheType::kF16:
    case CacheType::kBF16:
      return kHeadDim * 4;
    case CacheType::kF8e4m3:
      return 2 * (kHeadDim + 2);
    case CacheType::kQ8_0:
      return 2 * (kHeadDim + kHeadDim / 32 * 2);  // a code an element, a scale for each 32
  }
  return 0;
}

struct Expected {
  double scan = 0;
  double gather = 0;
  double full = 0;
};

// Keys of all KV heads; the sealed pages' in 4.5 or 2.5 bits a channel (codes, and for each 64
// tokens two f16 numbers), those of the tail as they are stored.
double ScanOfLayer(CacheType type, int32_t index_bits) {
  const double key_bytes = static_cast<double>(RowBytes(type)) / 2;
  if (index_bits == 0) return kKvHeads * kKvLen * key_bytes;
  const int64_t sealed = kKvLen / 64 * 64;
  const double indexed = static_cast<double>(sealed * kHeadDim) * (index_bits + 0.5) / 8;
  return kKvHeads * (indexed + static_cast<double>(kKvLen - sealed) * key_bytes);
}

class PlanBytes : public testing::TestWithParam<CacheType> {
 protected:
  PlanBytes()
      : model_(SmallModel(kLayers, kKvHeads, kGqaRatio, kHeadDim, 61)),
        tokens_(SomeTokens(kKvLen, 61)) {}

  void Check(const std::string& text, int32_t index_bits, const Expected& expected) {
    SCOPED_TRACE(text);
    const AttentionPlan plan =
        text == "full" ? AttentionPlan() : PlanFor(model_.config(), text + ":below=0");
    PlanHarness harness(model_.model(), {.precision = Precision::kFast,
                                         .k_type = GetParam(),
                                         .v_type = GetParam(),
                                         .max_tokens = 1100,
                                         .index_bits = index_bits == 0 ? 4 : index_bits});
    harness.Prefill(0, std::span(tokens_).first(kPrompt));
    harness.executor()->TakeProfile();
    harness.DecodeUnseen({{.sequence = 0, .token = tokens_.back(), .plan = &plan}});
    const ExecutorProfile profile = harness.executor()->TakeProfile();
    ExpectNear(profile.scan_bytes, expected.scan);
    ExpectNear(profile.gather_bytes, expected.gather);
    ExpectNear(profile.full_bytes, expected.full);
  }
  double Row() const { return static_cast<double>(RowBytes(GetParam())); }
  double FullLayer() const { return kKvHeads * kKvLen * Row(); }

  RandomTestModel model_;
  std::vector<int32_t> tokens_;

 private:
  static void ExpectNear(int64_t bytes, double expected) {
    EXPECT_NEAR(static_cast<double>(bytes), expected, kTolerance * expected);
  }
};

TEST_P(PlanBytes, AreThoseOfTheFormulas) {
  const CacheType type = GetParam();
  if (type == CacheType::kQ8_0 && TestDevice() != "cpu") GTEST_SKIP() << "only the CPU has q8_0";
  Check("full", 0, {.scan = 0, .gather = 0, .full = kLayers * FullLayer()});
  // Every layer scans the index and gathers 128 rows of each KV head.
  Check("tidal:budget=128", 4,
        {.scan = kLayers * ScanOfLayer(type, 4), .gather = kLayers * 128 * kKvHeads * Row()});
  Check("tidal:budget=128:scorer=index2", 2,
        {.scan = kLayers * ScanOfLayer(type, 2), .gather = kLayers * 128 * kKvHeads * Row()});
  // Two of four layers scan; one layer reads everything before them.
  Check("tidal:budget=128:select=1+3", 4,
        {.scan = 2 * ScanOfLayer(type, 4),
         .gather = 3 * 128 * kKvHeads * Row(),
         .full = FullLayer()});
  // A set per KV head costs what a shared one does; one per query head is read for each of them.
  Check("tidal:budget=128:scope=kv:scorer=exact", 0,
        {.scan = kLayers * ScanOfLayer(type, 0), .gather = kLayers * 128 * kKvHeads * Row()});
  Check("tidal-paper:budget=128:full=0:select=0", 0,
        {.scan = ScanOfLayer(type, 0),
         .gather = 3 * 128 * kKvHeads * kGqaRatio * Row(),
         .full = FullLayer()});
  Check("streaming:budget=128", 0, {.scan = 0, .gather = kLayers * 128 * kKvHeads * Row()});
  // Bounds of pages of 16 tokens are made from the keys.
  Check("quest:budget=128:full=0", 0,
        {.scan = kLayers * ScanOfLayer(type, 0),
         .gather = 3 * (128 - 7) * kKvHeads * kGqaRatio * Row(),
         .full = FullLayer()});
  // 12.5 % of 1001 tokens, rounded up.
  Check("omnikv:budget=12.5%:full=0:select=0", 0,
        {.scan = ScanOfLayer(type, 0), .gather = 3 * 126 * kKvHeads * Row(), .full = FullLayer()});
}

INSTANTIATE_TEST_SUITE_P(Caches, PlanBytes,
                         testing::Values(CacheType::kF32, CacheType::kF16, CacheType::kQ8_0),
                         [](const auto& param) { return std::string(NameOf(param.param)); });

// The index is at most 0.145 of an f16 cache where every layer has one: 4.5 bits a channel of 32,
// and some padding where head_dim is no power of two. 2.5 bits with 2-bit codes.
TEST(PlanMemory, TheIndexIsASmallShareOfTheCache) {
  for (const int32_t head_dim : {64, 80, 128}) {
    const RandomTestModel model(SmallModel(2, 2, 2, head_dim, 62));
    for (const auto& [bits, share] : {std::pair(4, 0.145), std::pair(2, 0.085)}) {
      PlanHarness harness(model.model(), {.precision = Precision::kFast,
                                          .k_type = CacheType::kF16,
                                          .v_type = CacheType::kF16,
                                          .max_tokens = 2048,
                                          .index_bits = bits});
      const ExecutorMemory memory = harness.executor()->memory();
      EXPECT_GT(memory.index_bytes, 0);
      EXPECT_LE(static_cast<double>(memory.index_bytes),
                share * static_cast<double>(memory.kv_bytes))
          << "head_dim " << head_dim << ", " << bits << " bits";
    }
  }
}

}  // namespace
}  // namespace tidal
