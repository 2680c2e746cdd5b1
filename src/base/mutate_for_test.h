// Texts with bytes changed, for tests of readers: deterministic for a seed.
#ifndef TIDAL_BASE_MUTATE_FOR_TEST_H_
#define TIDAL_BASE_MUTATE_FOR_TEST_H_

#include <cstddef>
#include <random>
#include <string>
#include <string_view>

namespace tidal {

inline size_t DrawBelow(size_t n, std::mt19937* random) { return (*random)() % n; }

// One change: a byte becomes another, up to max_run of them are taken away or said again elsewhere,
// the text ends early, or `inserted` come in. REQUIRES: text not empty.
inline std::string ChangeBytes(std::string text, size_t max_run, std::string_view inserted,
                               std::mt19937* random) {
  const size_t at = DrawBelow(text.size(), random);
  const size_t count = 1 + DrawBelow(max_run, random);
  switch (DrawBelow(5, random)) {
    case 0:
      text[at] = static_cast<char>((*random)());
      break;
    case 1:
      text.erase(at, count);
      break;
    case 2:
      text.insert(at, text.substr(DrawBelow(text.size(), random), count));
      break;
    case 3:
      text.resize(at);
      break;
    default:
      text.insert(at, inserted);
  }
  return text;
}

}  // namespace tidal

#endif  // TIDAL_BASE_MUTATE_FOR_TEST_H_
