#include "eval/loss.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <utility>

#include "eval/loss_summary.h"

namespace tidal {
namespace {

// One window's place in the work.
struct Place {
  int32_t document = 0;
  int64_t begin = 0;
};

Result<std::vector<Place>> PlacesOf(const LossRequest& request) {
  std::vector<Place> places;
  for (size_t document = 0; document < request.documents.size(); ++document) {
    TIDAL_ASSIGN_OR_RETURN(const std::vector<int64_t> begins,
                           WindowBegins(request.documents[document], request.prefill,
                                        request.decode, request.windows));
    for (const int64_t begin : begins) places.push_back({static_cast<int32_t>(document), begin});
  }
  return places;
}

// Windows that are decoded together: begin .. end - 1 of the places.
struct Group {
  size_t begin = 0;
  size_t end = 0;
};

// The shares of a window's work that its prefill and its decoding take, roughly: a decoded row of
// each plan costs like a prefilled one, and choosing about as much again.
class WindowProgress {
 public:
  WindowProgress(const LossRequest& request, size_t num_places, const EvalHooks& hooks)
      : hooks_(hooks), num_places_(static_cast<double>(num_places)) {
    const double prefill = request.prefill;
    const double decode = 2.0 * request.decode * static_cast<double>(request.plans.size() + 1) *
                          (request.divergence ? 2 : 1);
    prefill_share_ = prefill / (prefill + decode);
    decode_share_ = (1 - prefill_share_) / (request.divergence ? 2 : 1);
  }

  // For what is short.
  EvalHooks Untold() const { return {hooks_.stop, nullptr}; }
  EvalHooks Prefill(const Group& group, size_t place) const {
    const double before = prefill_share_ * static_cast<double>(place - group.begin);
    return Part(group.begin, before, prefill_share_, place);
  }
  EvalHooks Decode(const Group& group) const {
    const auto size = static_cast<double>(group.end - group.begin);
    return Part(group.begin, prefill_share_ * size, decode_share_ * size, group.end - 1);
  }
  EvalHooks Generate(const Group& group, size_t place) const {
    const auto size = static_cast<double>(group.end - group.begin);
    const double before = (prefill_share_ + decode_share_) * size +
                          decode_share_ * static_cast<double>(place - group.begin);
    return Part(group.begin, before, decode_share_, place);
  }

 private:
  // From `before` windows' work after those before `first` on, `share` of one's.
  EvalHooks Part(size_t first, double before, double share, size_t place) const {
    return {hooks_.stop,
            [this, first, before, share, place](double fraction, const std::string& what) {
              hooks_.Report((static_cast<double>(first) + before + share * fraction) / num_places_,
                            fmt::format("{} of window {} of {}", what, place + 1, num_places_));
            }};
  }

