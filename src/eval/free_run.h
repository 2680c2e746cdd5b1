// Losses along text that a plan writes itself: it generates, and full attention then reads the same
// text in whole chunks, which gives the true KL of every row, dirty cache included.
#ifndef TIDAL_EVAL_FREE_RUN_H_
#define TIDAL_EVAL_FREE_RUN_H_

#include <cstdint>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "eval/eval_hooks.h"
#include "eval/loss.h"
#include "eval/statistics.h"

namespace tidal {

inline constexpr int32_t kFreeRunParts = 16;

struct FreeRunRequest {
  std::vector<EvalDocument> documents;
  std::vector<EvalPlan> plans;
  int32_t prefill = 4096;    // tokens of a window before the generated ones
  int32_t generate = 2048;   // at most so many, fewer where the plan ends the text
  int32_t windows = 1;       // of each document
  int32_t side_by_side = 1;  // windows that are written after in the same steps
  SamplingParams sampling;   // temperature 0: greedy
};

// What one plan wrote after one window.
struct FreeRunText {
  std::vector<TokenId> tokens;  // generated
  FinishReason reason = FinishReason::kLength;
  // Of the row that each token but the first was drawn from; the first comes from the prefill.
  std::vector<float> kl;  // [tokens - 1]
  double repetition = 0;  // RepetitionRate
};

struct FreeRunPlan {
  EvalPlan plan;
  std::vector<FreeRunText> texts;  // [windows that were finished]
  AttentionStats attention;
  // Means over windows with intervals by bootstrap over them.
  Estimate kl;
  Estimate length;
  Estimate repetition;
  // Mean KL of the rows in each of kFreeRunParts equal parts of FreeRunRequest::generate tokens;
  // NaN where no text came so far.
  std::vector<double> kl_along;
};

struct FreeRunResult {
  std::vector<LossWindow> windows;  // full_nats is 0
  std::vector<FreeRunPlan> plans;
  bool interrupted = false;
};

// The share of a text's sequences of 8 tokens that occurred before in it: 0 none, near 1 a loop. 0
// for texts shorter than that.
double RepetitionRate(const std::vector<TokenId>& tokens);

EvalNeeds NeedsOf(const FreeRunRequest& request);

// All plans run side by side. Errors: those of WindowBegins (for prefill + 2 tokens) and of the
// engine. REQUIRES: as MeasureLoss, with NeedsOf the request.
Result<FreeRunResult> MeasureFreeRun(Engine* engine, const FreeRunRequest& request,
                                     const EvalHooks& hooks);

}  // namespace tidal

#endif  // TIDAL_EVAL_FREE_RUN_H_
