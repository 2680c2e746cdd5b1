// Which operations a step asks of an executor, layer by layer.
#include "transformer/transformer.h"

#include <gtest/gtest.h>
#include <string>

namespace tidal {
namespace {

// Writes down what it is asked to do with whom: "c0,1" (choose), "e0" (attend everything), "s1"
// (attend sets), a space after each; one string per layer.
class RecordingExecutor : public Executor {
 public:
  explicit RecordingExecutor(int32_t num_layers) : trace(static_cast<size_t>(num_layers)) {}

  Status BeginStep(const StepBatch&) override { return OkStatus(); }
  void Embed() override {}
  void AttentionInputs(int32_t) override {}
  void Choose(int32_t layer, std::span<const int32_t> sequences) override {
    Record(layer, 'c', sequences);
  }
  void Attend(int32_t layer, AttendTo what, std::span<const int32_t> sequences) override {
    Record(layer, what == AttendTo::kEverything ? 'e' : 's', sequences);
  }
  void AttentionOutput(int32_t) override {}
  void FeedForward(int32_t) override {}
  Status Logits(std::span<const int32_t> rows, float*) override {
    logit_groups.emplace_back(rows.begin(), rows.end());
    return OkStatus();
  }
  Status BestCandidates(std::span<const CandidateRow> rows, float*, CandidateList* lists) override {
    candidate_groups.emplace_back();
    for (size_t i = 0; i < rows.size(); ++i) {
      candidate_groups.back().push_back(rows[i].row);
      lists[i].size = 1;
      lists[i].candidates[0] = {.logit = static_cast<float>(rows[i].count), .id = rows[i].row};
    }
    return OkStatus();
  }
  Status EndStep() override { return OkStatus(); }
  std::span<const RowReport> reports() const override { return {}; }
  std::span<const float> layer_masses(int32_t) const override { return {}; }
  Status PreparePlan(int32_t, const AttentionPlan&) override { return OkStatus(); }
  int32_t max_logit_rows() const override { return 2; }
  ExecutorMemory memory() const override { return {}; }
  ExecutorProfile TakeProfile() override { return {}; }

  std::vector<std::string> trace;
  std::vector<std::vector<int32_t>> logit_groups;
  std::vector<std::vector<int32_t>> candidate_groups;

