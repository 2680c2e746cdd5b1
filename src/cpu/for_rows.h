// The rows of a step, shared out to threads.
#ifndef TIDAL_CPU_FOR_ROWS_H_
#define TIDAL_CPU_FOR_ROWS_H_

#include <cstdint>

#include "base/thread_pool.h"

namespace tidal {

// body(row) for every row below `rows`. Rows are a microsecond or more each, so a region pays from
// a few on.
template <typename Body>
void ForRows(ThreadPool* pool, int64_t rows, const Body& body) {
  constexpr int64_t kRowsPerPiece = 4;
  pool->ParallelFor(rows, kRowsPerPiece, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) body(row);
  });
}

}  // namespace tidal

#endif  // TIDAL_CPU_FOR_ROWS_H_
