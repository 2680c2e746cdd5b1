#include "attention/json_text.h"

#include <fmt/format.h>
#include <set>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "attention/plan_keys.h"

namespace tidal {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMaxLevels = 32;

// Walks a text without keeping it, and says why it is not one that we read.
class JsonChecker : public nlohmann::json_sax<Json> {
 public:
  const std::string& problem() const { return problem_; }

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override { return Enter(); }
  bool start_array(std::size_t) override { return Enter(); }
  bool end_object() override { return Leave(); }
  bool end_array() override { return Leave(); }

  bool key(string_t& name) override {
    if (keys_.back().insert(name).second) return true;
    problem_ = fmt::format("key {} is given twice", QuotedText(name));
    return false;
  }

  bool parse_error(std::size_t position, const std::string& last_token,
                   const nlohmann::detail::exception&) override {
    problem_ = fmt::format("not valid JSON at byte {}, near {}", position, QuotedText(last_token));
    return false;
  }

 private:
  bool Enter() {
    keys_.emplace_back();
    if (keys_.size() <= kMaxLevels) return true;
    problem_ = fmt::format("more than {} levels of arrays and objects", kMaxLevels);
    return false;
  }
  bool Leave() {
    keys_.pop_back();
    return true;
  }

  std::vector<std::set<std::string>> keys_;  // of the objects around
  std::string problem_;
};

}  // namespace

Result<nlohmann::ordered_json> ParseJsonText(std::string_view text) {
  JsonChecker checker;
  if (!Json::sax_parse(text, &checker)) return Corrupt("{}", checker.problem());
  Json json = Json::parse(text, /*cb=*/nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) return Corrupt("not valid JSON");
  return json;
}

}  // namespace tidal
