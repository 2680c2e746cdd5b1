#include "engine/engine.h"

#include <algorithm>
#include <chrono>
#include <deque>
#include <optional>
#include <utility>

#include "base/system_memory.h"
#include "base/thread_pool.h"
#include "cpu/cpu_executor.h"
#include "cpu/isa.h"
#include "cuda/cuda_devices.h"
#include "scheduler/scheduler.h"
#include "transformer/transformer.h"

namespace tidal {
namespace {

using Clock = std::chrono::steady_clock;

double MsSince(Clock::time_point start, Clock::time_point now) {
  return std::chrono::duration<double, std::milli>(now - start).count();
}

// Left to the rest of the program and the system when a context is sized to the memory that there
// is.
constexpr int64_t kMemoryReserveBytes = int64_t{256} << 20;

// A request from its submission to its kFinished.
struct ActiveRequest {
  RequestId id = 0;
  SequenceId sequence = 0;
  Request request;
  Sampler sampler;
  Timings timings;
  Clock::time_point submitted;
  Clock::time_point first_token;
  bool started = false;
  bool cancelled = false;
  bool prefilled = false;
  bool finished = false;
};

// An open sequence: what the scheduler sees, and who runs on it.
struct OpenSequenceState {
  ScheduledSequence scheduled;
  ActiveRequest* active = nullptr;
};

}  // namespace

const char* NameOf(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kCancelled:
      return "cancelled";
  }
  return "";
}

struct Engine::Impl {
  EngineOptions options;
  std::optional<Model> model;
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<Executor> executor;
  std::optional<Transformer> transformer;
  std::optional<PagePool> pool;
  std::optional<Scheduler> scheduler;
  std::vector<std::unique_ptr<OpenSequenceState>> sequences;  // [max_sequences]; null: free
  std::deque<std::unique_ptr<ActiveRequest>> requests;        // in order of arrival
  RequestId next_request = 1;
  StepBatch batch;
  std::vector<ScheduledSequence*> running;
  std::vector<ActiveRequest*> running_requests;  // whose sequences `running` holds
  StepProfile profile;

  OpenSequenceState& SequenceAt(SequenceId id) {
    TIDAL_CHECK(id >= 0 && id < options.max_sequences && sequences[static_cast<size_t>(id)],
                "sequence {} is not open", id);
    return *sequences[static_cast<size_t>(id)];
  }

  void Start(ActiveRequest* active);
  void BuildRunning(std::vector<Event>* events);
  const StepSequence& EntryOfRow(int32_t row) const;
  void CommitRows(std::vector<Event>* events);
  void TakeLogits(ActiveRequest* active, int32_t pos, std::span<const float> logits,
                  std::vector<Event>* events);
  void ScorePosition(ActiveRequest* active, int32_t pos, std::span<const float> logits,
                     std::vector<Event>* events);
  void Generate(ActiveRequest* active, std::span<const float> logits, std::vector<Event>* events);
  void Finish(ActiveRequest* active, FinishReason reason, std::vector<Event>* events);
  void DropFinished();
};

