#include "engine/engine.h"

#include <algorithm>
#include <spdlog/spdlog.h>
#include <utility>

#include "base/thread_pool.h"
#include "cpu/isa.h"
#include "engine/engine_device.h"
#include "engine/engine_impl.h"
#include "engine/engine_setup.h"

namespace tidal {
namespace {

// Shares of a load, by what they take on a cold file.
constexpr double kOpened = 0.05;
constexpr double kTokenizer = 0.15;

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

OpenSequenceState& Engine::Impl::SequenceAt(SequenceId id) {
  TIDAL_CHECK(id >= 0 && id < options.max_sequences && sequences[static_cast<size_t>(id)],
              "sequence {} is not open", id);
  return *sequences[static_cast<size_t>(id)];
}

Engine::Engine() : impl_(std::make_unique<Impl>()) {}
Engine::~Engine() = default;

// Model, tokenizer and sidecar; random weights have neither of the latter.
Status Engine::Impl::LoadModel(const ProgressFn& report) {
  report(0, "opening the model");
  if (options.random_model) {
    TIDAL_RETURN_IF_ERROR(CheckRandomModel(*options.random_model));
    model = Model::WithRandomWeights(options.random_model->config, options.random_model->dtype);
    return OkStatus();
  }
  TIDAL_ASSIGN_OR_RETURN(model, Model::Load(options.model_path));
  TIDAL_RETURN_IF_ERROR(OverrideRope(options, &*model));
  report(kOpened, "reading the tokenizer");
  TIDAL_ASSIGN_OR_RETURN(tokenizer, Tokenizer::ForModel(*model));
  const ModelConfig& config = model->config();
  if (tokenizer->vocab_size() > config.vocab_size) {
    return Corrupt("{}: the tokenizer has {} tokens, the embedding matrix only {} rows",
                   options.model_path, tokenizer->vocab_size(), config.vocab_size);
  }
  if (!options.ignore_sidecar) {
    TIDAL_ASSIGN_OR_RETURN(sidecar, ReadSidecar(options.model_path, *model));
  }
  return OkStatus();
}

// From the plans that are known, chooses which layers get a key index.
Status Engine::Impl::ChoosePlans() {
  if (sidecar) sidecar_name = sidecar->name();
  std::vector<AttentionPlan> known;
  for (const PlanSpec& spec : options.plans) {
    Result<AttentionPlan> plan = spec.Resolve(plan_model());
    if (!plan.ok()) return plan.status().Annotate("--attention");
    known.push_back(*std::move(plan));
  }
  key_index =
      ChooseKeyIndex(options.index_layers, options.index_bits, model->config().num_layers, known);
  return OkStatus();
}

Status Engine::Impl::MakeExecutor(const std::function<void(double)>& progress) {
  TIDAL_ASSIGN_OR_RETURN(const int32_t num_pages, ChooseNumPages(options, *model, key_index));
  const auto max_batch_tokens = static_cast<int32_t>(std::min<int64_t>(
      options.max_batch_tokens, int64_t{options.ctx_size} * options.max_sequences));
  TIDAL_ASSIGN_OR_RETURN(device_name, DeviceName(options.device));
  TIDAL_ASSIGN_OR_RETURN(
      executor, CreateExecutor(options, *model, key_index, num_pages, max_batch_tokens, progress));
  transformer.emplace(executor.get(), model->config().num_layers, model->config().vocab_size,
                      options.max_sequences);
  pool.emplace(num_pages);
  scheduler.emplace(max_batch_tokens);
  batch.Reserve(max_batch_tokens, options.max_sequences);
  return OkStatus();
}

Result<std::unique_ptr<Engine>> Engine::Create(const EngineOptions& options,
                                               const ProgressFn& progress) {
  TIDAL_RETURN_IF_ERROR(CheckOptions(options));
  const auto report = [&](double fraction, const char* what) {
    if (progress) progress(fraction, what);
  };
  std::unique_ptr<Engine> engine(new Engine());
  Impl& impl = *engine->impl_;
  impl.options = options;
  if (options.num_threads == 0) impl.options.num_threads = UsableCores();
  TIDAL_RETURN_IF_ERROR(impl.LoadModel(report));
  TIDAL_RETURN_IF_ERROR(impl.ChoosePlans());
  TIDAL_ASSIGN_OR_RETURN(impl.options.ctx_size,
                         ChooseCtxSize(options, *impl.model, impl.key_index));
  TIDAL_ASSIGN_OR_RETURN(impl.options.isa, ResolveIsa(options.isa));
  report(kTokenizer, "packing the weights");
  TIDAL_RETURN_IF_ERROR(impl.MakeExecutor([&](double fraction) {
    report(kTokenizer + (1 - kTokenizer) * fraction, "packing the weights");
  }));
  impl.sequences.resize(static_cast<size_t>(options.max_sequences));
  report(1, "ready");
  return engine;
}

const Model& Engine::model() const { return *impl_->model; }
const Tokenizer& Engine::tokenizer() const {
  TIDAL_CHECK(impl_->tokenizer != nullptr, "random weights have no tokenizer");
  return *impl_->tokenizer;
}
int32_t Engine::ctx_size() const { return impl_->options.ctx_size; }
int32_t Engine::num_threads() const { return impl_->options.num_threads; }
Isa Engine::isa() const { return impl_->options.isa; }
const std::string& Engine::device_name() const { return impl_->device_name; }

MemoryUse Engine::memory() const {
  const ExecutorMemory memory = impl_->executor->memory();
  MemoryUse use;
  use.file_bytes = impl_->model->file_bytes();
  use.weight_bytes = memory.weight_bytes;
  use.kv_bytes = memory.kv_bytes;
  use.kv_bytes_per_token = memory.kv_page_bytes / kPageSize;
  use.index_bytes = memory.index_bytes;
  use.index_bytes_per_token = memory.index_page_bytes / kPageSize;
  use.set_bytes = memory.set_bytes;
  return use;
}

const std::string& Engine::sidecar() const { return impl_->sidecar_name; }
Result<AttentionPlan> Engine::ResolvePlan(const PlanSpec& spec) const {
  return spec.Resolve(impl_->plan_model());
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

Result<SequenceId> Engine::Fork(SequenceId sequence, int32_t num_tokens) {
  const ScheduledSequence& origin = impl_->SequenceAt(sequence).scheduled;
  TIDAL_CHECK(num_tokens >= 0 && num_tokens <= origin.dense_len, "{} tokens to share, {} are clean",
              num_tokens, origin.dense_len);
  TIDAL_ASSIGN_OR_RETURN(const SequenceId id, OpenSequence());
  ScheduledSequence& fork = impl_->SequenceAt(id).scheduled;
  fork.kv_len = fork.pages.ShareFrom(origin.pages, num_tokens, &*impl_->pool);
  fork.dense_len = fork.kv_len;
  fork.tokens.assign(origin.tokens.begin(), origin.tokens.begin() + fork.kv_len);
  return id;
}

int32_t Engine::CachedTokens(SequenceId sequence) const {
  return impl_->SequenceAt(sequence).scheduled.kv_len;
}

int32_t Engine::CleanTokens(SequenceId sequence) const {
  return impl_->SequenceAt(sequence).scheduled.dense_len;
}

Status Engine::Impl::CheckRequest(const Request& request) const {
  const int32_t vocab_size = model->config().vocab_size;
  const auto prompt_tokens = static_cast<int64_t>(request.prompt.size());
  if (prompt_tokens == 0) return InvalidArgument("the prompt is empty; give at least one token");
  if (prompt_tokens > options.ctx_size) {
    return InvalidArgument(
        "the prompt has {} tokens, the context holds {}; shorten it or raise --ctx-size (the model "
        "was trained with {})",
        prompt_tokens, options.ctx_size, model->config().trained_seq_len);
  }
  for (size_t i = 0; i < request.prompt.size(); ++i) {
    if (request.prompt[i] < 0 || request.prompt[i] >= vocab_size) {
      return InvalidArgument("token {} of the prompt is {}, expected an id from 0 to {}", i,
                             request.prompt[i], vocab_size - 1);
    }
  }
  if (request.max_tokens < -1)
    return InvalidArgument("--predict is {}, expected -1 or more", request.max_tokens);
  if (request.score_from < 0)
    return InvalidArgument("scores from position {}, expected 0 or more", request.score_from);
  return Validate(request.sampling, vocab_size);
}

// Says once that a plan gets something else than the index that it names.
void Engine::Impl::TellOfMissingIndex(const AttentionPlan& plan) {
  if (told_of_missing_index || IndexBits(plan.scorer) == 0) return;
  const int32_t layer = FirstLayerWithoutIndex(plan, key_index);
  if (layer >= 0) {
    spdlog::warn(
        "attention plan {} scores by {}, but layer {} has no key index (--index-layers), so it "
        "scores exactly there",
        plan.preset, NameOf(plan.scorer), layer);
  } else if (IndexBits(plan.scorer) != key_index.bits) {
    spdlog::warn(
        "attention plan {} scores by {}, but the key index has {} bits (--index-bits), which it "
        "uses as they are",
        plan.preset, NameOf(plan.scorer), key_index.bits);
  } else {
    return;
  }
  told_of_missing_index = true;
}

// Checks the plan of a request against the model and its first decoded row, and makes room for what
// its rows need.
Status Engine::Impl::PreparePlan(SequenceId sequence, const Request& request) {
  const AttentionPlan& plan = request.attention;
  const ModelConfig& config = model->config();
  if (request.trace && !tracer) tracer.emplace(config.num_layers, pool->num_pages());
  if (plan.is_full()) return OkStatus();
  const auto num_layers = static_cast<size_t>(config.num_layers);
  if (plan.selects.size() != num_layers || plan.reads_all.size() != num_layers) {
    return InvalidArgument("--attention: plan {} is for {} layers, the model has {}", plan.preset,
                           plan.selects.size(), num_layers);
  }
  const auto prompt_tokens = static_cast<int32_t>(request.prompt.size());
  const bool decodes_prompt = request.score_top >= 0 && request.score_prefill >= 0;
  const int32_t prefilled =
      decodes_prompt ? std::min(request.score_prefill, prompt_tokens) : prompt_tokens;
  if (Status status = plan.CheckAt(std::max(plan.below, prefilled + 1)); !status.ok())
    return status.Annotate("--attention");
  if (plan.keep_newlines && tokenizer == nullptr) {
    return InvalidArgument(
        "--attention: plan {} keeps newlines, but random weights have no tokenizer that knows them",
        plan.preset);
  }
  TIDAL_RETURN_IF_ERROR(executor->PreparePlan(sequence, plan));
  TellOfMissingIndex(plan);
  if (plan.keep_newlines && has_newline.empty()) {
    has_newline.assign(static_cast<size_t>(config.vocab_size), 0);
    for (TokenId id = 0; id < tokenizer->vocab_size(); ++id)
      has_newline[static_cast<size_t>(id)] =
          tokenizer->TokenBytes(id).find('\n') != std::string_view::npos ? 1 : 0;
  }
  return OkStatus();
}

Result<RequestId> Engine::Submit(SequenceId sequence, Request request) {
  OpenSequenceState& state = impl_->SequenceAt(sequence);
  if (state.active != nullptr)
    return InvalidArgument("sequence {} is still running a request", sequence);
  TIDAL_RETURN_IF_ERROR(impl_->CheckRequest(request));
  TIDAL_RETURN_IF_ERROR(impl_->PreparePlan(sequence, request));
  const int32_t vocab_size = impl_->model->config().vocab_size;
  Sampler sampler(request.sampling, vocab_size);
  auto active = std::make_unique<ActiveRequest>(ActiveRequest{.id = impl_->next_request++,
                                                              .sequence = sequence,
                                                              .request = std::move(request),
                                                              .sampler = std::move(sampler),
                                                              .timings = {},
                                                              .attention = {},
                                                              .kl = {},
                                                              .submitted = EngineClock::now(),
                                                              .first_token = {},
                                                              .ending = {},
                                                              .score_event = {}});
  const Correction& correct = active->request.attention.correct;
  // A turn's rows are as many as its answer gets; what is kept of them grows with it, since room
  // for a whole context would be 3 KB a token.
  if (correct.when == Correction::When::kRows)
    active->kl.Reserve(std::min(correct.rows, impl_->options.ctx_size), vocab_size);
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

Status Engine::Step(std::vector<Event>* events) { return impl_->Step(events); }

void Engine::SetPartTiming(PartTiming timing) { impl_->executor->SetPartTiming(timing); }

StepProfile Engine::TakeProfile() {
  StepProfile profile = std::exchange(impl_->profile, {});
  profile.executor = impl_->executor->TakeProfile();
  return profile;
}

}  // namespace tidal
