// The engine: requests in, tokens out. The only loop of the program lives here: schedule, step,
// sample, commit.
//
// A sequence is a KV cache with the tokens that filled it. A request runs on a sequence and leaves
// its tokens there, so the next request on it (a chat's next turn, a benchmark's next repetition)
// reuses the longest common prefix. Threads: one thread calls an Engine; RequestStop may be called
// from any thread and from a signal handler.
#ifndef TIDAL_ENGINE_ENGINE_H_
#define TIDAL_ENGINE_ENGINE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "attention/attention_plan.h"
#include "attention/plan_spec.h"
#include "base/status.h"
#include "engine/attention_stats.h"
#include "engine/saved_prompt.h"
#include "engine/trace.h"
#include "executor/executor.h"
#include "executor/options.h"
#include "model/known_shapes.h"
#include "model/model.h"
#include "model/rope_scaling.h"
#include "sampler/sampler.h"
#include "tokenizer/tokenizer.h"

namespace tidal {

struct EngineOptions {
  std::string model_path;
  // Made instead of reading a file; model_path is its name then. For benchmarks: there is no
  // tokenizer, so no token ends an answer and plans that keep newlines are refused.
  std::optional<RandomModel> random_model;
  std::string device = "cpu";  // --device
  int32_t ctx_size = 0;        // tokens per sequence; 0: what the model was trained with
  // --rope-scaling none, linear or yarn, in place of what the model's file says; --rope-scale: how
  // many times longer the context becomes; --yarn-orig-ctx: the context of the pre-training, 0 for
  // what the file says.
  std::optional<RopeScalingKind> rope_scaling;
  float rope_scale = 1;
  int32_t yarn_orig_ctx = 0;
  int32_t num_threads = 0;  // 0: the cores that this process may use
  Isa isa = Isa::kAuto;
  Precision precision = Precision::kFast;
  CacheType k_cache_type = CacheType::kF16;
  CacheType v_cache_type = CacheType::kF16;
  bool ignore_sidecar = false;  // calibrated plans are neither read nor looked for
  // Plans that requests will use, as far as they are known: what index_layers and index_bits are
  // chosen for where these say auto. Requests may use others.
  std::vector<PlanSpec> plans;
  IndexLayers index_layers = IndexLayers::kAuto;
  int32_t index_bits = 0;          // 4 or 2; 0: auto
  int32_t max_batch_tokens = 512;  // rows of one step: the prefill chunk (-b, -ub)
  int32_t max_sequences = 1;       // open at the same time; each may grow to ctx_size
  // Tokens that the whole cache holds, those of shared pages once; 0: room for max_sequences full
  // contexts. For forks, which share most of theirs. Needs a ctx_size.
  int64_t cache_tokens = 0;
};

// Told while loading: share done in [0, 1] and what is being done.
using ProgressFn = std::function<void(double fraction, const char* what)>;

using SequenceId = int32_t;
using RequestId = int64_t;

// Receives the logits [vocab_size] of the row at `pos`; the memory is reused afterwards. Called
// within Step; of one step's rows in the order in which their requests were submitted.
using LogitsFn = std::function<void(int32_t pos, std::span<const float> logits)>;

// Receives the selected mass of each layer [num_layers] of a decoded row, after its step: NaN in
// layers that chose nothing in it and where the scorer gives none. The memory is reused afterwards.
using LayerMassesFn = std::function<void(std::span<const float> masses)>;

struct Request {
  std::vector<TokenId>
      prompt;               // all of it, also what the sequence already holds; at least one token
  int32_t max_tokens = -1;  // to generate; -1: until the context is full; 0: prefill only
  SamplingParams sampling;
  AttentionPlan attention;  // of the decoded rows; from Engine::ResolvePlan
  bool ignore_eos = false;  // generate on after an end-of-generation token
  int32_t logprobs = 0;     // the N best per generated token
  int32_t score_top =
      -1;  // >= 0: score the prompt (Event::Kind::kScore per token), N best per position
  int32_t score_prefill = -1;  // with score_top: the first N tokens are prefilled, each later one
                               // is decoded as a row of its own; -1: all are prefilled
  int32_t score_from = 0;      // positions before it are not scored, and may come from the cache
  // Told the whole logits of each scored position and of each row that a token is sampled from; may
  // be empty. With it a kScore event has neither `top` nor `logprob`.
  LogitsFn on_logits;
  LayerMassesFn on_layer_masses;  // may be empty
  TraceFn trace;                  // told what each layer of each decoded row reads; may be empty
};

enum class FinishReason : uint8_t {
  kStop,    // an end-of-generation token
  kLength,  // max_tokens, or the context is full
  kCancelled,
};
const char* NameOf(FinishReason reason);  // "stop", "length", "cancelled"

struct Timings {
  int32_t prompt_tokens = 0;  // of the request
  int32_t reused_tokens = 0;  // of these, found in the sequence's cache
  double prompt_ms = 0;       // from submission to the last prefill step's end
  int32_t predicted_tokens = 0;
  double predicted_ms = 0;  // of the decode steps; the first token comes with the prefill
};

struct Event {
  enum class Kind : uint8_t {
    kPrefill,  // prompt tokens done so far: timings.prompt_tokens of the request, `done` of these
    kScore,  // one per prompt position, in order: `top`, for all but the last `logprob` of the next
             // token, and selected_mass
    kToken,  // a generated token: token, logprob, top (if asked for)
    kFinished,  // the last event of a request: reason, timings, attention
  };
  Kind kind;
  RequestId request = 0;
  int32_t done = 0;
  TokenId token = kNoToken;
  float logprob = 0;  // of `token` (kToken), of the next prompt token (kScore)
  std::vector<TokenLogprob> top;
  float selected_mass = 1;  // of the row (RowReport); 1 in a full one
  FinishReason reason = FinishReason::kStop;
  Timings timings;
  AttentionStats attention;
};

// What the steps since the last TakeProfile cost (milliseconds of wall time).
struct StepProfile {
  int64_t steps = 0;
  double total_ms = 0;
  ExecutorProfile executor;  // of it, the parts that the executor tells apart
};

struct MemoryUse {
  int64_t file_bytes = 0;    // mapped, shared with the page cache
  int64_t weight_bytes = 0;  // repacked copies
  int64_t kv_bytes = 0;      // the whole pool
  int64_t kv_bytes_per_token = 0;
  int64_t index_bytes = 0;  // the key index of the whole pool
  int64_t index_bytes_per_token = 0;
  int64_t set_bytes = 0;  // arenas of selection
};

class Engine {
 public:
  // Loads the model and its sidecar, makes the executor and the cache. Errors: those of
  // Model::Load, Tokenizer::ForModel, Sidecar::Parse and CheckRandomModel; kInvalidArgument (an
  // option, a context beyond the model's, a plan that does not fit the model: its message begins
  // with "--attention"); kOutOfMemory (with the largest context that fits).
  static Result<std::unique_ptr<Engine>> Create(const EngineOptions& options,
                                                const ProgressFn& progress);
  ~Engine();

