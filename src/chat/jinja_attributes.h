// What `object.name` and `object[key]` give: items of the object, and the methods that the sandbox
// of chat templates allows. Also the tables of those methods.
//
// Errors: kInvalidArgument for an undefined object; anything that is not there is an undefined
// value instead. Threads: as the Runtime.
#ifndef TIDAL_CHAT_JINJA_ATTRIBUTES_H_
#define TIDAL_CHAT_JINJA_ATTRIBUTES_H_

#include <optional>
#include <span>
#include <string_view>

#include "base/status.h"
#include "chat/jinja_runtime.h"
#include "chat/jinja_value.h"

namespace tidal::jinja {

// object.name: a method before an item of that name.
Result<Value> GetAttribute(Runtime* runtime, const Value& object, std::string_view name);
// object[key]: an item before a method of that name.
Result<Value> GetItem(Runtime* runtime, const Value& object, const Value& key);
// The attribute itself and never an item: undefined where there is none.
Result<Value> GetOnlyAttribute(Runtime* runtime, const Value& object, std::string_view name);

// Sorted by name, for FindBuiltin.
std::span<const BuiltinEntry> StringMethods();
std::span<const BuiltinEntry> ListMethods();
std::span<const BuiltinEntry> TupleMethods();
std::span<const BuiltinEntry> DictMethods();
std::span<const BuiltinEntry> LoopMethods();

// Null where `name` is not in the sorted table.
const BuiltinEntry* FindBuiltin(std::span<const BuiltinEntry> table, std::string_view name);

// An attribute of the loop variable that is no method (index, first, previtem, ...); nothing for
// another name.
Result<std::optional<Value>> GetLoopAttribute(Runtime* runtime, const Value& loop,
                                              std::string_view name);
// An attribute of a macro (name, arguments, ...); nothing for another name.
Result<std::optional<Value>> GetMacroAttribute(Runtime* runtime, const Value& macro,
                                               std::string_view name);

}  // namespace tidal::jinja

#endif  // TIDAL_CHAT_JINJA_ATTRIBUTES_H_