namespace {

// The context to use: what was asked for, checked; or what the model was trained with, cut to what
// fits in memory.
Result<int32_t> ChooseCtxSize(const EngineOptions& options, const Model& model) {
  const int32_t trained = model.config().trained_seq_len;
  if (options.ctx_size < 0)
    return InvalidArgument("--ctx-size is {}, expected 1 to {}", options.ctx_size, trained);
  if (options.ctx_size > trained) {
    return InvalidArgument(
        "--ctx-size is {}, but {} was trained with a context of {}; ask for at most that",
        options.ctx_size, options.model_path, trained);
  }
  TIDAL_ASSIGN_OR_RETURN(
      const int64_t page_bytes,
      CpuKvPageBytes(model.config(), options.k_cache_type, options.v_cache_type));
  const int64_t room = AvailableMemoryBytes() - model.weight_bytes() - kMemoryReserveBytes;
  const int64_t fitting_pages = std::max<int64_t>(room / page_bytes, 0) / options.max_sequences;
  const auto fitting = static_cast<int32_t>(std::min<int64_t>(fitting_pages * kPageSize, trained));
  const int32_t wanted = options.ctx_size == 0 ? trained : options.ctx_size;
  if (wanted <= fitting) return wanted;
  if (options.ctx_size == 0 && fitting > 0) return fitting;
  return OutOfMemory(
      "a context of {} tokens needs {} for its KV cache beside {} of weights, but {} of memory are "
      "available; the largest "
      "context that fits is {}",
      wanted, FormatBytes(CeilDiv(wanted, kPageSize) * page_bytes * options.max_sequences),
      FormatBytes(model.weight_bytes()), FormatBytes(AvailableMemoryBytes()), fitting);
}

// "cpu", or why the device that was asked for cannot be used.
Status CheckDevice(const std::string& device) {
  if (device == "cpu") return OkStatus();
  constexpr std::string_view kCuda = "cuda";
  const bool well_formed =
      device == kCuda ||
      (device.starts_with("cuda:") && device.size() > 5 && device.size() <= 8 &&
       std::all_of(device.begin() + 5, device.end(), [](char c) { return c >= '0' && c <= '9'; }));
  if (!well_formed)
    return InvalidArgument("--device is \"{}\", expected cpu, cuda or cuda:N", device);
  const auto devices = ListCudaDevices();
  if (!devices.ok()) return devices.status().Annotate("--device " + device);
  const size_t index = device == kCuda ? 0 : std::stoul(device.substr(5));
  if (index >= devices->size()) {
    return InvalidArgument("--device is {}, but this machine has {} CUDA devices", device,
                           devices->size());
  }
  return Unsupported(
      "--device {} is {} (sm_{}, {}), but this version runs models on the CPU only; use --device "
      "cpu",
      device, (*devices)[index].name, (*devices)[index].compute_capability,
      FormatBytes((*devices)[index].memory_bytes));
}

Status CheckOptions(const EngineOptions& options) {
  TIDAL_RETURN_IF_ERROR(CheckDevice(options.device));
  if (options.num_threads < 0 || options.num_threads > 1024) {
    return InvalidArgument("--threads is {}, expected 1 to 1024", options.num_threads);
  }
  if (options.max_batch_tokens < 1 || options.max_batch_tokens > 65536) {
    return InvalidArgument("--batch-size is {}, expected 1 to 65536", options.max_batch_tokens);
  }
  if (options.max_sequences < 1 || options.max_sequences > 4096) {
    return InvalidArgument("{} sequences asked for, expected 1 to 4096", options.max_sequences);
  }
  return OkStatus();
}

}  // namespace

Engine::Engine() : impl_(std::make_unique<Impl>()) {}
Engine::~Engine() = default;

Result<std::unique_ptr<Engine>> Engine::Create(const EngineOptions& options,
                                               const ProgressFn& progress) {
  TIDAL_RETURN_IF_ERROR(CheckOptions(options));
  // Shares of the whole, by what they take on a cold file.
  constexpr double kOpened = 0.05;
  constexpr double kTokenizer = 0.15;
  const auto report = [&](double fraction, const char* what) {
    if (progress) progress(fraction, what);
  };
  std::unique_ptr<Engine> engine(new Engine());
  Impl& impl = *engine->impl_;
  impl.options = options;
  if (options.num_threads == 0) impl.options.num_threads = UsableCores();
  report(0, "opening the model");
  TIDAL_ASSIGN_OR_RETURN(impl.model, Model::Load(options.model_path));
  report(kOpened, "reading the tokenizer");
  TIDAL_ASSIGN_OR_RETURN(impl.tokenizer, Tokenizer::FromGguf(impl.model->gguf()));
  const ModelConfig& config = impl.model->config();
  if (impl.tokenizer->vocab_size() > config.vocab_size) {
    return Corrupt("{}: the tokenizer has {} tokens, the embedding matrix only {} rows",
                   options.model_path, impl.tokenizer->vocab_size(), config.vocab_size);
  }
  TIDAL_ASSIGN_OR_RETURN(impl.options.ctx_size, ChooseCtxSize(options, *impl.model));
  TIDAL_ASSIGN_OR_RETURN(impl.options.isa, ResolveIsa(options.isa));
  report(kTokenizer, "packing the weights");

  CpuExecutorOptions executor_options;
  executor_options.num_threads = impl.options.num_threads;
  executor_options.isa = impl.options.isa;
  executor_options.precision = options.precision;
  executor_options.k_cache_type = options.k_cache_type;
  executor_options.v_cache_type = options.v_cache_type;
  executor_options.max_batch_tokens =
      std::min(options.max_batch_tokens, impl.options.ctx_size * options.max_sequences);
  executor_options.max_sequences = options.max_sequences;
  executor_options.num_pages =
      static_cast<int32_t>(CeilDiv(impl.options.ctx_size, kPageSize)) * options.max_sequences;
  TIDAL_ASSIGN_OR_RETURN(impl.executor,
                         CreateCpuExecutor(*impl.model, executor_options, [&](double fraction) {
                           report(kTokenizer + (1 - kTokenizer) * fraction, "packing the weights");
                         }));
  impl.transformer.emplace(impl.executor.get(), config.num_layers, config.vocab_size,
                           options.max_sequences);
  impl.pool.emplace(executor_options.num_pages);
  impl.scheduler.emplace(executor_options.max_batch_tokens);
  impl.sequences.resize(static_cast<size_t>(options.max_sequences));
  report(1, "ready");
  return engine;
}

