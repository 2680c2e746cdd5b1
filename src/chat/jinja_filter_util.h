// What several filters share: values as text, attributes by path, keys without case.
//
// Errors: those of the Runtime and of attribute access. Threads: as the Runtime.
#ifndef TIDAL_CHAT_JINJA_FILTER_UTIL_H_
#define TIDAL_CHAT_JINJA_FILTER_UTIL_H_

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "chat/jinja_runtime.h"
#include "chat/jinja_value.h"

namespace tidal::jinja {

// str(value), which keeps what is marked as safe HTML.
struct SoftText {
  std::string text;
  Markup markup = Markup::kNo;
};
Result<SoftText> ToSoftText(Runtime* runtime, const Value& value);

inline Markup MarkupOf(const Value& value) {
  return value.is_markup() ? Markup::kYes : Markup::kNo;
}

// The lines of a text as str.splitlines gives them; with their ends if asked to.
enum class LineEnds : bool { kDrop, kKeep };
class LineReader {
 public:
  LineReader(std::string_view text, LineEnds ends) : rest_(text), ends_(ends) {}
  // False at the end.
  bool Next(std::string_view* line);

 private:
  std::string_view rest_;
  LineEnds ends_;
};

// text with every `from` replaced (the first `count` where that is not negative), checked against
// the limits before it is built.
Result<std::string> ReplaceText(Runtime* runtime, std::string_view text, std::string_view from,
                                std::string_view to, int64_t count);

// `fill` to the left and right, so that text is `width` code points long, as str.center does.
Result<std::string> CenterText(Runtime* runtime, std::string_view text, int64_t width,
                               std::string_view fill);

// str.strip([chars]), which the filter trim is too.
Result<Value> StringStrip(Runtime& runtime, const Value& self, const CallArgs& args);

// Looks up "a.b.0" in an item, one getitem for each part. Made from the attribute argument of a
// filter.
class AttributePath {
 public:
  // kMissing or None: the item itself. Otherwise a str or an integer.
  static Result<AttributePath> Make(const Value& attribute);
  // Several, separated by commas, as sort takes them.
  static Result<std::vector<AttributePath>> MakeList(const Value& attribute);

  // `fallback` takes the place of what is undefined, unless it is kMissing or None.
  Result<Value> Get(Runtime* runtime, const Value& item, const Value& fallback = Value()) const;

 private:
  struct Part {
    std::string name;
    int64_t index = -1;  // where this is not negative, name does not count
  };

  static Result<AttributePath> Parse(std::string_view text);

  std::vector<Part> parts_;
};

// A str in lower case, anything else as it is; only where the case does not matter.
enum class CaseRule : bool { kIgnore, kKeep };
Result<Value> FoldCase(Runtime* runtime, CaseRule rule, Value value);

}  // namespace tidal::jinja

#endif  // TIDAL_CHAT_JINJA_FILTER_UTIL_H_
