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
};

// The context that the largest test needs.
int64_t NeededCtxSize(const BenchSettings& settings);

// One test at one depth under one plan. Vectors: [repetitions].
struct BenchRow {
  std::string test;  // "pp512", "tg64"
  int32_t depth = 0;
  BenchPlan plan;
  int32_t tokens = 0;  // that it prefills or decodes
  std::vector<double> tokens_per_s;
  std::vector<ExecutorProfile> profiles;  // of all of its tokens
};

double MedianOf(std::vector<double> values);

// The tests by depth; at a depth the repetitions of all tests and plans take turns, so that a
// machine that slows down does so for all of them. A depth is filled once, by a prefill with random
// tokens of a fixed seed, and every test starts from there again. REQUIRES: the context holds
// NeededCtxSize(settings). Errors: those of the engine; kCancelled.
Result<std::vector<BenchRow>> RunBench(const Console& console, Engine* engine,
                                       const BenchSettings& settings,
                                       const InterruptScope& interrupt);

}  // namespace tidal

#endif  // TIDAL_CLI_BENCH_RUN_H_