const Model& Engine::model() const { return *impl_->model; }
const Tokenizer& Engine::tokenizer() const { return *impl_->tokenizer; }
int32_t Engine::ctx_size() const { return impl_->options.ctx_size; }
int32_t Engine::num_threads() const { return impl_->options.num_threads; }
Isa Engine::isa() const { return impl_->options.isa; }

MemoryUse Engine::memory() const {
  const ExecutorMemory memory = impl_->executor->memory();
  MemoryUse use;
  use.file_bytes = static_cast<int64_t>(impl_->model->gguf().file_bytes());
  use.weight_bytes = memory.weight_bytes;
  use.kv_bytes = memory.kv_bytes;
  use.kv_bytes_per_token = memory.kv_page_bytes / kPageSize;
  return use;
}

Result<SequenceId> Engine::OpenSequence() {
  for (size_t id = 0; id < impl_->sequences.size(); ++id) {
    if (impl_->sequences[id]) continue;
    impl_->sequences[id] = std::make_unique<OpenSequenceState>();
    return static_cast<SequenceId>(id);
  }
  return OutOfMemory("all {} sequences are open", impl_->sequences.size());
}

void Engine::CloseSequence(SequenceId sequence) {
  OpenSequenceState& state = impl_->SequenceAt(sequence);
  std::erase_if(impl_->requests, [&](const auto& active) { return active->sequence == sequence; });
  state.scheduled.pages.Truncate(0, &*impl_->pool);
  impl_->sequences[static_cast<size_t>(sequence)].reset();
}

int32_t Engine::CachedTokens(SequenceId sequence) const {
  return impl_->SequenceAt(sequence).scheduled.kv_len;
}

Result<RequestId> Engine::Submit(SequenceId sequence, Request request) {
  OpenSequenceState& state = impl_->SequenceAt(sequence);
  const int32_t vocab_size = impl_->model->config().vocab_size;
  const auto prompt_tokens = static_cast<int64_t>(request.prompt.size());
  if (state.active != nullptr)
    return InvalidArgument("sequence {} is still running a request", sequence);
  if (prompt_tokens == 0) return InvalidArgument("the prompt is empty; give at least one token");
  if (prompt_tokens > impl_->options.ctx_size) {
    return InvalidArgument(
        "the prompt has {} tokens, the context holds {}; shorten it or raise --ctx-size (the model "
        "was "
        "trained with {})",
        prompt_tokens, impl_->options.ctx_size, impl_->model->config().trained_seq_len);
  }
  for (size_t i = 0; i < request.prompt.size(); ++i) {
    if (request.prompt[i] < 0 || request.prompt[i] >= vocab_size) {
      return InvalidArgument("token {} of the prompt is {}, expected an id from 0 to {}", i,
                             request.prompt[i], vocab_size - 1);
    }
  }
  if (request.max_tokens < -1)
    return InvalidArgument("--predict is {}, expected -1 or more", request.max_tokens);
  TIDAL_RETURN_IF_ERROR(Validate(request.sampling, vocab_size));
  TIDAL_RETURN_IF_ERROR(impl_->executor->SupportsPlan(request.attention));
  Sampler sampler(request.sampling, vocab_size);
  auto active = std::make_unique<ActiveRequest>(ActiveRequest{.id = impl_->next_request++,
                                                              .sequence = sequence,
                                                              .request = std::move(request),
                                                              .sampler = std::move(sampler),
                                                              .timings = {},
                                                              .submitted = Clock::now(),
                                                              .first_token = {}});
  state.active = active.get();
  const RequestId id = active->id;
  impl_->requests.push_back(std::move(active));
  return id;
}

