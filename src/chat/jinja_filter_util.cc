#include "chat/jinja_filter_util.h"

#include "base/math.h"
#include "chat/jinja_attributes.h"
#include "chat/jinja_find.h"
#include "chat/jinja_number.h"
#include "chat/jinja_print.h"
#include "chat/jinja_unicode.h"

namespace tidal::jinja {

Result<SoftText> ToSoftText(Runtime* runtime, const Value& value) {
  TIDAL_ASSIGN_OR_RETURN(std::string text, ToText(runtime, value));
  return SoftText{std::move(text), MarkupOf(value)};
}

bool LineReader::Next(std::string_view* line) {
  if (rest_.empty()) return false;
  for (size_t pos = 0; pos < rest_.size();) {
    const size_t end = pos;
    const char32_t code = DecodeUtf8(rest_, &pos);
    if (!IsLineBreak(code)) continue;
    if (code == '\r' && pos < rest_.size() && rest_[pos] == '\n') ++pos;
    *line = rest_.substr(0, ends_ == LineEnds::kKeep ? pos : end);
    rest_.remove_prefix(pos);
    return true;
  }
  *line = std::exchange(rest_, {});
  return true;
}

Result<std::string> ReplaceText(Runtime* runtime, std::string_view text, std::string_view from,
                                std::string_view to, int64_t count) {
  TIDAL_RETURN_IF_ERROR(runtime->TickScan(text.size()));
  std::string out;
  size_t pos = 0;
  for (int64_t done = 0; count < 0 || done < count; ++done) {
    size_t found = 0;
    size_t next = 0;
    if (from.empty()) {
      // Between all code points, at the start and at the end.
      found = pos;
      if (done > 0) {
        if (pos >= text.size()) break;
        DecodeUtf8(text, &found);
      }
      next = found;
    } else {
      found = FindText(text, from, pos);
      if (found == std::string_view::npos) break;
      next = found + from.size();
    }
    TIDAL_RETURN_IF_ERROR(
        runtime->CheckSize(static_cast<int64_t>(out.size() + (found - pos) + to.size())));
    out += text.substr(pos, found - pos);
    out += to;
    pos = next;
  }
  TIDAL_RETURN_IF_ERROR(runtime->CheckSize(static_cast<int64_t>(out.size() + text.size() - pos)));
  out += text.substr(pos);
  return out;
}

Result<std::string> CenterText(Runtime* runtime, std::string_view text, int64_t width,
                               std::string_view fill) {
  TIDAL_RETURN_IF_ERROR(runtime->TickScan(text.size()));
  const int64_t missing = width - CountCodePoints(text);
  if (missing <= 0) return std::string(text);
  int64_t bytes = 0;
  if (!CheckedMul(missing, static_cast<int64_t>(fill.size()), &bytes)) bytes = -1;
  TIDAL_RETURN_IF_ERROR(runtime->CheckSize(bytes));
  const int64_t left = missing / 2 + (missing & width & 1);
  std::string out;
  for (int64_t i = 0; i < left; ++i) out += fill;
  out += text;
  for (int64_t i = left; i < missing; ++i) out += fill;
  return out;
}

Result<AttributePath> AttributePath::Parse(std::string_view text) {
  AttributePath path;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('.', begin), text.size());
    Part part;
    part.name = text.substr(begin, end - begin);
    const bool is_index =
        !part.name.empty() && part.name.find_first_not_of("0123456789") == std::string::npos;
    if (is_index && ParseInt(part.name, 10, &part.index) != IntParse::kOk) {
      return InvalidArgument("expected an index of at most 64 bits in an attribute, found {}",
                             part.name);
    }
    path.parts_.push_back(std::move(part));
    begin = end + 1;
  }
  return path;
}

Result<AttributePath> AttributePath::Make(const Value& attribute) {
  if (attribute.is_string()) return Parse(attribute.text());
  AttributePath path;
  if (attribute.is_missing() || attribute.is_none()) return path;
  if (!attribute.is_integer() || attribute.integer() < 0) {
    return TypeError("a str or an index for an attribute", attribute);
  }
  path.parts_.push_back({"", attribute.integer()});
  return path;
}

Result<std::vector<AttributePath>> AttributePath::MakeList(const Value& attribute) {
  std::vector<AttributePath> paths;
  if (!attribute.is_string()) {
    TIDAL_ASSIGN_OR_RETURN(AttributePath path, Make(attribute));
    paths.push_back(std::move(path));
    return paths;
  }
  const std::string_view text = attribute.text();
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    TIDAL_ASSIGN_OR_RETURN(AttributePath path, Parse(text.substr(begin, end - begin)));
    paths.push_back(std::move(path));
    begin = end + 1;
  }
  return paths;
}

Result<Value> AttributePath::Get(Runtime* runtime, const Value& item, const Value& fallback) const {
  Value value = item;
  for (const Part& part : parts_) {
    Value key = Value::Int(part.index);
    if (part.index < 0) {
      TIDAL_ASSIGN_OR_RETURN(key, runtime->NewString(part.name));
    }
    TIDAL_ASSIGN_OR_RETURN(value, GetItem(runtime, value, key));
    if (value.is_undefined() && !fallback.is_missing() && !fallback.is_none()) value = fallback;
  }
  return value;
}

Result<Value> FoldCase(Runtime* runtime, CaseRule rule, Value value) {
  if (rule == CaseRule::kKeep || !value.is_string()) return value;
  TIDAL_RETURN_IF_ERROR(runtime->TickConvert(value.text().size()));
  return runtime->NewString(ToLower(value.text()), MarkupOf(value));
}

}  // namespace tidal::jinja
