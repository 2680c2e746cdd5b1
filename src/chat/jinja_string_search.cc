#include "chat/jinja_string_search.h"

#include <algorithm>

#include "chat/jinja_args.h"
#include "chat/jinja_filter_util.h"
#include "chat/jinja_find.h"
#include "chat/jinja_ops.h"
#include "chat/jinja_text.h"
#include "chat/jinja_unicode.h"

namespace tidal::jinja {
namespace {

// The part of a str that find(sub, start, end) and its like look at.
struct Window {
  std::string_view text;
  int64_t start = 0;   // in code points
  bool valid = false;  // false where start is beyond the end: nothing is found there, not even ""
};

Result<int64_t> WindowBound(const Value& bound, int64_t otherwise, int64_t length) {
  if (bound.is_missing() || bound.is_none()) return otherwise;
  TIDAL_ASSIGN_OR_RETURN(int64_t index, IntArg(bound, "start or end"));
  if (index < 0) index = std::max<int64_t>(index + length, 0);
  return index;
}

Result<Window> MakeWindow(Runtime* runtime, const Value& self, const Value& start,
                          const Value& end) {
  const StringObject& string = self.string();
  Window window;
  window.text = string.text;
  window.valid = true;
  if (start.is_missing() && end.is_missing()) return window;
  TIDAL_RETURN_IF_ERROR(runtime->TickScan(string.text.size()));
  const int64_t length = string.Length();
  TIDAL_ASSIGN_OR_RETURN(window.start, WindowBound(start, 0, length));
  TIDAL_ASSIGN_OR_RETURN(int64_t stop, WindowBound(end, length, length));
  stop = std::min(stop, length);
  window.valid = window.start <= stop;
  if (!window.valid) return window;
  const size_t begin_byte = CodePointOffset(string.text, window.start);
  window.text.remove_prefix(begin_byte);
  window.text = window.text.substr(0, CodePointOffset(window.text, stop - window.start));
  return window;
}

struct SearchArgs {
  Window window;
  Value sub;
};

Result<SearchArgs> BindSearch(Runtime* runtime, const Value& self, const CallArgs& args) {
  TIDAL_RETURN_IF_ERROR(RejectNamed(args));
  TIDAL_ASSIGN_OR_RETURN(const auto bound, Bind(args, 1, {"sub", "start", "end"}));
  SearchArgs search;
  TIDAL_ASSIGN_OR_RETURN(search.window, MakeWindow(runtime, self, bound[1], bound[2]));
  search.sub = bound[0];
  return search;
}

enum class From : bool { kLeft, kRight };

// The index of code points of the first or last occurrence, -1 for none.
Result<int64_t> Search(Runtime* runtime, const Value& self, const CallArgs& args, From from) {
  TIDAL_ASSIGN_OR_RETURN(const SearchArgs search, BindSearch(runtime, self, args));
  TIDAL_ASSIGN_OR_RETURN(const std::string_view sub, TextArg(search.sub, "sub"));
  if (!search.window.valid) return -1;
  const std::string_view text = search.window.text;
  TIDAL_RETURN_IF_ERROR(runtime->TickScan(text.size()));
  const size_t at = from == From::kLeft ? FindText(text, sub, 0) : FindLastText(text, sub);
  if (at == std::string_view::npos) return -1;
  return search.window.start + CountCodePoints(text.substr(0, at));
}

Result<Value> SearchOrFail(Runtime* runtime, const Value& self, const CallArgs& args, From from) {
  TIDAL_ASSIGN_OR_RETURN(const int64_t at, Search(runtime, self, args, from));
  if (at < 0) return InvalidArgument("expected the text to look for to be there, found it nowhere");
  return Value::Int(at);
}

// startswith and endswith: `sub` is a str or a tuple of them.
Result<Value> MatchEnd(Runtime* runtime, const Value& self, const CallArgs& args, From from) {
  TIDAL_ASSIGN_OR_RETURN(const SearchArgs search, BindSearch(runtime, self, args));
  const auto matches = [&](const Value& candidate) -> Result<bool> {
    TIDAL_ASSIGN_OR_RETURN(const std::string_view sub, TextArg(candidate, "prefix or suffix"));
    TIDAL_RETURN_IF_ERROR(runtime->TickCopy(sub.size()));
    if (!search.window.valid) return false;
    return from == From::kLeft ? search.window.text.substr(0, sub.size()) == sub
                               : search.window.text.ends_with(sub);
  };
  if (!search.sub.is(Kind::kTuple)) {
    TIDAL_ASSIGN_OR_RETURN(const bool found, matches(search.sub));
    return Value::Bool(found);
  }
  for (const Value& candidate : search.sub.items()) {
    TIDAL_RETURN_IF_ERROR(runtime->Tick());
    TIDAL_ASSIGN_OR_RETURN(const bool found, matches(candidate));
    if (found) return Value::Bool(true);
  }
  return Value::Bool(false);
}

// Pieces of a str as a list of str, each marked as it is.
class PieceList {
 public:
  PieceList(Runtime* runtime, const Value& self) : runtime_(runtime), markup_(MarkupOf(self)) {}