void Engine::Cancel(RequestId request) {
  for (const auto& active : impl_->requests) {
    if (active->id == request) active->cancelled = true;
  }
}

bool Engine::idle() const { return impl_->requests.empty(); }

// Reuses what the sequence's cache has in common with the prompt.
void Engine::Impl::Start(ActiveRequest* active) {
  ScheduledSequence& scheduled = SequenceAt(active->sequence).scheduled;
  const Request& request = active->request;
  const auto prompt_tokens = static_cast<int32_t>(request.prompt.size());
  const bool scores = request.score_top >= 0;
  const auto common =
      std::mismatch(scheduled.tokens.begin(), scheduled.tokens.begin() + scheduled.kv_len,
                    request.prompt.begin(), request.prompt.end());
  int32_t reused = static_cast<int32_t>(common.second - request.prompt.begin());
  // The newest token runs again where its logits are wanted; scoring wants everybody's.
  if (request.max_tokens != 0) reused = std::min(reused, prompt_tokens - 1);
  if (scores) reused = 0;
  scheduled.kv_len = reused;
  scheduled.pages.Truncate(reused, &*pool);
  scheduled.tokens = request.prompt;
  scheduled.full_until = scores && request.score_prefill >= 0
                             ? std::min(request.score_prefill, prompt_tokens)
                             : prompt_tokens;
  scheduled.wants_all_logits = scores;
  scheduled.wants_logits = scores || request.max_tokens != 0;
  scheduled.plan = request.attention;
  for (const TokenId id : request.prompt) active->sampler.Accept(id);
  active->timings.prompt_tokens = prompt_tokens;
  active->timings.reused_tokens = reused;
  active->started = true;
}

