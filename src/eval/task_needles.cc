// RULER's eight needle tasks. A needle says a number (or UUID) of a key; several needles differ in
// their keys (multikey, multiquery) or in their numbers (multivalue).
#include <algorithm>
#include <fmt/format.h>

#include "eval/task_makers.h"

namespace tidal {
namespace {

enum class Hay : uint8_t { kNoise, kText, kNeedles };

struct NeedleTask {
  std::string_view name;
  Hay hay;
  bool uuid_keys;
  bool uuid_values;
  int32_t num_keys;
  int32_t num_values;   // of each key
  int32_t num_queries;  // keys asked for
};

constexpr NeedleTask kTasks[] = {
    {"niah_single_1", Hay::kNoise, false, false, 1, 1, 1},
    {"niah_single_2", Hay::kText, false, false, 1, 1, 1},
    {"niah_single_3", Hay::kText, false, true, 1, 1, 1},
    {"niah_multikey_1", Hay::kText, false, false, 4, 1, 1},
    {"niah_multikey_2", Hay::kNeedles, false, false, 1, 1, 1},
    {"niah_multikey_3", Hay::kNeedles, true, true, 1, 1, 1},
    {"niah_multivalue", Hay::kText, false, false, 1, 4, 1},
    {"niah_multiquery", Hay::kText, false, false, 4, 1, 4},
};

const NeedleTask& FindTask(std::string_view name) {
  const auto* found = std::find_if(std::begin(kTasks), std::end(kTasks),
                                   [&](const NeedleTask& task) { return task.name == name; });
  TIDAL_CHECK(found != std::end(kTasks), "no needle task {}", name);
  return *found;
}

std::string DrawKey(const NeedleTask& task, const TaskText& text, TaskRandom* random) {
  return task.uuid_keys ? DrawUuid(random) : text.DrawPhrase(2, random);
}

std::string DrawValue(const NeedleTask& task, TaskRandom* random) {
  constexpr int32_t kDigits = 7;
  return task.uuid_values ? DrawUuid(random) : DrawNumber(kDigits, random);
}

std::string_view ValueName(const NeedleTask& task) { return task.uuid_values ? "code" : "number"; }

std::string Needle(const NeedleTask& task, const std::string& key, const std::string& value) {
  return fmt::format("The secret {} of {} is {}.", ValueName(task), key, value);
}

std::vector<std::string> DrawHay(const NeedleTask& task, const TaskText& text, int64_t size,
                                 TaskRandom random) {
  std::vector<std::string> hay;
  switch (task.hay) {
    case Hay::kNoise:
      hay.assign(static_cast<size_t>(size), std::string(kNoise));
      break;
    case Hay::kText:
      hay = text.Sentences(random.Below(text.num_sentences()), size);
      break;
    case Hay::kNeedles:
      for (int64_t i = 0; i < size; ++i) {
        const std::string key = DrawKey(task, text, &random);
        hay.push_back(Needle(task, key, DrawValue(task, &random)));
      }
      break;
  }
  return hay;
}

// What is hidden, the needle that the depth speaks of first, and what is asked for.
struct Hidden {
  std::vector<std::string> needles;
  std::vector<std::string> queries;
  std::vector<std::string> answers;
};

Hidden DrawHidden(const NeedleTask& task, const TaskText& text, TaskRandom* random) {
  Hidden hidden;
  std::vector<std::string> keys;
  while (static_cast<int32_t>(keys.size()) < task.num_keys) {
    std::string key = DrawKey(task, text, random);
    if (std::find(keys.begin(), keys.end(), key) == keys.end()) keys.push_back(std::move(key));
  }
  for (int32_t k = 0; k < task.num_keys; ++k) {
    const std::string& key = keys[static_cast<size_t>(k)];
    if (k < task.num_queries) hidden.queries.push_back(key);
    for (int32_t v = 0; v < task.num_values; ++v) {
      const std::string value = DrawValue(task, random);
      hidden.needles.push_back(Needle(task, key, value));
      if (k < task.num_queries) hidden.answers.push_back(value);
    }
  }
  return hidden;
}

// Puts the first needle at `depth` and the others anywhere, all between the units of the hay.
std::string Hide(const std::vector<std::string>& needles, double depth, Hay kind,
                 std::vector<std::string> hay, TaskRandom* random) {
  const auto size = static_cast<int64_t>(hay.size());
  std::vector<std::pair<int64_t, size_t>> places;  // units before it, number of the needle
  for (size_t i = 0; i < needles.size(); ++i)
    places.emplace_back(i == 0 ? UnitsBefore(depth, size) : random->Below(size + 1), i);
  std::stable_sort(places.begin(), places.end());
  const std::string_view separator = kind == Hay::kText ? " " : "\n";
  std::string context;
  const auto append = [&](const std::string& unit) {
    if (!context.empty()) context += separator;
    context += unit;
  };
  auto next = places.begin();
  for (int64_t unit = 0; unit <= size; ++unit) {
    for (; next != places.end() && next->first == unit; ++next) append(needles[next->second]);
    if (unit < size) append(hay[static_cast<size_t>(unit)]);
  }
  return context;
}

std::string JoinNames(const std::vector<std::string>& names) {
  std::string text = names[0];
  for (size_t i = 1; i < names.size(); ++i)
    text += (i + 1 == names.size() ? " and " : ", ") + names[i];
  return text;
}

}  // namespace

void MakeNeedleTask(const TaskKind& kind, const TaskText& text, const TaskCase& spec, int64_t size,
                    TaskPrompt* prompt) {
  const NeedleTask& task = FindTask(kind.name);
  TaskRandom random = NeedleRandom(kind, spec);
  prompt->depth = spec.depth ? *spec.depth : random.Uniform();
  Hidden hidden = DrawHidden(task, text, &random);
  const std::string hay = Hide(hidden.needles, *prompt->depth, task.hay,
                               DrawHay(task, text, size, HayRandom(kind, spec)), &random);
  const bool is_one = hidden.answers.size() == 1;
  const std::string values = fmt::format("secret {}{}", ValueName(task), is_one ? "" : "s");
  const std::string keys = JoinNames(hidden.queries);
  prompt->context = fmt::format(
      "The text below hides {} {}. Remember what it says about {}, you will be asked for {}.\n\n"
      "{}\n\n",
      is_one ? "a" : "some", values, is_one ? "it" : "them", is_one ? "it" : "all of them", hay);
  prompt->question =
      is_one ? fmt::format("What is the {} of {} in the text above?", values, keys)
             : fmt::format("What are all the {} of {} in the text above?", values, keys);
  prompt->answer_prefix =
      fmt::format("The {} of {} in the text {}", values, keys, is_one ? "is" : "are");
  prompt->answers = std::move(hidden.answers);
}

}  // namespace tidal
