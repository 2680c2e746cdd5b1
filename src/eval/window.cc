#include "eval/window.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <deque>
#include <utility>

#include "base/check.h"
#include "base/math.h"
#include "eval/reference_row.h"
#include "eval/statistics.h"
#include "kv/page_pool.h"

namespace tidal {
namespace {

// A window that is decoded: a fork of its prefill for full attention and for each plan. Compares
// the rows of plans with those of full attention as they come. Plans that correct their cache fall
// behind by the steps which that takes, so full rows wait until every plan has come by.
class WindowDecoding {
 public:
  // `tokens` begins with the token of the first row; row i foresees tokens[i + 1].
  WindowDecoding(size_t num_plans, int32_t num_layers, int32_t first_pos,
                 std::span<const TokenId> tokens, ThreadPool* pool)
      : first_pos_(first_pos), tokens_(tokens), pool_(pool), seen_(num_plans, 0) {
    result_.full_nats.resize(tokens.size() - 1);
    result_.plans.assign(num_plans, std::vector<TokenLoss>(tokens.size() - 1));
    result_.attention.resize(num_plans);
    result_.layer_mass.assign(num_plans, std::vector<LayerMass>(static_cast<size_t>(num_layers)));
  }
  WindowDecoding(const WindowDecoding&) = delete;  // requests hold on to where it is
  WindowDecoding& operator=(const WindowDecoding&) = delete;

  // The next row of each position: first that of full attention, so that it is there when a plan's
  // is compared with it, then those of the plans in their order.
  Status Start(Engine* engine, ScopedSequence fork, Request request) {
    const bool is_full = ids_.empty();
    const size_t plan = ids_.size() - 1;  // unused where full
    request.on_logits = [this, is_full, plan](int32_t pos, std::span<const float> logits) {
      is_full ? TakeFull(pos, logits) : TakePlan(plan, pos, logits);
    };
    if (!is_full) {
      request.on_layer_masses = [this, plan](std::span<const float> masses) {
        TakeLayerMasses(plan, masses);
      };
    }
    forks_.push_back(std::move(fork));
    TIDAL_ASSIGN_OR_RETURN(const RequestId id,
                           engine->Submit(forks_.back().id(), std::move(request)));
    ids_.push_back(id);
    return OkStatus();
  }

  // Events of others are none of its own.
  void TakeEvent(const Event& event) {
    const auto at = std::lower_bound(ids_.begin(), ids_.end(), event.request);  // given in order
    if (at == ids_.end() || *at != event.request || at == ids_.begin()) return;
    const auto plan = static_cast<size_t>(at - ids_.begin()) - 1;
    if (event.kind == Event::Kind::kScore)
      result_.plans[plan][RowAt(event.done)].selected_mass = event.selected_mass;
    if (event.kind == Event::Kind::kFinished) result_.attention[plan] = event.attention;
  }

  size_t full_rows() const { return num_dropped_ + waiting_.size(); }
  DecodedWindow Take() { return std::move(result_); }

 private:
  struct FullRow {
    ReferenceRow row;
    double next_logprob = 0;  // of the text's next token
  };

  void TakeFull(int32_t pos, std::span<const float> logits) {
    const size_t row = RowAt(pos);
    TIDAL_CHECK(row == full_rows(), "row {} of full attention came twice", row);
    ReferenceRow reference(logits, pool_);
    const double logprob = Logprob(logits, tokens_[row + 1], reference.log_sum_exp());
    waiting_.push_back({std::move(reference), logprob});
    result_.full_nats[row] = static_cast<float>(-logprob);
    DropSeen();
  }

  void TakePlan(size_t plan, int32_t pos, std::span<const float> logits) {
    const size_t row = RowAt(pos);
    TIDAL_CHECK(row >= num_dropped_ && row < full_rows(), "row {} before that of full attention",
                row);
    const FullRow& full = waiting_[row - num_dropped_];
    const ComparedRow compared = full.row.Compare(logits, pool_);
    TokenLoss& loss = result_.plans[plan][row];
    loss.kl = static_cast<float>(compared.kl);
    loss.extra_nats = static_cast<float>(full.next_logprob -
                                         Logprob(logits, tokens_[row + 1], compared.log_sum_exp));
    loss.agrees = compared.best == full.row.best();
    seen_[plan] = row + 1;
    DropSeen();
  }

