#include "eval/free_run.h"

#include <algorithm>
#include <deque>
#include <memory>
#include <set>
#include <utility>

#include "base/check.h"
#include "eval/reference_row.h"
#include "eval/window.h"

namespace tidal {
namespace {

// Rows of a plan that full attention reads at a time: a page, so that the logits that wait for it
// stay few.
constexpr size_t kChunk = 64;

// One plan that writes after a window, and full attention that reads what it wrote.
class Writer {
 public:
  Writer(Engine* engine, ThreadPool* pool, ScopedSequence writing, ScopedSequence reading,
         std::vector<TokenId> prompt)
      : engine_(engine),
        pool_(pool),
        writing_(std::move(writing)),
        reading_(std::move(reading)),
        prefill_(static_cast<int32_t>(prompt.size())),
        next_pos_(prefill_),
        tokens_(std::move(prompt)) {}

  Status Start(const AttentionPlan& plan, const FreeRunRequest& settings) {
    Request request;
    request.prompt = tokens_;
    request.max_tokens = settings.generate;
    request.sampling = settings.sampling;
    request.attention = plan;
    request.on_logits = [this](int32_t pos, std::span<const float> logits) {
      // The first token comes from a row of the prefill, which is full.
      if (pos >= prefill_) waiting_.emplace_back(logits.begin(), logits.end());
    };
    TIDAL_ASSIGN_OR_RETURN(writing_id_, engine_->Submit(writing_.id(), std::move(request)));
    return OkStatus();
  }

  // Lets full attention read on where enough has been written.
  Status ReadOn() {
    if (is_reading_ || waiting_.size() < (has_ended_ ? 1 : kChunk)) return OkStatus();
    Request request;
    const auto end = static_cast<size_t>(next_pos_) + waiting_.size();
    request.prompt.assign(tokens_.begin(), tokens_.begin() + static_cast<std::ptrdiff_t>(end));
    request.max_tokens = 0;
    request.score_top = 0;
    request.score_from = next_pos_;
    request.on_logits = [this](int32_t pos, std::span<const float> logits) {
      Compare(pos, logits);
    };
    TIDAL_ASSIGN_OR_RETURN(reading_id_, engine_->Submit(reading_.id(), std::move(request)));
    is_reading_ = true;
    return OkStatus();
  }

  void Take(const Event& event) {
    if (event.request == reading_id_ && event.kind == Event::Kind::kFinished) is_reading_ = false;
    if (event.request != writing_id_) return;
    if (event.kind == Event::Kind::kToken) {
      tokens_.push_back(event.token);
      text_.tokens.push_back(event.token);
    } else if (event.kind == Event::Kind::kFinished) {
      has_ended_ = true;
      text_.reason = event.reason;
      attention_ = event.attention;
    }
  }

  size_t num_written() const { return text_.tokens.size(); }
  const AttentionStats& attention() const { return attention_; }
  FreeRunText TakeText() {
    text_.repetition = RepetitionRate(text_.tokens);
    return std::move(text_);
  }

 private:
  void Compare(int32_t pos, std::span<const float> full) {
    TIDAL_CHECK(pos == next_pos_ && !waiting_.empty(), "row {} read, {} expected", pos, next_pos_);
    const ComparedRow written = ReferenceRow(full, pool_).Compare(waiting_.front(), pool_);
    text_.kl.push_back(static_cast<float>(written.kl));
    waiting_.pop_front();
    ++next_pos_;
  }

