// How fast this machine reads memory: the limit of a decode step, which reads every weight and the
// cache once.
#ifndef TIDAL_BASE_READ_BANDWIDTH_H_
#define TIDAL_BASE_READ_BANDWIDTH_H_

#include <cstdint>

#include "base/status.h"

namespace tidal {

// How much to read so that caches do not help: four times the last-level cache, at least 512 MB and
// at most half of the memory that is available.
int64_t ReadBufferBytes();

// GB/s (1e9 bytes) of summing a buffer of `bytes` with `num_threads` threads, the best of several
// passes. Takes about a second. kOutOfMemory where the buffer cannot be had.
Result<double> MeasureReadGbps(int64_t bytes, int num_threads);

}  // namespace tidal

#endif  // TIDAL_BASE_READ_BANDWIDTH_H_
