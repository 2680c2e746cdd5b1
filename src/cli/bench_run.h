// The measurements of tidal bench: prefill and decode at given depths of the cache, plan by plan.
#ifndef TIDAL_CLI_BENCH_RUN_H_
#define TIDAL_CLI_BENCH_RUN_H_

#include <cstdint>
#include <string>
#include <vector>

#include "cli/console.h"
#include "cli/interrupt.h"
#include "engine/engine.h"

namespace tidal {

struct BenchPlan {
  std::string text;    // as given
  AttentionPlan plan;  // the model's
};

struct BenchSettings {
  std::vector<int32_t> prompt_tokens;  // of the prefill tests; 0: none
  std::vector<int32_t> decode_tokens;  // of the decode tests; 0: none
  std::vector<int32_t> depths;         // tokens that the cache holds before a test
  std::vector<BenchPlan> plans;
  int32_t repetitions = 5;
  int32_t sequences = 1;  // that decode side by side
};

// The context that the largest test needs, of each sequence.
int64_t NeededCtxSize(const BenchSettings& settings);

// One test at one depth under one plan. Vectors: [repetitions].
struct BenchRow {
  std::string test;  // "pp512", "tg64"
  int32_t depth = 0;
  BenchPlan plan;
  int32_t sequences = 1;
  int32_t tokens = 0;  // that it prefills or decodes, of all sequences
  std::vector<double> tokens_per_s;
  std::vector<ExecutorProfile> profiles;  // of all of its tokens
  // Where the times of attention by part are from, and of how many tokens each is: the repetitions
  // or, where these do not tell, a run for this alone. Empty: they are not known.
  std::vector<ExecutorProfile> part_profiles;
  int32_t part_tokens = 0;
};

double MedianOf(std::vector<double> values);

// The tests by depth; at a depth the repetitions of all tests and plans take turns, so that a
// machine that slows down does so for all of them. A depth is filled once, by a prefill with random
// tokens of a fixed seed, and every test starts from there again. Decode tests run on all
// sequences, which share no pages, prefill tests on one. REQUIRES: the engine has so many
// sequences, takes a row of each into one step, and its context holds NeededCtxSize(settings).
// Errors: those of the engine; kCancelled.
Result<std::vector<BenchRow>> RunBench(const Console& console, Engine* engine,
                                       const BenchSettings& settings,
                                       const InterruptScope& interrupt);

}  // namespace tidal

#endif  // TIDAL_CLI_BENCH_RUN_H_
