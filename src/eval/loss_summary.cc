#include "eval/loss_summary.h"

#include <cmath>
#include <utility>

namespace tidal {
namespace {

// The windows of each unit that is drawn.
using Units = std::vector<std::vector<size_t>>;

Units UnitsOf(const LossResult& result) {
  Units by_document(result.documents.size());
  for (size_t i = 0; i < result.windows.size(); ++i)
    by_document[static_cast<size_t>(result.windows[i].document)].push_back(i);
  std::erase_if(by_document, [](const auto& windows) { return windows.empty(); });
  if (by_document.size() >= 2) return by_document;
  Units single;
  for (size_t i = 0; i < result.windows.size(); ++i) single.push_back({i});
  return single;
}

// A sum over a window, and over how many tokens.
struct Sum {
  double sum = 0;
  double count = 0;
};

// The mean over tokens, or whatever else a window counts.
class Means {
 public:
  Means(const Units& units, uint64_t seed) : units_(units), seed_(seed) {}

  template <typename WindowSum>
  Estimate Of(const WindowSum& window_sum) const {
    std::vector<Sum> sums;
    for (const auto& windows : units_) {
      Sum& unit = sums.emplace_back();
      for (const size_t window : windows) {
        const Sum sum = window_sum(window);
        unit.sum += sum.sum;
        unit.count += sum.count;
      }
    }
    return Draw([&sums](std::span<const int32_t> drawn) {
      Sum all;
      for (const int32_t unit : drawn) {
        all.sum += sums[static_cast<size_t>(unit)].sum;
        all.count += sums[static_cast<size_t>(unit)].count;
      }
      return all.sum / all.count;
    });
  }

  // A quantile over the values of all drawn windows.
  template <typename WindowValues>
  Estimate QuantileOf(double q, const WindowValues& window_values) const {
    std::vector<double> pooled;
    return Draw([&](std::span<const int32_t> drawn) {
      pooled.clear();
      for (const int32_t unit : drawn)
        for (const size_t window : units_[static_cast<size_t>(unit)])
          window_values(window, &pooled);
      return Quantile(&pooled, q);
    });
  }

 private:
  Estimate Draw(const UnitStatistic& statistic) const {
    return Bootstrap(static_cast<int32_t>(units_.size()), seed_, statistic);
  }

  const Units& units_;
  uint64_t seed_;
};

template <typename Value>
Sum SumOver(const PlanWindow& window, const Value& value) {
  Sum sum;
  for (const TokenLoss& token : window.tokens) sum.sum += value(token);
  sum.count = static_cast<double>(window.tokens.size());
  return sum;
}

double KlOf(const TokenLoss& token) { return static_cast<double>(token.kl); }

std::vector<double> KlAlong(const PlanLoss& plan) {
  PartMeans parts(kLossParts);
  for (const PlanWindow& window : plan.windows)
    for (size_t row = 0; row < window.tokens.size(); ++row)
      parts.Add(row, window.tokens.size(), KlOf(window.tokens[row]));
  return parts.Means();
}

LossSummary SummaryOf(const PlanLoss& plan, const PlanLoss& first, const Means& means) {
  LossSummary summary;
  for (const PlanWindow& window : plan.windows)
    summary.tokens += static_cast<int64_t>(window.tokens.size());
  const auto kl_of = [&plan](size_t i) { return SumOver(plan.windows[i], KlOf); };
  summary.kl = means.Of(kl_of);
  summary.kl_p99 = means.QuantileOf(0.99, [&plan](size_t i, std::vector<double>* values) {
    for (const TokenLoss& token : plan.windows[i].tokens) values->push_back(KlOf(token));
  });
  summary.kl_along = KlAlong(plan);
  summary.extra_nats = means.Of([&plan](size_t i) {
    return SumOver(plan.windows[i],
                   [](const TokenLoss& t) { return static_cast<double>(t.extra_nats); });
  });
  summary.agreement = means.Of([&plan](size_t i) {
    return SumOver(plan.windows[i], [](const TokenLoss& t) { return t.agrees ? 1.0 : 0.0; });
  });
  summary.kl_over_first = means.Of([&](size_t i) {
    const Sum own = kl_of(i);
    return Sum{own.sum - SumOver(first.windows[i], KlOf).sum, own.count};
  });
  if (plan.windows[0].same_text) {
    summary.same_text = means.Of([&plan](size_t i) {
      return Sum{static_cast<double>(plan.windows[i].same_text.value_or(0)), 1};
    });
  }
  return summary;
}

// Rows with a known mass, of which the worst twentieth by kl is "bad".
std::optional<RocCurve> GuardOf(const PlanLoss& plan) {
  constexpr double kGoodShare = 0.95;
  std::vector<float> masses;
  std::vector<double> kls;
  for (const PlanWindow& window : plan.windows) {
    for (const TokenLoss& token : window.tokens) {
      if (std::isnan(token.selected_mass)) continue;
      masses.push_back(token.selected_mass);
      kls.push_back(KlOf(token));
    }
  }
  if (kls.empty() || plan.attention.sparse_rows == 0) return std::nullopt;
  std::vector<double> sorted = kls;
  const double bad_kl = Quantile(&sorted, kGoodShare);
  std::vector<uint8_t> bad;
  for (const double kl : kls) bad.push_back(kl > bad_kl ? 1 : 0);
  RocCurve roc = RocOf(masses, bad);
  roc.bad_kl = bad_kl;
  return roc;
}

}  // namespace

void Summarize(uint64_t seed, LossResult* result) {
  const Units units = UnitsOf(*result);
  const Means means(units, seed);
  result->full_nats = means.Of([result](size_t i) { return Sum{result->windows[i].full_nats, 1}; });
  for (PlanLoss& plan : result->plans) {
    plan.summary = SummaryOf(plan, result->plans[0], means);
    plan.guard = GuardOf(plan);
  }
}

}  // namespace tidal
