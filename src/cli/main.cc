#include <clocale>
#include <cstring>
#include <langinfo.h>

#include "cli/cli.h"

int main(int argc, char** argv) {
  // Line editing counts characters by the locale; a shell without one still sends UTF-8.
  std::setlocale(LC_CTYPE, "");
  if (std::strcmp(nl_langinfo(CODESET), "UTF-8") != 0) std::setlocale(LC_CTYPE, "C.UTF-8");
  return tidal::Main(argc, argv, tidal::Streams());
}
