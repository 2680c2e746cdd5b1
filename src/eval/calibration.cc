#include "eval/calibration.h"

#include <algorithm>
#include <fmt/format.h>
#include <limits>
#include <map>
#include <numeric>
#include <set>
#include <utility>

#include "base/check.h"
#include "eval/calibration_choice.h"
#include "eval/calibration_meter.h"
#include "eval/calibration_progress.h"
#include "eval/calibration_search.h"
#include "eval/calibration_speed.h"

namespace tidal {
namespace {

// Rows that tell hopeless sets of layers from others: the first quarter.
int32_t FewOf(int32_t decode) { return std::max(1, decode / 4); }

LayerSet EveryLayer(int32_t num_layers) {
  LayerSet layers(static_cast<size_t>(num_layers));
  std::iota(layers.begin(), layers.end(), 0);
  return layers;
}

Status CheckTexts(std::span<const EvalDocument> texts, int32_t prefill, int32_t decode) {
  for (const EvalDocument& text : texts)
    TIDAL_RETURN_IF_ERROR(WindowBegins(text, prefill, decode, 1).status());
  return OkStatus();
}

class Calibrator {
 public:
  Calibrator(const CalibrationRequest& request, const MakeEngineFn& make, CalibrationLog* log,
             const EvalHooks& hooks)
      : request_(request), make_(make), log_(log), hooks_(hooks), progress_(&hooks_) {}

  Result<CalibrationResult> Run();

 private:
  bool by_loss() const { return request_.target.max_kl > 0; }
  CalibrationPoint PointOf(int32_t budget, SetScope scope, LayerSet select) const;
  void Announce();
  SearchLimits DropLimits() const;
  SearchLimits AddLimits() const;

  // The stages. The first two use meter_ and bits_.
  Status RunWithBits(int32_t bits);
  Status MeasureEveryLayer();
  Status ChooseSearchBudget();
  double LeastLoss() const;
  Status NothingIsWithinTarget() const;
  Status SearchLayers(SetScope scope);
  Status ProbeBudgets();
  Status ProbeByLoss();
  Status ProbeByScan();
  Status CheckPlans();
  Status MeasureHeldOut(CalibrationMeter* meter);

  // Fills what is measured. Those measured by all rows count for the result.
  Status MeasurePoints(LossRows rows, std::vector<CalibrationPoint>* points);

