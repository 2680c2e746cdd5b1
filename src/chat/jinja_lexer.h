// Splits a Jinja template into tokens, one at a time, with the whitespace rules of trim_blocks and
// lstrip_blocks (what chat templates are written for): text outside tags becomes kData tokens that
// are already trimmed.
//
// Threads: a Lexer belongs to one thread. Memory: the normalised copy of the source and one token.
#ifndef TIDAL_CHAT_JINJA_LEXER_H_
#define TIDAL_CHAT_JINJA_LEXER_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace tidal::jinja {

// Both count from 1; columns are bytes of the line.
struct SourcePos {
  int32_t line = 1;
  int32_t column = 1;
};

enum class TokenKind : uint8_t {
  kData,           // text: what the template prints as it stands
  kVariableBegin,  // {{
  kVariableEnd,    // }}
  kBlockBegin,     // {%
  kBlockEnd,       // %}
  kName,           // text
  kString,         // text: escapes resolved
  kInteger,        // integer
  kFloat,          // number
  kOperator,       // text: the longest operator that matches
  kEnd,
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  SourcePos pos;
  std::string text;
  int64_t integer = 0;
  double number = 0;

  bool IsOperator(std::string_view op) const { return kind == TokenKind::kOperator && text == op; }
  bool IsName(std::string_view name) const { return kind == TokenKind::kName && text == name; }
};

// How a message names the token: `'endif'`, `end of the template`, ...
std::string Describe(const Token& token);

class Lexer {
 public:
  explicit Lexer(std::string_view source);

  // The next token; kEnd for ever after the last. Errors: kInvalidArgument with line and column.
  Result<Token> Next();

 private:
  enum class State : uint8_t { kText, kBlock, kVariable };

  Result<Token> NextInTag();
  Status LexText(Token* token);
  Status OpenTag(size_t tag, Token* token);
  Status SkipComment(size_t begin);
  Status LexRaw(size_t tag, size_t body, Token* token);
  bool MatchRawBegin(size_t tag, size_t* body) const;
  bool MatchRawEnd(size_t tag, size_t* end, char* sign) const;
  bool MatchTagEnd(Token* token);
  bool LexNumber(Token* token);
  Status LexInteger(Token* token);
  Status LexString(Token* token);
  Status LexOperator(Token* token);

  std::string_view TrimBeforeTag(std::string_view text, char sign, bool is_variable) const;
  size_t SkipSpace(size_t pos) const;
  bool StartsWith(size_t pos, std::string_view text) const;
  char At(size_t pos) const { return pos < source_.size() ? source_[pos] : '\0'; }
  // Positions must not go backwards between calls.
  SourcePos PosOf(size_t offset);
  Status Error(size_t offset, std::string_view message);

  std::string source_;
  size_t pos_ = 0;
  State state_ = State::kText;
  std::vector<char> open_brackets_;
  bool has_pending_ = false;  // a tag was opened after a text that had to be returned first
  Token pending_;
  SourcePos mark_pos_;
  size_t mark_ = 0;
};

}  // namespace tidal::jinja

#endif  // TIDAL_CHAT_JINJA_LEXER_H_