  void TakeLayerMasses(size_t plan, std::span<const float> masses) {
    for (size_t layer = 0; layer < masses.size(); ++layer) {
      if (std::isnan(masses[layer])) continue;
      LayerMass& sum = result_.layer_mass[plan][layer];
      sum.sum += static_cast<double>(masses[layer]);
      ++sum.rows;
    }
  }

  size_t RowAt(int32_t pos) const { return static_cast<size_t>(pos - first_pos_); }
  void DropSeen() {
    const size_t all = seen_.empty() ? full_rows() : *std::min_element(seen_.begin(), seen_.end());
    for (; num_dropped_ < all; ++num_dropped_) waiting_.pop_front();
  }

  int32_t first_pos_;
  std::span<const TokenId> tokens_;
  ThreadPool* pool_;
  std::vector<ScopedSequence> forks_;  // of full attention, then of each plan
  std::vector<RequestId> ids_;         // theirs, ascending
  std::vector<size_t> seen_;           // rows of each plan so far
  std::deque<FullRow> waiting_;        // full rows from num_dropped_ on
  size_t num_dropped_ = 0;
  DecodedWindow result_;
};

double MsOf(std::chrono::steady_clock::duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

}  // namespace

ScopedSequence::ScopedSequence(ScopedSequence&& other) noexcept
    : engine_(std::exchange(other.engine_, nullptr)), id_(other.id_) {}

ScopedSequence::~ScopedSequence() {
  if (engine_ != nullptr) engine_->CloseSequence(id_);
}

Status RunSteps(Engine* engine, const EvalHooks& hooks,
                const std::function<void(const Event&)>& on_event) {
  std::vector<Event> events;
  while (!engine->idle()) {
    if (hooks.Stopped()) return Cancelled("interrupted");
    events.clear();
    TIDAL_RETURN_IF_ERROR(engine->Step(&events));
    for (const Event& event : events) on_event(event);
  }
  return OkStatus();
}

Window::Window(Engine* engine, ScopedSequence base, std::span<const TokenId> tokens,
               int32_t prefill)
    : engine_(engine),
      pool_(std::make_unique<ThreadPool>(engine->num_threads())),
      base_(std::move(base)),
      tokens_(tokens),
      prefill_(prefill) {}

Result<Window> Window::Open(Engine* engine, std::span<const TokenId> tokens, int32_t prefill,
                            const EvalHooks& hooks) {
  TIDAL_CHECK(static_cast<int64_t>(tokens.size()) >= int64_t{prefill} + 3,
              "a window of {} tokens with a prefill of {}", tokens.size(), prefill);
  TIDAL_ASSIGN_OR_RETURN(const SequenceId id, engine->OpenSequence());
  ScopedSequence base(engine, id);
  Request request;
  request.prompt.assign(tokens.begin(), tokens.begin() + prefill);
  request.max_tokens = 0;
  TIDAL_RETURN_IF_ERROR(engine->Submit(id, std::move(request)).status());
  TIDAL_RETURN_IF_ERROR(RunSteps(engine, hooks, [&](const Event& event) {
    if (event.kind == Event::Kind::kPrefill)
      hooks.Report(static_cast<double>(event.done) / prefill, "prefill");
  }));
  return Window(engine, std::move(base), tokens, prefill);
}

Result<ScopedSequence> Window::Fork(int32_t num_tokens) const {
  TIDAL_ASSIGN_OR_RETURN(const SequenceId id, engine_->Fork(base_.id(), num_tokens));
  return ScopedSequence(engine_, id);
}

Result<std::vector<DecodedWindow>> Window::Decode(std::span<const Window* const> windows,
                                                  std::span<const AttentionPlan> plans,
                                                  int32_t rows, const EvalHooks& hooks) {
  Engine* const engine = windows[0]->engine_;
  const int32_t num_layers = engine->model().config().num_layers;
  std::deque<WindowDecoding> decodings;  // which leaves them where they are
  for (const Window* window : windows) {
    const auto tokens = window->tokens_.subspan(static_cast<size_t>(window->prefill_),
                                                static_cast<size_t>(rows) + 1);
    WindowDecoding& decoding = decodings.emplace_back(plans.size(), num_layers, window->prefill_,
                                                      tokens, windows[0]->pool());
    for (size_t i = 0; i <= plans.size(); ++i) {
      TIDAL_ASSIGN_OR_RETURN(ScopedSequence fork, window->Fork());
      TIDAL_RETURN_IF_ERROR(
          decoding.Start(engine, std::move(fork),
                         window->Decoding(i == 0 ? AttentionPlan() : plans[i - 1], rows)));
    }
  }
  TIDAL_RETURN_IF_ERROR(RunSteps(engine, hooks, [&](const Event& event) {
    for (WindowDecoding& decoding : decodings) decoding.TakeEvent(event);
    hooks.Report(static_cast<double>(decodings[0].full_rows()) / rows, "decode");
  }));
  std::vector<DecodedWindow> decoded;
  for (WindowDecoding& decoding : decodings) decoded.push_back(decoding.Take());
  return decoded;
}

Request Window::Decoding(const AttentionPlan& plan, int32_t rows) const {
  Request request;
  request.prompt.assign(tokens_.begin(), tokens_.begin() + prefill_ + rows);
  request.max_tokens = 0;
  request.score_top = 0;
  request.score_prefill = prefill_;
  request.score_from = prefill_;
  request.attention = plan;
  return request;
}

Request Window::Generation(const AttentionPlan& plan, int32_t context, int32_t max_tokens) const {
  Request request;
  // With the first token after the context, which a fork's request has to run anyway: the newest
  // token of a prompt runs again.
  request.prompt.assign(tokens_.begin(), tokens_.begin() + context + 1);
  request.max_tokens = max_tokens;
  request.sampling.temperature = 0;
  request.ignore_eos = true;
  request.attention = plan;
  return request;
}

Result<std::vector<std::vector<TokenId>>> Window::Generate(std::span<const AttentionPlan> plans,
                                                           const EvalHooks& hooks) const {
  std::vector<std::vector<TokenId>> texts(plans.size());
  std::vector<ScopedSequence> forks;
  std::vector<RequestId> ids;
  for (const AttentionPlan& plan : plans) {
    TIDAL_ASSIGN_OR_RETURN(ScopedSequence fork, Fork());
    forks.push_back(std::move(fork));
    TIDAL_ASSIGN_OR_RETURN(
        const RequestId id,
        engine_->Submit(forks.back().id(), Generation(plan, prefill_, decode() - 1)));
    ids.push_back(id);
  }
  TIDAL_RETURN_IF_ERROR(RunSteps(engine_, hooks, [&](const Event& event) {
    if (event.kind != Event::Kind::kToken) return;
    const auto at =
        static_cast<size_t>(std::find(ids.begin(), ids.end(), event.request) - ids.begin());
    texts[at].push_back(event.token);
    if (at == 0) hooks.Report(static_cast<double>(texts[0].size()) / (decode() - 1), "generation");
  }));
  return texts;
}

Result<PlanSpeed> Window::MeasureSpeed(const AttentionPlan& plan, int32_t context, int32_t steps,
                                       const EvalHooks& hooks) const {
  TIDAL_ASSIGN_OR_RETURN(const ScopedSequence fork, Fork(context));
  Request request = Generation(plan, context, steps + 1);  // the first token comes with the prompt
  request.attention.correct = {};                          // decode steps only
  TIDAL_RETURN_IF_ERROR(engine_->Submit(fork.id(), std::move(request)).status());
  std::vector<Event> events;
  bool is_prefilled = false;
  std::vector<double> step_ms;
  while (!engine_->idle()) {
    if (hooks.Stopped()) return Cancelled("interrupted");
    events.clear();
    const auto start = std::chrono::steady_clock::now();
    TIDAL_RETURN_IF_ERROR(engine_->Step(&events));
    if (is_prefilled) {
      step_ms.push_back(MsOf(std::chrono::steady_clock::now() - start));
      continue;
    }
    is_prefilled = std::any_of(events.begin(), events.end(), [](const Event& event) {
      return event.kind == Event::Kind::kToken;
    });
    if (is_prefilled) engine_->TakeProfile();
  }
  const ExecutorProfile profile = engine_->TakeProfile().executor;
  const auto per_step = [&](int64_t bytes) {
    return static_cast<double>(bytes) / static_cast<double>(step_ms.size());
  };
  PlanSpeed speed;
  speed.context = context + 1;
  speed.scan_bytes = per_step(profile.scan_bytes);
  speed.gather_bytes = per_step(profile.gather_bytes);
  speed.full_bytes = per_step(profile.full_bytes);
  speed.weight_bytes = per_step(profile.weight_bytes);
  speed.tokens_per_s = 1e3 / std::max(Quantile(&step_ms, 0.5), 1e-9);
  return speed;
}

int64_t Window::ForkTokens(int32_t num_forks, int32_t prefill, int32_t decode) {
  return num_forks * RoundUp(prefill % kPageSize + decode + 2, kPageSize);
}

}  // namespace tidal
