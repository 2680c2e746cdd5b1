#include "scheduler/scheduler.h"

#include <gtest/gtest.h>
#include <limits>
#include <numeric>

namespace tidal {
namespace {

ScheduledSequence MakeSequence(int32_t num_tokens, int32_t kv_len, int32_t full_until) {
  ScheduledSequence sequence;
  sequence.tokens.resize(static_cast<size_t>(num_tokens));
  std::iota(sequence.tokens.begin(), sequence.tokens.end(), 100);
  sequence.kv_len = kv_len;
  sequence.full_until = full_until;
  return sequence;
}

// Every layer chooses; rows of fewer than `below` tokens run full.
AttentionPlan SparsePlan(int32_t below) {
  AttentionPlan plan;
  plan.preset = "tidal";
  plan.reads_all.assign(2, 0);
  plan.selects.assign(2, 1);
  plan.budget.value = 16;
  plan.below = below;
  return plan;
}

// Runs the next step of one sequence, checks that it has so many rows, and commits them.
StepSequence RunStep(ScheduledSequence* sequence, PagePool* pool, int32_t num_rows) {
  static StepBatch batch;
  ScheduledSequence* running[] = {sequence};
  EXPECT_TRUE(Scheduler(64).NextBatch(running, pool, &batch).ok());
  EXPECT_EQ(batch.num_rows(), num_rows);
  sequence->Commit(batch.sequences[0]);
  return batch.sequences[0];
}

TEST(Scheduler, DecodeRowsComeBeforePrefillChunks) {
  ScheduledSequence prompt = MakeSequence(300, 0, 300);
  ScheduledSequence answer = MakeSequence(71, 70, 64);
  answer.plan = SparsePlan(0);
  PagePool pool(16);
  StepBatch batch;
  ScheduledSequence* running[] = {&prompt, &answer};
  ASSERT_TRUE(Scheduler(128).NextBatch(running, &pool, &batch).ok());
  ASSERT_EQ(batch.sequences.size(), 2u);
  EXPECT_EQ(batch.num_rows(), 128);
  EXPECT_EQ(batch.sequences[0].q_len, 1);
  EXPECT_EQ(batch.sequences[0].kv_len, 71);
  EXPECT_EQ(batch.sequences[0].plan, &answer.plan);
  EXPECT_EQ(batch.positions[0], 70);
  EXPECT_EQ(batch.sequences[1].row_begin, 1);
  EXPECT_EQ(batch.sequences[1].q_len, 127);
  EXPECT_EQ(batch.sequences[1].plan, nullptr);
  EXPECT_EQ(batch.logit_rows, std::vector<int32_t>{0});  // the prompt is not through yet
}

TEST(Scheduler, TheLastChunkAsksForTheNewestTokensLogits) {
  ScheduledSequence prompt = MakeSequence(300, 256, 300);
  PagePool pool(16);
  StepBatch batch;
  ScheduledSequence* running[] = {&prompt};
  ASSERT_TRUE(Scheduler(128).NextBatch(running, &pool, &batch).ok());
  EXPECT_EQ(batch.num_rows(), 44);
  EXPECT_EQ(batch.logit_rows, std::vector<int32_t>{43});
  EXPECT_EQ(batch.tokens[43], 399);
}

TEST(Scheduler, RowsSampledFromCandidatesAskForThese) {
  ScheduledSequence prompt = MakeSequence(40, 0, 40);
  ScheduledSequence answer = MakeSequence(71, 70, 64);
  ScheduledSequence scored = MakeSequence(20, 19, 10);
  prompt.num_candidates = 1;
  answer.num_candidates = 41;
  answer.wants_softmax = true;
  scored.num_candidates = 5;
  scored.wants_all_logits = true;
  PagePool pool(16);
  StepBatch batch;
  ScheduledSequence* running[] = {&prompt, &answer, &scored};
  ASSERT_TRUE(Scheduler(32).NextBatch(running, &pool, &batch).ok());
  EXPECT_EQ(batch.logit_rows, std::vector<int32_t>{1});
  ASSERT_EQ(batch.candidate_rows.size(), 1u);  // the prompt is not through yet
  EXPECT_EQ(batch.candidate_rows[0].row, 0);
  EXPECT_EQ(batch.candidate_rows[0].count, 41);
  EXPECT_TRUE(batch.candidate_rows[0].wants_softmax);
  ScheduledSequence* only_prompt[] = {&prompt};
  ASSERT_TRUE(Scheduler(64).NextBatch(only_prompt, &pool, &batch).ok());
  EXPECT_TRUE(batch.logit_rows.empty());
  ASSERT_EQ(batch.candidate_rows.size(), 1u);
  EXPECT_EQ(batch.candidate_rows[0].row, 39);
  EXPECT_EQ(batch.candidate_rows[0].count, 1);
  EXPECT_FALSE(batch.candidate_rows[0].wants_softmax);
}

TEST(Scheduler, TokensPastFullUntilAreDecodedOneByOne) {
  ScheduledSequence scored = MakeSequence(10, 0, 6);
  scored.wants_all_logits = true;
  scored.plan = SparsePlan(0);
  PagePool pool(1);
  StepBatch batch;
  ScheduledSequence* running[] = {&scored};
  ASSERT_TRUE(Scheduler(128).NextBatch(running, &pool, &batch).ok());
  EXPECT_EQ(batch.num_rows(), 6);
  EXPECT_EQ(batch.logit_rows.size(), 6u);
  scored.kv_len = 6;
  ASSERT_TRUE(Scheduler(128).NextBatch(running, &pool, &batch).ok());
  EXPECT_EQ(batch.num_rows(), 1);
  EXPECT_EQ(batch.sequences[0].plan, &scored.plan);
  EXPECT_TRUE(batch.sequences[0].wants_mass);
}

TEST(Scheduler, GoesOnWithWhatFitsAndFailsWhenNothingDoes) {
  ScheduledSequence large = MakeSequence(200, 0, 200);
  ScheduledSequence small = MakeSequence(10, 0, 10);
  PagePool pool(1);
  StepBatch batch;
  ScheduledSequence* running[] = {&large, &small};
  ASSERT_TRUE(Scheduler(512).NextBatch(running, &pool, &batch).ok());
  EXPECT_EQ(batch.num_rows(), 10);
  ScheduledSequence* only_large[] = {&large};
  EXPECT_EQ(Scheduler(512).NextBatch(only_large, &pool, &batch).code(), StatusCode::kOutOfMemory);
}

TEST(Scheduler, RowsRunFullBelowWhereThePlanIsAndForTheGuard) {
  PagePool pool(4);
  ScheduledSequence sequence = MakeSequence(20, 0, 10);
  sequence.plan = SparsePlan(13);
  EXPECT_EQ(RunStep(&sequence, &pool, 10).plan, nullptr);
  // Rows of 11 and 12 tokens, the current one included, are below 13.
  EXPECT_EQ(RunStep(&sequence, &pool, 1).plan, nullptr);
  EXPECT_EQ(RunStep(&sequence, &pool, 1).plan, nullptr);
  EXPECT_EQ(RunStep(&sequence, &pool, 1).plan, &sequence.plan);
  sequence.plan.guard = 0.5;
  sequence.CheckGuard(0.4f);
  EXPECT_EQ(RunStep(&sequence, &pool, 1).plan, nullptr);
  EXPECT_EQ(RunStep(&sequence, &pool, 1).plan, &sequence.plan) << "one row only";
  sequence.CheckGuard(0.5f);
  EXPECT_FALSE(sequence.full_next);
  sequence.CheckGuard(std::numeric_limits<float>::quiet_NaN());
  EXPECT_FALSE(sequence.full_next);
  sequence.plan = AttentionPlan();
  EXPECT_EQ(RunStep(&sequence, &pool, 1).plan, nullptr);
}

TEST(Scheduler, SetsAreForgottenAtTheFirstSparseRowOnly) {
  PagePool pool(4);
  ScheduledSequence sequence = MakeSequence(20, 0, 10);
  sequence.plan = SparsePlan(12);
  sequence.state = 7;
  RunStep(&sequence, &pool, 10);
  RunStep(&sequence, &pool, 1);
  const StepSequence first = RunStep(&sequence, &pool, 1);
  EXPECT_TRUE(first.forget_sets);
  EXPECT_EQ(first.state, 7);
  EXPECT_FALSE(RunStep(&sequence, &pool, 1).forget_sets);
  sequence.BeginReplay();
  RunStep(&sequence, &pool, 2);
  EXPECT_TRUE(RunStep(&sequence, &pool, 1).forget_sets);
}

TEST(Scheduler, CorrectionIsPrefillOfTheDirtyTail) {
  PagePool pool(4);
  ScheduledSequence sequence = MakeSequence(40, 0, 10);
  sequence.plan = SparsePlan(13);
  sequence.plan.correct = {Correction::When::kRows, 5};
  RunStep(&sequence, &pool, 10);
  for (int32_t row = 0; row < 2; ++row) RunStep(&sequence, &pool, 1);
  EXPECT_EQ(sequence.dense_len, 12) << "full rows on a clean cache are clean";
  for (int32_t row = 0; row < 4; ++row) {
    RunStep(&sequence, &pool, 1);
    EXPECT_FALSE(sequence.CorrectionIsDue());
  }
  sequence.full_next = true;
  EXPECT_EQ(RunStep(&sequence, &pool, 1).plan, nullptr);
  EXPECT_EQ(sequence.dense_len, 12) << "a full row on a dirty cache is dirty";
  ASSERT_TRUE(sequence.CorrectionIsDue());
  const PageId* pages = sequence.pages.data();
  const int32_t free_pages = pool.num_free();
  sequence.BeginReplay();
  EXPECT_EQ(sequence.tokens.size(), 40u);
  EXPECT_FALSE(sequence.CorrectionIsDue());
  EXPECT_TRUE(sequence.is_replaying());
  // In chunks, beside nothing else, all full, with the logits of every row.
  StepBatch batch;
  ScheduledSequence* running[] = {&sequence};
  ASSERT_TRUE(Scheduler(3).NextBatch(running, &pool, &batch).ok());
  EXPECT_EQ(batch.positions, (std::vector<int32_t>{12, 13, 14}));
  EXPECT_EQ(batch.logit_rows, (std::vector<int32_t>{0, 1, 2}));
  EXPECT_EQ(batch.sequences[0].plan, nullptr);
  sequence.Commit(batch.sequences[0]);
  EXPECT_EQ(RunStep(&sequence, &pool, 2).kv_len, 17);
  EXPECT_FALSE(sequence.is_replaying());
  EXPECT_EQ(sequence.dense_len, 17);
  EXPECT_EQ(sequence.pages.data(), pages);
  EXPECT_EQ(pool.num_free(), free_pages);
  EXPECT_EQ(RunStep(&sequence, &pool, 1).plan, &sequence.plan) << "decoding goes on";
  EXPECT_EQ(sequence.num_dirty(), 1);
}

TEST(Scheduler, RestartKeepsOnlyWhatIsClean) {
  PagePool pool(4);
  ScheduledSequence sequence = MakeSequence(150, 0, 120);
  sequence.plan = SparsePlan(0);
  RunStep(&sequence, &pool, 64);
  RunStep(&sequence, &pool, 56);
  for (int32_t row = 0; row < 10; ++row) RunStep(&sequence, &pool, 1);
  EXPECT_EQ(sequence.dense_len, 120);
  EXPECT_EQ(pool.num_free(), 1);
  sequence.Restart(120, &pool);
  EXPECT_EQ(sequence.kv_len, 120);
  EXPECT_TRUE(sequence.forget_sets);
  EXPECT_EQ(pool.num_free(), 2) << "the page with nothing but dirty rows goes back";
}

TEST(Scheduler, KeepsTheNewestNewlinesBetweenSinksAndRecent) {
  PagePool pool(4);
  ScheduledSequence sequence = MakeSequence(101, 100, 100);
  sequence.plan = SparsePlan(0);
  sequence.plan.keep_newlines = true;
  sequence.plan.budget.value = 32;
  sequence.plan.sinks = 4;
  sequence.plan.recent.value = 11;  // from position 90
  sequence.newlines = {0, 3, 4, 20, 50, 89, 90, 100};
  StepBatch batch;
  ScheduledSequence* running[] = {&sequence};
  const auto kept = [&] {
    EXPECT_TRUE(Scheduler(64).NextBatch(running, &pool, &batch).ok());
    const StepSequence& entry = batch.sequences[0];
    return std::vector<int32_t>(entry.keep, entry.keep + entry.num_keep);
  };
  EXPECT_EQ(kept(), (std::vector<int32_t>{89, 50, 20, 4}));
  const size_t most = static_cast<size_t>(sequence.plan.SizesAt(101).max_keep);
  sequence.newlines.clear();
  for (int32_t pos = 10; pos < 80; ++pos) sequence.newlines.push_back(pos);
  EXPECT_EQ(kept().size(), most);
  EXPECT_EQ(kept()[0], 79);
  sequence.plan.keep_newlines = false;
  EXPECT_TRUE(kept().empty());
}

}  // namespace
}  // namespace tidal
