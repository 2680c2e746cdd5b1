// The model families that this program runs, as data: what a family has beyond the common shape
// (RMSNorm, grouped-query attention with RoPE, gated SiLU feed-forward). A new family is a row in
// architecture.cc.
#ifndef TIDAL_MODEL_ARCHITECTURE_H_
#define TIDAL_MODEL_ARCHITECTURE_H_

#include <cstdint>
#include <string_view>

#include "base/status.h"
#include "model/model.h"

namespace tidal {

enum class QkvBias : uint8_t { kOptional, kRequired };
enum class QkNorm : uint8_t { kNone, kRequired };

struct Architecture {
  const char* name;      // general.architecture, and the prefix of the family's metadata keys
  const char* families;  // for people
  RopeStyle rope_style;
  QkvBias qkv_bias;  // whether attn_q.bias and its two sisters must be there
  QkNorm qk_norm;    // whether attn_q_norm.weight and attn_k_norm.weight are there
};

// Errors, without the path: kUnsupported, listing the supported ones. The entry lives for ever.
Result<const Architecture*> FindArchitecture(std::string_view name);

}  // namespace tidal

#endif  // TIDAL_MODEL_ARCHITECTURE_H_