  Engine* engine_;
  ThreadPool* pool_;
  ScopedSequence writing_;
  ScopedSequence reading_;
  RequestId writing_id_ = 0;
  RequestId reading_id_ = 0;
  bool has_ended_ = false;
  bool is_reading_ = false;
  int32_t prefill_;
  int32_t next_pos_;  // of the first row in waiting_
  std::vector<TokenId> tokens_;
  std::deque<std::vector<float>> waiting_;  // logits of rows that were not read yet
  FreeRunText text_;
  AttentionStats attention_;
};

Status RunWriters(Engine* engine, const std::vector<std::unique_ptr<Writer>>& writers,
                  const FreeRunRequest& request, const EvalHooks& hooks) {
  std::vector<Event> events;
  while (true) {
    if (hooks.Stopped()) return Cancelled("interrupted");
    for (const auto& writer : writers) TIDAL_RETURN_IF_ERROR(writer->ReadOn());
    if (engine->idle()) return OkStatus();
    events.clear();
    TIDAL_RETURN_IF_ERROR(engine->Step(&events));
    size_t written = 0;
    for (const auto& writer : writers) {
      for (const Event& event : events) writer->Take(event);
      written = std::max(written, writer->num_written());
    }
    hooks.Report(static_cast<double>(written) / request.generate, "generation");
  }
}

constexpr int32_t kUnread = 2;  // what a window has after its prefill, which is not used here

// The windows at these places, side by side.
Status RunWindows(Engine* engine, const FreeRunRequest& request, std::span<const LossWindow> places,
                  const EvalHooks& hooks, FreeRunResult* result) {
  std::vector<Window> windows;
  // In boxes: requests hold on to where they are.
  std::vector<std::unique_ptr<Writer>> writers;
  for (const LossWindow& place : places) {
    const auto& tokens = request.documents[static_cast<size_t>(place.document)].tokens;
    const auto text = std::span(tokens).subspan(static_cast<size_t>(place.begin),
                                                static_cast<size_t>(request.prefill + kUnread + 1));
    TIDAL_ASSIGN_OR_RETURN(Window window,
                           Window::Open(engine, text, request.prefill, {hooks.stop, nullptr}));
    windows.push_back(std::move(window));
    const std::vector<TokenId> prompt(text.begin(), text.begin() + request.prefill);
    for (size_t i = 0; i < request.plans.size(); ++i) {
      TIDAL_ASSIGN_OR_RETURN(ScopedSequence writing, windows.back().Fork());
      TIDAL_ASSIGN_OR_RETURN(ScopedSequence reading, windows.back().Fork());
      writers.push_back(std::make_unique<Writer>(engine, windows[0].pool(), std::move(writing),
                                                 std::move(reading), prompt));
    }
  }
  for (size_t i = 0; i < writers.size(); ++i) {
    const EvalPlan& plan = request.plans[i % request.plans.size()];
    TIDAL_RETURN_IF_ERROR(writers[i]->Start(plan.plan, request));
  }
  TIDAL_RETURN_IF_ERROR(RunWriters(engine, writers, request, hooks));
  for (size_t i = 0; i < writers.size(); ++i) {
    FreeRunPlan& plan = result->plans[i % request.plans.size()];
    plan.texts.push_back(writers[i]->TakeText());
    plan.attention.Add(writers[i]->attention());
  }
  result->windows.insert(result->windows.end(), places.begin(), places.end());
  return OkStatus();
}

std::vector<double> KlAlong(const std::vector<FreeRunText>& texts, int32_t generate) {
  PartMeans parts(kFreeRunParts);
  for (const FreeRunText& text : texts)
    for (size_t row = 0; row < text.kl.size(); ++row)
      parts.Add(row, static_cast<size_t>(generate), static_cast<double>(text.kl[row]));
  return parts.Means();
}

void Summarize(int32_t generate, FreeRunResult* result) {
  const auto num_windows = static_cast<int32_t>(result->windows.size());
  for (FreeRunPlan& plan : result->plans) {
    const auto mean = [&](const auto& sum_of, const auto& count_of) {
      return Bootstrap(num_windows, 1, [&](std::span<const int32_t> drawn) {
        double sum = 0;
        double count = 0;
        for (const int32_t window : drawn) {
          sum += sum_of(plan.texts[static_cast<size_t>(window)]);
          count += count_of(plan.texts[static_cast<size_t>(window)]);
        }
        return count == 0 ? 0 : sum / count;
      });
    };
    const auto one = [](const FreeRunText&) { return 1.0; };
    plan.kl = mean(
        [](const FreeRunText& text) {
          double sum = 0;
          for (const float kl : text.kl) sum += static_cast<double>(kl);
          return sum;
        },
        [](const FreeRunText& text) { return static_cast<double>(text.kl.size()); });
    plan.length =
        mean([](const FreeRunText& text) { return static_cast<double>(text.tokens.size()); }, one);
    plan.repetition = mean([](const FreeRunText& text) { return text.repetition; }, one);
    plan.kl_along = KlAlong(plan.texts, generate);
  }
}

}  // namespace

double RepetitionRate(const std::vector<TokenId>& tokens) {
  constexpr size_t kLength = 8;
  if (tokens.size() < kLength) return 0;
  std::set<std::vector<TokenId>> seen;
  const size_t count = tokens.size() - kLength + 1;
  for (auto begin = tokens.begin(); begin != tokens.end() - kLength + 1; ++begin)
    seen.emplace(begin, begin + kLength);
  return 1 - static_cast<double>(seen.size()) / static_cast<double>(count);
}

EvalNeeds NeedsOf(const FreeRunRequest& request) {
  const int32_t num_forks = 2 * static_cast<int32_t>(request.plans.size());
  return {
      request.prefill + request.generate, request.side_by_side * (num_forks + 1),
      request.side_by_side *
          (request.prefill + Window::ForkTokens(num_forks + 1, request.prefill, request.generate))};
}

Result<FreeRunResult> MeasureFreeRun(Engine* engine, const FreeRunRequest& request,
                                     const EvalHooks& hooks) {
  FreeRunResult result;
  std::vector<LossWindow> places;
  for (size_t i = 0; i < request.documents.size(); ++i) {
    TIDAL_ASSIGN_OR_RETURN(
        const std::vector<int64_t> begins,
        WindowBegins(request.documents[i], request.prefill, kUnread, request.windows));
    for (const int64_t begin : begins) places.push_back({static_cast<int32_t>(i), begin, 0});
  }
  for (const EvalPlan& plan : request.plans) result.plans.emplace_back().plan = plan;
  const auto at_once = static_cast<size_t>(request.side_by_side);
  for (size_t i = 0; i < places.size(); i += at_once) {
    const size_t count = std::min(at_once, places.size() - i);
    const EvalHooks part = {hooks.stop, [&](double fraction, const std::string& what) {
                              hooks.Report(
                                  (static_cast<double>(i) + fraction * static_cast<double>(count)) /
                                      static_cast<double>(places.size()),
                                  what);
                            }};
    const Status status =
        RunWindows(engine, request, std::span(places).subspan(i, count), part, &result);
    result.interrupted = status.code() == StatusCode::kCancelled;
    if (result.interrupted) break;
    TIDAL_RETURN_IF_ERROR(status);
  }
  if (!result.windows.empty()) Summarize(request.generate, &result);
  return result;
}

}  // namespace tidal
