// Decoding under an attention plan as its definition reads, one row at a time: full attention,
// masked. It saves no work and shares no code with the engine; the tests of sparse rows compare
// with it. Settings of a plan: docs/attention_plans.md.
#ifndef TIDAL_TESTS_PLAN_REFERENCE_H_
#define TIDAL_TESTS_PLAN_REFERENCE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <vector>

#include "attention/attention_plan.h"
#include "executor/options.h"
#include "reference_choice.h"
#include "reference_model.h"

namespace tidal {

// What one selection layer did in a row.
struct ReferenceSelection {
  int32_t layer = 0;
  bool fresh = true;  // chosen in this row; else kept by refresh=cos
  ChoiceInput input;  // q and kv are null afterwards
  ReferenceChoice choice;
  double mass = 0;  // of the sets in use; NaN where the scorer gives none
};

struct ReferenceRow {
  std::vector<double> logits;
  bool full = true;
  double selected_mass = 1;  // NaN where the scorer gives none
  double tokens_attended[kNumLayerRoles] = {};
  int32_t layers[kNumLayerRoles] = {};
  std::vector<ReferenceSelection> selections;
};

// Copies share the model: branch a sequence off a prefix by copying it.
class PlanReference {
 public:
  // `model` outlives this. Keys and values are rounded to the cache types (not q8_0).
  PlanReference(const ReferenceModel* model, int32_t max_tokens, CacheType k_type,
                CacheType v_type);

  int32_t kv_len() const { return static_cast<int32_t>(tokens_.size()); }
  int32_t dense_len() const { return dense_len_; }
  int32_t guarded_rows() const { return guarded_rows_; }
  const ReferenceKv& kv(int32_t layer) const { return kv_[static_cast<size_t>(layer)]; }

  // Full rows; the logits of the last.
  std::vector<double> Prefill(std::span<const int32_t> tokens);

  // May replace the sets that a selection layer is about to use: those of another program (a near
  // tie may fall either way), or wrong ones on purpose.
  using Adjudicator = std::function<void(const ReferenceSelection&, std::vector<TokenMask>* sets)>;

  // One decoded row. With correct=N, dirty rows are corrected before it. The plan is the same from
  // row to row.
  ReferenceRow Decode(int32_t token, const AttentionPlan& plan,
                      std::span<const int32_t> newlines = {}, const Adjudicator& adjudicate = {});
  // Replays the rows past dense_len with every layer full; their logits.
  std::vector<std::vector<double>> Correct();
  // Cuts the sequence to its first tokens; kept sets are dropped.
  void Truncate(int32_t num_tokens);

 private:
  struct KeptChoice {
    std::vector<TokenMask> sets;
    std::vector<double> q;
  };

  // One row through the model; plan == nullptr: full. `row` may be null.
  std::vector<double> Forward(int32_t token, int32_t pos, const AttentionPlan* plan,
                              std::span<const int32_t> newlines, const Adjudicator& adjudicate,
                              ReferenceRow* row);
  void Select(const AttentionPlan& plan, const ChoiceInput& input, int32_t layer,
              const Adjudicator& adjudicate, ReferenceRow* row);
  // Sets of the heads of a layer; empty: everything.
  std::vector<const TokenMask*> SetsOfHeads(const AttentionPlan& plan, int32_t layer,
                                            const ReferenceRow& row) const;

  const ReferenceModel* model_;
  CacheType k_type_;
  CacheType v_type_;
  std::vector<ReferenceKv> kv_;  // [num_layers]
  std::vector<int32_t> tokens_;
  int32_t dense_len_ = 0;
  bool full_next_ = false;
  int32_t guarded_rows_ = 0;
  std::map<int32_t, KeptChoice> kept_;  // by selection layer, refresh=cos
};

}  // namespace tidal

#endif  // TIDAL_TESTS_PLAN_REFERENCE_H_