  const CalibrationRequest& request_;
  const MakeEngineFn& make_;
  CalibrationLog* log_;
  const EvalHooks& hooks_;
  CalibrationProgress progress_;
  CalibrationResult result_;
  std::map<int32_t, CacheCosts> costs_;  // by bits
  std::set<std::string> measured_;       // texts of result_.points
  int32_t search_budget_ = 0;
  std::map<SetScope, std::vector<MeasuredSet>> paths_;  // by ascending size and descending loss
  CalibrationMeter* meter_ = nullptr;
  int32_t bits_ = 0;
};

CalibrationPoint Calibrator::PointOf(int32_t budget, SetScope scope, LayerSet select) const {
  CalibrationPoint point;
  point.budget = budget;
  point.scope = scope;
  point.index_bits = bits_;
  point.select = std::move(select);
  costs_.at(bits_).Fill(&point);
  return point;
}

// Dropping ends where even the largest budget, with which losses fall about as its tokens rise,
// could not be within the target.
SearchLimits Calibrator::DropLimits() const {
  SearchLimits limits;
  if (by_loss()) {
    const double times = 2.0 * request_.budgets.back() / search_budget_;
    limits.enough = request_.target.max_kl;
    limits.hopeless = request_.target.max_kl * times;
  } else {
    limits.fewest = std::max(1, costs_.at(bits_).MostLayers(request_.target.max_scan_share));
    limits.enough = std::numeric_limits<double>::infinity();
  }
  return limits;
}

// Adding is for small sets: with many layers it takes longer than dropping and comes to the same.
SearchLimits Calibrator::AddLimits() const {
  constexpr int32_t kFew = 8;
  SearchLimits limits;
  limits.most = std::max(result_.num_layers / 3, std::min(result_.num_layers, kFew));
  if (by_loss()) {
    limits.enough = request_.target.max_kl;
  } else {
    limits.most = std::min(
        limits.most, std::max(1, costs_.at(bits_).MostLayers(request_.target.max_scan_share)));
  }
  return limits;
}

// What each stage will take, about.
void Calibrator::Announce() {
  const auto windows = static_cast<double>(request_.texts.size());
  const auto held_out = static_cast<double>(request_.held_out.size());
  const auto choices = static_cast<double>(request_.budgets.size() * request_.scopes.size());
  const double prefill = request_.prefill * CalibrationProgress::kPrefillWork;
  SearchLimits limits = DropLimits();
  limits.most = AddLimits().most;
  const SearchCost search = MostOfSearch(result_.num_layers, limits);
  constexpr double kProbes = 5;  // of each budget and scope
  const double probes = kProbes * choices * request_.decode;
  for (size_t i = 0; i < request_.index_bits.size(); ++i) {
    progress_.Expect(windows * (prefill + probes));
    if (i > 0) continue;
    for (size_t scope = 0; scope < request_.scopes.size(); ++scope)
      progress_.Expect(windows * static_cast<double>(search.few * FewOf(request_.decode) +
                                                     search.all * request_.decode));
  }
  const auto plans = static_cast<double>(request_.budgets.size());
  progress_.Expect(held_out * (prefill + 2 * plans * request_.held_out_decode));
  if (request_.times_steps) progress_.Expect(SpeedWork(request_.prefill, request_.budgets.size()));
}

Status Calibrator::MeasurePoints(LossRows rows, std::vector<CalibrationPoint>* points) {
  const int32_t count = rows == LossRows::kAll ? request_.decode : FewOf(request_.decode);
  std::vector<std::string> texts;
  for (const CalibrationPoint& point : *points) texts.push_back(PlanText(point));
  TIDAL_RETURN_IF_ERROR(meter_->Measure(texts, count));
  for (size_t i = 0; i < points->size(); ++i) {
    const CalibrationMeter::Loss loss = meter_->MeanOf(texts[i], count);
    (*points)[i].kl = loss.kl;
    (*points)[i].extra_nats = loss.extra_nats;
    if (rows == LossRows::kAll && measured_.insert(texts[i]).second)
      result_.points.push_back((*points)[i]);
  }
  return OkStatus();
}

Status Calibrator::MeasureEveryLayer() {
  std::vector<CalibrationPoint> points;
  for (const int32_t budget : request_.budgets)
    for (const SetScope scope : request_.scopes)
      points.push_back(PointOf(budget, scope, EveryLayer(result_.num_layers)));
  return MeasurePoints(LossRows::kAll, &points);
}

// The search runs with the smallest budget with which the target can be met: that asks most of the
// layers, and what serves it serves larger ones.
Status Calibrator::ChooseSearchBudget() {
  search_budget_ = request_.budgets.front();
  if (!by_loss()) return OkStatus();
  for (const int32_t budget : request_.budgets) {
    search_budget_ = budget;
    if (BestPoint(result_.points, budget, bits_, request_.target, result_.all_bytes) != nullptr)
      return OkStatus();
  }
  // A set of fewer layers may still do, where every layer is not far from it.
  return LeastLoss() <= DropLimits().hopeless ? OkStatus() : NothingIsWithinTarget();
}

double Calibrator::LeastLoss() const {
  double least = std::numeric_limits<double>::infinity();
  for (const CalibrationPoint& point : result_.points) least = std::min(least, point.kl);
  return least;
}

Status Calibrator::NothingIsWithinTarget() const {
  if (by_loss()) {
    return InvalidArgument(
        "no plan loses at most {:.4g} nats: the least, with up to {} tokens, is {:.4f}; allow "
        "more, "
        "or larger budgets",
        request_.target.max_kl, request_.budgets.back(), LeastLoss());
  }
  return InvalidArgument(
      "no plan scans at most {:.3g} % of the cache: the index of one layer is {:.3g} % of it; "
      "allow more",
      100 * request_.target.max_scan_share,
      100 * costs_.at(request_.index_bits.back()).ScanShare(1));
}

Status Calibrator::SearchLayers(SetScope scope) {
  progress_.Begin(fmt::format("layers, scope {}", NameOf(scope)));
  const MeasureSetsFn measure = [&](std::span<const LayerSet> sets,
                                    LossRows rows) -> Result<std::vector<double>> {
    std::vector<CalibrationPoint> points;
    for (const LayerSet& set : sets) points.push_back(PointOf(search_budget_, scope, set));
    TIDAL_RETURN_IF_ERROR(MeasurePoints(rows, &points));
    std::vector<double> losses;
    for (const CalibrationPoint& point : points) losses.push_back(point.kl);
    return losses;
  };
  TIDAL_ASSIGN_OR_RETURN(std::vector<MeasuredSet> sets,
                         DropLayers(result_.num_layers, DropLimits(), measure));
  TIDAL_ASSIGN_OR_RETURN(const std::vector<MeasuredSet> added,
                         AddLayers(result_.num_layers, AddLimits(), measure));
  sets.insert(sets.end(), added.begin(), added.end());
  paths_[scope] = BestOfEachSize(std::move(sets));
  return OkStatus();
}

// For each budget and scope, the fewest layers within the target, by halving; all in step, so that
// their rows run together.
Status Calibrator::ProbeByLoss() {
  struct Probe {
    int32_t budget;
    SetScope scope;
    size_t low;  // sets of the path before it are not within the target
    size_t high;
  };
  std::vector<Probe> probes;
  for (const int32_t budget : request_.budgets)
    for (const auto& [scope, path] : paths_) probes.push_back({budget, scope, 0, path.size()});
  const auto middle = [](const Probe& probe) { return probe.low + (probe.high - probe.low) / 2; };
  while (true) {
    std::erase_if(probes, [](const Probe& probe) { return probe.low >= probe.high; });
    if (probes.empty()) return OkStatus();
    std::vector<CalibrationPoint> points;
    for (const Probe& probe : probes)
      points.push_back(
          PointOf(probe.budget, probe.scope, paths_.at(probe.scope)[middle(probe)].layers));
    TIDAL_RETURN_IF_ERROR(MeasurePoints(LossRows::kAll, &points));
    for (size_t i = 0; i < probes.size(); ++i) {
      const size_t at = middle(probes[i]);
      if (points[i].kl <= request_.target.max_kl) {
        probes[i].high = at;
      } else {
        probes[i].low = at + 1;
      }
    }
  }
}

// For each budget and scope, the largest sets within the limit.
Status Calibrator::ProbeByScan() {
  constexpr size_t kSets = 3;
  const auto most =
      static_cast<size_t>(costs_.at(bits_).MostLayers(request_.target.max_scan_share));
  std::vector<CalibrationPoint> points;
  for (const auto& [scope, path] : paths_) {
    size_t end = path.size();
    while (end > 0 && path[end - 1].layers.size() > most) --end;
    for (size_t i = end - std::min(end, kSets); i < end; ++i)
      for (const int32_t budget : request_.budgets)
        points.push_back(PointOf(budget, scope, path[i].layers));
  }
  return MeasurePoints(LossRows::kAll, &points);
}

Status Calibrator::RunWithBits(int32_t bits) {
  TIDAL_ASSIGN_OR_RETURN(
      const std::unique_ptr<Engine> engine,
      make_(CalibrationMeter::Needs(request_.texts.size(), request_.prefill, request_.decode),
            bits));
  CalibrationMeter meter(engine.get(), request_.texts, request_.prefill, request_.decode, log_,
                         &progress_);
  meter_ = &meter;
  bits_ = bits;
  costs_[bits] = CacheCosts(*engine, request_.prefill);
  result_.num_layers = costs_.at(bits).num_layers;
  result_.all_bytes = costs_.at(bits).all_bytes();
  if (paths_.empty()) {
    search_budget_ = request_.budgets.front();
    Announce();
  }
  progress_.Begin(fmt::format("index of {} bits", bits));
  TIDAL_RETURN_IF_ERROR(MeasureEveryLayer());
  if (paths_.empty()) {
    TIDAL_RETURN_IF_ERROR(ChooseSearchBudget());
    for (const SetScope scope : request_.scopes) TIDAL_RETURN_IF_ERROR(SearchLayers(scope));
  }
  return by_loss() ? ProbeByLoss() : ProbeByScan();
}

// Losses on texts that nothing was chosen by, beside those of every layer choosing as many tokens.
Status Calibrator::MeasureHeldOut(CalibrationMeter* meter) {
  const int32_t num_rows = request_.held_out_decode;
  std::vector<std::string> plans;
  for (const CalibratedPlan& plan : result_.plans) {
    CalibrationPoint every = plan.point;
    every.select = EveryLayer(result_.num_layers);
    plans.push_back(PlanText(plan.point));
    plans.push_back(PlanText(every));
  }
  TIDAL_RETURN_IF_ERROR(meter->Measure(plans, num_rows));
  const auto estimate = [&](const std::string& plan, double CalibrationMeter::Loss::*what) {
    const std::vector<CalibrationMeter::Loss> means = meter->WindowMeans(plan, num_rows);
    return Bootstrap(static_cast<int32_t>(means.size()), request_.seed,
                     [&](std::span<const int32_t> units) {
                       double sum = 0;
                       for (const int32_t unit : units)
                         sum += means[static_cast<size_t>(unit)].*what;
                       return sum / static_cast<double>(units.size());
                     });
  };
  for (size_t i = 0; i < result_.plans.size(); ++i) {
    CalibratedPlan& plan = result_.plans[i];
    plan.held_out_kl = estimate(plans[2 * i], &CalibrationMeter::Loss::kl);
    plan.held_out_extra_nats = estimate(plans[2 * i], &CalibrationMeter::Loss::extra_nats);
    plan.every_layer_kl = estimate(plans[2 * i + 1], &CalibrationMeter::Loss::kl);
  }
  return OkStatus();
}

Status Calibrator::CheckPlans() {
  const bool is_checked = !request_.held_out.empty();
  if (!is_checked && !request_.times_steps) return OkStatus();
  const std::span<const EvalDocument> texts =
      is_checked ? request_.held_out : std::span(request_.texts).first(1);
  const int32_t decode = is_checked ? request_.held_out_decode : request_.decode;
  TIDAL_ASSIGN_OR_RETURN(
      const std::unique_ptr<Engine> engine,
      make_(CalibrationMeter::Needs(texts.size(), request_.prefill, std::max(decode, kSpeedTokens)),
            result_.index_bits));
  CalibrationMeter meter(engine.get(), texts, request_.prefill, decode, log_, &progress_);
  progress_.Begin("held-out texts");
  if (is_checked) TIDAL_RETURN_IF_ERROR(MeasureHeldOut(&meter));
  if (!request_.times_steps) return OkStatus();
  TIDAL_ASSIGN_OR_RETURN(const Window* const window, meter.FirstWindow());
  progress_.Begin("speed");
  return MeasureSpeeds(*engine, *window, &progress_, &result_);
}

Result<CalibrationResult> Calibrator::Run() {
  TIDAL_RETURN_IF_ERROR(CheckTexts(request_.texts, request_.prefill, request_.decode));
  TIDAL_RETURN_IF_ERROR(CheckTexts(request_.held_out, request_.prefill, request_.held_out_decode));
  for (const int32_t bits : request_.index_bits) TIDAL_RETURN_IF_ERROR(RunWithBits(bits));
  meter_ = nullptr;
  if (!ChoosePlans(request_, &result_)) return NothingIsWithinTarget();
  TIDAL_RETURN_IF_ERROR(CheckPlans());
  return std::move(result_);
}

}  // namespace

Result<CalibrationResult> Calibrate(const CalibrationRequest& request, const MakeEngineFn& make,
                                    CalibrationLog* log, const EvalHooks& hooks) {
  TIDAL_CHECK(!request.texts.empty() && !request.budgets.empty() && !request.scopes.empty() &&
                  !request.index_bits.empty() && request.decode >= 2,
              "a calibration of nothing");
  TIDAL_CHECK((request.target.max_kl > 0) != (request.target.max_scan_share > 0),
              "one target, a loss or a scan");
  return Calibrator(request, make, log, hooks).Run();
}

}  // namespace tidal
