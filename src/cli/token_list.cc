#include "cli/token_list.h"

#include <charconv>
#include <limits>

#include <nlohmann/json.hpp>

namespace tidal {
namespace {

constexpr std::string_view kBlanks = " \t\r\n,";
constexpr int64_t kMaxId = std::numeric_limits<TokenId>::max();

Result<std::vector<TokenId>> FromJson(std::string_view where, std::string_view text) {
  const auto json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) return InvalidArgument("{}: is not valid JSON", where);
  const auto member = json.is_object() ? json.find("tokens") : json.end();
  const bool has_member = json.is_object() && member != json.end();
  const nlohmann::json& list = has_member ? *member : json;
  if (!list.is_array())
    return InvalidArgument("{}: expected {{\"tokens\":[...]}} or an array of token ids", where);
  std::vector<TokenId> ids;
  ids.reserve(list.size());
  for (const nlohmann::json& entry : list) {
    // Compared as unsigned first: a number above the signed range would come back negative.
    const bool fits =
        entry.is_number_unsigned() && entry.get<uint64_t>() <= static_cast<uint64_t>(kMaxId);
    if (!fits) {
      return InvalidArgument("{}: entry {} of the tokens is {}, expected a token id", where,
                             ids.size(),
                             entry.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
    }
    ids.push_back(entry.get<TokenId>());
  }
  return ids;
}

}  // namespace

Result<std::vector<TokenId>> ParseTokenList(std::string_view where, std::string_view text) {
  const size_t start = text.find_first_not_of(kBlanks);
  if (start == std::string_view::npos) return InvalidArgument("{}: holds no token ids", where);
  if (text[start] == '{' || text[start] == '[') return FromJson(where, text);
  std::vector<TokenId> ids;
  for (size_t begin = start; begin != std::string_view::npos;) {
    const size_t end = std::min(text.find_first_of(kBlanks, begin), text.size());
    TokenId id = 0;
    const auto [stop, error] = std::from_chars(text.data() + begin, text.data() + end, id);
    if (error != std::errc() || stop != text.data() + end || id < 0) {
      return InvalidArgument("{}: entry {} of the tokens is \"{}\", expected a token id", where,
                             ids.size(), text.substr(begin, std::min<size_t>(end - begin, 40)));
    }
    ids.push_back(id);
    begin = text.find_first_not_of(kBlanks, end);
  }
  return ids;
}

Status CheckTokens(std::string_view where, const std::vector<TokenId>& ids, int32_t vocab_size) {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] >= 0 && ids[i] < vocab_size) continue;
    return InvalidArgument("{}: entry {} of the tokens is {}, the vocabulary has 0 to {}", where, i,
                           ids[i], vocab_size - 1);
  }
  return OkStatus();
}

}  // namespace tidal
