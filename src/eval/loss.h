// What plans lose against full attention on given text, measured as they run: each window of a
// document is prefilled once in full, then its next tokens are decoded one by one, the text given,
// by full attention and by every plan. All of them are forks of the one prefill and rows of the
// same steps, so the plans share what is read of the weights and see the same text: they are
// paired.
#ifndef TIDAL_EVAL_LOSS_H_
#define TIDAL_EVAL_LOSS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "attention/attention_plan.h"
#include "base/status.h"
#include "engine/engine.h"
#include "eval/eval_hooks.h"
#include "eval/statistics.h"

namespace tidal {

struct EvalDocument {
  std::string name;  // of its file, for people
  std::vector<TokenId> tokens;
};

struct EvalPlan {
  std::string text;  // as given
  AttentionPlan plan;
};

struct LossRequest {
  std::vector<EvalDocument> documents;
  std::vector<EvalPlan> plans;  // full attention runs beside them and need not be one
  int32_t prefill = 4096;       // tokens of a window that are prefilled
  int32_t decode = 256;         // tokens of a window that are decoded
  int32_t windows = 1;          // of each document
  bool divergence = false;      // also generate greedily, and see where texts part
  int32_t speed_steps = 0;      // decode steps per plan, alone, for its speed and bytes; 0: none
  uint64_t seed = 1;            // of the bootstrap
};

// A decoded row under a plan, beside the same row under full attention.
struct TokenLoss {
  float kl = 0;             // KL(full || plan) in nats, over the whole vocabulary
  float extra_nats = 0;     // what the plan finds the text's next token less likely by
  float selected_mass = 1;  // of the row (RowReport); NaN where the scorer gives none
  bool agrees = true;       // both find the same token likeliest
};

struct LossWindow {
  int32_t document = 0;  // index into LossResult::documents
  int64_t begin = 0;     // its first prefilled token
  double full_nats = 0;  // mean over its decoded tokens of -log p(next token), full attention
};

struct PlanWindow {
  std::vector<TokenLoss> tokens;  // [decode]
  // How many greedily generated tokens are those of full attention; as many as were generated where
  // all are. Only with LossRequest::divergence.
  std::optional<int32_t> same_text;
};

// Of one plan's decode steps, alone, at one context.
struct PlanSpeed {
  int32_t context = 0;      // tokens in the cache at the first step
  double tokens_per_s = 0;  // by the median step
  double scan_bytes = 0;    // per step: read to choose by
  double gather_bytes = 0;  // K and V of sets
  double full_bytes = 0;    // K and V of layers that read everything
  double weight_bytes = 0;
};

// Means are over decoded tokens, intervals by bootstrap (statistics.h).
struct LossSummary {
  int64_t tokens = 0;
  Estimate kl;
  Estimate kl_p99;
  Estimate extra_nats;
  Estimate agreement;  // share of tokens
  std::optional<Estimate> same_text;
  // The plan's kl minus that of the first plan, on the same tokens.
  Estimate kl_over_first;
};

struct PlanLoss {
  EvalPlan plan;
  std::vector<PlanWindow> windows;  // as LossResult::windows
  LossSummary summary;
  AttentionStats attention;  // of all decoded rows
  // How well selected mass tells rows with a large kl; absent where no row has a mass.
  std::optional<RocCurve> guard;
  std::optional<PlanSpeed> speed;
};

struct LossResult {
  std::vector<std::string> documents;
  std::vector<LossWindow> windows;  // those that were finished, in order
  Estimate full_nats;
  std::optional<PlanSpeed> full_speed;
  std::vector<PlanLoss> plans;
  bool interrupted = false;  // hooks.stop said so before all windows were done
};

// How many sequences an engine must be able to open for the request, and how many tokens its cache
// must hold (EngineOptions::max_sequences, cache_tokens). The context is prefill + decode.
int32_t LossSequences(const LossRequest& request);
int64_t LossCacheTokens(const LossRequest& request);

// kInvalidArgument: no document, no plan, a text too short for the windows (which names the file,
// its tokens and those needed). Windows of a document are spread evenly over it; what they decode
// never overlaps.
Status CheckLossRequest(const LossRequest& request);

// Runs it. Errors: those of CheckLossRequest and of the engine. REQUIRES: the engine is idle and
// has no open sequence.
Result<LossResult> MeasureLoss(Engine* engine, const LossRequest& request, const EvalHooks& hooks);

}  // namespace tidal

#endif  // TIDAL_EVAL_LOSS_H_
