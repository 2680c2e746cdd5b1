// The methods of str.
#include <algorithm>
#include <vector>

#include "chat/jinja_args.h"
#include "chat/jinja_attributes.h"
#include "chat/jinja_filter_util.h"
#include "chat/jinja_format.h"
#include "chat/jinja_ops.h"
#include "chat/jinja_print.h"
#include "chat/jinja_string_search.h"
#include "chat/jinja_text.h"
#include "chat/jinja_unicode.h"

namespace tidal::jinja {
namespace {

template <std::string (*kMap)(std::string_view)>
Result<Value> MapMethod(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_RETURN_IF_ERROR(RejectArgs(args));
  TIDAL_RETURN_IF_ERROR(runtime.TickConvert(self.text().size()));
  return runtime.NewString(kMap(self.text()), MarkupOf(self));
}

template <bool (*kHolds)(std::string_view)>
Result<Value> TextPredicate(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_RETURN_IF_ERROR(RejectArgs(args));
  TIDAL_RETURN_IF_ERROR(runtime.TickConvert(self.text().size()));
  return Value::Bool(kHolds(self.text()));
}

template <bool (*kHolds)(char32_t)>
bool AllCodePoints(std::string_view text) {
  for (size_t pos = 0; pos < text.size();) {
    if (!kHolds(DecodeUtf8(text, &pos))) return false;
  }
  return true;
}

// As most of Python's is... methods: not for "".
template <bool (*kHolds)(char32_t)>
bool SomeAndAll(std::string_view text) {
  return !text.empty() && AllCodePoints<kHolds>(text);
}

bool IsAlpha(char32_t code) { return Contains(kAlpha, code); }
bool IsDecimal(char32_t code) { return Contains(kDecimal, code); }
bool IsDigit(char32_t code) { return Contains(kDigit, code); }
bool IsNumeric(char32_t code) { return Contains(kNumeric, code); }
bool IsPrintable(char32_t code) { return Contains(kPrintable, code); }
bool IsAlnum(char32_t code) {
  return IsAlpha(code) || IsDecimal(code) || IsDigit(code) || IsNumeric(code);
}
bool IsIdentifier(std::string_view text) {
  if (text.empty()) return false;
  size_t pos = 0;
  return IsIdentifierStart(DecodeUtf8(text, &pos)) &&
         AllCodePoints<IsIdentifierPart>(text.substr(pos));
}

enum class Sides : uint8_t { kLeft, kRight, kBoth };

// Without the code points of `chars` (space where that is none) at its ends.
Result<Value> StripSides(Runtime& runtime, const Value& self, const CallArgs& args, Sides sides) {
  TIDAL_RETURN_IF_ERROR(RejectNamed(args));
  TIDAL_ASSIGN_OR_RETURN(const auto bound, Bind(args, 0, {"chars"}));
  std::string_view text = self.text();
  if (bound[0].is_missing() || bound[0].is_none()) {
    if (sides != Sides::kRight) text = StripLeft(text);
    if (sides != Sides::kLeft) text = StripRight(text);
    TIDAL_RETURN_IF_ERROR(runtime.TickScan(self.text().size() - text.size()));
    return runtime.NewString(std::string(text), MarkupOf(self));
  }
  TIDAL_ASSIGN_OR_RETURN(const std::string_view chars, TextArg(bound[0], "chars"));
  TIDAL_RETURN_IF_ERROR(runtime.TickScan(text.size()));
  std::vector<char32_t> set;
  for (size_t pos = 0; pos < chars.size();) set.push_back(DecodeUtf8(chars, &pos));
  TIDAL_RETURN_IF_ERROR(runtime.Tick(static_cast<int64_t>(set.size() / 8)));  // it is sorted
  std::sort(set.begin(), set.end());
  const auto in_set = [&set](char32_t code) {
    return std::binary_search(set.begin(), set.end(), code);
  };
  size_t begin = 0;
  size_t end = 0;  // after the last code point that stays
  bool leading = sides != Sides::kRight;
  for (size_t pos = 0; pos < text.size();) {
    const bool strip = in_set(DecodeUtf8(text, &pos));
    if (leading && strip) begin = pos;
    leading = leading && strip;
    if (!strip) end = pos;
  }
  if (sides == Sides::kLeft) end = text.size();
  text = begin < end ? text.substr(begin, end - begin) : "";
  return runtime.NewString(std::string(text), MarkupOf(self));
}

Result<Value> StringLstrip(Runtime& runtime, const Value& self, const CallArgs& args) {
  return StripSides(runtime, self, args, Sides::kLeft);
}
Result<Value> StringRstrip(Runtime& runtime, const Value& self, const CallArgs& args) {
  return StripSides(runtime, self, args, Sides::kRight);
}

enum class Place : uint8_t { kLeft, kCenter, kRight };

// ljust, center and rjust.
Result<Value> Justify(Runtime& runtime, const Value& self, const CallArgs& args, Place place) {
  TIDAL_RETURN_IF_ERROR(RejectNamed(args));
  TIDAL_ASSIGN_OR_RETURN(const auto bound, Bind(args, 1, {"width", "fillchar"}));
  TIDAL_ASSIGN_OR_RETURN(const int64_t width, IntArg(bound[0], "width"));
  std::string fill = " ";
  if (!bound[1].is_missing()) {
    TIDAL_ASSIGN_OR_RETURN(fill, TextArg(bound[1], "fillchar"));
    if (self.is_markup() && !bound[1].is_markup()) fill = EscapeHtml(fill);
    if (CountCodePoints(fill) != 1) {
      return InvalidArgument("expected one character to fill with, found {}", Quote(fill));
    }
  }
  std::string text;
  if (place == Place::kCenter) {
    TIDAL_ASSIGN_OR_RETURN(text, CenterText(&runtime, self.text(), width, fill));
  } else {
    TIDAL_RETURN_IF_ERROR(runtime.TickScan(self.text().size()));
    const int64_t missing = std::max<int64_t>(width - self.string().Length(), 0);
    constexpr int64_t kMaxBytesPerCodePoint = 4;
    TIDAL_RETURN_IF_ERROR(
        runtime.CheckSize(missing > INT64_MAX / 8 ? -1 : missing * kMaxBytesPerCodePoint));
    for (int64_t i = 0; i < missing; ++i) text += fill;
    text.insert(place == Place::kLeft ? 0 : text.size(), self.text());
  }
  return runtime.NewString(std::move(text), MarkupOf(self));
}

Result<Value> StringCenter(Runtime& runtime, const Value& self, const CallArgs& args) {
  return Justify(runtime, self, args, Place::kCenter);
}
Result<Value> StringLjust(Runtime& runtime, const Value& self, const CallArgs& args) {
  return Justify(runtime, self, args, Place::kLeft);
}
Result<Value> StringRjust(Runtime& runtime, const Value& self, const CallArgs& args) {
  return Justify(runtime, self, args, Place::kRight);
}

Result<Value> StringZfill(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_RETURN_IF_ERROR(RejectNamed(args));
  TIDAL_ASSIGN_OR_RETURN(const auto bound, Bind(args, 1, {"width"}));
  TIDAL_ASSIGN_OR_RETURN(const int64_t width, IntArg(bound[0], "width"));
  TIDAL_RETURN_IF_ERROR(runtime.CheckSize(std::max<int64_t>(width, 0)));
  TIDAL_RETURN_IF_ERROR(runtime.TickScan(self.text().size()));
  std::string text(self.text());
  const int64_t missing = std::max<int64_t>(width - self.string().Length(), 0);
  const bool has_sign = !text.empty() && (text[0] == '+' || text[0] == '-');
  text.insert(has_sign ? 1 : 0, static_cast<size_t>(missing), '0');
  return runtime.NewString(std::move(text), MarkupOf(self));
}

Result<Value> StringExpandtabs(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_ASSIGN_OR_RETURN(const auto bound, Bind(args, 0, {"tabsize"}));
  TIDAL_ASSIGN_OR_RETURN(const int64_t tab, IntArgOr(bound[0], "tabsize", 8));
  TIDAL_RETURN_IF_ERROR(runtime.CheckSize(std::max<int64_t>(tab, 0)));
  const std::string_view text = self.text();
  TIDAL_RETURN_IF_ERROR(runtime.TickScan(text.size()));
  std::string out;
  int64_t column = 0;
  for (size_t pos = 0; pos < text.size();) {
    const size_t begin = pos;
    const char32_t code = DecodeUtf8(text, &pos);
    if (code == '\t') {
      const int64_t spaces = tab > 0 ? tab - column % tab : 0;
      TIDAL_RETURN_IF_ERROR(runtime.CheckSize(static_cast<int64_t>(out.size()) + spaces));
      out.append(static_cast<size_t>(spaces), ' ');
      column += spaces;
    } else {
      out += text.substr(begin, pos - begin);
      column = code == '\n' || code == '\r' ? 0 : column + 1;
    }
  }
  return runtime.NewString(std::move(out), MarkupOf(self));
}

Result<Value> StringJoin(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_RETURN_IF_ERROR(RejectNamed(args));
  TIDAL_ASSIGN_OR_RETURN(const auto bound, Bind(args, 1, {"iterable"}));
  TIDAL_ASSIGN_OR_RETURN(const std::vector<Value> items, Drain(&runtime, bound[0]));
  std::string out;
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out += self.text();
    if (self.is_markup() && !items[i].is_markup()) {
      TIDAL_ASSIGN_OR_RETURN(const std::string text, ToText(&runtime, items[i]));
      out += EscapeHtml(text);
    } else {
      if (!items[i].is_string()) return TypeError("only str to join", items[i]);
      out += items[i].text();
    }
    TIDAL_RETURN_IF_ERROR(runtime.CheckSize(static_cast<int64_t>(out.size())));
  }
  return runtime.NewString(std::move(out), MarkupOf(self));
}

Result<Value> StringFormat(Runtime& runtime, const Value& self, const CallArgs& args) {
  return FormatBraces(&runtime, self, args);
}

Result<Value> StringFormatMap(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_RETURN_IF_ERROR(RejectNamed(args));
  TIDAL_ASSIGN_OR_RETURN(const auto bound, Bind(args, 1, {"mapping"}));
  if (!bound[0].is(Kind::kDict)) return TypeError("a dict for format_map", bound[0]);
  CallArgs named;
  for (const OrderedMap::Entry& entry : bound[0].dict().map.entries()) {
    TIDAL_RETURN_IF_ERROR(runtime.Tick());
    if (entry.key.is_string()) named.named.emplace_back(entry.key.text(), entry.value);
  }
  return FormatBraces(&runtime, self, named);
}

constexpr BuiltinEntry kStringMethods[] = {
    {"capitalize", MapMethod<Capitalize>},
    {"casefold", MapMethod<CaseFold>},
    {"center", StringCenter},
    {"count", StringCount},
    {"endswith", StringEndswith},
    {"expandtabs", StringExpandtabs},
    {"find", StringFind},
    {"format", StringFormat},
    {"format_map", StringFormatMap},
    {"index", StringIndex},
    {"isalnum", TextPredicate<SomeAndAll<IsAlnum>>},
    {"isalpha", TextPredicate<SomeAndAll<IsAlpha>>},
    {"isascii", TextPredicate<IsAscii>},
    {"isdecimal", TextPredicate<SomeAndAll<IsDecimal>>},
    {"isdigit", TextPredicate<SomeAndAll<IsDigit>>},
    {"isidentifier", TextPredicate<IsIdentifier>},
    {"islower", TextPredicate<IsLowerText>},
    {"isnumeric", TextPredicate<SomeAndAll<IsNumeric>>},
    {"isprintable", TextPredicate<AllCodePoints<IsPrintable>>},
    {"isspace", TextPredicate<SomeAndAll<IsSpace>>},
    {"istitle", TextPredicate<IsTitleText>},
    {"isupper", TextPredicate<IsUpperText>},
    {"join", StringJoin},
    {"ljust", StringLjust},
    {"lower", MapMethod<ToLower>},
    {"lstrip", StringLstrip},
    {"partition", StringPartition},
    {"removeprefix", StringRemoveprefix},
    {"removesuffix", StringRemovesuffix},
    {"replace", StringReplace},
    {"rfind", StringRfind},
    {"rindex", StringRindex},
    {"rjust", StringRjust},
    {"rpartition", StringRpartition},
    {"rsplit", StringRsplit},
    {"rstrip", StringRstrip},
    {"split", StringSplit},
    {"splitlines", StringSplitlines},
    {"startswith", StringStartswith},
    {"strip", StringStrip},
    {"swapcase", MapMethod<SwapCase>},
    {"title", MapMethod<ToTitle>},
    {"upper", MapMethod<ToUpper>},
    {"zfill", StringZfill},
};

}  // namespace

Result<Value> StringStrip(Runtime& runtime, const Value& self, const CallArgs& args) {
  return StripSides(runtime, self, args, Sides::kBoth);
}

std::span<const BuiltinEntry> StringMethods() { return kStringMethods; }

}  // namespace tidal::jinja
