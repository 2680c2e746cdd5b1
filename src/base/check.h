// TIDAL_CHECK: a broken invariant of ours ends the program with file, line and message. Never for
// user input.
#ifndef TIDAL_BASE_CHECK_H_
#define TIDAL_BASE_CHECK_H_

#include <fmt/format.h>
#include <string>

namespace tidal {

[[noreturn]] void CheckFailed(const char* file, int line, const char* condition,
                              const std::string& message);

}  // namespace tidal

// TIDAL_CHECK(a == b, "a is {}, b is {}", a, b). The message is only formatted when the check
// fails.
#define TIDAL_CHECK(condition, ...)                                                     \
  do {                                                                                  \
    if (!(condition)) [[unlikely]]                                                      \
      ::tidal::CheckFailed(__FILE__, __LINE__, #condition, ::fmt::format(__VA_ARGS__)); \
  } while (false)

#endif  // TIDAL_BASE_CHECK_H_
