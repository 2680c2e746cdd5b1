// JSON from files that are not trusted: bounded in size and depth, no key twice in an object, and
// fields that are checked as they are read.
#ifndef TIDAL_HF_JSON_FILE_H_
#define TIDAL_HF_JSON_FILE_H_

#include <cstdint>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "base/status.h"

namespace tidal {

using JsonValue = nlohmann::json;

inline constexpr int kMaxJsonDepth = 32;
// Of config.json and its like; real ones have a few kilobytes.
inline constexpr int64_t kMaxConfigBytes = int64_t{4} << 20;

// Errors, without a path: kCorrupt (not JSON, not UTF-8, a number that fits no double, nested too
// deep, a key twice).
Result<JsonValue> ParseJson(std::string_view text);

// Errors, with the path: kNotFound, kIo, kCorrupt as above, or a file of more than max_bytes.
Result<JsonValue> ReadJsonFile(const std::string& path, int64_t max_bytes);

// A whole text file. Errors, with the path: kNotFound, kIo, kCorrupt (empty, or more than
// max_bytes).
Result<std::string> ReadTextFile(const std::string& path, int64_t max_bytes);

// The fields of one object, for errors that name the file and the key. A null counts as absent.
// The object must outlive this.
class JsonFields {
 public:
  // `where` names the object in messages: a printable path, and what of it.
  // Errors: kCorrupt where `object` is none.
  static Result<JsonFields> Of(std::string where, const JsonValue& object);

  const std::string& where() const { return where_; }
  const JsonValue& object() const { return *object_; }
  const JsonValue* Find(std::string_view key) const;  // null: absent
  bool Has(std::string_view key) const { return Find(key) != nullptr; }

  // Errors of all: kCorrupt (absent, unless there is a fallback; another type; out of range).
  Result<int64_t> Count(std::string_view key, int64_t min, int64_t max) const;
  Result<int64_t> CountOr(std::string_view key, int64_t min, int64_t max, int64_t fallback) const;
  // More than 0, at most max, and as a float not 0 either.
  Result<double> Positive(std::string_view key, double max) const;
  Result<double> PositiveOr(std::string_view key, double max, double fallback) const;
  Result<bool> BoolOr(std::string_view key, bool fallback) const;
  Result<std::string_view> Text(std::string_view key) const;
  Result<std::string_view> TextOr(std::string_view key, std::string_view fallback) const;
  Result<JsonFields> Object(std::string_view key) const;
  Result<const JsonValue*> Array(std::string_view key) const;

  Status WrongValue(std::string_view key, std::string_view expected) const;

 private:
  JsonFields(std::string where, const JsonValue* object)
      : where_(std::move(where)), object_(object) {}
  Status Missing(std::string_view key, std::string_view expected) const;

  std::string where_;
  const JsonValue* object_;
};

// A value as a message or a list shows it: one printable, shortened line.
std::string ShortText(const JsonValue& value);

}  // namespace tidal

#endif  // TIDAL_HF_JSON_FILE_H_
