// The state of an engine and its loop (engine_step.cc); for the files of this folder only.
#ifndef TIDAL_ENGINE_ENGINE_IMPL_H_
#define TIDAL_ENGINE_ENGINE_IMPL_H_

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "attention/sidecar.h"
#include "engine/correction_kl.h"
#include "engine/engine.h"
#include "engine/key_index_choice.h"
#include "kv/page_pool.h"
#include "scheduler/scheduler.h"
#include "transformer/transformer.h"

namespace tidal {

using EngineClock = std::chrono::steady_clock;

inline double MsSince(EngineClock::time_point start, EngineClock::time_point now) {
  return std::chrono::duration<double, std::milli>(now - start).count();
}

// A request from its submission to its kFinished.
struct ActiveRequest {
  RequestId id = 0;
  SequenceId sequence = 0;
  Request request;
  Sampler sampler;
  Timings timings;
  AttentionStats attention;
  CorrectionKl kl;
  EngineClock::time_point submitted;
  EngineClock::time_point first_token;
  bool started = false;
  bool cancelled = false;
  bool prefilled = false;
  bool finished = false;
  // Why its answer has ended; KV correction may still be left to do.
  std::optional<FinishReason> ending;
  // The event of the step at hand that waits for its row's selected mass: an index into the step's
  // events.
  std::optional<size_t> score_event;
};

// An open sequence: what the scheduler sees, and who runs on it.
struct OpenSequenceState {
  ScheduledSequence scheduled;
  ActiveRequest* active = nullptr;
};

struct Engine::Impl {
  EngineOptions options;
  std::optional<Model> model;
  std::unique_ptr<Tokenizer> tokenizer;  // null: random weights
  std::optional<Sidecar> sidecar;
  std::string device_name;   // empty: the CPU
  std::string sidecar_name;  // empty: none
  KeyIndexChoice key_index;
  bool told_of_missing_index = false;
  std::unique_ptr<Executor> executor;
  std::optional<Transformer> transformer;
  std::optional<PagePool> pool;
  std::optional<Scheduler> scheduler;
  std::optional<TraceCollector> tracer;  // made by the first traced request
  std::vector<uint8_t> has_newline;      // [vocab_size], made when first needed
  std::vector<std::unique_ptr<OpenSequenceState>> sequences;  // [max_sequences]; null: free
  std::deque<std::unique_ptr<ActiveRequest>> requests;        // in order of arrival
  RequestId next_request = 1;
  StepProfile profile;
  // The step at hand.
  StepBatch batch;
  std::vector<ScheduledSequence*> running;
  std::vector<ActiveRequest*> running_requests;  // whose sequences `running` holds
  std::vector<Event>* events = nullptr;
  bool committed = false;

  OpenSequenceState& SequenceAt(SequenceId id);
  PlanModel plan_model() const {
    const ModelConfig& config = model->config();
    return {config.num_layers, config.num_heads, config.num_kv_heads,
            sidecar ? &*sidecar : nullptr};
  }

  // Loading, in engine.cc.
  Status LoadModel(const ProgressFn& report);
  Status ChoosePlans();
  Status MakeExecutor(const std::function<void(double)>& progress);
  // Submission, in engine.cc.
  Status CheckRequest(const Request& request) const;
  Status PreparePlan(SequenceId sequence, const Request& request);
  void TellOfMissingIndex(const AttentionPlan& plan);

  // Saved prompts, in engine_prompt.cc.
  // What the model is to a saved prompt. Errors: those of ModelHash.
  Result<std::string> ModelIdentity() const;
  Status LoadPages(const SavedPrompt& saved, int32_t num_tokens,
                   const ScheduledSequence& scheduled);

  // The loop, in engine_step.cc.
  Status Step(std::vector<Event>* step_events);
  void Start(ActiveRequest* active);
  void ReserveTokens(const Request& request, ScheduledSequence* scheduled) const;
  void BuildRunning();
  Status RunBatch();
  const StepSequence& EntryOfRow(int32_t row) const;
  ActiveRequest* RequestOfRow(int32_t row) const {
    return running_requests[static_cast<size_t>(EntryOfRow(row).owner)];
  }
  void CommitRows();
  void NoteToken(const ActiveRequest& active, ScheduledSequence* scheduled, int32_t pos) const;
  void TakeLogits(ActiveRequest* active, int32_t pos, std::span<const float> logits);
  void ScorePosition(ActiveRequest* active, int32_t pos, std::span<const float> logits);
  void Generate(ActiveRequest* active, std::span<const float> logits);
  void Generate(ActiveRequest* active, const CandidateList& candidates);
  Event* TakeToken(ActiveRequest* active, TokenId token);
  void TakeReports();
  void EndAnswers();
  void Finish(ActiveRequest* active, FinishReason reason);
  void DropFinished();
};

}  // namespace tidal

#endif  // TIDAL_ENGINE_ENGINE_IMPL_H_
