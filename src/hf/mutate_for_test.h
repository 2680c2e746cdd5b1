// JSON texts with one thing wrong, for tests: deterministic for a seed.
#ifndef TIDAL_HF_MUTATE_FOR_TEST_H_
#define TIDAL_HF_MUTATE_FOR_TEST_H_

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "base/mutate_for_test.h"
#include "hf/json_file.h"

namespace tidal {

class JsonMutator {
 public:
  JsonMutator(std::string text, uint32_t seed)
      : text_(std::move(text)), json_(JsonValue::parse(text_)), rng_(seed) {}

  // The i-th mutant: bytes changed, or a value replaced, taken away or renamed.
  std::string Next() { return Below(3) == 0 ? MutateBytes() : MutateValue(); }

 private:
  size_t Below(size_t n) { return DrawBelow(n, &rng_); }

  std::string MutateBytes() {
    const char mark = "[]{}\",:0-9e\\"[Below(12)];
    return ChangeBytes(text_, 8, std::string(1 + Below(8), mark), &rng_);
  }

  // A container somewhere in the value, the root included.
  JsonValue* PickContainer(JsonValue* root) {
    JsonValue* at = root;
    while (Below(4) != 0) {
      std::vector<JsonValue*> inner;
      for (JsonValue& element : *at) {
        if (element.is_structured() && !element.empty()) inner.push_back(&element);
      }
      if (inner.empty()) break;
      at = inner[Below(inner.size())];
    }
    return at;
  }

  JsonValue HostileValue() {
    switch (Below(20)) {
      case 0:
        return nullptr;
      case 1:
        return -1;
      case 2:
        return 0;
      case 3:
        return 1;
      case 4:
        return UINT64_MAX;
      case 5:
        return INT64_MIN;
      case 6:
        return int64_t{1} << 40;
      case 7:
        return 1e300;
      case 8:
        return -0.5;
      case 9:
        return "";
      case 10:
        return "\u2581";
      case 11:
        return std::string(3000, 'x');
      case 12:
        return JsonValue::array();
      case 13:
        return JsonValue::object();
      case 14:
        return JsonValue::array({1, "a", nullptr});
      case 15:
        return true;
      case 16:
        return json_;  // all of it, once more
      case 17:
        return "a\nb\x1b[2J";
      case 18:
        return JsonValue::array({JsonValue::array({JsonValue::array()})});
      default:
        return int64_t{65} << Below(26);
    }
  }

  std::string MutateValue() {
    JsonValue json = json_;
    JsonValue* at = PickContainer(&json);
    if (at->empty()) return "[]";
    auto element = at->begin();
    std::advance(element, static_cast<std::ptrdiff_t>(Below(at->size())));
    const size_t what = Below(5);
    if (what == 0) {
      at->erase(element);
    } else if (what == 1 && at->is_object()) {
      const JsonValue value = *element;
      at->erase(element);
      (*at)["renamed"] = value;
    } else if (what == 2) {
      // The value of another element.
      auto other = at->begin();
      std::advance(other, static_cast<std::ptrdiff_t>(Below(at->size())));
      const JsonValue copy = *other;
      *element = copy;
    } else {
      *element = HostileValue();
    }
    return json.dump();
  }

  std::string text_;
  JsonValue json_;
  std::mt19937 rng_;
};

// What a message must be: one printable line of some length.
inline bool IsOneClearLine(const std::string& message) {
  for (const char c : message) {
    if (static_cast<unsigned char>(c) < ' ' || c == '\x7f') return false;
  }
  return message.size() > 20 && message.size() < 1000 && message.back() != '.';
}

}  // namespace tidal

#endif  // TIDAL_HF_MUTATE_FOR_TEST_H_