 private:
  void Record(int32_t layer, char what, std::span<const int32_t> sequences) {
    std::string& line = trace[static_cast<size_t>(layer)];
    line += what;
    for (size_t i = 0; i < sequences.size(); ++i)
      line += (i == 0 ? "" : ",") + std::to_string(sequences[i]);
    line += ' ';
  }
};

// As the paper has it: layers before S read everything, S and R read everything and choose for
// those after them.
AttentionPlan PaperPlan(int32_t num_layers, int32_t selection, int32_t reselection) {
  AttentionPlan plan;
  plan.preset = "tidal-paper";
  plan.reads_all.assign(static_cast<size_t>(num_layers), 0);
  plan.selects.assign(static_cast<size_t>(num_layers), 0);
  for (int32_t layer = 0; layer <= selection; ++layer)
    plan.reads_all[static_cast<size_t>(layer)] = 1;
  for (const int32_t layer : {selection, reselection}) {
    plan.reads_all[static_cast<size_t>(layer)] = 1;
    plan.selects[static_cast<size_t>(layer)] = 1;
  }
  plan.budget.value = 16;
  return plan;
}

StepBatch BatchOf(const std::vector<const AttentionPlan*>& plans) {
  StepBatch batch;
  for (const AttentionPlan* plan : plans) {
    StepSequence sequence;
    sequence.row_begin = batch.num_rows();
    sequence.q_len = 1;
    sequence.kv_len = 100;
    sequence.owner = static_cast<int32_t>(batch.sequences.size());
    sequence.plan = plan;
    batch.tokens.push_back(1);
    batch.positions.push_back(99);
    batch.sequences.push_back(sequence);
  }
  return batch;
}

std::vector<std::string> TraceOf(int32_t num_layers, const StepBatch& batch) {
  RecordingExecutor executor(num_layers);
  Transformer transformer(&executor, num_layers, 4, static_cast<int32_t>(batch.sequences.size()));
  EXPECT_TRUE(transformer.Forward(batch, nullptr, nullptr).ok());
  return executor.trace;
}

TEST(Transformer, FollowsThePapersScheduleForAnyLayers) {
  for (int32_t num_layers = 1; num_layers <= 12; ++num_layers) {
    for (int32_t selection = 0; selection < num_layers; ++selection) {
      for (int32_t reselection = selection; reselection < num_layers; ++reselection) {
        const AttentionPlan plan = PaperPlan(num_layers, selection, reselection);
        const auto trace = TraceOf(num_layers, BatchOf({&plan}));
        for (int32_t layer = 0; layer < num_layers; ++layer) {
          const bool chooses = layer == selection || layer == reselection;
          const std::string expected = chooses ? "c0 e0 " : layer < selection ? "e0 " : "s0 ";
          EXPECT_EQ(trace[static_cast<size_t>(layer)], expected)
              << "layer " << layer << " of " << num_layers << ", S " << selection << ", R "
              << reselection;
        }
      }
    }
  }
}

TEST(Transformer, LayersThatReadTheirOwnChoice) {
  AttentionPlan plan = PaperPlan(4, 0, 2);
  plan.reads_all.assign(4, 0);
  EXPECT_EQ(TraceOf(4, BatchOf({&plan})),
            (std::vector<std::string>{"c0 s0 ", "s0 ", "c0 s0 ", "s0 "}));
}

TEST(Transformer, RowsOfABatchHavePlansOfTheirOwn) {
  const AttentionPlan paper = PaperPlan(4, 1, 2);
  AttentionPlan all = PaperPlan(4, 0, 0);
  all.reads_all.assign(4, 0);
  all.selects.assign(4, 1);
  const StepBatch batch = BatchOf({&paper, nullptr, &all, &paper});
  EXPECT_EQ(TraceOf(4, batch), (std::vector<std::string>{"c2 e0,1,3 s2 ", "c0,2,3 e0,1,3 s2 ",
                                                         "c0,2,3 e0,1,3 s2 ", "c2 e1 s0,2,3 "}));
}

TEST(Transformer, FullRowsChooseNothing) {
  const AttentionPlan full;
  EXPECT_EQ(TraceOf(2, BatchOf({nullptr, &full})), (std::vector<std::string>{"e0,1 ", "e0,1 "}));
}

TEST(Transformer, HandsOutLogitsInGroupsOfWhatTheExecutorTakes) {
  StepBatch batch = BatchOf({nullptr, nullptr, nullptr});
  batch.logit_rows = {0, 1, 2};
  RecordingExecutor executor(1);
  Transformer transformer(&executor, 1, 4, 3);
  std::vector<size_t> handed;
  ASSERT_TRUE(transformer
                  .Forward(
                      batch,
                      [&](size_t i, std::span<const float> logits) {
                        EXPECT_EQ(logits.size(), 4u);
                        handed.push_back(i);
                      },
                      nullptr)
                  .ok());
  EXPECT_EQ(executor.logit_groups, (std::vector<std::vector<int32_t>>{{0, 1}, {2}}));
  EXPECT_EQ(handed, (std::vector<size_t>{0, 1, 2}));
}

TEST(Transformer, HandsOutCandidatesAfterLogits) {
  StepBatch batch = BatchOf({nullptr, nullptr, nullptr, nullptr});
  batch.logit_rows = {2};
  batch.candidate_rows = {{.row = 0, .count = 1}, {.row = 1, .count = 40}, {.row = 3, .count = 7}};
  RecordingExecutor executor(1);
  Transformer transformer(&executor, 1, 4, 4);
  std::vector<int32_t> handed;
  ASSERT_TRUE(transformer
                  .Forward(
                      batch, [&](size_t, std::span<const float>) { handed.push_back(-1); },
                      [&](size_t i, const CandidateList& list) {
                        ASSERT_EQ(list.size, 1);
                        EXPECT_EQ(list.candidates[0].id, batch.candidate_rows[i].row);
                        EXPECT_EQ(list.candidates[0].logit, batch.candidate_rows[i].count);
                        handed.push_back(list.candidates[0].id);
                      })
                  .ok());
  EXPECT_EQ(executor.logit_groups, (std::vector<std::vector<int32_t>>{{2}}));
  EXPECT_EQ(executor.candidate_groups, (std::vector<std::vector<int32_t>>{{0, 1}, {3}}));
  EXPECT_EQ(handed, (std::vector<int32_t>{-1, 0, 1, 3}));
}

}  // namespace
}  // namespace tidal
