// The keys and presets of plans as tables, for the parsers of this folder.
#ifndef TIDAL_ATTENTION_PLAN_KEYS_H_
#define TIDAL_ATTENTION_PLAN_KEYS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "attention/attention_plan.h"
#include "base/status.h"

namespace tidal {

// Counts of tokens in plans and sidecars: far above any context, far below overflow.
inline constexpr int32_t kMaxPlanTokens = 1 << 30;
// Layer numbers before a model is known.
inline constexpr int32_t kMaxPlanLayers = 4096;

// The layers of `full` or `select` before a model is known.
struct LayerList {
  enum class Kind : uint8_t { kNone, kAll, kAuto, kListed };
  Kind kind = Kind::kNone;
  std::vector<int32_t> layers;  // kListed
  bool reselection = false;     // kListed: the re-selection layer too
};

// What a preset and keys say: everything but layers is in the plan already.
struct PlanSettings {
  LayerList full;
  LayerList select;
  AttentionPlan plan;
};

struct PlanPreset {
  std::string_view name;
  std::string_view keys;    // as in a plan's text
  bool calibrated = false;  // a sidecar's layers come before its own
};

const PlanPreset* FindPlanPreset(std::string_view name);  // null: there is none
std::string PlanPresetNames();                            // "full, tidal, ..."
PlanSettings SettingsOf(const PlanPreset& preset);

// Sets one key from its text. kInvalidArgument naming the key, the value and what is allowed.
Status SetPlanKey(std::string_view key, std::string_view value, PlanSettings* settings);

std::optional<Scorer> ScorerFromName(std::string_view name);
std::optional<SetScope> ScopeFromName(std::string_view name);

// A user's text in quotes: what is not printable escaped, a long one shortened.
std::string QuotedText(std::string_view text);

// Texts of values, as SetPlanKey reads them.
std::string AmountText(const TokenAmount& amount);
std::string RefreshText(double cosine);
std::string CorrectionText(const Correction& correct);

// ceil(percent * total / 100).
int64_t CeilPercent(double percent, int64_t total);
// SetSizes::token_budget.
int64_t TokenBudgetAt(const AttentionPlan& plan, int32_t kv_len);
// AttentionPlan::CheckAt of a plan whose layers are not known yet.
Status CheckSizesAt(const AttentionPlan& plan, int32_t kv_len);

}  // namespace tidal

#endif  // TIDAL_ATTENTION_PLAN_KEYS_H_
