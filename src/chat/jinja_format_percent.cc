// The format of the operator %, in jinja_format.h.
#include <algorithm>
#include <cmath>

#include "chat/jinja_format.h"
#include "chat/jinja_format_spec.h"
#include "chat/jinja_number.h"
#include "chat/jinja_ops.h"
#include "chat/jinja_print.h"
#include "chat/jinja_text.h"
#include "chat/jinja_unicode.h"

namespace tidal::jinja {
namespace {

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

}  // namespace

Result<Value> FormatPercent(Runtime* runtime, const Value& format, const Value& arguments) {
  return PercentFormatter(runtime, format, arguments).Run();
}

}  // namespace tidal::jinja
