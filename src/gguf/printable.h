// Untrusted bytes made fit for one line of a message or a table.
#ifndef TIDAL_GGUF_PRINTABLE_H_
#define TIDAL_GGUF_PRINTABLE_H_

#include <cstddef>
#include <string>
#include <string_view>

namespace tidal {

// `bytes` with control characters and whatever is not UTF-8 as \n, \t, \xNN, cut with "..." after
// about max_bytes of output. Valid UTF-8 stays as it is.
std::string Printable(std::string_view bytes, size_t max_bytes = 80);

// The same for a path, which is never cut.
std::string PrintablePath(std::string_view path);

}  // namespace tidal

#endif  // TIDAL_GGUF_PRINTABLE_H_
