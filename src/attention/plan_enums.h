// The kinds that an attention plan chooses among: a header light enough for device code.
#ifndef TIDAL_ATTENTION_PLAN_ENUMS_H_
#define TIDAL_ATTENTION_PLAN_ENUMS_H_

#include <cstdint>

namespace tidal {

// What a layer of a sparse row reads. Prefill rows are full in every layer whatever the plan says.
enum class LayerRole : uint8_t {
  kFull,       // every visible token; it may choose as well, for the layers after it
  kSelection,  // the set that it chooses itself
  kReuse,      // the latest set chosen before it
};
inline constexpr int kNumLayerRoles = 3;

// What a selection layer scores tokens by.
enum class Scorer : uint8_t {
  kExact,   // q.k / sqrt(head_dim) over the keys as stored
  kIndex4,  // the same over the key index of 4 or 2 bits a channel; unsealed tokens exactly
  kIndex2,
  kPagesMinMax,   // an upper bound per page, sum of max(q max, q min) over channels
  kPagesMeanStd,  // q.mean + |q|.std per page
  kNone,          // nothing is scored: always-kept tokens only
};

// For whom a set is chosen.
enum class SetScope : uint8_t { kShared, kKvHead, kHead };

// How the heads of a scope vote.
enum class Merge : uint8_t { kScore, kMass, kMax, kRank };

}  // namespace tidal

#endif  // TIDAL_ATTENTION_PLAN_ENUMS_H_
