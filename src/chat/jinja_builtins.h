// The filters, tests and global functions that templates can name.
//
// Threads: constant tables.
#ifndef TIDAL_CHAT_JINJA_BUILTINS_H_
#define TIDAL_CHAT_JINJA_BUILTINS_H_

#include <span>
#include <string_view>

#include "chat/jinja_value.h"

namespace tidal::jinja {

// Null where there is none of that name. A filter's or test's self is the value it is applied to.
const BuiltinEntry* FindFilter(std::string_view name);
const BuiltinEntry* FindTest(std::string_view name);
// range, namespace, dict, raise_exception, strftime_now.
const BuiltinEntry* FindGlobal(std::string_view name);

// A filter that Jinja has and this program has not.
bool IsUnsupportedFilter(std::string_view name);

// The tables behind FindFilter, one per file, each sorted by name.
std::span<const BuiltinEntry> TextFilters();
std::span<const BuiltinEntry> SequenceFilters();
std::span<const BuiltinEntry> SelectionFilters();
std::span<const BuiltinEntry> ValueFilters();

}  // namespace tidal::jinja

#endif  // TIDAL_CHAT_JINJA_BUILTINS_H_
