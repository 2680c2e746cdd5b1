#include "attention/attention_plan.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>

#include "attention/plan_keys.h"
#include "base/check.h"

namespace tidal {
namespace {

// The numbers of SetSizes before they are held against kv_len.
struct RawSizes {
  int64_t budget = 0;
  int64_t recent = 0;
};

RawSizes RawSizesAt(const AttentionPlan& plan, int32_t kv_len) {
  RawSizes sizes;
  sizes.budget = TokenBudgetAt(plan, kv_len);
  const double share = plan.recent.value / 100;
  switch (plan.recent.unit) {
    case TokenAmount::Unit::kTokens:
      sizes.recent = static_cast<int64_t>(plan.recent.value);
      break;
    case TokenAmount::Unit::kRest:
      sizes.recent = sizes.budget - plan.sinks;
      break;
    case TokenAmount::Unit::kPercent:
      if (plan.merge == Merge::kRank) {
        // LessIsMore: the chosen part of the budget is rounded, and the window takes what remains.
        const auto chosen = static_cast<int64_t>(static_cast<double>(sizes.budget) * (1 - share));
        sizes.recent = sizes.budget - chosen - plan.sinks;
      } else {
        sizes.recent = CeilPercent(plan.recent.value, sizes.budget > 0 ? sizes.budget : kv_len);
      }
      break;
  }
  sizes.recent = std::max<int64_t>(sizes.recent, 0);
  return sizes;
}

std::string LayersText(const std::vector<uint8_t>& layers) {
  std::string text;
  size_t count = 0;
  for (size_t layer = 0; layer < layers.size(); ++layer) {
    if (layers[layer] == 0) continue;
    ++count;
    text += fmt::format("{}{}", text.empty() ? "" : "+", layer);
  }
  return count == 0 ? "none" : count == layers.size() ? "all" : text;
}

}  // namespace

int64_t CeilPercent(double percent, int64_t total) {
  return static_cast<int64_t>(std::ceil(percent * static_cast<double>(total) / 100));
}

int64_t TokenBudgetAt(const AttentionPlan& plan, int32_t kv_len) {
  if (plan.budget.unit == TokenAmount::Unit::kPercent)
    return std::max<int64_t>(CeilPercent(plan.budget.value, kv_len), plan.floor);
  return static_cast<int64_t>(plan.budget.value);
}

Status CheckSizesAt(const AttentionPlan& plan, int32_t kv_len) {
  if (plan.page > 1 || plan.budget.value == 0) return OkStatus();
  const RawSizes sizes = RawSizesAt(plan, kv_len);
  const int64_t always = plan.sinks + sizes.recent;
  if (sizes.budget >= std::min<int64_t>(always, kv_len)) return OkStatus();
  const bool is_share = plan.budget.unit == TokenAmount::Unit::kPercent;
  return InvalidArgument(
      "budget={}{} is less than the {} tokens always kept (sinks {} + recent {}): raise budget, or "
      "lower sinks or recent",
      AmountText(plan.budget),
      is_share ? fmt::format(", {} tokens at a context of {},", sizes.budget, kv_len) : "", always,
      plan.sinks, sizes.recent);
}

std::string AmountText(const TokenAmount& amount) {
  switch (amount.unit) {
    case TokenAmount::Unit::kTokens:
      return fmt::format("{}", static_cast<int64_t>(amount.value));
    case TokenAmount::Unit::kPercent:
      return fmt::format("{}%", amount.value);
    case TokenAmount::Unit::kRest:
      return "rest";
  }
  return "";
}

LayerRole AttentionPlan::Role(int32_t layer) const {
  if (is_full() || reads_all[static_cast<size_t>(layer)] != 0) return LayerRole::kFull;
  return Selects(layer) ? LayerRole::kSelection : LayerRole::kReuse;
}

const AttentionPlan& AttentionPlan::At(int32_t kv_len) const {
  const AttentionPlan* plan = this;
  for (const auto& [first, variant] : variants)
    if (first <= kv_len) plan = &variant;
  return *plan;
}

SetSizes AttentionPlan::SizesAt(int32_t kv_len) const {
  TIDAL_CHECK(!is_full() && kv_len >= 1, "no sets at kv_len {} of plan {}", kv_len, preset);
  const RawSizes raw = RawSizesAt(*this, kv_len);
  const auto at_most_kv_len = [kv_len](int64_t count) {
    return static_cast<int32_t>(std::min<int64_t>(count, kv_len));
  };
  SetSizes sizes;
  sizes.token_budget = static_cast<int32_t>(raw.budget);
  sizes.sinks = at_most_kv_len(sinks);
  sizes.recent = at_most_kv_len(raw.recent);
  if (keep_newlines) {
    const int64_t total = raw.budget > 0 ? raw.budget : kv_len;
    const int64_t left = std::max<int64_t>(total - sizes.sinks - sizes.recent, 0);
    sizes.max_keep = at_most_kv_len(std::min(total / 2, left));
  }
  if (page > 1) sizes.pages = std::max(1, sizes.token_budget / page);
  return sizes;
}

Status AttentionPlan::CheckAt(int32_t kv_len) const {
  return is_full() ? OkStatus() : CheckSizesAt(*this, kv_len);
}

std::string AttentionPlan::ToString() const {
  if (is_full()) return "full";
  std::string text =
      fmt::format("{}:full={}:select={}:scorer={}:scope={}:merge={}", preset, LayersText(reads_all),
                  LayersText(selects), NameOf(scorer), NameOf(scope), NameOf(merge));
  text += mass > 0 ? fmt::format(":mass={}", mass) : ":budget=" + AmountText(budget);
  text += fmt::format(":floor={}:ceil={}:sinks={}:recent={}:keep={}:page={}", floor, ceil, sinks,
                      AmountText(recent), keep_newlines ? "newline" : "none", page);
  text += ":refresh=" + RefreshText(refresh_cosine) + ":correct=" + CorrectionText(correct);
  text += fmt::format(":guard={}:below={}", guard, below);
  return text;
}

std::string RefreshText(double cosine) {
  return cosine > 1 ? "step" : fmt::format("cos{}", cosine);
}

std::string CorrectionText(const Correction& correct) {
  switch (correct.when) {
    case Correction::When::kOff:
      return "off";
    case Correction::When::kTurn:
      return "turn";
    case Correction::When::kRows:
      return fmt::format("{}", correct.rows);
  }
  return "";
}

int32_t NumSets(SetScope scope, int32_t num_heads, int32_t num_kv_heads) {
  switch (scope) {
    case SetScope::kShared:
      return 1;
    case SetScope::kKvHead:
      return num_kv_heads;
    case SetScope::kHead:
      return num_heads;
  }
  return 1;
}

int64_t MaxSetTokens(const AttentionPlan& plan, int32_t max_tokens) {
  const bool grows =
      plan.mass > 0 || plan.budget.unit == TokenAmount::Unit::kPercent || plan.refresh_cosine <= 1;
  int64_t most = max_tokens;
  if (!grows) {
    const auto budget = static_cast<int64_t>(plan.budget.value);
    most = std::min<int64_t>(max_tokens, std::max<int64_t>(budget, plan.page));
  }
  for (const auto& variant : plan.variants)
    most = std::max(most, MaxSetTokens(variant.second, max_tokens));
  return most;
}

int32_t IndexBits(Scorer scorer) {
  return scorer == Scorer::kIndex4 ? 4 : scorer == Scorer::kIndex2 ? 2 : 0;
}

bool HasMass(Scorer scorer) {
  return scorer == Scorer::kExact || scorer == Scorer::kIndex4 || scorer == Scorer::kIndex2;
}

const char* NameOf(LayerRole role) {
  switch (role) {
    case LayerRole::kFull:
      return "full";
    case LayerRole::kSelection:
      return "selection";
    case LayerRole::kReuse:
      return "reuse";
  }
  return "";
}

const char* NameOf(Scorer scorer) {
  switch (scorer) {
    case Scorer::kExact:
      return "exact";
    case Scorer::kIndex4:
      return "index4";
    case Scorer::kIndex2:
      return "index2";
    case Scorer::kPagesMinMax:
      return "pages-minmax";
    case Scorer::kPagesMeanStd:
      return "pages-meanstd";
    case Scorer::kNone:
      return "none";
  }
  return "";
}

const char* NameOf(SetScope scope) {
  switch (scope) {
    case SetScope::kShared:
      return "shared";
    case SetScope::kKvHead:
      return "kv";
    case SetScope::kHead:
      return "head";
  }
  return "";
}

const char* NameOf(Merge merge) {
  switch (merge) {
    case Merge::kScore:
      return "score";
    case Merge::kMass:
      return "mass";
    case Merge::kMax:
      return "max";
    case Merge::kRank:
      return "rank";
  }
  return "";
}

}  // namespace tidal
