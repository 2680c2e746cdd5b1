#include "eval/calibration_meter.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/math.h"
#include "base/sha256.h"
#include "kv/page_pool.h"

namespace tidal {
namespace {

// What a window is called in the log: the same tokens have the same name.
std::string NameOf(std::span<const TokenId> tokens, int32_t prefill) {
  constexpr size_t kDigits = 16;
  Sha256 sha;
  sha.Update(std::as_bytes(tokens));
  return fmt::format("{}+{}:{}", prefill, tokens.size() - static_cast<size_t>(prefill),
                     sha.FinishHex().substr(0, kDigits));
}

}  // namespace

CalibrationMeter::CalibrationMeter(Engine* engine, std::span<const EvalDocument> texts,
                                   int32_t prefill, int32_t decode, CalibrationLog* log,
                                   CalibrationProgress* progress)
    : engine_(engine), prefill_(prefill), log_(log), progress_(progress) {
  for (const EvalDocument& text : texts) {
    const auto tokens = std::span(text.tokens).first(static_cast<size_t>(prefill + decode) + 1);
    places_.push_back({NameOf(tokens, prefill), tokens, std::nullopt});
  }
}

EvalNeeds CalibrationMeter::Needs(size_t num_texts, int32_t prefill, int32_t decode) {
  const auto num_windows = static_cast<int32_t>(num_texts);
  constexpr int32_t kForks = std::max(kPlansAtOnce + 1, kRowsAtOnce);
  return {prefill + decode, num_windows + kForks,
          num_windows * RoundUp(prefill, kPageSize) + Window::ForkTokens(kForks, prefill, decode)};
}

Result<const Window*> CalibrationMeter::Opened(size_t index) {
  Place& place = places_[index];
  if (!place.window) {
    CalibrationProgress::Part part(progress_, prefill_ * CalibrationProgress::kPrefillWork);
    TIDAL_ASSIGN_OR_RETURN(Window window,
                           Window::Open(engine_, place.tokens, prefill_, part.hooks()));
    place.window.emplace(std::move(window));
  }
  return &*place.window;
}

std::vector<std::string> CalibrationMeter::MissingAt(size_t place,
                                                     std::span<const std::string> plans,
                                                     int32_t num_rows) const {
  std::vector<std::string> missing;
  for (const std::string& plan : plans) {
    if (log_->Find(places_[place].name, plan, static_cast<size_t>(num_rows)) == nullptr &&
        std::find(missing.begin(), missing.end(), plan) == missing.end())
      missing.push_back(plan);
  }
  return missing;
}

Status CalibrationMeter::Measure(std::span<const std::string> plans, int32_t num_rows) {
  for (size_t place = 0; place < places_.size();) {
    const std::vector<std::string> missing = MissingAt(place, plans, num_rows);
    const size_t at_once = std::max<size_t>(kRowsAtOnce / (missing.size() + 1), 1);
    std::vector<size_t> alike;
    while (place < places_.size() && alike.size() < at_once &&
           MissingAt(place, plans, num_rows) == missing)
      alike.push_back(place++);
    const size_t known = (plans.size() - missing.size()) * alike.size();
    progress_->Forgo(static_cast<double>(known) * num_rows);
    for (size_t begin = 0; begin < missing.size(); begin += kPlansAtOnce) {
      const size_t count = std::min<size_t>(missing.size() - begin, kPlansAtOnce);
      TIDAL_RETURN_IF_ERROR(MeasureAt(alike, std::span(missing).subspan(begin, count), num_rows));
    }
  }
  return OkStatus();
}

Status CalibrationMeter::MeasureAt(std::span<const size_t> places,
                                   std::span<const std::string> plans, int32_t num_rows) {
  std::vector<AttentionPlan> resolved;
  for (const std::string& plan : plans) {
    TIDAL_ASSIGN_OR_RETURN(const PlanSpec spec, PlanSpec::Parse(plan));
    TIDAL_ASSIGN_OR_RETURN(resolved.emplace_back(), engine_->ResolvePlan(spec));
  }
  std::vector<const Window*> windows;
  for (const size_t place : places) {
    TIDAL_ASSIGN_OR_RETURN(windows.emplace_back(), Opened(place));
  }
  CalibrationProgress::Part part(progress_,
                                 static_cast<double>(plans.size() * places.size()) * num_rows);
  TIDAL_ASSIGN_OR_RETURN(const std::vector<DecodedWindow> decoded,
                         Window::Decode(windows, resolved, num_rows, part.hooks()));
  for (size_t window = 0; window < places.size(); ++window) {
    for (size_t i = 0; i < plans.size(); ++i) {
      PlanRows rows;
      for (const TokenLoss& token : decoded[window].plans[i]) {
        rows.kl.push_back(token.kl);
        rows.extra_nats.push_back(token.extra_nats);
      }
      TIDAL_RETURN_IF_ERROR(log_->Add(places_[places[window]].name, plans[i], std::move(rows)));
    }
  }
  return OkStatus();
}

std::vector<CalibrationMeter::Loss> CalibrationMeter::WindowMeans(const std::string& plan,
                                                                  int32_t num_rows) const {
  std::vector<Loss> means;
  const auto count = static_cast<size_t>(num_rows);
  for (const Place& place : places_) {
    const PlanRows* const rows = log_->Find(place.name, plan, count);
    TIDAL_CHECK(rows != nullptr, "plan {} was not measured by {} rows", plan, num_rows);
    Loss sum;
    for (size_t i = 0; i < count; ++i) {
      sum.kl += static_cast<double>(rows->kl[i]);
      sum.extra_nats += static_cast<double>(rows->extra_nats[i]);
    }
    means.push_back({sum.kl / num_rows, sum.extra_nats / num_rows});
  }
  return means;
}

CalibrationMeter::Loss CalibrationMeter::MeanOf(const std::string& plan, int32_t num_rows) const {
  const std::vector<Loss> means = WindowMeans(plan, num_rows);
  Loss mean;
  for (const Loss& window : means) {
    mean.kl += window.kl / static_cast<double>(means.size());
    mean.extra_nats += window.extra_nats / static_cast<double>(means.size());
  }
  return mean;
}

}  // namespace tidal
