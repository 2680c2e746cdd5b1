#include "chat/jinja_find.h"

#include <algorithm>
#include <cstring>
#include <string>

namespace tidal::jinja {

size_t FindText(std::string_view text, std::string_view needle, size_t from) {
  if (from > text.size()) return std::string_view::npos;
  if (needle.empty()) return from;
  // The C library's memmem takes linear time; std::string_view::find may take the product of the
  // sizes.
  const void* found = memmem(text.data() + from, text.size() - from, needle.data(), needle.size());
  if (found == nullptr) return std::string_view::npos;
  return static_cast<size_t>(static_cast<const char*>(found) - text.data());
}

size_t FindLastText(std::string_view text, std::string_view needle) {
  constexpr size_t kShortNeedle = 16;  // short enough for the product of the sizes
  if (needle.size() <= kShortNeedle) return text.rfind(needle);
  const std::string backwards(text.rbegin(), text.rend());
  const std::string needle_backwards(needle.rbegin(), needle.rend());
  const size_t at = FindText(backwards, needle_backwards, 0);
  return at == std::string_view::npos ? at : text.size() - at - needle.size();
}

}  // namespace tidal::jinja
