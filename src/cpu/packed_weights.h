// Weight matrices repacked for the kernels, once, when a model is loaded. Layout and size:
// cpu/packed_layout.h.
#ifndef TIDAL_CPU_PACKED_WEIGHTS_H_
#define TIDAL_CPU_PACKED_WEIGHTS_H_

#include <cstddef>
#include <cstdint>

#include "base/thread_pool.h"
#include "cpu/packed_layout.h"
#include "quant/dtype.h"

namespace tidal {

// A packed matrix [rows, cols] in memory that someone else owns and keeps. A plain value.
struct PackedMatrix {
  PackedType type = PackedType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
  const std::byte* data = nullptr;  // aligned to kTileAlignment

  int64_t num_tiles() const { return (rows + kRowTile - 1) / kRowTile; }
  int64_t tile_bytes() const { return TileBytes(type, cols); }
  int64_t bytes() const { return num_tiles() * tile_bytes(); }
};

// That of KeptAs(dtype).
PackedType PackedTypeOf(DType dtype);

// Bytes of a packed [rows, cols], a multiple of kTileAlignment. REQUIRES: rows, cols >= 1, cols a
// multiple of the type's block, and the unpacked size fits int64 sixteen times.
int64_t PackedBytes(DType dtype, int64_t rows, int64_t cols);

// Packs row-major `data`, as a GGUF file has it (any alignment), into dest; rarer types are widened
// on the way, sixteen rows at a time in each thread. `data` is not needed afterwards: its pages can
// be dropped. Uses every thread of the pool; one caller at a time. REQUIRES: dest has PackedBytes
// bytes, aligned to kTileAlignment.
PackedMatrix Pack(DType dtype, int64_t rows, int64_t cols, const std::byte* data, std::byte* dest,
                  ThreadPool& pool);

}  // namespace tidal

#endif  // TIDAL_CPU_PACKED_WEIGHTS_H_
