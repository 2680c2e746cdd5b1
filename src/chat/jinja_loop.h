// The variable `loop` of a for loop.
//
// Threads: as the Runtime.
#ifndef TIDAL_CHAT_JINJA_LOOP_H_
#define TIDAL_CHAT_JINJA_LOOP_H_

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "chat/jinja_ast.h"
#include "chat/jinja_runtime.h"
#include "chat/jinja_value.h"

namespace tidal::jinja {

struct Frame;

// Gives a loop its items, filtered where the loop has a condition.
class LoopSource {
 public:
  virtual ~LoopSource() = default;
  // False at the end.
  virtual Result<bool> Next(Value* item) = 0;
  // -1 where it is not known without reading.
  virtual int64_t KnownLength() const = 0;
};

struct LoopObject : Object {
  // Null once the loop is over: a loop variable that outlives its loop sees no more items.
  LoopSource* source = nullptr;
  const ForStmt* stmt = nullptr;
  Frame* outer = nullptr;  // the scope that the loop stands in, for its recursion
  int64_t depth0 = 0;
  int64_t index0 = -1;
  int64_t length = -1;
  Value current;
  Value previous;
  std::vector<Value> ahead;  // read already, the next one last
  Value last_changed;        // the arguments of the last loop.changed()

  // Moves on to the next item; false at the end.
  Result<bool> Advance(Value* item);
  // The item after this one, null at the end.
  Result<const Value*> Peek();
  Result<int64_t> Length(Runtime* runtime);
  // The loop is over: drops what points to its surroundings.
  void Detach();
};

inline LoopObject& AsLoop(const Value& value) { return *static_cast<LoopObject*>(value.object()); }

}  // namespace tidal::jinja

#endif  // TIDAL_CHAT_JINJA_LOOP_H_
