// InfiniteBench's retrieval tasks.
#include <fmt/format.h>

#include "eval/task_makers.h"

namespace tidal {
namespace {

constexpr int32_t kKeyDigits = 5;

// Noise with one line in it.
std::string HideInNoise(const std::string& line, double depth, int64_t size) {
  const int64_t before = UnitsBefore(depth, size);
  std::string context;
  for (int64_t unit = 0; unit <= size; ++unit) {
    if (unit == before) context += line + "\n";
    if (unit < size) context += std::string(kNoise) + "\n";
  }
  return context;
}

std::string DrawDigits(int32_t count, TaskRandom* random) {
  std::string digits;
  for (int32_t i = 0; i < count; ++i) digits += static_cast<char>('0' + random->Below(10));
  return digits;
}

void MakeHiddenDigits(const char* what, std::string digits, int64_t size, TaskPrompt* prompt) {
  const std::string line =
      fmt::format("The {} is {}. Remember it: {} is the {}.", what, digits, digits, what);
  prompt->context = fmt::format(
      "Something important is hidden in the text below, among much that is not. Find it and "
      "remember it, you will be asked for it.\n\n{}\n",
      HideInNoise(line, *prompt->depth, size));
  prompt->question = fmt::format("What is the {}?", what);
  prompt->answer_prefix = fmt::format("The {} is", what);
  prompt->answers = {std::move(digits)};
}

}  // namespace

void MakePasskey(const TaskKind& kind, const TaskText& /*text*/, const TaskCase& spec, int64_t size,
                 TaskPrompt* prompt) {
  TaskRandom random = NeedleRandom(kind, spec);
  prompt->depth = spec.depth ? *spec.depth : random.Uniform();
  MakeHiddenDigits("pass key", DrawDigits(kKeyDigits, &random), size, prompt);
}

// As many digits again are put beside their like, so that runs have to be copied exactly.
void MakeNumberString(const TaskKind& kind, const TaskText& /*text*/, const TaskCase& spec,
                      int64_t size, TaskPrompt* prompt) {
  TaskRandom random = NeedleRandom(kind, spec);
  prompt->depth = spec.depth ? *spec.depth : random.Uniform();
  std::string digits = DrawDigits(kKeyDigits, &random);
  for (int32_t i = 0; i < kKeyDigits; ++i) {
    const auto at = static_cast<size_t>(random.Below(static_cast<int64_t>(digits.size())));
    digits.insert(at, 1, digits[at]);
  }
  MakeHiddenDigits("sequence of digits", std::move(digits), size, prompt);
}

void MakeKeyValues(const TaskKind& kind, const TaskText& /*text*/, const TaskCase& spec,
                   int64_t size, TaskPrompt* prompt) {
  TaskRandom hay = HayRandom(kind, spec);
  TaskRandom random = NeedleRandom(kind, spec);
  prompt->depth = spec.depth ? *spec.depth : random.Uniform();
  const int64_t asked = UnitsBefore(*prompt->depth, size - 1);
  std::string key;
  std::string value;
  std::string pairs;
  for (int64_t i = 0; i < size; ++i) {
    std::string pair_key = DrawUuid(&hay);
    std::string pair_value = DrawUuid(&hay);
    pairs += fmt::format("{}\"{}\": \"{}\"", i == 0 ? "" : ", ", pair_key, pair_value);
    if (i == asked) {
      key = std::move(pair_key);
      value = std::move(pair_value);
    }
  }
  prompt->context = fmt::format(
      "Below is a JSON object. Take from it the value of the key that you are asked for.\n\n"
      "{{{}}}\n\n",
      pairs);
  prompt->question = fmt::format("Which value does the key \"{}\" have?", key);
  prompt->answer_prefix = fmt::format("The value of the key \"{}\" is \"", key);
  prompt->answers = {std::move(value)};
}

}  // namespace tidal
