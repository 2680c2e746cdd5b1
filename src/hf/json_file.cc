#include "hf/json_file.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <vector>

#include "gguf/mapped_file.h"
#include "gguf/printable.h"

namespace tidal {
namespace {

// Builds the value while it looks for what a lenient parser lets through. The library's own
// callback cannot stop at a depth, so the events are handled here.
class StrictBuilder : public nlohmann::json_sax<JsonValue> {
 public:
  explicit StrictBuilder(JsonValue* root) : root_(root) {}

  const std::string& error() const { return error_; }

  bool null() override { return Add(nullptr); }
  bool boolean(bool value) override { return Add(value); }
  bool number_integer(number_integer_t value) override { return Add(value); }
  bool number_unsigned(number_unsigned_t value) override { return Add(value); }
  bool number_float(number_float_t value, const string_t& /*text*/) override { return Add(value); }
  bool string(string_t& value) override { return Add(std::move(value)); }
  bool binary(binary_t& /*value*/) override { return Fail("binary data"); }

  bool start_object(size_t /*elements*/) override { return Open(JsonValue::object()); }
  bool key(string_t& key) override {
    const auto [slot, added] = open_.back()->get_ref<JsonValue::object_t&>().emplace(key, nullptr);
    if (!added)
      return Fail(fmt::format("the key \"{}\" stands twice in an object", Printable(key)));
    slot_ = &slot->second;
    return true;
  }
  bool end_object() override { return Close(); }
  bool start_array(size_t /*elements*/) override { return Open(JsonValue::array()); }
  bool end_array() override { return Close(); }

  bool parse_error(size_t position, const std::string& last_token,
                   const nlohmann::detail::exception& /*error*/) override {
    return Fail(
        fmt::format("it is no JSON at byte {}, near \"{}\"", position, Printable(last_token, 40)));
  }

 private:
  bool Fail(std::string error) {
    if (error_.empty()) error_ = std::move(error);
    return false;
  }
  // Where the next value goes.
  JsonValue* Place(JsonValue value) {
    if (open_.empty()) {
      *root_ = std::move(value);
      return root_;
    }
    if (open_.back()->is_object()) {
      *slot_ = std::move(value);
      return slot_;
    }
    auto& elements = open_.back()->get_ref<JsonValue::array_t&>();
    elements.push_back(std::move(value));
    return &elements.back();
  }
  bool Add(JsonValue value) {
    Place(std::move(value));
    return true;
  }
  bool Open(JsonValue value) {
    if (open_.size() >= static_cast<size_t>(kMaxJsonDepth))
      return Fail(fmt::format("it is nested deeper than {} levels", kMaxJsonDepth));
    // An array that grows moves its elements, but never one that is still open.
    open_.push_back(Place(std::move(value)));
    return true;
  }
  bool Close() {
    open_.pop_back();
    return true;
  }

  JsonValue* root_;
  std::vector<JsonValue*> open_;
  JsonValue* slot_ = nullptr;
  std::string error_;
};

// Reads like "an integer from 1 to 8".
std::string RangeText(int64_t min, int64_t max) {
  return fmt::format("an integer from {} to {}", min, max);
}

}  // namespace

Result<JsonValue> ParseJson(std::string_view text) {
  JsonValue root;
  StrictBuilder builder(&root);
  if (!JsonValue::sax_parse(text.begin(), text.end(), &builder)) {
    return Corrupt("{}; the file is damaged", builder.error());
  }
  return root;
}

Result<std::string> ReadTextFile(const std::string& path, int64_t max_bytes) {
  const Result<MappedFile> file = MappedFile::Open(path);
  if (!file.ok()) return file.status().Annotate(PrintablePath(path));
  const std::span<const std::byte> bytes = file->bytes();
  if (bytes.size() > static_cast<uint64_t>(max_bytes)) {
    return Corrupt("{}: the file has {} bytes, expected at most {}", PrintablePath(path),
                   bytes.size(), max_bytes);
  }
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

Result<JsonValue> ReadJsonFile(const std::string& path, int64_t max_bytes) {
  TIDAL_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path, max_bytes));
  Result<JsonValue> json = ParseJson(text);
  if (!json.ok()) return json.status().Annotate(PrintablePath(path));
  return json;
}

