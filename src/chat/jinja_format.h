// Python's two ways to format text: "%s" % value and "{}".format(value).
//
// Errors: kInvalidArgument where Python raises, and the limits of the Runtime. Threads: as the
// Runtime.
#ifndef TIDAL_CHAT_JINJA_FORMAT_H_
#define TIDAL_CHAT_JINJA_FORMAT_H_

#include "base/status.h"
#include "chat/jinja_runtime.h"
#include "chat/jinja_value.h"

namespace tidal::jinja {

// format % arguments: a tuple gives one value per conversion, a dict those of %(name)s, anything
// else the only one. REQUIRES: format is a string.
Result<Value> FormatPercent(Runtime* runtime, const Value& format, const Value& arguments);

// format.format(*args.positional, **args.named). REQUIRES: format is a string.
Result<Value> FormatBraces(Runtime* runtime, const Value& format, const CallArgs& args);

}  // namespace tidal::jinja

#endif  // TIDAL_CHAT_JINJA_FORMAT_H_
