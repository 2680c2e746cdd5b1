// A window of a text: prefilled once in full, then decoded as often as there are plans to try, each
// time as a fork of that prefill. What losses, calibration and speeds are measured on.
#ifndef TIDAL_EVAL_WINDOW_H_
#define TIDAL_EVAL_WINDOW_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/status.h"
#include "base/thread_pool.h"
#include "engine/engine.h"
#include "eval/eval_hooks.h"

namespace tidal {

// A decoded row under a plan, beside the same row under full attention.
struct TokenLoss {
  float kl = 0;             // KL(full || plan) in nats, over the whole vocabulary
  float extra_nats = 0;     // what the plan finds the text's next token less likely by
  float selected_mass = 1;  // of the row (RowReport); NaN where the scorer gives none
  bool agrees = true;       // both find the same token likeliest
};

// Selected mass of one layer, summed over the rows in which it chose by probabilities.
struct LayerMass {
  double sum = 0;
  int64_t rows = 0;
};

// The rows of one pass over a window.
struct DecodedWindow {
  std::vector<float> full_nats;                    // [decode], -log p(next token) of full attention
  std::vector<std::vector<TokenLoss>> plans;       // [plans][decode]
  std::vector<AttentionStats> attention;           // [plans]
  std::vector<std::vector<LayerMass>> layer_mass;  // [plans][layers]
};

// Decode steps of one plan, alone.
struct PlanSpeed {
  int32_t context = 0;      // tokens in the cache at the first step
  double tokens_per_s = 0;  // by the median step
  double scan_bytes = 0;    // per step: read to choose by
  double gather_bytes = 0;  // K and V of sets
  double full_bytes = 0;    // K and V of layers that read everything
  double weight_bytes = 0;
};

// A sequence of an engine, closed at the end of its life. Move-only.
class ScopedSequence {
 public:
  ScopedSequence(Engine* engine, SequenceId id) : engine_(engine), id_(id) {}
  ScopedSequence(ScopedSequence&& other) noexcept;
  ScopedSequence& operator=(ScopedSequence&&) = delete;
  ~ScopedSequence();
  SequenceId id() const { return id_; }

 private:
  Engine* engine_;  // null: moved from
  SequenceId id_;
};

// Steps until the engine is idle. kCancelled where hooks.stop says so; the requests then still run
// until their sequences are closed.
Status RunSteps(Engine* engine, const EvalHooks& hooks,
                const std::function<void(const Event&)>& on_event);

class Window {
 public:
  // Prefills the first `prefill` of `tokens`; those after them are what is decoded, but for the
  // last, which is only foreseen. The tokens are borrowed. Errors: the engine's, kCancelled.
  // REQUIRES: an idle engine, tokens.size() >= prefill + 3, a context of tokens.size() - 1.
  static Result<Window> Open(Engine* engine, std::span<const TokenId> tokens, int32_t prefill,
                             const EvalHooks& hooks);

  int32_t prefill() const { return prefill_; }
  // For what is done with rows of logits; as many threads as the engine has.
  ThreadPool* pool() const { return pool_.get(); }
  int32_t decode() const { return static_cast<int32_t>(tokens_.size()) - prefill_ - 1; }

  // A sequence that begins with the window's prefill. kOutOfMemory where no more can be opened.
  Result<ScopedSequence> Fork() const { return Fork(prefill_); }

  // Decodes the first `rows` tokens of each window under full attention and under each plan, all
  // rows of a position in one step: [windows]. Progress is the share of the positions. Errors: the
  // engine's, kCancelled. REQUIRES: at least one window, all of one engine, 1 <= rows <= decode()
  // of each.
  static Result<std::vector<DecodedWindow>> Decode(std::span<const Window* const> windows,
                                                   std::span<const AttentionPlan> plans,
                                                   int32_t rows, const EvalHooks& hooks);
  // What each plan generates greedily after the window's first decoded token, at most as many
  // tokens as fit in the window: [plans].
  Result<std::vector<std::vector<TokenId>>> Generate(std::span<const AttentionPlan> plans,
                                                     const EvalHooks& hooks) const;
  // Times `steps` >= 1 decode steps of a plan, without KV correction, and counts what they read:
  // after the window's prefill, or after its first `context` tokens. REQUIRES: 1 <= context <=
  // prefill(), a context of that + steps + 2 tokens.
  Result<PlanSpeed> MeasureSpeed(const AttentionPlan& plan, int32_t steps,
                                 const EvalHooks& hooks) const {
    return MeasureSpeed(plan, prefill_, steps, hooks);
  }
  Result<PlanSpeed> MeasureSpeed(const AttentionPlan& plan, int32_t context, int32_t steps,
                                 const EvalHooks& hooks) const;

  // What a window needs of an engine's cache beside its own `prefill` tokens, for `num_forks` forks
  // of `decode` tokens each.
  static int64_t ForkTokens(int32_t num_forks, int32_t prefill, int32_t decode);

 private:
  Window(Engine* engine, ScopedSequence base, std::span<const TokenId> tokens, int32_t prefill);

  // Of the first `rows` tokens after the prefill, given and decoded one by one.
  Request Decoding(const AttentionPlan& plan, int32_t rows) const;
  Result<ScopedSequence> Fork(int32_t num_tokens) const;
  // Of at most max_tokens tokens, generated after the first `context` ones.
  Request Generation(const AttentionPlan& plan, int32_t context, int32_t max_tokens) const;

  Engine* engine_;
  std::unique_ptr<ThreadPool> pool_;  // compares rows
  ScopedSequence base_;
  std::span<const TokenId> tokens_;
  int32_t prefill_;
};

}  // namespace tidal

#endif  // TIDAL_EVAL_WINDOW_H_