  const Model& model() const;
  const Tokenizer& tokenizer() const;  // REQUIRES: no random_model
  int32_t ctx_size() const;
  int32_t num_threads() const;
  Isa isa() const;  // the one in use, never kAuto
  // The name of the device that runs the model, as its driver has it; empty: the CPU.
  const std::string& device_name() const;
  MemoryUse memory() const;
  // The file of calibrated plans that was read beside the model, or "the built-in calibration of
  // NAME"; empty: there is neither.
  const std::string& sidecar() const;
  // The plan for this model. kInvalidArgument as PlanSpec::Resolve.
  Result<AttentionPlan> ResolvePlan(const PlanSpec& spec) const;

  // kOutOfMemory where max_sequences are open. Closing one with a running request cancels that.
  Result<SequenceId> OpenSequence();
  void CloseSequence(SequenceId sequence);
  // Opens a sequence that begins with the first `num_tokens` tokens of another. The pages that
  // these fill are shared, not copied; up to kPageSize - 1 tokens after them are left to the first
  // request on the fork to compute. Its prompt has to begin with these tokens to profit.
  // kOutOfMemory where max_sequences are open. REQUIRES: the other's cache holds them as a full run
  // leaves them.
  Result<SequenceId> Fork(SequenceId sequence, int32_t num_tokens);
  // How many tokens the sequence's cache holds.
  int32_t CachedTokens(SequenceId sequence) const;
  // How many of them, from the first, are those of a full run: what another request can reuse.
  int32_t CleanTokens(SequenceId sequence) const;

  // Writes the cache of the sequence's first num_tokens tokens, in pieces, for LoadPrompt of this
  // or another engine; docs/prompt_cache.md has the format. REQUIRES: no request runs on the
  // sequence. Errors: kInvalidArgument (num_tokens is not 1 to CleanTokens); kUnsupported (a device
  // that cannot); those of Model::Load's hash and of `write`.
  Status SavePrompt(SequenceId sequence, int32_t num_tokens, const WriteBytesFn& write) const;
  // Whether LoadPrompt can use it: kInvalidArgument says what it was saved with (model, precision,
  // types of the cache) and what this engine has. The key index need not be the same: another one
  // is computed from the keys.
  Status CheckSavedPrompt(const SavedPrompt& saved) const;
  // Brings what `saved` and the prompt have in common into the sequence's cache, unless that holds
  // as much of the prompt already. Returns how many tokens of the prompt the cache then holds, of
  // which the next request reuses all (but the newest token, which runs again). REQUIRES: no
  // request runs on the sequence. Errors: those of CheckSavedPrompt; kCorrupt (a damaged page, and
  // the cache is empty then); those of the device.
  Result<int32_t> LoadPrompt(SequenceId sequence, const SavedPrompt& saved,
                             std::span<const TokenId> prompt);

  // Queues a request; it runs in later Steps. One request at a time on a sequence. Errors:
  // kInvalidArgument (empty prompt, ids outside the vocabulary, a prompt longer than the context
  // (both numbers are named), sampling values, a plan of another model or with a budget that the
  // first decoded row cannot keep to); kUnsupported and kOutOfMemory of Executor::PreparePlan.
  Result<RequestId> Submit(SequenceId sequence, Request request);
  // Its kFinished (kCancelled, or the reason for which it had ended where only KV correction was
  // left to do) comes with the next Step; the tokens so far stay in the sequence.
  void Cancel(RequestId request);
  bool idle() const;  // no request is queued or running

  // Runs one step over the rows of all running requests and appends what happened to `events`. Does
  // nothing when idle.
  Status Step(std::vector<Event>* events);

  StepProfile TakeProfile();
  // Of the steps from now on.
  void SetPartTiming(PartTiming timing);

 private:
  Engine();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tidal

#endif  // TIDAL_ENGINE_ENGINE_H_
