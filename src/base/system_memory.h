// How much memory this process could still take.
#ifndef TIDAL_BASE_SYSTEM_MEMORY_H_
#define TIDAL_BASE_SYSTEM_MEMORY_H_

#include <cstdint>
#include <string>

namespace tidal {

// Bytes that can be taken without swapping: the kernel's MemAvailable, less where a cgroup allows
// less. INT64_MAX where neither can be read.
int64_t AvailableMemoryBytes();

// "1.50 GiB", "96.0 MiB", "512 B".
std::string FormatBytes(int64_t bytes);

}  // namespace tidal

#endif  // TIDAL_BASE_SYSTEM_MEMORY_H_
