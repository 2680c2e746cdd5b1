// How far the distributions of sparse rows were from those of a full run: KV correction repeats
// such rows with every layer full, and what it gives is compared with what was decoded.
#ifndef TIDAL_ENGINE_CORRECTION_KL_H_
#define TIDAL_ENGINE_CORRECTION_KL_H_

#include <cstdint>
#include <span>
#include <vector>

namespace tidal {

// KL(full || sparse) in nats of each replayed row, over the tokens that the sparse row found
// likeliest and one class for all others: merging classes can only lower a KL, so this is a lower
// bound, and a close one, since those tokens hold nearly all of the probability. Not thread-safe.
class CorrectionKl {
 public:
  // A row's tokens beside the rest: 3 KB a row until it is replayed.
  static constexpr int32_t kTokens = 256;

  // Room for `rows` dirty rows, so that Keep does not allocate.
  void Reserve(int32_t rows, int32_t vocab_size);
  // Remembers the row at `pos` as it was decoded. Rows come at consecutive positions.
  void Keep(int32_t pos, std::span<const float> logits);
  // Compares a kept row with its replay. The last one that was kept forgets them all.
  void Compare(int32_t pos, std::span<const float> logits);

  int64_t num_compared() const { return num_compared_; }
  double mean() const;  // 0 where none was compared
  double max() const { return max_; }

 private:
  struct Entry {
    int32_t id;
    float logit;
    float logprob;
  };
  Entry* Row(int32_t row) { return entries_.data() + static_cast<size_t>(row * width_); }

  int32_t width_ = 0;  // entries of a row: kTokens, or the vocabulary
  int32_t first_pos_ = 0;
  int32_t num_rows_ = 0;
  std::vector<Entry> entries_;      // [num_rows][width]
  std::vector<double> rest_probs_;  // [num_rows], of all other tokens
  int64_t num_compared_ = 0;
  double sum_ = 0;
  double max_ = 0;
};

}  // namespace tidal

#endif  // TIDAL_ENGINE_CORRECTION_KL_H_
