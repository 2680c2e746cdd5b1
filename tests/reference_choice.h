// What a selection layer chooses, written plainly from the definitions in docs/attention_plans.md:
// every score of every head, sorted. Uses the fields of AttentionPlan and none of its arithmetic.
#ifndef TIDAL_TESTS_REFERENCE_CHOICE_H_
#define TIDAL_TESTS_REFERENCE_CHOICE_H_

#include <cstdint>
#include <span>
#include <vector>

#include "attention/attention_plan.h"

namespace tidal {

// Keys and values of one layer, as stored in a cache.
struct ReferenceKv {
  ReferenceKv(int32_t kv_heads, int32_t dim, int32_t max_tokens, bool has_values = true);

  int32_t num_kv_heads;
  int32_t head_dim;
  int32_t capacity;
  std::vector<double> keys;    // [num_kv_heads][head_dim][capacity]
  std::vector<double> values;  // [num_kv_heads][capacity][head_dim]

  double* Channel(int32_t kv_head, int32_t channel) {
    return keys.data() + (int64_t{kv_head} * head_dim + channel) * capacity;
  }
  const double* Channel(int32_t kv_head, int32_t channel) const {
    return keys.data() + (int64_t{kv_head} * head_dim + channel) * capacity;
  }
  double* Value(int32_t kv_head, int32_t pos) {
    return values.data() + (int64_t{kv_head} * capacity + pos) * head_dim;
  }
  const double* Value(int32_t kv_head, int32_t pos) const {
    return values.data() + (int64_t{kv_head} * capacity + pos) * head_dim;
  }
};

// One nonzero entry per member, [kv_len].
using TokenMask = std::vector<uint8_t>;

struct ChoiceInput {
  const AttentionPlan* plan = nullptr;  // the variant for kv_len
  int32_t num_heads = 0;
  int32_t kv_len = 0;
  const double* q = nullptr;  // [num_heads][head_dim], rotated
  const ReferenceKv* kv = nullptr;
  std::span<const int32_t> newlines = {};  // keep=newline: their positions, newest first
};

struct ReferenceChoice {
  std::vector<TokenMask> sets;  // one, one per KV head or one per head
  // What tokens were ranked by, [sets][kv_len]; a token's page's value where pages are chosen.
  // Empty under `none` and under merge=rank.
  std::vector<std::vector<double>> values;
};

// The scores of the plan's scorer, [num_heads][kv_len]; empty where it gives none.
std::vector<std::vector<double>> ScoresByScorer(const ChoiceInput& input);

// `scores` as ScoresByScorer gives them.
ReferenceChoice ChooseSets(const ChoiceInput& input,
                           const std::vector<std::vector<double>>& scores);
inline ReferenceChoice ChooseSets(const ChoiceInput& input) {
  return ChooseSets(input, ScoresByScorer(input));
}

// The mean over the sets (and the heads of each) of the probability, by the plan's scorer, inside
// the set; NaN where the scorer gives none.
double SelectedMass(const std::vector<std::vector<double>>& scores,
                    const std::vector<TokenMask>& sets);
inline double SelectedMass(const ChoiceInput& input, const std::vector<TokenMask>& sets) {
  return SelectedMass(ScoresByScorer(input), sets);
}

// q.k / sqrt(head_dim) of one head over the first kv_len keys.
std::vector<double> ScoresOf(const ReferenceKv& kv, int32_t kv_head, const double* q,
                             int32_t kv_len);
std::vector<double> Softmax(const std::vector<double>& scores);

// The keys as an index of `bits` bits a channel gives them back: full pages of 64 by minimum, step
// and code, the rest as they are; no values.
ReferenceKv IndexedKeys(const ReferenceKv& kv, int32_t kv_len, int32_t bits);

}  // namespace tidal

#endif  // TIDAL_TESTS_REFERENCE_CHOICE_H_