void Engine::Impl::BuildRunning(std::vector<Event>* events) {
  running.clear();
  running_requests.clear();
  for (const auto& active : requests) {
    if (!active->started) Start(active.get());
    ScheduledSequence& scheduled = SequenceAt(active->sequence).scheduled;
    if (active->cancelled) {
      Finish(active.get(), FinishReason::kCancelled, events);
    } else if (scheduled.kv_len == static_cast<int32_t>(scheduled.tokens.size())) {
      active->timings.prompt_ms = MsSince(active->submitted, Clock::now());
      Finish(active.get(), FinishReason::kLength,
             events);  // all of a prefill-only prompt was there already
    } else {
      running.push_back(&scheduled);
      running_requests.push_back(active.get());
    }
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
void Engine::Impl::CommitRows(std::vector<Event>* events) {
  for (const StepSequence& entry : batch.sequences) {
    ActiveRequest* active = running_requests[static_cast<size_t>(entry.owner)];
    running[static_cast<size_t>(entry.owner)]->kv_len = entry.kv_len;
    if (active->prefilled) continue;
    Event event{.kind = Event::Kind::kPrefill, .request = active->id};
    event.done = entry.kv_len;
    event.timings = active->timings;
    events->push_back(std::move(event));
    if (entry.kv_len < active->timings.prompt_tokens) continue;
    active->prefilled = true;
    active->first_token = Clock::now();
    active->timings.prompt_ms = MsSince(active->submitted, active->first_token);
  }
}

void Engine::Impl::ScorePosition(ActiveRequest* active, int32_t pos, std::span<const float> logits,
                                 std::vector<Event>* events) {
  const Request& request = active->request;
  Event event{.kind = Event::Kind::kScore, .request = active->id};
  event.done = pos;
  event.top = TopLogprobs(logits, request.score_top);
  const auto next = static_cast<size_t>(pos) + 1;
  if (next < request.prompt.size()) {
    event.token = request.prompt[next];
    event.logprob = LogprobOf(logits, event.token);
  }
  events->push_back(std::move(event));
}

void Engine::Impl::Generate(ActiveRequest* active, std::span<const float> logits,
                            std::vector<Event>* events) {
  const Request& request = active->request;
  ScheduledSequence& scheduled = SequenceAt(active->sequence).scheduled;
  const TokenId token = active->sampler.Sample(logits);
  active->sampler.Accept(token);
  scheduled.tokens.push_back(token);
  ++active->timings.predicted_tokens;
  active->timings.predicted_ms = MsSince(active->first_token, Clock::now());
  Event event{.kind = Event::Kind::kToken, .request = active->id};
  event.token = token;
  event.timings = active->timings;
  if (request.logprobs > 0) {
    event.logprob = LogprobOf(logits, token);
    event.top = TopLogprobs(logits, request.logprobs);
  }
  events->push_back(std::move(event));
  if (tokenizer->IsEndOfGeneration(token) && !request.ignore_eos) {
    Finish(active, FinishReason::kStop, events);
  } else if (active->timings.predicted_tokens == request.max_tokens ||
             static_cast<int32_t>(scheduled.tokens.size()) >= options.ctx_size) {
    Finish(active, FinishReason::kLength, events);
  }
}

void Engine::Impl::TakeLogits(ActiveRequest* active, int32_t pos, std::span<const float> logits,
                              std::vector<Event>* events) {
  const bool in_prompt = pos < static_cast<int32_t>(active->request.prompt.size());
  if (in_prompt && active->request.score_top >= 0) ScorePosition(active, pos, logits, events);
  if (pos + 1 >= static_cast<int32_t>(active->request.prompt.size()) &&
      active->request.max_tokens != 0) {
    Generate(active, logits, events);
  }
}

void Engine::Impl::Finish(ActiveRequest* active, FinishReason reason, std::vector<Event>* events) {
  OpenSequenceState& state = SequenceAt(active->sequence);
  state.active = nullptr;
  // The newest token was given but not run: the cache does not hold it.
  state.scheduled.tokens.resize(static_cast<size_t>(state.scheduled.kv_len));
  Event event{.kind = Event::Kind::kFinished, .request = active->id};
  event.reason = reason;
  event.timings = active->timings;
  events->push_back(std::move(event));
  active->finished = true;
}

void Engine::Impl::DropFinished() {
  std::erase_if(requests, [](const auto& active) { return active->finished; });
}

Status Engine::Step(std::vector<Event>* events) {
  Impl& impl = *impl_;
  impl.BuildRunning(events);
  if (impl.running.empty()) return OkStatus();
  const Clock::time_point start = Clock::now();
  TIDAL_RETURN_IF_ERROR(impl.scheduler->NextBatch(impl.running, &*impl.pool, &impl.batch));
  bool committed = false;
  const auto commit_once = [&] {
    if (!committed) impl.CommitRows(events);
    committed = true;
  };
  TIDAL_RETURN_IF_ERROR(impl.transformer->Forward(impl.batch, [&](size_t i,
                                                                  std::span<const float> logits) {
    commit_once();
    const int32_t row = impl.batch.logit_rows[i];
    ActiveRequest* active = impl.running_requests[static_cast<size_t>(impl.EntryOfRow(row).owner)];
    impl.TakeLogits(active, impl.batch.positions[static_cast<size_t>(row)], logits, events);
  }));
  commit_once();
  for (const auto& active : impl.requests) {
    const bool prefill_only = active->request.max_tokens == 0;
    if (!active->finished && active->prefilled && prefill_only)
      impl.Finish(active.get(), FinishReason::kLength, events);
  }
  impl.DropFinished();
  ++impl.profile.steps;
  impl.profile.total_ms += MsSince(start, Clock::now());
  return OkStatus();
}

StepProfile Engine::TakeProfile() {
  StepProfile profile = std::exchange(impl_->profile, {});
  const ExecutorProfile executor = impl_->executor->TakeProfile();
  profile.attention_ms = executor.attention_ms;
  profile.logits_ms = executor.logits_ms;
  profile.bytes = executor.bytes;
  return profile;
}

}  // namespace tidal