std::string ShortText(const JsonValue& value) {
  constexpr size_t kMaxBytes = 60;
  if (value.is_string())
    return fmt::format("\"{}\"", Printable(value.get_ref<const std::string&>(), kMaxBytes));
  if (value.is_object()) return fmt::format("an object of {} keys", value.size());
  if (value.is_array() && value.size() > 4) return fmt::format("a list of {} values", value.size());
  if (value.is_array()) {
    std::string text;
    for (const JsonValue& element : value) {
      text += text.empty() ? "[" : ", ";
      text += element.is_array() ? "[...]" : ShortText(element);
    }
    return text.empty() ? "[]" : text + "]";
  }
  return value.dump();
}

Result<JsonFields> JsonFields::Of(std::string where, const JsonValue& object) {
  if (!object.is_object())
    return Corrupt("{}: found {}, expected an object", where, ShortText(object));
  return JsonFields(std::move(where), &object);
}

const JsonValue* JsonFields::Find(std::string_view key) const {
  const auto found = object_->find(key);
  return found == object_->end() || found->is_null() ? nullptr : &*found;
}

Status JsonFields::Missing(std::string_view key, std::string_view expected) const {
  return Corrupt("{}: the key {} is missing, expected {}", where_, Printable(key), expected);
}

Status JsonFields::WrongValue(std::string_view key, std::string_view expected) const {
  const JsonValue* value = Find(key);
  if (value == nullptr) return Missing(key, expected);
  return Corrupt("{}: the key {} is {}, expected {}", where_, Printable(key), ShortText(*value),
                 expected);
}

Result<int64_t> JsonFields::Count(std::string_view key, int64_t min, int64_t max) const {
  const JsonValue* value = Find(key);
  if (value == nullptr || !value->is_number_integer() ||
      (value->is_number_unsigned() &&
       value->get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) ||
      value->get<int64_t>() < min || value->get<int64_t>() > max) {
    return WrongValue(key, RangeText(min, max));
  }
  return value->get<int64_t>();
}

Result<int64_t> JsonFields::CountOr(std::string_view key, int64_t min, int64_t max,
                                    int64_t fallback) const {
  return Has(key) ? Count(key, min, max) : fallback;
}

Result<double> JsonFields::Positive(std::string_view key, double max) const {
  const JsonValue* value = Find(key);
  if (value == nullptr || !value->is_number() ||
      !(value->get<double>() >= static_cast<double>(std::numeric_limits<float>::min()) &&
        value->get<double>() <= max)) {
    return WrongValue(key, fmt::format("a number above 0 and at most {}", max));
  }
  return value->get<double>();
}

Result<double> JsonFields::PositiveOr(std::string_view key, double max, double fallback) const {
  return Has(key) ? Positive(key, max) : fallback;
}

Result<bool> JsonFields::BoolOr(std::string_view key, bool fallback) const {
  const JsonValue* value = Find(key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) return WrongValue(key, "true or false");
  return value->get<bool>();
}

Result<std::string_view> JsonFields::Text(std::string_view key) const {
  const JsonValue* value = Find(key);
  if (value == nullptr || !value->is_string()) return WrongValue(key, "a text");
  return std::string_view(value->get_ref<const std::string&>());
}

Result<std::string_view> JsonFields::TextOr(std::string_view key, std::string_view fallback) const {
  return Has(key) ? Text(key) : fallback;
}

Result<JsonFields> JsonFields::Object(std::string_view key) const {
  const JsonValue* value = Find(key);
  if (value == nullptr || !value->is_object()) return WrongValue(key, "an object");
  return JsonFields(fmt::format("{}: {}", where_, Printable(key)), value);
}

Result<const JsonValue*> JsonFields::Array(std::string_view key) const {
  const JsonValue* value = Find(key);
  if (value == nullptr || !value->is_array()) return WrongValue(key, "a list");
  return value;
}

}  // namespace tidal
