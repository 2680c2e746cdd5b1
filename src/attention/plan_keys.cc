#include "attention/plan_keys.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fmt/format.h>

#include "base/check.h"

namespace tidal {
namespace {

constexpr PlanPreset kPresets[] = {
    {"full", "full=all:select=none"},
    {"tidal",
     "full=none:select=auto:scorer=index4:scope=shared:merge=mass:budget=1024:sinks=4:recent=64"},
    {"tidal-paper",
     "full=0+1+2+R:select=2+R:scorer=exact:scope=head:merge=score:budget=256:sinks=0:recent=0"},
    {"lessismore",
     "full=0+1+2+R:select=2+R:scorer=exact:scope=shared:merge=rank:budget=512:sinks=4:recent=25%"},
    {"quest",
     "full=0+1:select=all:scorer=pages-minmax:scope=head:merge=score:budget=512:sinks=0:recent=1:"
     "page=16"},
    {"streaming",
     "full=none:select=all:scorer=none:scope=shared:merge=mass:budget=512:sinks=4:recent=rest"},
    {"tokenselect",
     "full=none:select=all:scorer=exact:scope=shared:merge=mass:budget=2688:sinks=128:recent=512:"
     "refresh=cos0.9"},
    {"omnikv",
     "full=0+1+2+R:select=2+R:scorer=exact:scope=shared:merge=max:budget=512:sinks=0:recent=1",
     /*calibrated=*/true},
    {"kascade",
     "full=0+2+R:select=0+2+R:scorer=exact:scope=kv:merge=mass:budget=10%:floor=128:sinks=0:"
     "recent=1",
     /*calibrated=*/true},
    {"zipvl",
     "full=none:select=all:scorer=exact:scope=shared:merge=mass:mass=0.975:sinks=0:recent=1"},
    {"twilight",
     "full=0+1:select=all:scorer=index4:scope=head:merge=score:mass=0.9:sinks=0:recent=1"},
};

// The whole text as a plain decimal integer within the bounds.
std::optional<int32_t> IntFromText(std::string_view text, int32_t min, int32_t max) {
  int64_t value = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end || value < min || value > max) return std::nullopt;
  return static_cast<int32_t>(value);
}

// The whole text as a finite number that is not negative.
std::optional<double> NumberFromText(std::string_view text) {
  // from_chars also reads a sign, inf and nan.
  if (text.empty() || !(text[0] >= '0' && text[0] <= '9')) return std::nullopt;
  double value = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end || !std::isfinite(value)) return std::nullopt;
  return value;
}

std::optional<TokenAmount> PercentFromText(std::string_view text) {
  if (!text.ends_with('%')) return std::nullopt;
  const std::optional<double> value = NumberFromText(text.substr(0, text.size() - 1));
  if (!value || *value <= 0 || *value > 100) return std::nullopt;
  return TokenAmount{.unit = TokenAmount::Unit::kPercent, .value = *value};
}

bool SetInt(std::string_view text, int32_t min, int32_t max, int32_t* out) {
  const std::optional<int32_t> value = IntFromText(text, min, max);
  if (value) *out = *value;
  return value.has_value();
}

bool SetCount(std::string_view text, int32_t* out) { return SetInt(text, 0, kMaxPlanTokens, out); }

// `names` in the order of the enumeration.
template <typename Enum>
std::optional<Enum> FromName(std::string_view text, std::initializer_list<Enum> values) {
  for (const Enum value : values)
    if (text == NameOf(value)) return value;
  return std::nullopt;
}

template <typename T>
bool SetIfThere(const std::optional<T>& value, T* out) {
  if (value) *out = *value;
  return value.has_value();
}

bool SetLayers(std::string_view text, LayerList* out) {
  *out = {};
  if (text == "all" || text == "none") {
    out->kind = text == "all" ? LayerList::Kind::kAll : LayerList::Kind::kNone;
    return true;
  }
  out->kind = LayerList::Kind::kListed;
  std::vector<bool> seen(kMaxPlanLayers);
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('+', begin), text.size());
    const std::string_view item = text.substr(begin, end - begin);
    begin = end + 1;
    if (item == "R" && !out->reselection) {
      out->reselection = true;
      continue;
    }
    const std::optional<int32_t> layer = IntFromText(item, 0, kMaxPlanLayers - 1);
    if (!layer || seen[static_cast<size_t>(*layer)]) return false;
    seen[static_cast<size_t>(*layer)] = true;
    out->layers.push_back(*layer);
  }
  return true;
}

