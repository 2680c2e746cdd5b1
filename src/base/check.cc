#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace tidal {

void CheckFailed(const char* file, int line, const char* condition, const std::string& message) {
  std::fprintf(stderr, "%s:%d: broken invariant: %s (%s)\n", file, line, message.c_str(),
               condition);
  std::abort();
}

}  // namespace tidal
