#include "chat/jinja_lexer.h"

#include <algorithm>
#include <charconv>

#include "chat/jinja_number.h"
#include "chat/jinja_text.h"
#include "chat/jinja_unicode.h"

namespace tidal::jinja {
namespace {

// "\r\n" and "\r" become "\n", and one newline at the end of the template is not part of it.
std::string NormaliseNewlines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out.push_back(source[i]);
      continue;
    }
    out.push_back('\n');
    if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

int DigitValue(char c) {
  if (IsDigit(c)) return c - '0';
  const char lower = static_cast<char>(c | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : 99;
}

constexpr std::string_view kOperators[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                           "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                           ">",  "<",  "=",  ".",  ":",  "|",  ",", ";"};

}  // namespace

std::string Describe(const Token& token) {
  switch (token.kind) {
    case TokenKind::kData:
      return "template text";
    case TokenKind::kVariableBegin:
      return "'{{'";
    case TokenKind::kVariableEnd:
      return "'}}'";
    case TokenKind::kBlockBegin:
      return "'{%'";
    case TokenKind::kBlockEnd:
      return "'%}'";
    case TokenKind::kString:
      return "a string";
    case TokenKind::kInteger:
    case TokenKind::kFloat:
      return "a number";
    case TokenKind::kEnd:
      return "the end of the template";
    case TokenKind::kName:
    case TokenKind::kOperator:
      break;
  }
  return "'" + token.text + "'";
}

Lexer::Lexer(std::string_view source) : source_(NormaliseNewlines(source)) {}

SourcePos Lexer::PosOf(size_t offset) {
  for (; mark_ < offset && mark_ < source_.size(); ++mark_) {
    if (source_[mark_] == '\n') {
      ++mark_pos_.line;
      mark_pos_.column = 1;
    } else {
      ++mark_pos_.column;
    }
  }
  return mark_pos_;
}

Status Lexer::Error(size_t offset, std::string_view message) {
  const SourcePos pos = PosOf(offset);
  return InvalidArgument("line {}, column {}: {}", pos.line, pos.column, message);
}

size_t Lexer::SkipSpace(size_t pos) const {
  for (size_t next = pos; pos < source_.size() && IsSpace(DecodeUtf8(source_, &next));) pos = next;
  return pos;
}

bool Lexer::StartsWith(size_t pos, std::string_view text) const {
  return source_.compare(std::min(pos, source_.size()), text.size(), text) == 0;
}

Result<Token> Lexer::Next() {
  if (has_pending_) {
    has_pending_ = false;
    return std::move(pending_);
  }
  while (state_ == State::kText) {
    Token token;
    if (pos_ >= source_.size()) {
      token.pos = PosOf(pos_);
      return token;
    }
    const size_t before = pos_;
    TIDAL_RETURN_IF_ERROR(LexText(&token));
    if (token.kind == TokenKind::kData && token.text.empty()) {
      // A comment or an empty raw block: look further, or hand out the tag that was opened.
      if (has_pending_) {
        has_pending_ = false;
        return std::move(pending_);
      }
      TIDAL_CHECK(pos_ > before, "the lexer stands still at {}", pos_);
      continue;
    }
    return token;
  }
  return NextInTag();
}

// Text up to the next tag, which is opened too: its token waits in pending_.
Status Lexer::LexText(Token* token) {
  token->kind = TokenKind::kData;
  token->pos = PosOf(pos_);
  size_t tag = pos_;
  for (;; ++tag) {
    tag = source_.find('{', tag);
    if (tag == std::string::npos) {
      token->text = source_.substr(pos_);
      pos_ = source_.size();
      return OkStatus();
    }
    const char next = At(tag + 1);
    if (next == '{' || next == '%' || next == '#') break;
  }
  const std::string_view text = std::string_view(source_).substr(pos_, tag - pos_);
  const char sign = At(tag + 2);
  token->text = TrimBeforeTag(text, sign, At(tag + 1) == '{');
  return OpenTag(tag, token);
}

// "-" takes all space before the tag away, "+" none; without a sign, a tag that is first on its
// line takes the line's indentation (lstrip_blocks), but a printed expression does not.
std::string_view Lexer::TrimBeforeTag(std::string_view text, char sign, bool is_variable) const {
  if (sign == '-') return StripRight(text);
  if (sign == '+' || is_variable) return text;
  const size_t newline = text.rfind('\n');
  const size_t line_start = newline == std::string_view::npos ? 0 : newline + 1;
  const bool at_line_start = line_start > 0 || pos_ == 0 || source_[pos_ - 1] == '\n';
  if (at_line_start && Strip(text.substr(line_start)).empty()) return text.substr(0, line_start);
  return text;
}

Status Lexer::OpenTag(size_t tag, Token* token) {
  const char sign = At(tag + 2);
  const size_t inside = tag + (sign == '-' || sign == '+' ? 3 : 2);
  const char type = At(tag + 1);
  if (type == '#') return SkipComment(inside);
  size_t raw_body = 0;
  if (type == '%' && MatchRawBegin(tag, &raw_body)) return LexRaw(tag, raw_body, token);
  pending_ = Token();
  pending_.kind = type == '{' ? TokenKind::kVariableBegin : TokenKind::kBlockBegin;
  pending_.pos = PosOf(tag);
  has_pending_ = true;
  state_ = type == '{' ? State::kVariable : State::kBlock;
  open_brackets_.clear();
  pos_ = inside;
  return OkStatus();
}

Status Lexer::SkipComment(size_t begin) {
  const size_t end = source_.find("#}", begin);
  if (end == std::string::npos)
    return Error(begin, "expected '#}' to end this comment, found none");
  const char sign = end > begin ? source_[end - 1] : '\0';
  pos_ = end + 2;
  if (sign == '-') {
    pos_ = SkipSpace(pos_);
  } else if (sign != '+' && At(pos_) == '\n') {
    ++pos_;
  }
  return OkStatus();
}

bool Lexer::MatchRawBegin(size_t tag, size_t* body) const {
  const char sign = At(tag + 2);
  size_t pos = SkipSpace(tag + (sign == '-' || sign == '+' ? 3 : 2));
  if (!StartsWith(pos, "raw")) return false;
  pos = SkipSpace(pos + 3);
  if (StartsWith(pos, "-%}")) {
    *body = SkipSpace(pos + 3);
    return true;
  }
  *body = pos + 2;
  return StartsWith(pos, "%}");
}

bool Lexer::MatchRawEnd(size_t tag, size_t* end, char* sign) const {
  *sign = At(tag + 2);
  size_t pos = SkipSpace(tag + (*sign == '-' || *sign == '+' ? 3 : 2));
  if (!StartsWith(pos, "endraw")) return false;
  pos = SkipSpace(pos + 6);
  if (StartsWith(pos, "-%}")) {
    *end = SkipSpace(pos + 3);
    return true;
  }
  if (StartsWith(pos, "+%}")) {
    *end = pos + 3;
    return true;
  }
  *end = pos + 2 + (At(pos + 2) == '\n' ? 1 : 0);
  return StartsWith(pos, "%}");
}

// The text before the raw tag is in *token already; the raw text follows in pending_, or takes its
// place.
Status Lexer::LexRaw(size_t tag, size_t body, Token* token) {
  for (size_t at = source_.find("{%", body); at != std::string::npos;
       at = source_.find("{%", at + 1)) {
    size_t end = 0;
    char sign = '\0';
    if (!MatchRawEnd(at, &end, &sign)) continue;
    Token raw;
    raw.kind = TokenKind::kData;
    raw.pos = PosOf(body);
    pos_ = body;  // where the raw text starts decides whether it stands first on a line
    raw.text = TrimBeforeTag(std::string_view(source_).substr(body, at - body), sign, false);
    pos_ = end;
    if (token->text.empty()) {
      *token = std::move(raw);
    } else if (!raw.text.empty()) {
      pending_ = std::move(raw);
      has_pending_ = true;
    }
    return OkStatus();
  }
  return Error(tag, "expected '{% endraw %}' to end this raw block, found none");
}

// "%}" or "}}" with its sign; not inside brackets, where these are operators.
bool Lexer::MatchTagEnd(Token* token) {
  if (!open_brackets_.empty()) return false;
  const bool block = state_ == State::kBlock;
  const std::string_view mark = block ? "%}" : "}}";
  const char sign = At(pos_) == '-' || (block && At(pos_) == '+') ? At(pos_) : '\0';
  size_t end = pos_ + (sign != '\0' ? 1 : 0);
  if (!StartsWith(end, mark)) return false;
  end += mark.size();
  if (sign == '-') {
    end = SkipSpace(end);
  } else if (block && sign == '\0' && At(end) == '\n') {
    ++end;  // trim_blocks
  }
  token->kind = block ? TokenKind::kBlockEnd : TokenKind::kVariableEnd;
  pos_ = end;
  state_ = State::kText;
  return true;
}

Result<Token> Lexer::NextInTag() {
  // A tag's end with "-" eats what follows, so space is skipped only where no end stands.
  Token token;
  pos_ = SkipSpace(pos_);
  token.pos = PosOf(pos_);
  if (pos_ >= source_.size()) return token;
  if (MatchTagEnd(&token)) return token;
  if (IsDigit(source_[pos_])) {
    if (!LexNumber(&token)) TIDAL_RETURN_IF_ERROR(LexInteger(&token));
    return token;
  }
  if (source_[pos_] == '\'' || source_[pos_] == '"') {
    TIDAL_RETURN_IF_ERROR(LexString(&token));
    return token;
  }
  size_t end = pos_;
  if (IsIdentifierStart(DecodeUtf8(source_, &end))) {
    for (size_t next = end;
         next < source_.size() && IsIdentifierPart(DecodeUtf8(source_, &next));) {
      end = next;
    }
    token.kind = TokenKind::kName;
    token.text = source_.substr(pos_, end - pos_);
    pos_ = end;
    return token;
  }
  TIDAL_RETURN_IF_ERROR(LexOperator(&token));
  return token;
}

// A float has a fraction or an exponent, and is no part of `x.1.2`. False, and nothing read, where
// there is none.
bool Lexer::LexNumber(Token* token) {
  if (pos_ > 0 && source_[pos_ - 1] == '.') return false;
  std::string digits;
  size_t pos = pos_;
  const auto read_digits = [&](size_t at) {
    const size_t begin = at;
    while (IsDigit(At(at)) || (at > begin && At(at) == '_' && IsDigit(At(at + 1)))) {
      if (At(at) != '_') digits.push_back(At(at));
      ++at;
    }
    return at;
  };
  pos = read_digits(pos);
  bool is_float = false;
  if (At(pos) == '.' && IsDigit(At(pos + 1))) {
    digits.push_back('.');
    pos = read_digits(pos + 1);
    is_float = true;
  }
  if ((At(pos) | 0x20) == 'e') {
    const size_t sign = At(pos + 1) == '+' || At(pos + 1) == '-' ? 1 : 0;
    if (IsDigit(At(pos + 1 + sign))) {
      digits.push_back('e');
      if (sign != 0) digits.push_back(At(pos + 1));
      pos = read_digits(pos + 1 + sign);
      is_float = true;
    }
  }
  if (!is_float) return false;
  token->kind = TokenKind::kFloat;
  token->number = ParseDecimal(digits);
  pos_ = pos;
  return true;
}

Status Lexer::LexInteger(Token* token) {
  const size_t begin = pos_;
  int base = 10;
  const char marker = static_cast<char>(At(pos_ + 1) | 0x20);
  if (source_[pos_] == '0' && (marker == 'x' || marker == 'o' || marker == 'b')) {
    const int prefixed = marker == 'x' ? 16 : marker == 'o' ? 8 : 2;
    const size_t first = pos_ + 2 + (At(pos_ + 2) == '_' ? 1 : 0);
    if (DigitValue(At(first)) < prefixed) {
      base = prefixed;
      pos_ += 2;
    }
  }
  const bool zeros_only = base == 10 && source_[begin] == '0';
  const int digit_limit = zeros_only ? 1 : base;
  int64_t value = 0;
  bool fits = true;
  for (;;) {
    const size_t digit = pos_ + (At(pos_) == '_' ? 1 : 0);
    if (DigitValue(At(digit)) >= digit_limit) break;
    fits = fits && !__builtin_mul_overflow(value, base, &value) &&
           !__builtin_add_overflow(value, DigitValue(At(digit)), &value);
    pos_ = digit + 1;
  }
  if (!fits) return Error(begin, "this integer does not fit in 64 bits");
  token->kind = TokenKind::kInteger;
  token->integer = value;
  return OkStatus();
}

Status Lexer::LexString(Token* token) {
  const size_t begin = pos_;
  const char quote = source_[pos_];
  size_t end = pos_ + 1;
  while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
  if (end >= source_.size()) return Error(begin, "expected a quote to end this string, found none");
  token->kind = TokenKind::kString;
  const std::string_view body = std::string_view(source_).substr(begin + 1, end - begin - 1);
  const std::string problem = Unescape(body, &token->text);
  if (!problem.empty()) return Error(begin, problem);
  pos_ = end + 1;
  return OkStatus();
}

Status Lexer::LexOperator(Token* token) {
  const auto* op = std::find_if(std::begin(kOperators), std::end(kOperators),
                                [this](std::string_view o) { return StartsWith(pos_, o); });
  if (op == std::end(kOperators)) {
    size_t end = pos_;
    DecodeUtf8(source_, &end);
    return Error(pos_, fmt::format("expected an expression or the end of the tag, found '{}'",
                                   std::string_view(source_).substr(pos_, end - pos_)));
  }
  const char c = op->front();
  if (c == '(' || c == '[' || c == '{') {
    open_brackets_.push_back(c == '(' ? ')' : c == '[' ? ']' : '}');
  } else if (c == ')' || c == ']' || c == '}') {
    if (open_brackets_.empty()) return Error(pos_, fmt::format("'{}' closes nothing", c));
    if (open_brackets_.back() != c) {
      return Error(pos_, fmt::format("expected '{}', found '{}'", open_brackets_.back(), c));
    }
    open_brackets_.pop_back();
  }
  token->kind = TokenKind::kOperator;
  token->text = *op;
  pos_ += op->size();
  return OkStatus();
}

}  // namespace tidal::jinja
