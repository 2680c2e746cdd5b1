// What the decoded rows of a request read under their plan.
#ifndef TIDAL_ENGINE_ATTENTION_STATS_H_
#define TIDAL_ENGINE_ATTENTION_STATS_H_

#include <cstdint>

#include "attention/attention_plan.h"
#include "executor/executor.h"

namespace tidal {

// KV correction: rows that were decoded sparsely and then repeated with every layer full.
struct CorrectionStats {
  int64_t runs = 0;
  int64_t rows = 0;
  // KL(full || sparse) in nats over the 256 likeliest tokens of the sparse row and the rest as one
  // class, a lower bound; over `rows`.
  double kl_mean = 0;
  double kl_max = 0;
};

struct AttentionStats {
  int64_t full_rows = 0;  // those below the plan's `below` and the guard's included
  int64_t sparse_rows = 0;
  int64_t guard_rows = 0;                       // full because the row before selected too little
  double tokens_attended[kNumLayerRoles] = {};  // summed over rows and layers of the role
  int64_t layers[kNumLayerRoles] = {};          // so many rows and layers
  int64_t mass_rows = 0;                        // sparse rows whose selected mass is known
  double mass_sum = 0;
  double mass_least = 1;
  CorrectionStats correction;

  void AddFullRow(const RowReport& report, bool forced_by_guard);
  void AddSparseRow(const RowReport& report);
  // Those of another request.
  void Add(const AttentionStats& other);

  // Mean over rows and layers; 0 where no row had a layer of the role.
  double MeanTokensAttended(LayerRole role) const;
  // Over the sparse rows. 1 where there was none, NaN where the plan's scorer gives no
  // probabilities.
  double MeanSelectedMass() const;
  double LeastSelectedMass() const;

 private:
  void AddTokens(const RowReport& report);
};

}  // namespace tidal

#endif  // TIDAL_ENGINE_ATTENTION_STATS_H_
