#include "engine/correction_kl.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"

namespace tidal {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// A NaN, which no model should give, counts as a token that cannot come.
float Usable(float logit) { return logit > kMinusInfinity ? logit : kMinusInfinity; }

// log(sum(exp(logits))), minus infinity where no logit is finite.
double LogSumExp(std::span<const float> logits) {
  float largest = kMinusInfinity;
  for (const float logit : logits) largest = std::max(largest, Usable(logit));
  if (!std::isfinite(largest)) return static_cast<double>(largest);
  double sum = 0;
  for (const float logit : logits) sum += static_cast<double>(std::exp(Usable(logit) - largest));
  return static_cast<double>(largest) + std::log(sum);
}

// What one class adds to the KL. A probability of the rest that rounding took to zero would make
// the sum infinite; what lies below 1e-12 is rounding, and a larger one only lowers the bound.
double Term(double full, double sparse) {
  constexpr double kLeastProb = 1e-12;
  return full <= 0 ? 0 : full * std::log(full / std::max(sparse, kLeastProb));
}

}  // namespace

void CorrectionKl::Reserve(int32_t rows, int32_t vocab_size) {
  width_ = std::min(kTokens, vocab_size);
  entries_.reserve(static_cast<size_t>(rows) * static_cast<size_t>(width_));
  rest_probs_.reserve(static_cast<size_t>(rows));
}

void CorrectionKl::Keep(int32_t pos, std::span<const float> logits) {
  if (width_ == 0) width_ = std::min(kTokens, static_cast<int32_t>(logits.size()));
  if (num_rows_ == 0) first_pos_ = pos;
  TIDAL_CHECK(pos == first_pos_ + num_rows_, "row {} kept after {} rows from {}", pos, num_rows_,
              first_pos_);
  const auto is_likelier = [](const Entry& a, const Entry& b) { return a.logit > b.logit; };
  const auto begin = static_cast<std::ptrdiff_t>(entries_.size());
  // A heap of the best so far with the least of them in front: nearly every token of a large
  // vocabulary fails at the first comparison.
  for (size_t id = 0; id < logits.size(); ++id) {
    const Entry entry{static_cast<int32_t>(id), Usable(logits[id]), 0};
    const auto row = entries_.begin() + begin;
    if (static_cast<int32_t>(id) < width_) {
      entries_.push_back(entry);
      std::push_heap(entries_.begin() + begin, entries_.end(), is_likelier);
    } else if (entry.logit > row->logit) {
      std::pop_heap(row, entries_.end(), is_likelier);
      entries_.back() = entry;
      std::push_heap(row, entries_.end(), is_likelier);
    }
  }
  const double lse = LogSumExp(logits);
  double kept = 0;
  for (auto entry = entries_.begin() + begin; entry != entries_.end(); ++entry) {
    const double logprob = static_cast<double>(entry->logit) - lse;
    entry->logprob = static_cast<float>(logprob);
    kept += std::exp(logprob);
  }
  rest_probs_.push_back(std::max(1 - kept, 0.0));
  ++num_rows_;
}

void CorrectionKl::Compare(int32_t pos, std::span<const float> logits) {
  const int32_t row = pos - first_pos_;
  TIDAL_CHECK(row >= 0 && row < num_rows_, "row {} is none of {} rows from {}", pos, num_rows_,
              first_pos_);
  const double lse = LogSumExp(logits);
  double kl = 0;
  double kept = 0;
  const Entry* entries = Row(row);
  for (int32_t i = 0; i < width_; ++i) {
    const double full =
        std::exp(static_cast<double>(Usable(logits[static_cast<size_t>(entries[i].id)])) - lse);
    kl += Term(full, std::exp(static_cast<double>(entries[i].logprob)));
    kept += full;
  }
  // Without a rest the two sums are 1 but for rounding.
  if (static_cast<size_t>(width_) < logits.size())
    kl += Term(std::max(1 - kept, 0.0), rest_probs_[static_cast<size_t>(row)]);
  kl = std::max(kl, 0.0);
  ++num_compared_;
  sum_ += kl;
  max_ = std::max(max_, kl);
  if (row + 1 < num_rows_) return;
  num_rows_ = 0;
  entries_.clear();
  rest_probs_.clear();
}

double CorrectionKl::mean() const {
  return num_compared_ == 0 ? 0 : sum_ / static_cast<double>(num_compared_);
}

}  // namespace tidal
