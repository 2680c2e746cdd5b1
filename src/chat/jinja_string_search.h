// The methods of str that look for text in text. Each is a BuiltinFn whose self is a str.
#ifndef TIDAL_CHAT_JINJA_STRING_SEARCH_H_
#define TIDAL_CHAT_JINJA_STRING_SEARCH_H_

#include "base/status.h"
#include "chat/jinja_value.h"

namespace tidal::jinja {

Result<Value> StringCount(Runtime& runtime, const Value& self, const CallArgs& args);
Result<Value> StringEndswith(Runtime& runtime, const Value& self, const CallArgs& args);
Result<Value> StringFind(Runtime& runtime, const Value& self, const CallArgs& args);
Result<Value> StringIndex(Runtime& runtime, const Value& self, const CallArgs& args);
Result<Value> StringPartition(Runtime& runtime, const Value& self, const CallArgs& args);
Result<Value> StringRemoveprefix(Runtime& runtime, const Value& self, const CallArgs& args);
Result<Value> StringRemovesuffix(Runtime& runtime, const Value& self, const CallArgs& args);
Result<Value> StringReplace(Runtime& runtime, const Value& self, const CallArgs& args);
Result<Value> StringRfind(Runtime& runtime, const Value& self, const CallArgs& args);
Result<Value> StringRindex(Runtime& runtime, const Value& self, const CallArgs& args);
Result<Value> StringRpartition(Runtime& runtime, const Value& self, const CallArgs& args);
Result<Value> StringRsplit(Runtime& runtime, const Value& self, const CallArgs& args);
Result<Value> StringSplit(Runtime& runtime, const Value& self, const CallArgs& args);
Result<Value> StringSplitlines(Runtime& runtime, const Value& self, const CallArgs& args);
Result<Value> StringStartswith(Runtime& runtime, const Value& self, const CallArgs& args);

}  // namespace tidal::jinja

#endif  // TIDAL_CHAT_JINJA_STRING_SEARCH_H_