  Status Add(std::string_view piece) {
    TIDAL_RETURN_IF_ERROR(runtime_->Tick());
    TIDAL_ASSIGN_OR_RETURN(Value value, runtime_->NewString(std::string(piece), markup_));
    pieces_.push_back(std::move(value));
    return OkStatus();
  }
  void Reverse() { std::reverse(pieces_.begin(), pieces_.end()); }
  Result<Value> ToList() { return runtime_->NewList(std::move(pieces_)); }
  Result<Value> ToTuple() { return runtime_->NewTuple(std::move(pieces_)); }

 private:
  Runtime* runtime_;
  Markup markup_;
  std::vector<Value> pieces_;
};

// The first code point of `text` that is space, or its end.
size_t FindSpace(std::string_view text) {
  size_t pos = 0;
  for (size_t next = 0; pos < text.size() && !IsSpace(DecodeUtf8(text, &next));) pos = next;
  return pos;
}

Status SplitAtSpace(std::string_view text, int64_t limit, PieceList* pieces) {
  text = StripLeft(text);
  for (int64_t done = 0; !text.empty(); ++done) {
    if (done == limit) return pieces->Add(text);
    const size_t end = FindSpace(text);
    TIDAL_RETURN_IF_ERROR(pieces->Add(text.substr(0, end)));
    text = StripLeft(text.substr(end));
  }
  return OkStatus();
}

// The start of the last word of `text`, which ends without space.
size_t LastWordStart(std::string_view text) {
  // Space is found from the right by stripping words: the longest suffix without space.
  size_t start = text.size();
  while (start > 0) {
    size_t previous = start - 1;
    while (previous > 0 && (static_cast<unsigned char>(text[previous]) & 0xC0) == 0x80) --previous;
    size_t next = previous;
    const char32_t code = DecodeUtf8(text, &next);
    if (next != start) previous = start - 1;  // not valid UTF-8: one byte, which is no space
    if (next == start && IsSpace(code)) break;
    start = previous;
  }
  return start;
}

Status RsplitAtSpace(std::string_view text, int64_t limit, PieceList* pieces) {
  text = StripRight(text);
  for (int64_t done = 0; !text.empty(); ++done) {
    if (done == limit) return pieces->Add(text);
    const size_t start = LastWordStart(text);
    TIDAL_RETURN_IF_ERROR(pieces->Add(text.substr(start)));
    text = StripRight(text.substr(0, start));
  }
  return OkStatus();
}

Status SplitAtText(std::string_view text, std::string_view separator, int64_t limit,
                   PieceList* pieces) {
  size_t pos = 0;
  for (int64_t done = 0; done != limit; ++done) {
    const size_t at = FindText(text, separator, pos);
    if (at == std::string_view::npos) break;
    TIDAL_RETURN_IF_ERROR(pieces->Add(text.substr(pos, at - pos)));
    pos = at + separator.size();
  }
  return pieces->Add(text.substr(pos));
}

Status RsplitAtText(std::string_view text, std::string_view separator, int64_t limit,
                    PieceList* pieces) {
  // Searched backwards as FindLastText does, but reversed only once.
  const std::string backwards(text.rbegin(), text.rend());
  const std::string wanted(separator.rbegin(), separator.rend());
  size_t end = text.size();
  for (int64_t done = 0; done != limit; ++done) {
    const size_t at = FindText(backwards, wanted, text.size() - end);
    if (at == std::string_view::npos) break;
    const size_t after = text.size() - at;
    TIDAL_RETURN_IF_ERROR(pieces->Add(text.substr(after, end - after)));
    end = after - separator.size();
  }
  return pieces->Add(text.substr(0, end));
}

Result<Value> Split(Runtime* runtime, const Value& self, const CallArgs& args, From from) {
  TIDAL_ASSIGN_OR_RETURN(const auto bound, Bind(args, 0, {"sep", "maxsplit"}));
  TIDAL_ASSIGN_OR_RETURN(int64_t limit, IntArgOr(bound[1], "maxsplit", -1));
  limit = std::max<int64_t>(limit, -1);
  const std::string_view text = self.text();
  TIDAL_RETURN_IF_ERROR(runtime->TickScan(text.size()));
  PieceList pieces(runtime, self);
  if (bound[0].is_missing() || bound[0].is_none()) {
    TIDAL_RETURN_IF_ERROR(from == From::kLeft ? SplitAtSpace(text, limit, &pieces)
                                              : RsplitAtSpace(text, limit, &pieces));
  } else {
    TIDAL_ASSIGN_OR_RETURN(const std::string_view separator, TextArg(bound[0], "sep"));
    if (separator.empty()) return InvalidArgument("expected a separator to split at, found ''");
    TIDAL_RETURN_IF_ERROR(from == From::kLeft ? SplitAtText(text, separator, limit, &pieces)
                                              : RsplitAtText(text, separator, limit, &pieces));
  }
  if (from == From::kRight) pieces.Reverse();
  return pieces.ToList();
}

Result<Value> Partition(Runtime* runtime, const Value& self, const CallArgs& args, From from) {
  TIDAL_RETURN_IF_ERROR(RejectNamed(args));
  TIDAL_ASSIGN_OR_RETURN(const auto bound, Bind(args, 1, {"sep"}));
  TIDAL_ASSIGN_OR_RETURN(const std::string_view separator, TextArg(bound[0], "sep"));
  if (separator.empty()) return InvalidArgument("expected a separator to split at, found ''");
  const std::string_view text = self.text();
  TIDAL_RETURN_IF_ERROR(runtime->TickScan(text.size()));
  const size_t at =
      from == From::kLeft ? FindText(text, separator, 0) : FindLastText(text, separator);
  PieceList pieces(runtime, self);
  if (at == std::string_view::npos) {
    TIDAL_RETURN_IF_ERROR(pieces.Add(from == From::kLeft ? text : ""));
    TIDAL_RETURN_IF_ERROR(pieces.Add(""));
    TIDAL_RETURN_IF_ERROR(pieces.Add(from == From::kLeft ? "" : text));
  } else {
    TIDAL_RETURN_IF_ERROR(pieces.Add(text.substr(0, at)));
    TIDAL_RETURN_IF_ERROR(pieces.Add(separator));
    TIDAL_RETURN_IF_ERROR(pieces.Add(text.substr(at + separator.size())));
  }
  return pieces.ToTuple();
}

}  // namespace

Result<Value> StringCount(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_ASSIGN_OR_RETURN(const SearchArgs search, BindSearch(&runtime, self, args));
  TIDAL_ASSIGN_OR_RETURN(const std::string_view sub, TextArg(search.sub, "sub"));
  if (!search.window.valid) return Value::Int(0);
  const std::string_view text = search.window.text;
  TIDAL_RETURN_IF_ERROR(runtime.TickScan(text.size()));
  if (sub.empty()) return Value::Int(CountCodePoints(text) + 1);
  int64_t count = 0;
  for (size_t at = FindText(text, sub, 0); at != std::string_view::npos;
       at = FindText(text, sub, at + sub.size())) {
    ++count;
  }
  return Value::Int(count);
}

Result<Value> StringEndswith(Runtime& runtime, const Value& self, const CallArgs& args) {
  return MatchEnd(&runtime, self, args, From::kRight);
}

Result<Value> StringFind(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_ASSIGN_OR_RETURN(const int64_t at, Search(&runtime, self, args, From::kLeft));
  return Value::Int(at);
}

Result<Value> StringIndex(Runtime& runtime, const Value& self, const CallArgs& args) {
  return SearchOrFail(&runtime, self, args, From::kLeft);
}

Result<Value> StringPartition(Runtime& runtime, const Value& self, const CallArgs& args) {
  return Partition(&runtime, self, args, From::kLeft);
}

Result<Value> StringRemoveprefix(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_RETURN_IF_ERROR(RejectNamed(args));
  TIDAL_ASSIGN_OR_RETURN(const auto bound, Bind(args, 1, {"prefix"}));
  TIDAL_ASSIGN_OR_RETURN(const std::string_view prefix, TextArg(bound[0], "prefix"));
  std::string_view text = self.text();
  if (text.starts_with(prefix)) text.remove_prefix(prefix.size());
  return runtime.NewString(std::string(text), MarkupOf(self));
}

Result<Value> StringRemovesuffix(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_RETURN_IF_ERROR(RejectNamed(args));
  TIDAL_ASSIGN_OR_RETURN(const auto bound, Bind(args, 1, {"suffix"}));
  TIDAL_ASSIGN_OR_RETURN(const std::string_view suffix, TextArg(bound[0], "suffix"));
  std::string_view text = self.text();
  if (text.ends_with(suffix)) text.remove_suffix(suffix.size());
  return runtime.NewString(std::string(text), MarkupOf(self));
}

Result<Value> StringReplace(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_RETURN_IF_ERROR(RejectNamed(args));
  TIDAL_ASSIGN_OR_RETURN(const auto bound, Bind(args, 2, {"old", "new", "count"}));
  TIDAL_ASSIGN_OR_RETURN(const std::string_view from, TextArg(bound[0], "old"));
  TIDAL_ASSIGN_OR_RETURN(const std::string_view to, TextArg(bound[1], "new"));
  TIDAL_ASSIGN_OR_RETURN(const int64_t count, IntArgOr(bound[2], "count", -1));
  const bool escape = self.is_markup() && !bound[1].is_markup();
  TIDAL_ASSIGN_OR_RETURN(
      std::string text,
      ReplaceText(&runtime, self.text(), from, escape ? EscapeHtml(to) : std::string(to), count));
  return runtime.NewString(std::move(text), MarkupOf(self));
}

Result<Value> StringRfind(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_ASSIGN_OR_RETURN(const int64_t at, Search(&runtime, self, args, From::kRight));
  return Value::Int(at);
}

Result<Value> StringRindex(Runtime& runtime, const Value& self, const CallArgs& args) {
  return SearchOrFail(&runtime, self, args, From::kRight);
}

Result<Value> StringRpartition(Runtime& runtime, const Value& self, const CallArgs& args) {
  return Partition(&runtime, self, args, From::kRight);
}

Result<Value> StringRsplit(Runtime& runtime, const Value& self, const CallArgs& args) {
  return Split(&runtime, self, args, From::kRight);
}

Result<Value> StringSplit(Runtime& runtime, const Value& self, const CallArgs& args) {
  return Split(&runtime, self, args, From::kLeft);
}

Result<Value> StringSplitlines(Runtime& runtime, const Value& self, const CallArgs& args) {
  TIDAL_ASSIGN_OR_RETURN(const auto bound, Bind(args, 0, {"keepends"}));
  TIDAL_RETURN_IF_ERROR(runtime.TickScan(self.text().size()));
  PieceList pieces(&runtime, self);
  const LineEnds ends = IsTrue(bound[0]) ? LineEnds::kKeep : LineEnds::kDrop;
  LineReader lines(self.text(), ends);
  for (std::string_view line; lines.Next(&line);) {
    TIDAL_RETURN_IF_ERROR(pieces.Add(line));
  }
  return pieces.ToList();
}

Result<Value> StringStartswith(Runtime& runtime, const Value& self, const CallArgs& args) {
  return MatchEnd(&runtime, self, args, From::kLeft);
}

}  // namespace tidal::jinja