bool SetSelect(std::string_view text, PlanSettings* s) {
  if (text != "auto") return SetLayers(text, &s->select);
  s->select = {.kind = LayerList::Kind::kAuto};
  return true;
}

bool SetBudget(std::string_view text, PlanSettings* s) {
  std::optional<TokenAmount> amount = PercentFromText(text);
  if (const auto tokens = IntFromText(text, 1, kMaxPlanTokens))
    amount = TokenAmount{.value = static_cast<double>(*tokens)};
  if (!amount) return false;
  s->plan.budget = *amount;
  s->plan.mass = 0;
  return true;
}

bool SetMass(std::string_view text, PlanSettings* s) {
  const std::optional<double> value = NumberFromText(text);
  if (!value || *value <= 0 || *value > 1) return false;
  s->plan.mass = *value;
  s->plan.budget = {};
  return true;
}

bool SetRecent(std::string_view text, PlanSettings* s) {
  std::optional<TokenAmount> amount = PercentFromText(text);
  if (text == "rest") amount = TokenAmount{.unit = TokenAmount::Unit::kRest};
  if (const auto tokens = IntFromText(text, 0, kMaxPlanTokens))
    amount = TokenAmount{.value = static_cast<double>(*tokens)};
  return SetIfThere(amount, &s->plan.recent);
}

bool SetKeep(std::string_view text, PlanSettings* s) {
  s->plan.keep_newlines = text == "newline";
  return text == "newline" || text == "none";
}

bool SetPage(std::string_view text, PlanSettings* s) {
  // Powers of two line up with the pages of the cache and of the key index.
  return SetInt(text, 1, 1024, &s->plan.page) && (s->plan.page & (s->plan.page - 1)) == 0;
}

bool SetRefresh(std::string_view text, PlanSettings* s) {
  if (text == "step") {
    s->plan.refresh_cosine = AttentionPlan().refresh_cosine;
    return true;
  }
  if (!text.starts_with("cos")) return false;
  const std::optional<double> value = NumberFromText(text.substr(3));
  if (!value || *value <= 0 || *value > 1) return false;
  s->plan.refresh_cosine = *value;
  return true;
}

bool SetCorrect(std::string_view text, PlanSettings* s) {
  s->plan.correct = {};
  if (text == "off") return true;
  s->plan.correct.when = text == "turn" ? Correction::When::kTurn : Correction::When::kRows;
  return text == "turn" || SetInt(text, 1, kMaxPlanTokens, &s->plan.correct.rows);
}

bool SetGuard(std::string_view text, PlanSettings* s) {
  const std::optional<double> value = NumberFromText(text);
  if (!value || *value > 1) return false;
  s->plan.guard = *value;
  return true;
}

struct KeyRule {
  std::string_view name;
  std::string_view allowed;
  bool (*set)(std::string_view text, PlanSettings* settings);  // false: not allowed
};

