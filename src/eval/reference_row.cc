// Compiled so that conditional arithmetic becomes vector instructions (CMakeLists.txt).
#include "eval/reference_row.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "base/math.h"

namespace tidal {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
// Tokens that a thread takes at a time: some microseconds of work.
constexpr size_t kPiece = 2048;
// Sums that run side by side, so that a compiler may keep them in vectors.
constexpr size_t kLanes = 8;
using Lanes = std::array<double, kLanes>;

float Usable(float logit) { return logit > kMinusInfinity ? logit : kMinusInfinity; }

double SumOf(const Lanes& lanes) {
  return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) +
         ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
}

// e^x for x <= 0 to 1e-7 of its value; 0 below about e^-87 and for NaN. Without a branch or a call:
// x is n ln(2) + r with |r| <= ln(2) / 2, and e^r a polynomial, Taylor's with its coefficients
// fitted to that range.
float ExpOf(float x) {
  constexpr float kLeast = -88.0F;
  constexpr float kLog2E = 1.44269504F;
  // ln(2) in two parts: the first has few bits, so that n times it is exact.
  constexpr float kLn2High = 0.693359375F;
  constexpr float kLn2Low = -2.12194440e-4F;
  const float at = x > kLeast ? x : kLeast;
  const auto n = static_cast<int32_t>(at * kLog2E - 0.5F);  // towards 0, that is to the nearest
  const auto power = static_cast<float>(n);
  const float r = (at - power * kLn2High) - power * kLn2Low;
  float p = 1.38146061e-3F;
  p = p * r + 8.36871117e-3F;
  p = p * r + 4.16683876e-2F;
  p = p * r + 1.66665207e-1F;
  p = p * r + 4.99999935e-1F;
  p = p * (r * r) + r + 1.0F;
  constexpr int32_t kExponentBias = 127;
  constexpr int kMantissaBits = 23;
  const int32_t exponent = n + kExponentBias;
  return p * std::bit_cast<float>(exponent > 0 ? exponent << kMantissaBits : 0);
}

float LargestOf(std::span<const float> logits) {
  std::array<float, kLanes> lanes;
  lanes.fill(kMinusInfinity);
  size_t i = 0;
  for (; i + kLanes <= logits.size(); i += kLanes)
    for (size_t lane = 0; lane < kLanes; ++lane)
      lanes[lane] = logits[i + lane] > lanes[lane] ? logits[i + lane] : lanes[lane];
  for (; i < logits.size(); ++i) lanes[0] = logits[i] > lanes[0] ? logits[i] : lanes[0];
  return *std::max_element(lanes.begin(), lanes.end());
}

// exps[i] = e^(logits[i] - offset). REQUIRES: no logit above offset, but for rounding.
void Exponentiate(std::span<const float> logits, float offset, float* exps) {
  for (size_t i = 0; i < logits.size(); ++i) exps[i] = ExpOf(logits[i] - offset);
}

// The sum of e^(logit - offset).
double ExpSumOf(std::span<const float> logits, float offset) {
  constexpr size_t kBlock = 64;
  Lanes lanes{};
  for (size_t begin = 0; begin < logits.size(); begin += kBlock) {
    std::array<float, kBlock> exps{};
    Exponentiate(logits.subspan(begin, std::min(kBlock, logits.size() - begin)), offset,
                 exps.data());
    for (size_t i = 0; i < kBlock; i += kLanes)
      for (size_t lane = 0; lane < kLanes; ++lane)
        lanes[lane] += static_cast<double>(exps[i + lane]);
  }
  return SumOf(lanes);
}

// A token that cannot come adds nothing, whatever its logit.
double MeanTerm(float prob, float logit) {
  const float counted = prob > 0 ? Usable(logit) : 0.0F;
  return static_cast<double>(prob) * static_cast<double>(counted);
}

// The sum of probability times logit.
double MeanOf(std::span<const float> probs, std::span<const float> logits) {
  Lanes lanes{};
  size_t i = 0;
  for (; i + kLanes <= probs.size(); i += kLanes)
    for (size_t lane = 0; lane < kLanes; ++lane)
      lanes[lane] += MeanTerm(probs[i + lane], logits[i + lane]);
  for (; i < probs.size(); ++i) lanes[0] += MeanTerm(probs[i], logits[i]);
  return SumOf(lanes);
}

double SumOf(std::span<const float> probs) {
  Lanes lanes{};
  size_t i = 0;
  for (; i + kLanes <= probs.size(); i += kLanes)
    for (size_t lane = 0; lane < kLanes; ++lane)
      lanes[lane] += static_cast<double>(probs[i + lane]);
  for (; i < probs.size(); ++i) lanes[0] += static_cast<double>(probs[i]);
  return SumOf(lanes);
}

