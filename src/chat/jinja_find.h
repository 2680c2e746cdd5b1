// Search for text in text in linear time, whatever the two are: a template must not be able to make
// it quadratic.
//
// Threads: pure functions.
#ifndef TIDAL_CHAT_JINJA_FIND_H_
#define TIDAL_CHAT_JINJA_FIND_H_

#include <cstddef>
#include <string_view>

namespace tidal::jinja {

// The first place at or after `from` where `needle` stands in `text`, npos for none. An empty
// needle stands at `from`.
size_t FindText(std::string_view text, std::string_view needle, size_t from);
// The last place where all of `needle` stands in `text`.
size_t FindLastText(std::string_view text, std::string_view needle);

}  // namespace tidal::jinja

#endif  // TIDAL_CHAT_JINJA_FIND_H_
