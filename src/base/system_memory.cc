#include "base/system_memory.h"

#include <algorithm>
#include <fmt/format.h>
#include <fstream>
#include <limits>

namespace tidal {
namespace {

constexpr int64_t kUnknown = std::numeric_limits<int64_t>::max();

int64_t ReadNumber(const char* path) {
  std::ifstream file(path);
  int64_t value = 0;
  return file >> value ? value : kUnknown;  // "max" is no number
}

int64_t MemAvailable() {
  std::ifstream file("/proc/meminfo");
  std::string key;
  int64_t kibibytes = 0;
  std::string unit;
  while (file >> key >> kibibytes && std::getline(file, unit)) {
    if (key == "MemAvailable:") return kibibytes * 1024;
  }
  return kUnknown;
}

}  // namespace

int64_t AvailableMemoryBytes() {
  int64_t available = MemAvailable();
  const int64_t limit = ReadNumber("/sys/fs/cgroup/memory.max");
  const int64_t used = ReadNumber("/sys/fs/cgroup/memory.current");
  if (limit != kUnknown && used != kUnknown)
    available = std::min(available, std::max<int64_t>(limit - used, 0));
  return available;
}

std::string FormatBytes(int64_t bytes) {
  constexpr const char* kUnits[] = {"KiB", "MiB", "GiB", "TiB"};
  if (bytes < 1024) return fmt::format("{} B", bytes);
  double value = static_cast<double>(bytes) / 1024;
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  return fmt::format("{:.{}f} {}", value, value < 10 ? 2 : 1, kUnits[unit]);
}

}  // namespace tidal
