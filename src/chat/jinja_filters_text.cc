// Filters that give text.
#include <algorithm>

#include "chat/jinja_args.h"
#include "chat/jinja_builtins.h"
#include "chat/jinja_filter_util.h"
#include "chat/jinja_format.h"
#include "chat/jinja_ops.h"
#include "chat/jinja_print.h"
#include "chat/jinja_text.h"
#include "chat/jinja_unicode.h"

namespace tidal::jinja {
namespace {

// A filter without parameters that maps text to text and keeps the mark of safe HTML.
template <std::string (*kMap)(std::string_view)>
Result<Value> MapFilter(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_RETURN_IF_ERROR(RejectArgs(args));
  TIDAL_ASSIGN_OR_RETURN(const SoftText soft, ToSoftText(&runtime, self));
  TIDAL_RETURN_IF_ERROR(runtime.TickConvert(soft.text.size()));
  return runtime.NewString(kMap(soft.text), soft.markup);
}

Result<Value> CenterFilter(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_ASSIGN_OR_RETURN(const auto bound, Bind(args, 0, {"width"}));
  TIDAL_ASSIGN_OR_RETURN(const int64_t width, IntArgOr(bound[0], "width", 80));
  TIDAL_ASSIGN_OR_RETURN(const SoftText soft, ToSoftText(&runtime, self));
  TIDAL_ASSIGN_OR_RETURN(std::string text, CenterText(&runtime, soft.text, width, " "));
  return runtime.NewString(std::move(text), soft.markup);
}

Result<Value> EscapeFilter(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_RETURN_IF_ERROR(RejectArgs(args));
  if (self.is_markup()) return self;
  TIDAL_ASSIGN_OR_RETURN(const std::string text, ToText(&runtime, self));
  TIDAL_RETURN_IF_ERROR(runtime.TickScan(text.size()));
  return runtime.NewString(EscapeHtml(text), Markup::kYes);
}

Result<Value> ForceEscapeFilter(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_RETURN_IF_ERROR(RejectArgs(args));
  TIDAL_ASSIGN_OR_RETURN(const std::string text, ToText(&runtime, self));
  TIDAL_RETURN_IF_ERROR(runtime.TickScan(text.size()));
  return runtime.NewString(EscapeHtml(text), Markup::kYes);
}

Result<Value> FormatFilter(Runtime& runtime, const Value& self, const CallArgs& args) {
  if (!args.positional.empty() && !args.named.empty()) {
    return InvalidArgument("expected positional or named arguments to format, found both");
  }
  TIDAL_ASSIGN_OR_RETURN(SoftText soft, ToSoftText(&runtime, self));
  TIDAL_ASSIGN_OR_RETURN(const Value format, runtime.NewString(std::move(soft.text), soft.markup));
  if (args.named.empty()) {
    TIDAL_ASSIGN_OR_RETURN(const Value values, runtime.NewTuple(args.positional));
    return FormatPercent(&runtime, format, values);
  }
  MapBuilder map(&runtime);
  for (const auto& [name, value] : args.named) {
    TIDAL_RETURN_IF_ERROR(map.SetNamed(name, value));
  }
  TIDAL_ASSIGN_OR_RETURN(const Value values, runtime.NewDict(map.Take()));
  return FormatPercent(&runtime, format, values);
}

Result<Value> IndentFilter(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_ASSIGN_OR_RETURN(const auto bound, Bind(args, 0, {"width", "first", "blank"}));
  TIDAL_ASSIGN_OR_RETURN(const std::string_view text, TextArg(self, "indent"));
  std::string indent = "    ";
  if (bound[0].is_string()) {
    indent = bound[0].text();
  } else if (!bound[0].is_missing()) {
    TIDAL_ASSIGN_OR_RETURN(const int64_t width, IntArg(bound[0], "width"));
    TIDAL_RETURN_IF_ERROR(runtime.CheckSize(std::max<int64_t>(width, 0)));
    indent.assign(static_cast<size_t>(std::max<int64_t>(width, 0)), ' ');
  }
  TIDAL_RETURN_IF_ERROR(runtime.TickScan(text.size()));
  const std::string closed = std::string(text) + "\n";
  std::string out;
  if (IsTrue(bound[1])) out = indent;
  LineReader lines(closed, LineEnds::kDrop);
  bool first = true;
  for (std::string_view line; lines.Next(&line); first = false) {
    if (!first) {
      out += '\n';
      if (IsTrue(bound[2]) || !line.empty()) out += indent;
    }
    out += line;
    TIDAL_RETURN_IF_ERROR(runtime.CheckSize(static_cast<int64_t>(out.size() + indent.size())));
  }
  return runtime.NewString(std::move(out), MarkupOf(self));
}

Result<Value> JoinFilter(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_ASSIGN_OR_RETURN(const auto bound, Bind(args, 0, {"d", "attribute"}));
  std::string separator;
  if (!bound[0].is_missing()) {
    TIDAL_ASSIGN_OR_RETURN(separator, ToText(&runtime, bound[0]));
  }
  TIDAL_ASSIGN_OR_RETURN(const AttributePath path, AttributePath::Make(bound[1]));
  TIDAL_ASSIGN_OR_RETURN(Cursor cursor, Cursor::Over(self));
  std::string out;
  bool first = true;
  for (Value item;; first = false) {
    TIDAL_ASSIGN_OR_RETURN(const bool more, cursor.Next(&runtime, &item));
    if (!more) return runtime.NewString(std::move(out));
    TIDAL_ASSIGN_OR_RETURN(const Value value, path.Get(&runtime, item));
    TIDAL_ASSIGN_OR_RETURN(const std::string text, ToText(&runtime, value));
    if (!first) out += separator;
    out += text;
    TIDAL_RETURN_IF_ERROR(runtime.CheckSize(static_cast<int64_t>(out.size())));
  }
}

Result<Value> ReplaceFilter(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_ASSIGN_OR_RETURN(const auto bound, Bind(args, 2, {"old", "new", "count"}));
  int64_t count = -1;
  if (!bound[2].is_none()) {
    TIDAL_ASSIGN_OR_RETURN(count, IntArgOr(bound[2], "count", -1));
  }
  TIDAL_ASSIGN_OR_RETURN(const std::string text, ToText(&runtime, self));
  TIDAL_ASSIGN_OR_RETURN(const std::string from, ToText(&runtime, bound[0]));
  TIDAL_ASSIGN_OR_RETURN(const std::string to, ToText(&runtime, bound[1]));
  TIDAL_ASSIGN_OR_RETURN(std::string out, ReplaceText(&runtime, text, from, to, count));
  return runtime.NewString(std::move(out));
}

Result<Value> SafeFilter(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_RETURN_IF_ERROR(RejectArgs(args));
  TIDAL_ASSIGN_OR_RETURN(std::string text, ToText(&runtime, self));
  return runtime.NewString(std::move(text), Markup::kYes);
}

Result<Value> StringFilter(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_RETURN_IF_ERROR(RejectArgs(args));
  if (self.is_string()) return self;
  TIDAL_ASSIGN_OR_RETURN(std::string text, ToText(&runtime, self));
  return runtime.NewString(std::move(text));
}

// Words begin after space and opening brackets; each is capitalised by itself.
Result<Value> TitleFilter(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_RETURN_IF_ERROR(RejectArgs(args));
  TIDAL_ASSIGN_OR_RETURN(const std::string text, ToText(&runtime, self));
  TIDAL_RETURN_IF_ERROR(runtime.TickConvert(text.size()));
  const auto separates = [](char32_t code) {
    return code == '-' || code == '(' || code == '{' || code == '[' || code == '<' || IsSpace(code);
  };
  std::string out;
  for (size_t begin = 0; begin < text.size();) {
    size_t first_end = begin;
    const bool separator = separates(DecodeUtf8(text, &first_end));
    size_t end = first_end;
    for (size_t next = end; next < text.size(); end = next) {
      if (separates(DecodeUtf8(text, &next)) != separator) break;
    }
    const std::string_view word = std::string_view(text).substr(begin, end - begin);
    out += ToUpper(word.substr(0, first_end - begin)) + ToLower(word.substr(first_end - begin));
    begin = end;
  }
  return runtime.NewString(std::move(out));
}

Result<Value> TrimFilter(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_ASSIGN_OR_RETURN(const auto bound, Bind(args, 0, {"chars"}));
  TIDAL_ASSIGN_OR_RETURN(SoftText soft, ToSoftText(&runtime, self));
  TIDAL_ASSIGN_OR_RETURN(const Value text, runtime.NewString(std::move(soft.text), soft.markup));
  CallArgs strip_args;
  if (!bound[0].is_missing()) strip_args.positional.push_back(bound[0]);
  return StringStrip(runtime, text, strip_args);
}

Result<Value> TruncateFilter(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_ASSIGN_OR_RETURN(const auto bound, Bind(args, 0, {"length", "killwords", "end", "leeway"}));
  TIDAL_ASSIGN_OR_RETURN(const int64_t length, IntArgOr(bound[0], "length", 255));
  std::string_view end = "...";
  if (!bound[2].is_missing()) {
    TIDAL_ASSIGN_OR_RETURN(end, TextArg(bound[2], "end"));
  }
  int64_t leeway = 5;
  if (!bound[3].is_none()) {
    TIDAL_ASSIGN_OR_RETURN(leeway, IntArgOr(bound[3], "leeway", 5));
  }
  const int64_t end_length = CountCodePoints(end);
  if (length < end_length || leeway < 0) {
    return InvalidArgument(
        "expected a length of at least {} and a leeway of at least 0, found {} and {}", end_length,
        length, leeway);
  }
  if (self.is_string()) TIDAL_RETURN_IF_ERROR(runtime.TickScan(self.text().size()));
  // Anything short enough stays as it is, text or not.
  TIDAL_ASSIGN_OR_RETURN(const int64_t have, Length(self));
  if (have <= length || have - length <= leeway) return self;
  TIDAL_ASSIGN_OR_RETURN(const std::string_view text, TextArg(self, "truncate"));
  std::string_view kept = text.substr(0, CodePointOffset(text, length - end_length));
  if (!IsTrue(bound[1])) kept = kept.substr(0, std::min(kept.rfind(' '), kept.size()));
  std::string out = std::string(kept);
  out += self.is_markup() && !bound[2].is_markup() ? EscapeHtml(end) : std::string(end);
  return runtime.NewString(std::move(out), MarkupOf(self));
}

void AppendUrlQuoted(std::string_view text, bool in_query, std::string* out) {
  for (const char c : text) {
    const bool plain = (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') ||
                       c == '_' || c == '.' || c == '-' || c == '~' || (c == '/' && !in_query);
    if (plain) {
      out->push_back(c);
    } else if (c == ' ' && in_query) {
      out->push_back('+');
    } else {
      *out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
}

Result<Value> UrlencodeFilter(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_RETURN_IF_ERROR(RejectArgs(args));
  std::string out;
  if (self.is_string() || !Cursor::Over(self).ok()) {
    TIDAL_ASSIGN_OR_RETURN(const std::string text, ToText(&runtime, self));
    TIDAL_RETURN_IF_ERROR(runtime.TickConvert(text.size()));
    AppendUrlQuoted(text, false, &out);
    return runtime.NewString(std::move(out));
  }
  Value pairs = self;
  if (self.is(Kind::kDict)) {
    TIDAL_ASSIGN_OR_RETURN(pairs, runtime.NewView(self, DictViewObject::Part::kItems));
  }
  TIDAL_ASSIGN_OR_RETURN(const std::vector<Value> items, Drain(&runtime, pairs));
  for (const Value& item : items) {
    TIDAL_ASSIGN_OR_RETURN(const std::vector<Value> pair, Drain(&runtime, item));
    if (pair.size() != 2)
      return InvalidArgument("expected pairs to urlencode, found {} values", pair.size());
    TIDAL_ASSIGN_OR_RETURN(const std::string key, ToText(&runtime, pair[0]));
    TIDAL_ASSIGN_OR_RETURN(const std::string value, ToText(&runtime, pair[1]));
    TIDAL_RETURN_IF_ERROR(runtime.TickConvert(key.size() + value.size()));
    if (&item != &items[0]) out += '&';
    AppendUrlQuoted(key, true, &out);
    out += '=';
    AppendUrlQuoted(value, true, &out);
    TIDAL_RETURN_IF_ERROR(runtime.CheckSize(static_cast<int64_t>(out.size())));
  }
  return runtime.NewString(std::move(out));
}

Result<Value> WordcountFilter(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_RETURN_IF_ERROR(RejectArgs(args));
  TIDAL_ASSIGN_OR_RETURN(const std::string text, ToText(&runtime, self));
  TIDAL_RETURN_IF_ERROR(runtime.TickConvert(text.size()));
  int64_t words = 0;
  bool in_word = false;
  for (size_t pos = 0; pos < text.size();) {
    const char32_t code = DecodeUtf8(text, &pos);
    const bool is_word = IsIdentifierPart(code) || Contains(kNumeric, code);
    if (is_word && !in_word) ++words;
    in_word = is_word;
  }
  return Value::Int(words);
}

constexpr BuiltinEntry kTextFilters[] = {
    {"capitalize", MapFilter<Capitalize>},
    {"center", CenterFilter},
    {"e", EscapeFilter},
    {"escape", EscapeFilter},
    {"forceescape", ForceEscapeFilter},
    {"format", FormatFilter},
    {"indent", IndentFilter},
    {"join", JoinFilter},
    {"lower", MapFilter<ToLower>},
    {"replace", ReplaceFilter},
    {"safe", SafeFilter},
    {"string", StringFilter},
    {"title", TitleFilter},
    {"trim", TrimFilter},
    {"truncate", TruncateFilter},
    {"upper", MapFilter<ToUpper>},
    {"urlencode", UrlencodeFilter},
    {"wordcount", WordcountFilter},
};

}  // namespace

std::span<const BuiltinEntry> TextFilters() { return kTextFilters; }

}  // namespace tidal::jinja
