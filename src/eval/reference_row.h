// A row of logits as a distribution that others are compared with. A vocabulary has some hundred
// thousand tokens and an evaluation compares every row of every plan, so rows are worked on in
// pieces by all threads. What comes out does not depend on how many there are: pieces have one
// size, each is summed in one order, and their sums are added in order.
#ifndef TIDAL_EVAL_REFERENCE_ROW_H_
#define TIDAL_EVAL_REFERENCE_ROW_H_

#include <cstdint>
#include <span>
#include <vector>

#include "base/thread_pool.h"

namespace tidal {

// A row of logits beside a reference.
struct ComparedRow {
  double kl = 0;  // KL(reference || row) in nats over the whole vocabulary
  double log_sum_exp = 0;
  int32_t best = 0;  // the first of the likeliest tokens
};

// In all rows a NaN, which no model should give, counts as a token that cannot come.
class ReferenceRow {
 public:
  // `pool` is borrowed for the call.
  ReferenceRow(std::span<const float> logits, ThreadPool* pool);

  // The KL is at least 0, exactly 0 for equal logits, and infinite where the row excludes (logit
  // -inf or NaN) what the reference does not; otherwise off by about 1e-7 times how far the
  // logits differ. REQUIRES: the same vocabulary.
  ComparedRow Compare(std::span<const float> logits, ThreadPool* pool) const;

  double log_sum_exp() const { return log_sum_exp_; }
  int32_t best() const { return best_; }  // the first of the likeliest tokens

 private:
  std::vector<float> probs_;
  double prob_sum_ = 1;  // of probs_, which are rounded
  double log_sum_exp_ = 0;
  double mean_logit_ = 0;  // of its own logits, times prob_sum_
  int32_t best_ = 0;
};

// The logarithm of a token's probability in a row whose logits have this log_sum_exp.
double Logprob(std::span<const float> logits, int32_t token, double log_sum_exp);

}  // namespace tidal

#endif  // TIDAL_EVAL_REFERENCE_ROW_H_
