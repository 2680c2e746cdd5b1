// The loop of the engine: schedule, step, sample, commit.
#include <algorithm>
#include <utility>

#include "engine/engine_impl.h"

namespace tidal {
namespace {

// How many of the best logits of a row that a token is sampled from are looked at; 0: all are.
int32_t NumCandidates(const ActiveRequest& active) {
  const Request& request = active.request;
  const bool wants_all = request.score_top >= 0 || request.logprobs > kMaxCandidates ||
                         request.on_logits ||
                         request.attention.correct.when != Correction::When::kOff;
  const int32_t num_sampled_from = active.sampler.num_candidates();
  if (wants_all || num_sampled_from == 0) return 0;
  return std::max(num_sampled_from, request.logprobs);
}

bool KeepsNewlines(const AttentionPlan& plan) { return plan.keep_newlines && !plan.is_full(); }

}  // namespace

// Room for all of a request's tokens, so that decoding them does not allocate.
void Engine::Impl::ReserveTokens(const Request& request, ScheduledSequence* scheduled) const {
  const auto ctx_size = static_cast<size_t>(options.ctx_size);
  const size_t most =
      request.max_tokens < 0
          ? ctx_size
          : std::min(ctx_size, request.prompt.size() + static_cast<size_t>(request.max_tokens));
  scheduled->tokens.reserve(most);
  if (!KeepsNewlines(request.attention)) return;
  scheduled->newlines.reserve(most);
  const SetSizes sizes = request.attention.SizesAt(static_cast<int32_t>(most));
  scheduled->keep.reserve(static_cast<size_t>(sizes.max_keep));
}

// Reuses what the sequence's cache has in common with the prompt.
void Engine::Impl::Start(ActiveRequest* active) {
  ScheduledSequence& scheduled = SequenceAt(active->sequence).scheduled;
  const Request& request = active->request;
  const auto prompt_tokens = static_cast<int32_t>(request.prompt.size());
  const bool scores = request.score_top >= 0;
  // What a sparse row left belongs to the request that ran it: another gets it computed in full.
  const auto common =
      std::mismatch(scheduled.tokens.begin(), scheduled.tokens.begin() + scheduled.dense_len,
                    request.prompt.begin(), request.prompt.end());
  int32_t reused = static_cast<int32_t>(common.second - request.prompt.begin());
  // The newest token runs again where its logits are wanted; scoring wants everybody's from its
  // first position on.
  if (request.max_tokens != 0) reused = std::min(reused, prompt_tokens - 1);
  if (scores) reused = std::min(reused, request.score_from);
  if (reused < prompt_tokens) reused = scheduled.pages.WritableAfter(reused, *pool);
  scheduled.Restart(reused, &*pool);
  scheduled.tokens = request.prompt;
  ReserveTokens(request, &scheduled);
  scheduled.full_until = scores && request.score_prefill >= 0
                             ? std::min(request.score_prefill, prompt_tokens)
                             : prompt_tokens;
  scheduled.wants_all_logits = scores;
  scheduled.wants_logits = scores || request.max_tokens != 0;
  scheduled.wants_softmax = request.logprobs > 0;
  scheduled.plan = request.attention;
  scheduled.state = active->sequence;
  if (KeepsNewlines(request.attention))
    for (int32_t pos = 0; pos < prompt_tokens; ++pos) NoteToken(*active, &scheduled, pos);
  for (const TokenId id : request.prompt) active->sampler.Accept(id);
  active->timings.prompt_tokens = prompt_tokens;
  active->timings.reused_tokens = reused;
  active->started = true;
}

// Remembers where newlines are, for a plan that keeps them.
void Engine::Impl::NoteToken(const ActiveRequest& active, ScheduledSequence* scheduled,
                             int32_t pos) const {
  const auto token = static_cast<size_t>(scheduled->tokens[static_cast<size_t>(pos)]);
  if (KeepsNewlines(active.request.attention) && has_newline[token] != 0)
    scheduled->newlines.push_back(pos);
}

void Engine::Impl::BuildRunning() {
  running.clear();
  running_requests.clear();
  for (const auto& active : requests) {
    if (!active->started) Start(active.get());
    ScheduledSequence& scheduled = SequenceAt(active->sequence).scheduled;
    if (active->cancelled) {
      Finish(active.get(), active->ending.value_or(FinishReason::kCancelled));
      continue;
    }
    if (scheduled.kv_len == static_cast<int32_t>(scheduled.tokens.size())) {
      // All of a prefill-only prompt was there already.
      active->timings.prompt_ms = MsSince(active->submitted, EngineClock::now());
      Finish(active.get(), FinishReason::kLength);
      continue;
    }
    if (scheduled.CorrectionIsDue()) {
      scheduled.BeginReplay();
      ++active->attention.correction.runs;
    }
    scheduled.num_candidates = NumCandidates(*active);  // penalties change it
    running.push_back(&scheduled);
    running_requests.push_back(active.get());
  }
  DropFinished();
}

// The run of rows that `row` belongs to.
const StepSequence& Engine::Impl::EntryOfRow(int32_t row) const {
  const auto after =
      std::upper_bound(batch.sequences.begin(), batch.sequences.end(), row,
                       [](int32_t r, const StepSequence& entry) { return r < entry.row_begin; });
  return *(after - 1);
}

// What the step's rows changed: every sequence's cache has grown by its rows.
void Engine::Impl::CommitRows() {
  if (std::exchange(committed, true)) return;
  for (const StepSequence& entry : batch.sequences) {
    ActiveRequest* active = running_requests[static_cast<size_t>(entry.owner)];
    ScheduledSequence* scheduled = running[static_cast<size_t>(entry.owner)];
    scheduled->Commit(entry);
    if (active->prefilled || entry.kv_len <= scheduled->replay_end) continue;
    Event event{.kind = Event::Kind::kPrefill, .request = active->id};
    event.done = entry.kv_len;
    event.timings = active->timings;
    events->push_back(std::move(event));
    if (entry.kv_len < active->timings.prompt_tokens) continue;
    active->prefilled = true;
    active->first_token = EngineClock::now();
    active->timings.prompt_ms = MsSince(active->submitted, active->first_token);
  }
}

void Engine::Impl::ScorePosition(ActiveRequest* active, int32_t pos,
                                 std::span<const float> logits) {
  const Request& request = active->request;
  Event event{.kind = Event::Kind::kScore, .request = active->id};
  event.done = pos;
  if (!request.on_logits) event.top = TopLogprobs(logits, request.score_top);
  const auto next = static_cast<size_t>(pos) + 1;
  if (!request.on_logits && next < request.prompt.size()) {
    event.token = request.prompt[next];
    event.logprob = LogprobOf(logits, event.token);
  }
  active->score_event = events->size();
  events->push_back(std::move(event));
}

void Engine::Impl::Generate(ActiveRequest* active, std::span<const float> logits) {
  Event* event = TakeToken(active, active->sampler.Sample(logits));
  const int32_t num_logprobs = active->request.logprobs;
  if (num_logprobs <= 0) return;
  event->logprob = LogprobOf(logits, event->token);
  event->top = TopLogprobs(logits, num_logprobs);
}

void Engine::Impl::Generate(ActiveRequest* active, const CandidateList& candidates) {
  Event* event = TakeToken(active, active->sampler.Sample(candidates.best()));
  const int32_t num_logprobs = active->request.logprobs;
  if (num_logprobs <= 0) return;
  event->logprob = LogprobOf(candidates, event->token);
  event->top = TopLogprobs(candidates, num_logprobs);
}

// The next token of an answer; returns its event, which the next one may move.
Event* Engine::Impl::TakeToken(ActiveRequest* active, TokenId token) {
  const Request& request = active->request;
  ScheduledSequence& scheduled = SequenceAt(active->sequence).scheduled;
  active->sampler.Accept(token);
  scheduled.tokens.push_back(token);
  NoteToken(*active, &scheduled, static_cast<int32_t>(scheduled.tokens.size()) - 1);
  ++active->timings.predicted_tokens;
  active->timings.predicted_ms = MsSince(active->first_token, EngineClock::now());
  Event event{.kind = Event::Kind::kToken, .request = active->id};
  event.token = token;
  event.timings = active->timings;
  events->push_back(std::move(event));
  if (!request.ignore_eos && tokenizer != nullptr && tokenizer->IsEndOfGeneration(token)) {
    active->ending = FinishReason::kStop;
  } else if (active->timings.predicted_tokens == request.max_tokens ||
             static_cast<int32_t>(scheduled.tokens.size()) >= options.ctx_size) {
    active->ending = FinishReason::kLength;
  }
  return &events->back();
}

void Engine::Impl::TakeLogits(ActiveRequest* active, int32_t pos, std::span<const float> logits) {
  const ScheduledSequence& scheduled = SequenceAt(active->sequence).scheduled;
  // A replayed row's token was given when it was decoded.
  if (pos < scheduled.replay_end) return active->kl.Compare(pos, logits);
  if (scheduled.plan.correct.when != Correction::When::kOff && pos >= scheduled.dense_len)
    active->kl.Keep(pos, logits);
  const auto prompt_tokens = static_cast<int32_t>(active->request.prompt.size());
  const bool is_scored =
      active->request.score_top >= 0 && pos >= active->request.score_from && pos < prompt_tokens;
  const bool is_sampled = pos + 1 >= prompt_tokens && active->request.max_tokens != 0;
  if (active->request.on_logits && (is_scored || is_sampled))
    active->request.on_logits(pos, logits);
  if (is_scored) ScorePosition(active, pos, logits);
  if (is_sampled) Generate(active, logits);
}

// What the executor says about the decoded rows of the step.
void Engine::Impl::TakeReports() {
  const std::span<const RowReport> reports = executor->reports();
  for (size_t i = 0; i < batch.sequences.size(); ++i) {
    const StepSequence& entry = batch.sequences[i];
    ActiveRequest* active = running_requests[static_cast<size_t>(entry.owner)];
    ScheduledSequence& scheduled = *running[static_cast<size_t>(entry.owner)];
    const bool is_decoded = entry.kv_len > scheduled.full_until;
    if (!is_decoded) continue;
    AttentionStats& stats = active->attention;
    const auto step = static_cast<int32_t>(stats.full_rows + stats.sparse_rows);
    if (active->request.trace) tracer->Tell(static_cast<int32_t>(i), step, active->request.trace);
    if (active->request.on_layer_masses)
      active->request.on_layer_masses(executor->layer_masses(static_cast<int32_t>(i)));
    if (active->score_event)
      (*events)[*active->score_event].selected_mass = reports[i].selected_mass;
    if (entry.plan != nullptr) {
      stats.AddSparseRow(reports[i]);
      scheduled.CheckGuard(reports[i].selected_mass);
    } else {
      const AttentionPlan& plan = scheduled.plan.At(entry.kv_len);
      stats.AddFullRow(reports[i], !plan.RunsFull(entry.kv_len));
    }
  }
}

// Finishes the requests whose answers have ended, after the correction that their plans ask for.
void Engine::Impl::EndAnswers() {
  for (size_t i = 0; i < running.size(); ++i) {
    ActiveRequest* active = running_requests[i];
    ScheduledSequence& scheduled = *running[i];
    active->score_event.reset();
    if (active->prefilled && active->request.max_tokens == 0)
      active->ending = FinishReason::kLength;
    if (!active->ending || scheduled.is_replaying()) continue;
    if (scheduled.plan.correct.when == Correction::When::kTurn && scheduled.num_dirty() > 0) {
      scheduled.BeginReplay();
      ++active->attention.correction.runs;
    } else {
      Finish(active, *active->ending);
    }
  }
  DropFinished();
}

void Engine::Impl::Finish(ActiveRequest* active, FinishReason reason) {
  OpenSequenceState& state = SequenceAt(active->sequence);
  state.active = nullptr;
  // The newest token was given but not run: the cache does not hold it.
  state.scheduled.tokens.resize(static_cast<size_t>(state.scheduled.kv_len));
  Event event{.kind = Event::Kind::kFinished, .request = active->id};
  event.reason = reason;
  event.timings = active->timings;
  CorrectionStats& correction = active->attention.correction;
  correction.rows = active->kl.num_compared();
  correction.kl_mean = active->kl.mean();
  correction.kl_max = active->kl.max();
  event.attention = active->attention;
  events->push_back(std::move(event));
  active->finished = true;
}

void Engine::Impl::DropFinished() {
  std::erase_if(requests, [](const auto& active) { return active->finished; });
}

Status Engine::Impl::RunBatch() {
  batch.observer = nullptr;
  if (std::any_of(running_requests.begin(), running_requests.end(),
                  [](const ActiveRequest* active) { return bool{active->request.trace}; })) {
    tracer->Begin(&batch);
    batch.observer = &*tracer;
  }
  committed = false;
  // These capture no more than a std::function holds in place, so that a step does not allocate.
  const auto on_logits = [this](size_t i, std::span<const float> logits) {
    CommitRows();
    const int32_t row = batch.logit_rows[i];
    TakeLogits(RequestOfRow(row), batch.positions[static_cast<size_t>(row)], logits);
  };
  const auto on_candidates = [this](size_t i, const CandidateList& candidates) {
    CommitRows();
    Generate(RequestOfRow(batch.candidate_rows[i].row), candidates);
  };
  TIDAL_RETURN_IF_ERROR(transformer->Forward(batch, on_logits, on_candidates));
  CommitRows();
  return OkStatus();
}

Status Engine::Impl::Step(std::vector<Event>* step_events) {
  events = step_events;
  BuildRunning();
  if (running.empty()) return OkStatus();
  const EngineClock::time_point start = EngineClock::now();
  TIDAL_RETURN_IF_ERROR(scheduler->NextBatch(running, &*pool, &batch));
  TIDAL_RETURN_IF_ERROR(RunBatch());
  TakeReports();
  EndAnswers();
  ++profile.steps;
  profile.total_ms += MsSince(start, EngineClock::now());
  return OkStatus();
}

}  // namespace tidal
