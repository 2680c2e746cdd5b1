// What each layer of a decoded row reads, and how it is chosen: a value, not a class per method.
//
// A plan answers two questions per layer. Does it choose (`selects`)? Does it read everything
// (`reads_all`)? A layer that does neither reuses the latest set that was chosen before it in the
// same row. All published methods that Tidal knows are settings of the fields below.
// docs/attention_plans.md has the text and JSON forms, every key and preset.
#ifndef TIDAL_ATTENTION_ATTENTION_PLAN_H_
#define TIDAL_ATTENTION_ATTENTION_PLAN_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "attention/plan_enums.h"
#include "base/status.h"

namespace tidal {

// A number of tokens as plans write it.
struct TokenAmount {
  enum class Unit : uint8_t {
    kTokens,
    kPercent,  // of what the key says: of kv_len (budget), of the budget (recent)
    kRest,     // what the budget leaves (recent)
  };
  Unit unit = Unit::kTokens;
  double value = 0;
};

// When decoded rows are replayed with every layer full.
struct Correction {
  enum class When : uint8_t { kOff, kTurn, kRows };
  When when = When::kOff;
  int32_t rows = 0;  // kRows: before a row, when so many dirty rows stand
};

// The numbers of a plan at one context length.
struct SetSizes {
  int32_t token_budget = 0;  // tokens per set, always-kept ones included; 0 where `mass` decides
  int32_t sinks = 0;         // at most kv_len
  int32_t recent = 0;        // at most kv_len
  int32_t max_keep = 0;      // further always-kept tokens (keep=newline): at most so many
  int32_t pages = 0;         // with page > 1: pages per set; else 0
};

struct AttentionPlan {
  std::string preset = "full";
  // [num_layers]; both empty in the plan "full", where every layer reads all and none selects.
  std::vector<uint8_t> reads_all;
  std::vector<uint8_t> selects;
  Scorer scorer = Scorer::kExact;
  SetScope scope = SetScope::kShared;
  Merge merge = Merge::kMass;
  TokenAmount budget;  // kTokens or kPercent; value 0: `mass` decides
  double mass = 0;     // 0: `budget` decides
  int32_t floor = 1;
  int32_t ceil = 0;  // 0: none
  int32_t sinks = 0;
  TokenAmount recent;
  bool keep_newlines = false;
  int32_t page = 1;           // granularity of choice in tokens
  double refresh_cosine = 2;  // choose anew where the cosine is below it; above 1: at every step
  Correction correct;
  double guard = 0;      // 0: off
  int32_t below = 1024;  // rows whose kv_len (the current token included) is smaller run full
  // Kascade: for each layer the set that each KV head uses, [num_layers][num_kv_heads]; layers
  // without a map are empty, and so is all of it without a sidecar.
  std::vector<std::vector<int32_t>> headmap;
  // Calibrated variants of this plan by context: a row uses the last whose `first` is at most its
  // kv_len, this plan where there is none. Only a percentage with several sidecar entries has any.
  std::vector<std::pair<int32_t, AttentionPlan>> variants;

  // No layer of any row reads a set.
  bool is_full() const { return selects.empty(); }
  bool Selects(int32_t layer) const {
    return !selects.empty() && selects[static_cast<size_t>(layer)] != 0;
  }
  LayerRole Role(int32_t layer) const;
  // The plan of a row with this kv_len: this one or one of its variants.
  const AttentionPlan& At(int32_t kv_len) const;
  // Whether such a row runs full: `below`, or the plan is.
  bool RunsFull(int32_t kv_len) const { return is_full() || kv_len < below; }
  // REQUIRES: !is_full(), kv_len >= 1.
  SetSizes SizesAt(int32_t kv_len) const;
  // kInvalidArgument, naming both numbers, where the budget at kv_len is smaller than what is
  // always kept (under page > 1: never).
  Status CheckAt(int32_t kv_len) const;

  // Every key written out: PRESET:key=value:... in the order of the table of keys, a text that
  // PlanSpec::Parse reads back to the same plan (headmap and variants aside). "full" for the full
  // plan.
  std::string ToString() const;
};

// Sets that a selection layer chooses: for all heads, per KV head or per head.
int32_t NumSets(SetScope scope, int32_t num_heads, int32_t num_kv_heads);
// The most tokens that a set of the plan, or of one of its variants, can have in a context of
// max_tokens.
int64_t MaxSetTokens(const AttentionPlan& plan, int32_t max_tokens);
// kIndex4 and kIndex2: 4 and 2; the others: 0.
int32_t IndexBits(Scorer scorer);
// Whether the scorer gives probabilities, and so a selected mass.
bool HasMass(Scorer scorer);

const char* NameOf(LayerRole role);  // "full", "selection", "reuse"
const char* NameOf(Scorer scorer);   // as in a plan's text, like the others
const char* NameOf(SetScope scope);
const char* NameOf(Merge merge);

}  // namespace tidal

#endif  // TIDAL_ATTENTION_ATTENTION_PLAN_H_
