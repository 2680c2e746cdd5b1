// strftime in the C locale.
//
// Threads: pure functions.
#ifndef TIDAL_CHAT_JINJA_STRFTIME_H_
#define TIDAL_CHAT_JINJA_STRFTIME_H_

#include <string>
#include <string_view>

#include "base/status.h"
#include "chat/chat_template.h"

namespace tidal::jinja {

// Whether every field is in its range and the day is in the month.
bool IsValidTime(const TemplateTime& time);

// `format` with its %-fields filled in; "%-d" and the like drop the padding. A field that the C
// library does not have stays as it is; there is no time zone, so %z and %Z are empty. REQUIRES:
// IsValidTime(time).
std::string FormatTime(const TemplateTime& time, std::string_view format);

}  // namespace tidal::jinja

#endif  // TIDAL_CHAT_JINJA_STRFTIME_H_
