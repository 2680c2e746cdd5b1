#include "chat/jinja_format.h"

#include <cmath>

#include "base/math.h"
#include "chat/jinja_attributes.h"
#include "chat/jinja_number.h"
#include "chat/jinja_ops.h"
#include "chat/jinja_print.h"
#include "chat/jinja_text.h"
#include "chat/jinja_unicode.h"

namespace tidal::jinja {
namespace {

constexpr int64_t kMaxPrecision = 400;  // beyond it a double has no digits left

// One conversion of either kind of format.
struct FormatSpec {
  std::string fill = " ";
  char align = '\0';  // < > ^ =, or none
  char sign = '-';    // - + or space
  bool alternate = false;
  bool zero = false;
  int64_t width = 0;
  char grouping = '\0';  // , or _
  int64_t precision = -1;
  char type = '\0';
};

bool IsOneOf(char c, std::string_view set) {
  return c != '\0' && set.find(c) != std::string_view::npos;
}

// Digits at text[*pos]; false where they pass 64 bits.
bool ReadCount(std::string_view text, size_t* pos, int64_t* out) {
  int64_t value = 0;
  for (; *pos < text.size() && text[*pos] >= '0' && text[*pos] <= '9'; ++*pos) {
    if (!CheckedMul<int64_t>(value, 10, &value) ||
        !CheckedAdd<int64_t>(value, text[*pos] - '0', &value)) {
      return false;
    }
  }
  *out = value;
  return true;
}

Status CheckSpec(const Runtime& runtime, const FormatSpec& spec) {
  TIDAL_RETURN_IF_ERROR(runtime.CheckSize(spec.width));
  if (spec.precision > kMaxPrecision && spec.type != 's' && spec.type != '\0') {
    return InvalidArgument("expected a precision of at most {}, found {}", kMaxPrecision,
                           spec.precision);
  }
  return OkStatus();
}

// Pads `text` to spec.width code points; `sign_size` leading bytes stay in front of '=' padding.
std::string Pad(std::string text, size_t sign_size, const FormatSpec& spec, char default_align) {
  const int64_t missing = spec.width - CountCodePoints(text);
  if (missing <= 0) return text;
  const char align = spec.align != '\0' ? spec.align : default_align;
  const int64_t before = align == '<' ? 0 : align == '^' ? missing / 2 : missing;
  std::string left;
  std::string right;
  for (int64_t i = 0; i < before; ++i) left += spec.fill;
  for (int64_t i = before; i < missing; ++i) right += spec.fill;
  if (align == '=') return text.substr(0, sign_size) + left + text.substr(sign_size);
  return left + text + right;
}

// A separator between every `size` digits before the point.
std::string Group(const std::string& digits, char separator, size_t size) {
  const size_t whole = std::min(digits.find_first_of(".eE"), digits.size());
  std::string out;
  for (size_t i = 0; i < whole; ++i) {
    if (i > 0 && (whole - i) % size == 0) out.push_back(separator);
    out.push_back(digits[i]);
  }
  return out + digits.substr(whole);
}

std::string FormatMagnitude(double magnitude, const FormatSpec& spec) {
  if (std::isinf(magnitude)) return "inf";
  if (std::isnan(magnitude)) return "nan";
  const int precision = static_cast<int>(spec.precision < 0 ? 6 : spec.precision);
  switch (spec.type | 0x20) {
    case 'e':
      return spec.alternate ? fmt::format("{:#.{}e}", magnitude, precision)
                            : fmt::format("{:.{}e}", magnitude, precision);
    case 'g':
      return spec.alternate ? fmt::format("{:#.{}g}", magnitude, precision)
                            : fmt::format("{:.{}g}", magnitude, precision);
    case 'f':
      return spec.alternate ? fmt::format("{:#.{}f}", magnitude, precision)
                            : FormatFixed(magnitude, precision);
    default:
      break;
  }
  if (spec.type == '%') return FormatFixed(magnitude * 100, precision) + "%";
  // No type: as str, or as g with a digit after the point.
  if (spec.precision < 0) return FormatFloat(magnitude);
  std::string text = fmt::format("{:.{}g}", magnitude, std::max(precision, 1));
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

std::string Signed(bool negative, const FormatSpec& spec) {
  if (negative) return "-";
  return spec.sign == '-' ? "" : std::string(1, spec.sign);
}

std::string Uppercase(std::string text) {
  for (char& c : text) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  return text;
}

std::string FormatReal(double value, const FormatSpec& spec) {
  std::string digits = FormatMagnitude(std::fabs(value), spec);
  if (IsOneOf(spec.type, "EFG")) digits = Uppercase(std::move(digits));
  if (spec.grouping != '\0') digits = Group(digits, spec.grouping, 3);
  const std::string sign = Signed(std::signbit(value) && !std::isnan(value), spec);
  return Pad(sign + digits, sign.size(), spec, '>');
}

std::string FormatInteger(int64_t value, const FormatSpec& spec) {
  const uint64_t magnitude =
      value < 0 ? ~static_cast<uint64_t>(value) + 1 : static_cast<uint64_t>(value);
  std::string digits;
  std::string prefix;
  switch (spec.type) {
    case 'x':
    case 'X':
      digits = fmt::format("{:x}", magnitude);
      prefix = "0x";
      break;
    case 'o':
      digits = fmt::format("{:o}", magnitude);
      prefix = "0o";
      break;
    case 'b':
      digits = fmt::format("{:b}", magnitude);
      prefix = "0b";
      break;
    default:
      digits = fmt::format("{}", magnitude);
  }
  if (spec.grouping != '\0') digits = Group(digits, spec.grouping, prefix.empty() ? 3 : 4);
  if (spec.precision > static_cast<int64_t>(digits.size())) {
    digits.insert(0, static_cast<size_t>(spec.precision) - digits.size(), '0');
  }
  if (spec.type == 'X') {
    digits = Uppercase(std::move(digits));
    prefix = "0X";
  }
  const std::string sign = Signed(value < 0, spec) + (spec.alternate ? prefix : "");
  return Pad(sign + digits, sign.size(), spec, '>');
}

std::string FormatString(std::string text, const FormatSpec& spec) {
  if (spec.precision >= 0) text.resize(CodePointOffset(text, spec.precision));
  return Pad(std::move(text), 0, spec, '<');
}

// ---- "%s" % value ----

class PercentFormatter {
 public:
  PercentFormatter(Runtime* runtime, const Value& format, const Value& arguments)
      : runtime_(runtime),
        text_(format.text()),
        arguments_(arguments),
        markup_(format.is_markup()) {}

  Result<Value> Run() {
    TIDAL_RETURN_IF_ERROR(runtime_->TickScan(text_.size()));
    while (pos_ < text_.size()) {
      const size_t percent = std::min(text_.find('%', pos_), text_.size());
      out_ += text_.substr(pos_, percent - pos_);
      pos_ = percent;
      if (pos_ < text_.size()) TIDAL_RETURN_IF_ERROR(Convert());
      TIDAL_RETURN_IF_ERROR(runtime_->Tick());
      TIDAL_RETURN_IF_ERROR(runtime_->CheckSize(static_cast<int64_t>(out_.size())));
    }
    const bool may_be_left = arguments_.is(Kind::kList) || arguments_.is(Kind::kDict) ||
                             arguments_.is(Kind::kRange) || arguments_.is_undefined();
    const size_t given = arguments_.is(Kind::kTuple) ? arguments_.items().size() : 1;
    if (!may_be_left && used_ < given && !named_) {
      return InvalidArgument("expected a format for each argument of %, found {} for {}", used_,
                             given);
    }
    return runtime_->NewString(std::move(out_), markup_ ? Markup::kYes : Markup::kNo);
  }

 private:
  char Peek() const { return pos_ < text_.size() ? text_[pos_] : '\0'; }

  Result<Value> NextArgument() {
    const bool tuple = arguments_.is(Kind::kTuple);
    if (used_ >= (tuple ? arguments_.items().size() : 1)) {
      return InvalidArgument("expected an argument of % for each format, found {}", used_);
    }
    ++used_;
    return tuple ? arguments_.items()[used_ - 1] : arguments_;
  }

  Result<int64_t> Star() {
    ++pos_;
    TIDAL_ASSIGN_OR_RETURN(const Value count, NextArgument());
    if (!count.is_integer()) return TypeError("an integer for * in a format", count);
    return count.integer();
  }

  Result<Value> NamedArgument() {
    const size_t end = text_.find(')', pos_);
    if (end == std::string_view::npos) return InvalidArgument("expected ')' in this format of %");
    const std::string_view name = text_.substr(pos_ + 1, end - pos_ - 1);
    pos_ = end + 1;
    named_ = true;
    if (!arguments_.is(Kind::kDict))
      return TypeError("a dict for the names in a format", arguments_);
    const Value* found = arguments_.dict().map.Find(EncodeStringKey(name));
    if (found == nullptr) return InvalidArgument("there is no key {} for a format", Quote(name));
    return *found;
  }

  Status ParseSpec(FormatSpec* spec) {
    bool left = false;
    for (; IsOneOf(Peek(), "#0- +"); ++pos_) {
      const char flag = Peek();
      if (flag == '#') spec->alternate = true;
      if (flag == '0') spec->zero = true;
      if (flag == '-') left = true;
      if (flag == '+' || (flag == ' ' && spec->sign == '-')) spec->sign = flag;
    }
    if (Peek() == '*') {
      TIDAL_ASSIGN_OR_RETURN(spec->width, Star());
      if (spec->width < 0) left = true;
      if (spec->width == INT64_MIN) return runtime_->CheckSize(-1);
      spec->width = std::abs(spec->width);
    } else if (!ReadCount(text_, &pos_, &spec->width)) {
      return runtime_->CheckSize(-1);
    }
    if (Peek() == '.') {
      ++pos_;
      if (Peek() == '*') {
        TIDAL_ASSIGN_OR_RETURN(spec->precision, Star());
        spec->precision = std::max<int64_t>(spec->precision, 0);
      } else if (!ReadCount(text_, &pos_, &spec->precision)) {
        return runtime_->CheckSize(-1);
      }
    }
    if (IsOneOf(Peek(), "hlL")) ++pos_;
    spec->align = left ? '<' : '>';
    spec->type = Peek();
    ++pos_;
    return CheckSpec(*runtime_, *spec);
  }

  Status Convert() {
    ++pos_;
    if (Peek() == '%') {
      out_ += '%';
      ++pos_;
      return OkStatus();
    }
    Value argument;
    if (Peek() == '(') {
      TIDAL_ASSIGN_OR_RETURN(argument, NamedArgument());
    }
    FormatSpec spec;
    TIDAL_RETURN_IF_ERROR(ParseSpec(&spec));
    if (spec.type == '\0') return InvalidArgument("expected a type at the end of a format of %");
    if (spec.type == '%') {
      out_ += '%';
      return OkStatus();
    }
    if (argument.is_missing()) {
      TIDAL_ASSIGN_OR_RETURN(argument, NextArgument());
    }
    TIDAL_ASSIGN_OR_RETURN(const std::string text, ConvertOne(spec, argument));
    out_ += text;
    return OkStatus();
  }

  Result<std::string> ConvertOne(FormatSpec spec, const Value& argument) {
    if (IsOneOf(spec.type, "sra")) {
      TIDAL_ASSIGN_OR_RETURN(std::string text, spec.type == 's' ? ToText(runtime_, argument)
                                                                : ToRepr(runtime_, argument));
      if (markup_ && !(spec.type == 's' && argument.is_markup())) text = EscapeHtml(text);
      return FormatString(std::move(text), spec);
    }
    if (spec.type == 'c') return ConvertCharacter(spec, argument);
    if (!IsOneOf(spec.type, "diuoxXeEfFgG")) {
      return InvalidArgument("there is no format %{}", spec.type);
    }
    if (!argument.is_number()) {
      return TypeError(fmt::format("a number for the format %{}", spec.type), argument);
    }
    if (spec.zero && spec.align != '<') {
      spec.fill = "0";
      spec.align = '=';
    }
    if (IsOneOf(spec.type, "eEfFgG")) {
      if (spec.type == 'g' || spec.type == 'G')
        spec.precision = spec.precision == 0 ? 1 : spec.precision;
      return FormatReal(argument.as_double(), spec);
    }
    return ConvertInteger(spec, argument);
  }

  static Result<std::string> ConvertInteger(const FormatSpec& spec, const Value& argument) {
    if (argument.is_integer()) return FormatInteger(argument.integer(), spec);
    int64_t truncated = 0;
    if (!IsOneOf(spec.type, "diu") || !DoubleToInt(std::trunc(argument.floating()), &truncated)) {
      return TypeError(fmt::format("an integer for the format %{}", spec.type), argument);
    }
    return FormatInteger(truncated, spec);
  }

  static Result<std::string> ConvertCharacter(const FormatSpec& spec, const Value& argument) {
    std::string text;
    if (argument.is_string() && argument.string().Length() == 1) {
      text = argument.text();
    } else if (argument.is_integer() && argument.integer() >= 0 && argument.integer() <= 0x10FFFF) {
      AppendUtf8(static_cast<char32_t>(argument.integer()), &text);
    } else {
      return TypeError("one character for the format %c", argument);
    }
    return Pad(std::move(text), 0, spec, '>');
  }

  Runtime* runtime_;
  std::string_view text_;
  const Value& arguments_;
  bool markup_;
  size_t pos_ = 0;
  size_t used_ = 0;
  bool named_ = false;
  std::string out_;
};

// ---- "{}".format(value) ----

Result<FormatSpec> ParseBraceSpec(const Runtime& runtime, std::string_view text) {
  FormatSpec spec;
  size_t pos = 0;
  const auto peek = [&](size_t ahead) {
    return pos + ahead < text.size() ? text[pos + ahead] : '\0';
  };
  if (!text.empty()) {
    size_t after_fill = 0;
    DecodeUtf8(text, &after_fill);
    if (after_fill < text.size() && IsOneOf(text[after_fill], "<>=^")) {
      spec.fill = text.substr(0, after_fill);
      spec.align = text[after_fill];
      pos = after_fill + 1;
    } else if (IsOneOf(text[0], "<>=^")) {
      spec.align = text[pos++];
    }
  }
  if (IsOneOf(peek(0), "+- ")) spec.sign = text[pos++];
  if (peek(0) == '#') {
    spec.alternate = true;
    ++pos;
  }
  if (peek(0) == '0') {
    spec.zero = true;
    ++pos;
  }
  bool fits = ReadCount(text, &pos, &spec.width);
  if (IsOneOf(peek(0), ",_")) spec.grouping = text[pos++];
  if (peek(0) == '.') {
    ++pos;
    if (peek(0) < '0' || peek(0) > '9')
      return InvalidArgument("expected digits after '.' in a format");
    fits = fits && ReadCount(text, &pos, &spec.precision);
  }
  if (!fits) return runtime.CheckSize(-1);
  if (pos < text.size()) spec.type = text[pos++];
  if (pos < text.size()) return InvalidArgument("there is no format {}", Quote(text));
  TIDAL_RETURN_IF_ERROR(CheckSpec(runtime, spec));
  return spec;
}

Result<std::string> FormatField(Runtime* runtime, const Value& value, std::string_view spec_text) {
  if (spec_text.empty()) return ToText(runtime, value);
  TIDAL_ASSIGN_OR_RETURN(FormatSpec spec, ParseBraceSpec(*runtime, spec_text));
  if (value.is_string()) {
    if (spec.type != '\0' && spec.type != 's') return TypeError("a number for this format", value);
    if (spec.align == '=' || spec.sign != '-' || spec.grouping != '\0' || spec.alternate) {
      return InvalidArgument("expected a format for a str, found {}", Quote(spec_text));
    }
    if (spec.zero && spec.align == '\0') spec.fill = "0";
    return FormatString(std::string(value.text()), spec);
  }
  if (!value.is_number()) return TypeError("a str or number for a format with options", value);
  if (spec.zero && spec.align == '\0') {
    spec.fill = "0";
    spec.align = '=';
  }
  if (value.is_integer() && (spec.type == '\0' || IsOneOf(spec.type, "dxXobn"))) {
    if (spec.precision >= 0) return InvalidArgument("an integer format takes no precision");
    return FormatInteger(value.integer(), spec);
  }
  if (spec.type != '\0' && !IsOneOf(spec.type, "eEfFgG%n")) {
    return InvalidArgument("there is no format '{}' for a value of type {}", spec.type,
                           TypeName(value));
  }
  if (spec.type == 'n') spec.type = 'g';
  return FormatReal(value.as_double(), spec);
}

class BraceFormatter {
 public:
  BraceFormatter(Runtime* runtime, const CallArgs& args, bool markup)
      : runtime_(runtime), args_(args), markup_(markup) {}

  // `level` counts the format specs around `text`; Python allows two.
  Status Format(std::string_view text, int level, std::string* out) {
    TIDAL_RETURN_IF_ERROR(runtime_->TickScan(text.size()));
    if (level > 2) return InvalidArgument("expected format specs nested at most twice");
    for (size_t pos = 0; pos < text.size();) {
      TIDAL_RETURN_IF_ERROR(runtime_->Tick());
      TIDAL_RETURN_IF_ERROR(runtime_->CheckSize(static_cast<int64_t>(out->size())));
      const char c = text[pos];
      if (c != '{' && c != '}') {
        const size_t end = std::min(text.find_first_of("{}", pos), text.size());
        *out += text.substr(pos, end - pos);
        pos = end;
      } else if (pos + 1 < text.size() && text[pos + 1] == c) {
        out->push_back(c);
        pos += 2;
      } else if (c == '}') {
        return InvalidArgument("expected '{{' before this '}}' in a format, found none");
      } else {
        TIDAL_RETURN_IF_ERROR(FormatOne(text, &pos, level, out));
      }
    }
    return OkStatus();
  }

 private:
  Status FormatOne(std::string_view text, size_t* pos, int level, std::string* out) {
    size_t end = ++*pos;
    for (int depth = 1;; ++end) {
      if (end >= text.size()) return InvalidArgument("expected '}}' in a format, found its end");
      if (text[end] == '{') ++depth;
      if (text[end] == '}' && --depth == 0) break;
    }
    std::string_view field = text.substr(*pos, end - *pos);
    *pos = end + 1;
    std::string_view spec;
    char conversion = '\0';
    const size_t mark = field.find_first_of(":!");
    if (mark != std::string_view::npos) {
      std::string_view rest = field.substr(mark);
      field = field.substr(0, mark);
      if (rest[0] == '!') {
        if (rest.size() < 2 || (rest.size() > 2 && rest[2] != ':')) {
          return InvalidArgument("expected one letter after '!' in a format");
        }
        conversion = rest[1];
        rest.remove_prefix(2);
      }
      if (!rest.empty()) spec = rest.substr(1);
    }
    TIDAL_ASSIGN_OR_RETURN(Value value, Lookup(field));
    std::string resolved_spec;
    TIDAL_RETURN_IF_ERROR(Format(spec, level + 1, &resolved_spec));
    return Append(value, conversion, resolved_spec, out);
  }

  Status Append(Value value, char conversion, std::string_view spec, std::string* out) {
    if (conversion != '\0') {
      if (!IsOneOf(conversion, "rsa"))
        return InvalidArgument("there is no conversion '!{}'", conversion);
      TIDAL_ASSIGN_OR_RETURN(std::string text,
                             conversion == 's' ? ToText(runtime_, value) : ToRepr(runtime_, value));
      TIDAL_ASSIGN_OR_RETURN(value, runtime_->NewString(std::move(text)));
    }
    TIDAL_ASSIGN_OR_RETURN(const std::string text, FormatField(runtime_, value, spec));
    *out += markup_ && !value.is_markup() ? EscapeHtml(text) : text;
    return OkStatus();
  }

  // first(.name | [key])*; the first part is a position or a name, or nothing for the next
  // position.
  Result<Value> Lookup(std::string_view field) {
    const size_t first_end = std::min(field.find_first_of(".["), field.size());
    TIDAL_ASSIGN_OR_RETURN(Value value, First(field.substr(0, first_end)));
    for (size_t pos = first_end; pos < field.size();) {
      TIDAL_RETURN_IF_ERROR(runtime_->Tick());
      if (field[pos] == '.') {
        const size_t end = std::min(field.find_first_of(".[", pos + 1), field.size());
        TIDAL_ASSIGN_OR_RETURN(value,
                               GetAttribute(runtime_, value, field.substr(pos + 1, end - pos - 1)));
        pos = end;
        continue;
      }
      const size_t end = field.find(']', pos);
      if (field[pos] != '[' || end == std::string_view::npos) {
        return InvalidArgument("expected '.name' or '[key]' in a format, found {}", Quote(field));
      }
      const std::string_view name = field.substr(pos + 1, end - pos - 1);
      int64_t index = 0;
      Value key = Value::Int(0);
      if (ParseInt(name, 10, &index) == IntParse::kOk && name[0] != '-') {
        key = Value::Int(index);
      } else {
        TIDAL_ASSIGN_OR_RETURN(key, runtime_->NewString(std::string(name)));
      }
      TIDAL_ASSIGN_OR_RETURN(value, GetItem(runtime_, value, key));
      pos = end + 1;
    }
    return value;
  }

  Result<Value> First(std::string_view name) {
    int64_t index = 0;
    if (name.empty()) {
      if (numbering_ == Numbering::kManual) return MixedNumbering();
      numbering_ = Numbering::kAutomatic;
      index = next_++;
    } else if (name.find_first_not_of("0123456789") == std::string_view::npos) {
      if (numbering_ == Numbering::kAutomatic) return MixedNumbering();
      numbering_ = Numbering::kManual;
      if (ParseInt(name, 10, &index) != IntParse::kOk) index = INT64_MAX;
    } else {
      for (const auto& [key, value] : args_.named) {
        if (key == name) return value;
      }
      return InvalidArgument("there is no argument {} for a format", Quote(name));
    }
    if (index >= static_cast<int64_t>(args_.positional.size())) {
      return InvalidArgument("expected an argument for field {} of a format, found {} arguments",
                             index, args_.positional.size());
    }
    return args_.positional[static_cast<size_t>(index)];
  }

  static Status MixedNumbering() {
    return InvalidArgument("expected all fields of a format numbered or none, found both");
  }

  enum class Numbering : uint8_t { kNone, kAutomatic, kManual };

  Runtime* runtime_;
  const CallArgs& args_;
  bool markup_;
  Numbering numbering_ = Numbering::kNone;
  int64_t next_ = 0;
};

}  // namespace

Result<Value> FormatPercent(Runtime* runtime, const Value& format, const Value& arguments) {
  return PercentFormatter(runtime, format, arguments).Run();
}

Result<Value> FormatBraces(Runtime* runtime, const Value& format, const CallArgs& args) {
  std::string out;
  TIDAL_RETURN_IF_ERROR(
      BraceFormatter(runtime, args, format.is_markup()).Format(format.text(), 0, &out));
  return runtime->NewString(std::move(out), format.is_markup() ? Markup::kYes : Markup::kNo);
}

}  // namespace tidal::jinja
