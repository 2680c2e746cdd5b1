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
#include "eval/window.h"

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
  int32_t side_by_side = 1;     // windows whose rows run in the same steps, each with a cache
  bool divergence = false;      // also generate greedily, and see where texts part
  int32_t speed_steps = 0;      // decode steps per plan, alone, for its speed and bytes; 0: none
  uint64_t seed = 1;            // of the bootstrap
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

// Parts of a window's decoded tokens that the loss is told of one by one: the keys and values of
// sparsely decoded rows are not those of full attention, so that later rows may lose more.
inline constexpr int32_t kLossParts = 4;

// Means are over decoded tokens, intervals by bootstrap (statistics.h).
struct LossSummary {
  int64_t tokens = 0;
  Estimate kl;
  Estimate kl_p99;
  std::vector<double> kl_along;  // [kLossParts]; NaN for a part without a token
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
  AttentionStats attention;           // of all decoded rows
  std::vector<LayerMass> layer_mass;  // [layers], of all decoded rows
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

// What an engine must have for an evaluation: a context (EngineOptions::ctx_size), sequences
// (max_sequences) and a cache (cache_tokens).
struct EvalNeeds {
  int32_t context = 0;
  int32_t sequences = 0;
  int64_t cache_tokens = 0;
};
EvalNeeds NeedsOf(const LossRequest& request);

// Where the windows of a document begin: spread evenly, and what they decode never overlaps.
// kInvalidArgument where the text is too short (names the document, its tokens, and how many are
// needed).
Result<std::vector<int64_t>> WindowBegins(const EvalDocument& document, int32_t prefill,
                                          int32_t decode, int32_t windows);

// Runs it. Errors: those of WindowBegins and of the engine. REQUIRES: at least one document, one
// plan and two decoded tokens; the engine is idle, has no open sequence and has what NeedsOf says.
Result<LossResult> MeasureLoss(Engine* engine, const LossRequest& request, const EvalHooks& hooks);

}  // namespace tidal

#endif  // TIDAL_EVAL_LOSS_H_
