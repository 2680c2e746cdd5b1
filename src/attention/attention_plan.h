// What each layer of a decoded row reads: a value, not a class per method. Text form:
// PRESET[:key=value]... .
#ifndef TIDAL_ATTENTION_ATTENTION_PLAN_H_
#define TIDAL_ATTENTION_ATTENTION_PLAN_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"

namespace tidal {

// What a layer does in a decoded row. Prefill rows are full in every layer whatever the plan says.
enum class LayerRole : uint8_t {
  kFull,  // reads every visible token
};

class AttentionPlan {
 public:
  AttentionPlan() = default;  // "full": every layer reads everything

  // kInvalidArgument naming the key, the value and what is allowed.
  static Result<AttentionPlan> Parse(std::string_view text);

  LayerRole role(int32_t layer) const { return LayerRole::kFull; }
  // The plan with every key written out, as results report it.
  std::string ToString() const { return "full"; }
};

}  // namespace tidal

#endif  // TIDAL_ATTENTION_ATTENTION_PLAN_H_
