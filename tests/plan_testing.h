// Sparse rows of the engine's parts (executor and transformer, no scheduler) beside the plan
// reference: batches, page tables and plans are given by hand.
#ifndef TIDAL_TESTS_PLAN_TESTING_H_
#define TIDAL_TESTS_PLAN_TESTING_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "executor/executor.h"
#include "kv/page_pool.h"
#include "model/test_model.h"
#include "plan_reference.h"
#include "transformer/transformer.h"

namespace tidal {

// A random model, loaded, and the same for the reference.
class RandomTestModel {
 public:
  explicit RandomTestModel(const TestModelSpec& spec) : RandomTestModel(BuildRandomModel(spec)) {}
  explicit RandomTestModel(const GgufWriter& file);
  const Model& model() const { return *model_; }
  const ReferenceModel& reference() const { return *reference_; }
  const ModelConfig& config() const { return model_->config(); }

 private:
  std::unique_ptr<Model> model_;
  std::unique_ptr<ReferenceModel> reference_;
};

// A few layers around a KV head layout; everything else small.
TestModelSpec SmallModel(int32_t num_layers, int32_t num_kv_heads, int32_t gqa_ratio,
                         int32_t head_dim, uint64_t seed);

// A plan for the model; fails the test on an error.
AttentionPlan PlanFor(const ModelConfig& config, const std::string& text);

struct HarnessOptions {
  Isa isa = Isa::kAuto;
  Precision precision = Precision::kF32;
  CacheType k_type = CacheType::kF32;
  CacheType v_type = CacheType::kF32;
  int32_t num_threads = 2;
  int32_t max_sequences = 1;
  int32_t max_tokens = 512;  // of a sequence
  int32_t max_batch_tokens = 128;
  bool has_index = true;  // in every layer
  int32_t index_bits = 4;
  bool shuffled = true;  // page tables; else in ascending order
};

// What an observer was told of one selection layer, as positions.
struct SeenSelection {
  int32_t layer = 0;
  bool fresh = true;
  float mass = 1;
  std::vector<TokenMask> sets;
};

struct DecodedRow {
  std::vector<float> logits;
  RowReport report;
  std::vector<SeenSelection> selections;
};

// Executor and transformer over sequences whose pages are set out at once.
class PlanHarness {
 public:
  // `model` outlives this.
  PlanHarness(const Model& model, const HarnessOptions& options);

  // Full rows in steps of max_batch_tokens; the logits of the last row.
  std::vector<float> Prefill(int32_t sequence, std::span<const int32_t> tokens);

  struct Row {
    int32_t sequence = 0;
    int32_t token = 0;
    const AttentionPlan* plan = nullptr;  // null: full
    std::vector<int32_t> newlines = {};
    bool forget_sets = false;
    std::vector<int32_t> more = {};  // full: tokens after `token`; logits are of the last
  };
  // One step. The executor is prepared for a sequence's plan where that is another
  // object than before: it lives as long as the sequence is decoded with it.
  std::vector<DecodedRow> Decode(const std::vector<Row>& rows);
  // The same step without the observer: nothing but logits and reports.
  std::vector<DecodedRow> DecodeUnseen(const std::vector<Row>& rows);
  DecodedRow Decode(int32_t sequence, int32_t token, const AttentionPlan* plan) {
    return Decode({{.sequence = sequence, .token = token, .plan = plan}})[0];
  }

  int32_t kv_len(int32_t sequence) const { return kv_len_[static_cast<size_t>(sequence)]; }
  // Cuts a sequence to its first tokens; what follows is written anew, and its plan prepared anew.
  void Truncate(int32_t sequence, int32_t num_tokens);
  // `to` begins with the whole pages of the first tokens of `from`, the same memory; returns how
  // many tokens these are.
  int32_t SharePages(int32_t from, int32_t to, int32_t num_tokens);
  Executor* executor() { return executor_.get(); }
  Transformer* transformer() { return &*transformer_; }
  const std::vector<PageId>& pages(int32_t sequence) const {
    return pages_[static_cast<size_t>(sequence)];
  }

 private:
  class Recorder;
  void Prepare(int32_t sequence, const AttentionPlan* plan);
  void AddRow(const Row& row);
  std::vector<DecodedRow> RunDecode(const std::vector<Row>& rows, bool observe);

  int32_t vocab_size_;
  HarnessOptions options_;
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<Transformer> transformer_;
  std::vector<std::vector<PageId>> pages_;  // [sequences]
  std::vector<int32_t> kv_len_;
  std::vector<const AttentionPlan*> prepared_;
  StepBatch batch_;
};

// Float32 rounds at 6e-8; activations of size 1 to 10 go through sums of a few hundred products in
// at most eight layers, and logits are of size 10: about 1e-5. Ten times that.
inline constexpr double kF32Logits = 1e-4;

// How far a row may be from the reference's. Sets that differ must do so by near ties.
struct PlanTolerance {
  double logits = 0;
  double mass = 0;
  double score = 0;  // between tokens that are chosen the other way round, in units of score; of
                     // probabilities the same relative to their size
};
// Float32 throughout, by the plan's scorer.
PlanTolerance F32Tolerance(const AttentionPlan& plan);

// What comparing many rows has seen.
struct PlanComparison {
  int64_t sets = 0;
  int64_t sets_that_differ = 0;
  double worst_logit = 0;
  double worst_mass = 0;
};

// Runs the reference's row of `token` with the sets that the decoded row used, checks that these
// are right, and compares all that both report.
void CompareWithReference(const DecodedRow& decoded, const AttentionPlan& plan, int32_t token,
                          const PlanTolerance& tolerance, PlanReference* reference,
                          PlanComparison* comparison, std::span<const int32_t> newlines = {});

// Decodes the tokens row by row in one sequence of both.
void DecodeAndCompare(PlanHarness* harness, int32_t sequence, const AttentionPlan& plan,
                      std::span<const int32_t> tokens, const PlanTolerance& tolerance,
                      PlanReference* reference, PlanComparison* comparison);

double WorstDifference(const std::vector<float>& a, const std::vector<double>& b);

// The same logits to the bit on the CPU. A device that splits a context by how many sequences there
// are agrees as closely as products and probabilities rounded to 16 bits (bf16 keeps 2^-8) let it.
void ExpectSameLogits(const std::vector<float>& a, const std::vector<float>& b);

}  // namespace tidal

#endif  // TIDAL_TESTS_PLAN_TESTING_H_
