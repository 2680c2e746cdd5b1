#include "attention/attention_plan.h"

namespace tidal {

Result<AttentionPlan> AttentionPlan::Parse(std::string_view text) {
  if (text == "full") return AttentionPlan();
  return InvalidArgument("attention plan \"{}\" is not known; this version has: full", text);
}

}  // namespace tidal