constexpr KeyRule kKeys[] = {
    {"full", "different layers such as 0+1+13 (R: the re-selection layer), all or none",
     [](std::string_view text, PlanSettings* s) { return SetLayers(text, &s->full); }},
    {"select", "different layers such as 2+13 (R: the re-selection layer), all, none or auto",
     SetSelect},
    {"scorer", "exact, index4, index2, pages-minmax, pages-meanstd or none",
     [](std::string_view text, PlanSettings* s) {
       return SetIfThere(ScorerFromName(text), &s->plan.scorer);
     }},
    {"scope", "shared, kv or head",
     [](std::string_view text, PlanSettings* s) {
       return SetIfThere(ScopeFromName(text), &s->plan.scope);
     }},
    {"merge", "score, mass, max or rank",
     [](std::string_view text, PlanSettings* s) {
       return SetIfThere(FromName(text, {Merge::kScore, Merge::kMass, Merge::kMax, Merge::kRank}),
                         &s->plan.merge);
     }},
    {"budget", "1 to 1073741824 tokens, or a percentage above 0% and up to 100%", SetBudget},
    {"mass", "a share above 0 and up to 1", SetMass},
    {"floor", "0 to 1073741824 tokens",
     [](std::string_view text, PlanSettings* s) { return SetCount(text, &s->plan.floor); }},
    {"ceil", "0 (no bound) to 1073741824 tokens",
     [](std::string_view text, PlanSettings* s) { return SetCount(text, &s->plan.ceil); }},
    {"sinks", "0 to 1073741824 tokens",
     [](std::string_view text, PlanSettings* s) { return SetCount(text, &s->plan.sinks); }},
    {"recent",
     "0 to 1073741824 tokens, a percentage of the budget above 0% and up to 100%, or rest",
     SetRecent},
    {"keep", "none or newline", SetKeep},
    {"page", "a power of two from 1 to 1024", SetPage},
    {"refresh", "step, or cos and a value above 0 and up to 1 such as cos0.9", SetRefresh},
    {"correct", "off, turn, or a number of rows from 1 to 1073741824", SetCorrect},
    {"guard", "0 (off) to 1", SetGuard},
    {"below", "0 to 1073741824 tokens",
     [](std::string_view text, PlanSettings* s) { return SetCount(text, &s->plan.below); }},
};

}  // namespace

const PlanPreset* FindPlanPreset(std::string_view name) {
  const auto* const found = std::find_if(std::begin(kPresets), std::end(kPresets),
                                         [&](const PlanPreset& p) { return p.name == name; });
  return found == std::end(kPresets) ? nullptr : found;
}

std::string PlanPresetNames() {
  std::string names;
  for (const PlanPreset& preset : kPresets)
    names += fmt::format("{}{}", names.empty() ? "" : ", ", preset.name);
  return names;
}

PlanSettings SettingsOf(const PlanPreset& preset) {
  PlanSettings settings;
  settings.plan.preset = preset.name;
  for (size_t begin = 0; begin < preset.keys.size();) {
    const size_t end = std::min(preset.keys.find(':', begin), preset.keys.size());
    const std::string_view pair = preset.keys.substr(begin, end - begin);
    const size_t equals = pair.find('=');
    const Status status = SetPlanKey(pair.substr(0, equals), pair.substr(equals + 1), &settings);
    TIDAL_CHECK(status.ok(), "preset {}: {}", preset.name, status.message());
    begin = end + 1;
  }
  return settings;
}

Status SetPlanKey(std::string_view key, std::string_view value, PlanSettings* settings) {
  for (const KeyRule& rule : kKeys) {
    if (rule.name != key) continue;
    if (rule.set(value, settings)) return OkStatus();
    return InvalidArgument("{} is {}, expected {}", key, QuotedText(value), rule.allowed);
  }
  if (key == "headmap")
    return InvalidArgument("headmap is {}, but a headmap comes from a sidecar only: leave it out",
                           QuotedText(value));
  std::string names;
  for (const KeyRule& rule : kKeys)
    names += fmt::format("{}{}", names.empty() ? "" : ", ", rule.name);
  return InvalidArgument("unknown key {} (value {}), expected one of {}", QuotedText(key),
                         QuotedText(value), names);
}

std::optional<Scorer> ScorerFromName(std::string_view name) {
  return FromName(name, {Scorer::kExact, Scorer::kIndex4, Scorer::kIndex2, Scorer::kPagesMinMax,
                         Scorer::kPagesMeanStd, Scorer::kNone});
}

std::optional<SetScope> ScopeFromName(std::string_view name) {
  return FromName(name, {SetScope::kShared, SetScope::kKvHead, SetScope::kHead});
}

std::string QuotedText(std::string_view text) {
  constexpr size_t kMaxShown = 80;
  std::string quoted = "\"";
  for (const char c : text.substr(0, kMaxShown)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte >= 0x7f) {
      quoted += fmt::format("\\x{:02x}", byte);
    } else {
      quoted += c;
    }
  }
  return quoted + (text.size() > kMaxShown ? "...\"" : "\"");
}

}  // namespace tidal
