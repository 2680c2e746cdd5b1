#include "gguf/gguf_split.h"

#include <fmt/format.h>
#include <string_view>

namespace tidal {

std::string SplitName::PathOf(uint64_t other) const {
  return fmt::format("{}-{:05}-of-{:05}.gguf", prefix, other, count);
}

std::optional<SplitName> ParseSplitName(const std::string& path) {
  constexpr std::string_view kShape = "-00000-of-00000.gguf";  // 0: a digit
  constexpr size_t kNumberEnd = 6;  // digits before it are the number, after it the count
  if (path.size() < kShape.size()) return std::nullopt;
  const std::string_view whole = path;
  const std::string_view tail = whole.substr(whole.size() - kShape.size());
  SplitName name{path.substr(0, path.size() - kShape.size())};
  for (size_t i = 0; i < kShape.size(); ++i) {
    if (kShape[i] != '0') {
      if (tail[i] != kShape[i]) return std::nullopt;
      continue;
    }
    if (tail[i] < '0' || tail[i] > '9') return std::nullopt;
    uint64_t& value = i < kNumberEnd ? name.number : name.count;
    value = 10 * value + static_cast<uint64_t>(tail[i] - '0');
  }
  return name;
}

}  // namespace tidal
