// What Python's operators and built-in functions do with values: truth, length, comparison,
// arithmetic, subscripts.
//
// Errors everywhere: kInvalidArgument where Python raises (a wrong type, division by zero, a result
// beyond 64 bits), and the limits of the Runtime. Threads: as the Runtime.
#ifndef TIDAL_CHAT_JINJA_OPS_H_
#define TIDAL_CHAT_JINJA_OPS_H_

#include <cstdint>
#include <optional>
#include <string>

#include "base/status.h"
#include "chat/jinja_runtime.h"
#include "chat/jinja_value.h"

namespace tidal::jinja {

enum class CompareOp : uint8_t { kEqual, kNotEqual, kLess, kLessEqual, kGreater, kGreaterEqual };
enum class BinaryOp : uint8_t { kAdd, kSub, kMul, kDiv, kFloorDiv, kMod, kPow };

bool IsTrue(const Value& value);
Result<int64_t> Length(const Value& value);

Result<bool> Equals(Runtime* runtime, const Value& a, const Value& b);
Result<bool> Compare(Runtime* runtime, CompareOp op, const Value& a, const Value& b);
// item in container.
Result<bool> Contains(Runtime* runtime, const Value& container, const Value& item);

// The same text for two values exactly if they are equal and hashable; an error for what Python
// cannot hash.
Result<std::string> EncodeKey(Runtime* runtime, const Value& key);
inline std::string EncodeStringKey(std::string_view text) { return "s" + std::string(text); }

Result<Value> Binary(Runtime* runtime, BinaryOp op, const Value& a, const Value& b);
Result<Value> Negate(const Value& value);
Result<Value> Plus(const Value& value);

// object[key] without Jinja's attributes: nothing where Python raises TypeError or LookupError; an
// error only for an undefined object.
Result<std::optional<Value>> Subscript(Runtime* runtime, const Value& object, const Value& key);
// object[start:stop:step]; kMissing or None leave a part out.
Result<Value> Slice(Runtime* runtime, const Value& object, const Value& start, const Value& stop,
                    const Value& step);

// Merges two sorted halves, so equal values keep their order. `less` is (const Value&, const
// Value&) -> Result<bool>.
template <typename T, typename Less>
Status StableSort(std::vector<T>* values, const Less& less);

template <typename T, typename Less>
Status StableSort(std::vector<T>* values, const Less& less) {
  std::vector<T> merged;
  for (size_t width = 1; width < values->size(); width *= 2) {
    merged.clear();
    for (size_t begin = 0; begin < values->size(); begin += 2 * width) {
      const size_t middle = std::min(begin + width, values->size());
      const size_t end = std::min(begin + 2 * width, values->size());
      size_t left = begin;
      size_t right = middle;
      while (left < middle && right < end) {
        TIDAL_ASSIGN_OR_RETURN(const bool right_first, less((*values)[right], (*values)[left]));
        merged.push_back(std::move((*values)[right_first ? right++ : left++]));
      }
      while (left < middle) merged.push_back(std::move((*values)[left++]));
      while (right < end) merged.push_back(std::move((*values)[right++]));
    }
    values->swap(merged);
  }
  return OkStatus();
}

}  // namespace tidal::jinja

#endif  // TIDAL_CHAT_JINJA_OPS_H_