  const EvalHooks& hooks_;
  double num_places_;
  double prefill_share_ = 0;
  double decode_share_ = 0;
};

std::vector<AttentionPlan> PlansOf(const LossRequest& request) {
  std::vector<AttentionPlan> plans;
  for (const EvalPlan& plan : request.plans) plans.push_back(plan.plan);
  return plans;
}

int32_t SameBeginning(const std::vector<TokenId>& a, const std::vector<TokenId>& b) {
  const auto differ = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  return static_cast<int32_t>(differ.first - a.begin());
}

// How many greedily generated tokens of each plan are those of full attention.
Result<std::vector<int32_t>> SameTexts(const Window& window, std::vector<AttentionPlan> plans,
                                       const EvalHooks& hooks) {
  plans.insert(plans.begin(), AttentionPlan());
  TIDAL_ASSIGN_OR_RETURN(const auto texts, window.Generate(plans, hooks));
  std::vector<int32_t> same;
  for (size_t i = 1; i < texts.size(); ++i) same.push_back(SameBeginning(texts[i], texts[0]));
  return same;
}

void AddMasses(const std::vector<LayerMass>& masses, std::vector<LayerMass>* sums) {
  sums->resize(masses.size());
  for (size_t layer = 0; layer < masses.size(); ++layer) {
    (*sums)[layer].sum += masses[layer].sum;
    (*sums)[layer].rows += masses[layer].rows;
  }
}

// same_texts: [plans], empty without divergence.
void Keep(const Place& place, DecodedWindow decoded, const std::vector<int32_t>& same_texts,
          LossResult* result) {
  double nats = 0;
  for (const float nat : decoded.full_nats) nats += static_cast<double>(nat);
  result->windows.push_back(
      {place.document, place.begin, nats / static_cast<double>(decoded.full_nats.size())});
  for (size_t i = 0; i < result->plans.size(); ++i) {
    PlanWindow& window = result->plans[i].windows.emplace_back();
    window.tokens = std::move(decoded.plans[i]);
    if (!same_texts.empty()) window.same_text = same_texts[i];
    result->plans[i].attention.Add(decoded.attention[i]);
    AddMasses(decoded.layer_mass[i], &result->plans[i].layer_mass);
  }
}

Status MeasureSpeeds(const Window& window, const LossRequest& request, const EvalHooks& hooks,
                     LossResult* result) {
  TIDAL_ASSIGN_OR_RETURN(result->full_speed,
                         window.MeasureSpeed(AttentionPlan(), request.speed_steps, hooks));
  for (PlanLoss& plan : result->plans) {
    TIDAL_ASSIGN_OR_RETURN(plan.speed,
                           window.MeasureSpeed(plan.plan.plan, request.speed_steps, hooks));
  }
  return OkStatus();
}

// Everything about a group's windows, of which those are kept that were finished.
Status RunGroup(Engine* engine, const LossRequest& request, std::span<const Place> places,
                const Group& group, const WindowProgress& progress, LossResult* result) {
  std::vector<Window> windows;
  for (size_t i = group.begin; i < group.end; ++i) {
    const auto& tokens = request.documents[static_cast<size_t>(places[i].document)].tokens;
    const auto text = std::span(tokens).subspan(
        static_cast<size_t>(places[i].begin),
        static_cast<size_t>(request.prefill) + static_cast<size_t>(request.decode) + 1);
    TIDAL_ASSIGN_OR_RETURN(Window window,
                           Window::Open(engine, text, request.prefill, progress.Prefill(group, i)));
    windows.push_back(std::move(window));
  }
  std::vector<const Window*> all;
  for (const Window& window : windows) all.push_back(&window);
  const std::vector<AttentionPlan> plans = PlansOf(request);
  TIDAL_ASSIGN_OR_RETURN(std::vector<DecodedWindow> decoded,
                         Window::Decode(all, plans, request.decode, progress.Decode(group)));
  for (size_t i = group.begin; i < group.end; ++i) {
    const size_t at = i - group.begin;
    std::vector<int32_t> same_texts;
    if (request.divergence) {
      TIDAL_ASSIGN_OR_RETURN(same_texts,
                             SameTexts(windows[at], plans, progress.Generate(group, i)));
    }
    Keep(places[i], std::move(decoded[at]), same_texts, result);
  }
  if (group.begin > 0 || request.speed_steps == 0) return OkStatus();
  return MeasureSpeeds(windows[0], request, progress.Untold(), result);
}

// kCancelled where stopped; the windows that were finished are in *result.
Status RunPlaces(Engine* engine, const LossRequest& request, std::span<const Place> places,
                 const EvalHooks& hooks, LossResult* result) {
  const WindowProgress progress(request, places.size(), hooks);
  const auto size = static_cast<size_t>(request.side_by_side);
  for (size_t begin = 0; begin < places.size(); begin += size) {
    const Group group = {begin, std::min(begin + size, places.size())};
    TIDAL_RETURN_IF_ERROR(RunGroup(engine, request, places, group, progress, result));
  }
  return OkStatus();
}

}  // namespace

EvalNeeds NeedsOf(const LossRequest& request) {
  const int32_t sequences =
      static_cast<int32_t>(request.plans.size()) + 2;  // the prefill's, full's
  const int32_t decode = std::max(request.decode, request.speed_steps + 2);
  return {request.prefill + decode, request.side_by_side * sequences,
          request.side_by_side *
              (request.prefill + Window::ForkTokens(sequences, request.prefill, decode))};
}

Result<std::vector<int64_t>> WindowBegins(const EvalDocument& document, int32_t prefill,
                                          int32_t decode, int32_t windows) {
  // The last token of a window is only foreseen.
  const int64_t one = int64_t{prefill} + decode + 1;
  const int64_t needed = one + int64_t{windows - 1} * decode;
  const auto have = static_cast<int64_t>(document.tokens.size());
  if (have < needed) {
    return InvalidArgument(
        "{} has {} tokens, but {} of {} prefilled and {} decoded tokens need {}; give a longer "
        "text, or fewer or shorter windows",
        document.name, have, windows == 1 ? "a window" : fmt::format("{} windows", windows),
        prefill, decode, needed);
  }
  std::vector<int64_t> begins;
  for (int64_t i = 0; i < windows; ++i)
    begins.push_back(windows == 1 ? 0 : (have - one) * i / (windows - 1));
  return begins;
}

Result<LossResult> MeasureLoss(Engine* engine, const LossRequest& request, const EvalHooks& hooks) {
  TIDAL_ASSIGN_OR_RETURN(const std::vector<Place> places, PlacesOf(request));
  LossResult result;
  for (const EvalDocument& document : request.documents) result.documents.push_back(document.name);
  for (const EvalPlan& plan : request.plans) result.plans.emplace_back().plan = plan;
  const Status status = RunPlaces(engine, request, places, hooks, &result);
  if (!status.ok() && status.code() != StatusCode::kCancelled) return status;
  result.interrupted = !status.ok();
  if (!result.windows.empty()) Summarize(request.seed, &result);
  return result;
}

}  // namespace tidal
