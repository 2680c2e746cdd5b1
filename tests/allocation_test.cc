// The decode loop does not allocate: operator new of this whole program counts its calls.

#include <atomic>
#include <cstdlib>
#include <gtest/gtest.h>
#include <new>

#include "plan_testing.h"

namespace {

std::atomic<int64_t> num_allocations{0};

void* Allocate(size_t bytes, size_t alignment) {
  num_allocations.fetch_add(1, std::memory_order_relaxed);
  const size_t padded = (bytes + alignment - 1) / alignment * alignment;
  void* memory = alignment <= alignof(std::max_align_t) ? std::malloc(bytes == 0 ? 1 : bytes)
                                                        : std::aligned_alloc(alignment, padded);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

// Not inlined: GCC warns where it sees that delete is free, but not that new is malloc.
__attribute__((noinline)) void Free(void* memory) { std::free(memory); }

}  // namespace

void* operator new(size_t bytes) { return Allocate(bytes, 1); }
void* operator new[](size_t bytes) { return Allocate(bytes, 1); }
void* operator new(size_t bytes, std::align_val_t alignment) {
  return Allocate(bytes, static_cast<size_t>(alignment));
}
void* operator new[](size_t bytes, std::align_val_t alignment) {
  return Allocate(bytes, static_cast<size_t>(alignment));
}
void operator delete(void* memory) noexcept { Free(memory); }
void operator delete[](void* memory) noexcept { Free(memory); }
void operator delete(void* memory, size_t) noexcept { Free(memory); }
void operator delete[](void* memory, size_t) noexcept { Free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { Free(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { Free(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { Free(memory); }
void operator delete[](void* memory, size_t, std::align_val_t) noexcept { Free(memory); }

namespace tidal {
namespace {

constexpr int32_t kPrompt = 200;
constexpr int32_t kWarmUp = 3;
constexpr int32_t kSteps = 130;  // over two page edges

// Steps of decode rows through executor and transformer, one sequence per plan, contexts growing.
int64_t AllocationsOf(const RandomTestModel& model, const std::vector<AttentionPlan>& plans) {
  const auto num_sequences = static_cast<int32_t>(plans.size());
  PlanHarness harness(model.model(), {.precision = Precision::kFast,
                                      .k_type = CacheType::kF16,
                                      .v_type = CacheType::kF16,
                                      .max_sequences = num_sequences});
  const auto tokens = SomeTokens(kPrompt + kWarmUp + kSteps, 71);
  StepBatch batch;
  for (int32_t sequence = 0; sequence < num_sequences; ++sequence) {
    harness.Prefill(sequence, std::span(tokens).first(kPrompt));
    const AttentionPlan& plan = plans[static_cast<size_t>(sequence)];
    EXPECT_TRUE(harness.executor()->PreparePlan(sequence, plan).ok());
    batch.tokens.push_back(0);
    batch.positions.push_back(0);
    batch.logit_rows.push_back(sequence);
    batch.sequences.push_back({.row_begin = sequence,
                               .q_len = 1,
                               .page_table = harness.pages(sequence).data(),
                               .plan = plan.is_full() ? nullptr : &plan,
                               .state = sequence});
  }
  double sum = 0;
  const Transformer::LogitsFn on_logits = [&](size_t, std::span<const float> logits) {
    sum += static_cast<double>(logits[0]);
  };
  int64_t before = 0;
  for (int32_t step = 0; step < kWarmUp + kSteps; ++step) {
    if (step == kWarmUp) before = num_allocations.load();
    for (int32_t sequence = 0; sequence < num_sequences; ++sequence) {
      const auto i = static_cast<size_t>(sequence);
      batch.tokens[i] = tokens[static_cast<size_t>(kPrompt + step)];
      batch.positions[i] = kPrompt + step;
      batch.sequences[i].kv_len = kPrompt + step + 1;
    }
    const Status status = harness.transformer()->Forward(batch, on_logits);
    if (!status.ok()) ADD_FAILURE() << status.message();
  }
  EXPECT_NE(sum, 0);
  return num_allocations.load() - before;
}

TEST(Allocation, IsCounted) {
  const int64_t before = num_allocations.load();
  const std::vector<double> some(100);
  EXPECT_GT(num_allocations.load(), before) << some.size();
}

TEST(Allocation, NoneInTheDecodeLoop) {
  const RandomTestModel model(SmallModel(4, 2, 2, 64, 71));
  std::vector<AttentionPlan> plans{AttentionPlan()};
  for (const char* text :
       {"tidal:budget=48:recent=8", "tidal:budget=48:recent=8:scope=kv:page=16",
        "tidal-paper:full=0:select=0+2:budget=32", "lessismore:full=0:select=0+2:budget=32",
        "quest:budget=64", "streaming:budget=32",
        "tokenselect:budget=60:sinks=4:recent=16:refresh=cos0.9", "kascade:full=0:select=0+2",
        "zipvl:mass=0.8", "twilight:mass=0.7", "omnikv:full=0:select=0:budget=10%"}) {
    plans.push_back(PlanFor(model.config(), std::string(text) + ":below=0"));
    EXPECT_EQ(AllocationsOf(model, {plans.back()}), 0) << text;
  }
  EXPECT_EQ(AllocationsOf(model, {plans[0]}), 0) << "full";
  EXPECT_EQ(AllocationsOf(model, plans), 0) << "all in one batch";
}

}  // namespace
}  // namespace tidal
