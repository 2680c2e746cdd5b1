#include "scheduler/scheduler.h"

#include <gtest/gtest.h>
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

TEST(Scheduler, DecodeRowsComeBeforePrefillChunks) {
  ScheduledSequence prompt = MakeSequence(300, 0, 300);
  ScheduledSequence answer = MakeSequence(71, 70, 64);
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

TEST(Scheduler, TokensPastFullUntilAreDecodedOneByOne) {
  ScheduledSequence scored = MakeSequence(10, 0, 6);
  scored.wants_all_logits = true;
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

}  // namespace
}  // namespace tidal
