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

// Compares the rows of plans with those of full attention as they come. Plans that correct their
// cache fall behind by the steps which that takes, so full rows wait until every plan has come by.
class RowComparison {
 public:
  // `tokens` begins with the token of the first row; row i foresees tokens[i + 1].
  RowComparison(size_t num_plans, int32_t first_pos, std::span<const TokenId> tokens,
                ThreadPool* pool)
      : first_pos_(first_pos), tokens_(tokens), pool_(pool), seen_(num_plans, 0) {
    result_.full_nats.resize(tokens.size() - 1);
    result_.plans.assign(num_plans, std::vector<TokenLoss>(tokens.size() - 1));
    result_.attention.resize(num_plans);
  }

  void TakeFull(int32_t pos, std::span<const float> logits) {
    const size_t row = RowAt(pos);
    TIDAL_CHECK(row == num_dropped_ + waiting_.size(), "row {} of full attention came twice", row);
    ReferenceRow reference(logits, pool_);
    const double logprob = Logprob(logits, tokens_[row + 1], reference.log_sum_exp());
    waiting_.push_back({std::move(reference), logprob});
    result_.full_nats[row] = static_cast<float>(-logprob);
    DropSeen();
  }

  void TakePlan(size_t plan, int32_t pos, std::span<const float> logits) {
    const size_t row = RowAt(pos);
    TIDAL_CHECK(row >= num_dropped_ && row < num_dropped_ + waiting_.size(),
                "row {} before that of full attention", row);
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

  void TakeMass(size_t plan, int32_t pos, float mass) {
    result_.plans[plan][RowAt(pos)].selected_mass = mass;
  }
  void TakeStats(size_t plan, const AttentionStats& stats) { result_.attention[plan] = stats; }
  DecodedWindow Take() { return std::move(result_); }

 private:
  struct FullRow {
    ReferenceRow row;
    double next_logprob = 0;  // of the text's next token
  };

  size_t RowAt(int32_t pos) const { return static_cast<size_t>(pos - first_pos_); }
  void DropSeen() {
    const size_t all = seen_.empty() ? num_dropped_ + waiting_.size()
                                     : *std::min_element(seen_.begin(), seen_.end());
    for (; num_dropped_ < all; ++num_dropped_) waiting_.pop_front();
  }

  int32_t first_pos_;
  std::span<const TokenId> tokens_;
  ThreadPool* pool_;
  std::vector<size_t> seen_;     // rows of each plan so far
  std::deque<FullRow> waiting_;  // full rows from num_dropped_ on
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

Result<DecodedWindow> Window::Decode(std::span<const AttentionPlan> plans, int32_t rows,
                                     const EvalHooks& hooks) const {
  const auto decoded =
      tokens_.subspan(static_cast<size_t>(prefill_), static_cast<size_t>(rows) + 1);
  RowComparison comparison(plans.size(), prefill_, decoded, pool());
  std::vector<ScopedSequence> forks;
  std::vector<RequestId> ids;
  // Full attention comes first, so that its row is there when a plan's is compared with it.
  for (size_t i = 0; i <= plans.size(); ++i) {
    TIDAL_ASSIGN_OR_RETURN(ScopedSequence fork, Fork());
    forks.push_back(std::move(fork));
    Request request = Decoding(i == 0 ? AttentionPlan() : plans[i - 1], rows);
    request.on_logits = [&comparison, i](int32_t pos, std::span<const float> logits) {
      i == 0 ? comparison.TakeFull(pos, logits) : comparison.TakePlan(i - 1, pos, logits);
    };
    TIDAL_ASSIGN_OR_RETURN(const RequestId id,
                           engine_->Submit(forks.back().id(), std::move(request)));
    ids.push_back(id);
  }
  TIDAL_RETURN_IF_ERROR(RunSteps(engine_, hooks, [&](const Event& event) {
    const auto at =
        static_cast<size_t>(std::find(ids.begin(), ids.end(), event.request) - ids.begin());
    const bool is_score = event.kind == Event::Kind::kScore;
    if (at == 0) {
      if (is_score) hooks.Report(static_cast<double>(event.done - prefill_ + 1) / rows, "decode");
      return;
    }
    if (is_score) comparison.TakeMass(at - 1, event.done, event.selected_mass);
    if (event.kind == Event::Kind::kFinished) comparison.TakeStats(at - 1, event.attention);
  }));
  return comparison.Take();
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

Result<std::vector<std::vector<LayerMass>>> Window::MeasureLayerMass(
    std::span<const AttentionPlan> plans, int32_t rows, const EvalHooks& hooks) const {
  const auto num_layers = static_cast<size_t>(engine_->model().config().num_layers);
  std::vector<std::vector<LayerMass>> masses(plans.size(), std::vector<LayerMass>(num_layers));
  std::vector<ScopedSequence> forks;
  for (size_t i = 0; i < plans.size(); ++i) {
    TIDAL_ASSIGN_OR_RETURN(ScopedSequence fork, Fork());
    forks.push_back(std::move(fork));
    Request request = Decoding(plans[i], rows);
    request.trace = [&mass = masses[i]](const LayerTrace& layer) {
      if (!layer.chose || std::isnan(layer.selected_mass)) return;
      LayerMass& sum = mass[static_cast<size_t>(layer.layer)];
      sum.sum += static_cast<double>(layer.selected_mass);
      ++sum.rows;
    };
    TIDAL_RETURN_IF_ERROR(engine_->Submit(forks.back().id(), std::move(request)).status());
  }
  TIDAL_RETURN_IF_ERROR(RunSteps(engine_, hooks, [](const Event&) {}));
  return masses;
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
