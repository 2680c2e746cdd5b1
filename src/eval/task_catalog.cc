#include "eval/task_catalog.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>

#include "eval/task_makers.h"

namespace tidal {
namespace {

constexpr TaskMetric kAll = TaskMetric::kAllParts;

// Tokens of the answers as the originals have them.
constexpr TaskKind kKinds[] = {
    {"niah_single_1", "a number of a word among noise", true, true, 128, kAll, 1, MakeNeedleTask},
    {"niah_single_2", "a number of a word in the text", true, true, 128, kAll, 1, MakeNeedleTask},
    {"niah_single_3", "a UUID of a word in the text", true, true, 128, kAll, 1, MakeNeedleTask},
    {"niah_multikey_1", "one of 4 words' numbers", true, true, 128, kAll, 4, MakeNeedleTask},
    {"niah_multikey_2", "a number among other words' numbers", true, true, 128, kAll, 1,
     MakeNeedleTask},
    {"niah_multikey_3", "a UUID among other UUIDs' UUIDs", false, true, 128, kAll, 1,
     MakeNeedleTask},
    {"niah_multivalue", "all 4 numbers of a word", true, true, 128, kAll, 4, MakeNeedleTask},
    {"niah_multiquery", "the numbers of 4 words", true, true, 128, kAll, 4, MakeNeedleTask},
    {"vt", "variables assigned in a chain of 4 hops", false, false, 30, kAll, 5,
     MakeVariableTracking},
    {"cwe", "the 10 most common words of a list", true, false, 120, kAll, 20, MakeCommonWords},
    {"fwe", "the 3 most frequent coded words", false, false, 50, kAll, 100, MakeFrequentWords},
    {"passkey", "a number of 5 digits among noise", false, true, 6, TaskMetric::kFirstNumber, 1,
     MakePasskey},
    {"number_string", "10 digits, some doubled, among noise", false, true, 12,
     TaskMetric::kFirstNumber, 1, MakeNumberString},
    {"kv_retrieval", "the value of a UUID in a JSON object", false, true, 50, TaskMetric::kWord, 2,
     MakeKeyValues},
};

TaskPrompt MakePrompt(const TaskKind& kind, const TaskText& text, const TaskCase& spec,
                      int64_t size) {
  TaskPrompt prompt;
  prompt.task = kind.name;
  prompt.length = spec.length;
  prompt.number = spec.number;
  prompt.max_tokens = kind.max_tokens;
  prompt.metric = kind.metric;
  kind.make(kind, text, spec, size, &prompt);
  return prompt;
}

// A prompt of a size, and what it takes of the length.
struct Sized {
  int64_t size = 0;
  int64_t tokens = 0;  // answer included
  TaskPrompt prompt;
};

}  // namespace

std::span<const TaskKind> TaskKinds() { return kKinds; }

const TaskKind* FindTaskKind(std::string_view name) {
  for (const TaskKind& kind : kKinds)
    if (name == kind.name) return &kind;
  return nullptr;
}

std::string TaskKindNames() {
  std::string names;
  for (const TaskKind& kind : kKinds) names += (names.empty() ? "" : ", ") + std::string(kind.name);
  return names;
}

TaskRandom HayRandom(const TaskKind& kind, const TaskCase& spec) {
  return {spec.seed, fmt::format("hay/{}/{}/{}", kind.name, spec.length, spec.number)};
}

TaskRandom NeedleRandom(const TaskKind& kind, const TaskCase& spec) {
  return {spec.seed, fmt::format("needle/{}/{}/{}/{}", kind.name, spec.length, spec.number,
                                 spec.depth ? fmt::format("{:.6f}", *spec.depth) : "any")};
}

int64_t UnitsBefore(double depth, int64_t size) {
  return std::clamp<int64_t>(std::llround(depth * static_cast<double>(size)), 0, size);
}

Result<TaskPrompt> MakeTaskPrompt(const TaskKind& kind, const TaskText& text, const TaskCase& spec,
                                  const CountTokensFn& count) {
  const auto at_size = [&](int64_t size) -> Result<Sized> {
    Sized sized{size, 0, MakePrompt(kind, text, spec, size)};
    TIDAL_ASSIGN_OR_RETURN(const int64_t tokens, count(sized.prompt));
    sized.tokens = tokens + kind.max_tokens;
    return sized;
  };
  TIDAL_ASSIGN_OR_RETURN(Sized fits, at_size(kind.min_size));
  if (fits.tokens > spec.length) {
    return InvalidArgument(
        "task {} at a length of {} tokens: its smallest prompt and answer take {}; give a larger "
        "--lengths",
        kind.name, spec.length, fits.tokens);
  }
  TIDAL_ASSIGN_OR_RETURN(Sized beyond, at_size(2 * kind.min_size));
  while (beyond.tokens <= spec.length) {
    fits = std::move(beyond);
    TIDAL_ASSIGN_OR_RETURN(beyond, at_size(2 * fits.size));
  }
  // Tokens grow nearly linearly with the size, so that a guess by proportion is close; halving in
  // turn with it bounds the number of steps.
  for (bool halve = false; beyond.size - fits.size > 1; halve = !halve) {
    const double share = halve ? 0.5
                               : static_cast<double>(spec.length - fits.tokens) /
                                     static_cast<double>(beyond.tokens - fits.tokens);
    const int64_t step = static_cast<int64_t>(share * static_cast<double>(beyond.size - fits.size));
    const int64_t middle = std::clamp(fits.size + step, fits.size + 1, beyond.size - 1);
    TIDAL_ASSIGN_OR_RETURN(Sized sized, at_size(middle));
    (sized.tokens <= spec.length ? fits : beyond) = std::move(sized);
  }
  return std::move(fits.prompt);
}

}  // namespace tidal