// What is known of a piece of a row.
struct Piece {
  float largest = kMinusInfinity;
  double exp_sum = 0;   // of e^(logit - largest)
  double prob_sum = 0;  // of the reference's probabilities
  double mean = 0;      // of logits under these
};

Piece PieceOf(std::span<const float> logits) {
  Piece piece;
  piece.largest = LargestOf(logits);
  if (std::isfinite(piece.largest)) piece.exp_sum = ExpSumOf(logits, piece.largest);
  return piece;
}

size_t NumPieces(size_t size) {
  return static_cast<size_t>(CeilDiv(static_cast<int64_t>(size), static_cast<int64_t>(kPiece)));
}

// body(index, begin, size) for each piece, in any order.
template <typename Body>
void ForPieces(size_t size, ThreadPool* pool, const Body& body) {
  pool->ParallelFor(
      static_cast<int64_t>(NumPieces(size)), 1, [&](int64_t from, int64_t to, int /*thread*/) {
        for (auto piece = static_cast<size_t>(from); piece < static_cast<size_t>(to); ++piece) {
          const size_t begin = piece * kPiece;
          body(piece, begin, std::min(kPiece, size - begin));
        }
      });
}

double Total(const std::vector<Piece>& pieces, double Piece::*field) {
  double total = 0;
  for (const Piece& piece : pieces) total += piece.*field;
  return total;
}

// The logarithm of the sum of all exponentials, and the first of the largest logits.
ComparedRow Combine(std::span<const float> logits, const std::vector<Piece>& pieces) {
  size_t best = 0;
  for (size_t i = 1; i < pieces.size(); ++i)
    if (pieces[i].largest > pieces[best].largest) best = i;
  const float largest = pieces[best].largest;
  ComparedRow row;
  row.log_sum_exp = static_cast<double>(largest);
  const auto from = logits.begin() + static_cast<std::ptrdiff_t>(best * kPiece);
  const auto at = std::find(from, logits.end(), largest);  // none where all logits are NaN
  row.best = at == logits.end() ? 0 : static_cast<int32_t>(at - logits.begin());
  if (!std::isfinite(largest)) return row;
  double sum = 0;
  for (const Piece& piece : pieces)
    sum += piece.exp_sum * std::exp(static_cast<double>(piece.largest) - row.log_sum_exp);
  row.log_sum_exp += std::log(sum);
  return row;
}

}  // namespace

ReferenceRow::ReferenceRow(std::span<const float> logits, ThreadPool* pool)
    : probs_(logits.size()) {
  std::vector<Piece> pieces(NumPieces(logits.size()));
  ForPieces(logits.size(), pool, [&](size_t index, size_t begin, size_t size) {
    pieces[index] = PieceOf(logits.subspan(begin, size));
  });
  const ComparedRow row = Combine(logits, pieces);
  log_sum_exp_ = row.log_sum_exp;
  best_ = row.best;
  ForPieces(logits.size(), pool, [&](size_t index, size_t begin, size_t size) {
    const auto piece = logits.subspan(begin, size);
    Exponentiate(piece, static_cast<float>(log_sum_exp_), probs_.data() + begin);
    const auto probs = std::span(probs_).subspan(begin, size);
    pieces[index].prob_sum = SumOf(probs);
    pieces[index].mean = MeanOf(probs, piece);
  });
  prob_sum_ = Total(pieces, &Piece::prob_sum);
  mean_logit_ = Total(pieces, &Piece::mean);
}

ComparedRow ReferenceRow::Compare(std::span<const float> logits, ThreadPool* pool) const {
  TIDAL_CHECK(logits.size() == probs_.size(), "rows of {} and {} logits", probs_.size(),
              logits.size());
  std::vector<Piece> pieces(NumPieces(logits.size()));
  ForPieces(logits.size(), pool, [&](size_t index, size_t begin, size_t size) {
    const auto piece = logits.subspan(begin, size);
    pieces[index] = PieceOf(piece);
    pieces[index].mean = MeanOf(std::span(probs_).subspan(begin, size), piece);
  });
  ComparedRow row = Combine(logits, pieces);
  // Sum of p (log p - log q), where log p is logit - log_sum_exp. Equal logits give equal sums, so
  // exactly 0.
  const double mean_difference = (mean_logit_ - Total(pieces, &Piece::mean)) / prob_sum_;
  row.kl = std::max(0.0, mean_difference + (row.log_sum_exp - log_sum_exp_));
  return row;
}

double Logprob(std::span<const float> logits, int32_t token, double log_sum_exp) {
  return static_cast<double>(Usable(logits[static_cast<size_t>(token)])) - log_sum_exp;
}

}  // namespace tidal
