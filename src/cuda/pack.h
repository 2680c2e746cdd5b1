// Re-arranges packed weights on the device, from the blocks of a file to the tiles of
// weight_layout.h.
#ifndef TIDAL_CUDA_PACK_H_
#define TIDAL_CUDA_PACK_H_

#include <cstdint>
#include <cuda_runtime_api.h>

#include "cuda/weight_layout.h"

namespace tidal {

// raw: `rows` rows of blocks as a file has them, in device memory, aligned to 2 bytes. tiles: room
// for CeilDiv(rows, 16) tiles. REQUIRES: IsTiled(type).
cudaError_t PackTiles(DType type, const uint8_t* raw, int64_t rows, int64_t cols, uint8_t* tiles,
                      cudaStream_t stream);

}  // namespace tidal

#endif  // TIDAL_CUDA_PACK_H_
