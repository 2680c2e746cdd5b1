// The format of str.format, in jinja_format.h.
#include <algorithm>

#include "chat/jinja_attributes.h"
#include "chat/jinja_format.h"
#include "chat/jinja_format_spec.h"
#include "chat/jinja_number.h"
#include "chat/jinja_print.h"
#include "chat/jinja_text.h"
#include "chat/jinja_unicode.h"

namespace tidal::jinja {
namespace {

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

Result<Value> FormatBraces(Runtime* runtime, const Value& format, const CallArgs& args) {
  std::string out;
  TIDAL_RETURN_IF_ERROR(
      BraceFormatter(runtime, args, format.is_markup()).Format(format.text(), 0, &out));
  return runtime->NewString(std::move(out), format.is_markup() ? Markup::kYes : Markup::kNo);
}

}  // namespace tidal::jinja
