// The element types of weights and caches, and what a block of each is. Layouts:
// src/quant/quant_blocks.h.
#ifndef TIDAL_QUANT_DTYPE_H_
#define TIDAL_QUANT_DTYPE_H_

#include <cstdint>
#include <string>

#include "base/status.h"
#include "quant/dtype_enum.h"

namespace tidal {

struct DTypeInfo {
  const char* name;           // as GGUF tools print it: "F32", "Q4_K"
  uint32_t ggml_type;         // the type's number in a GGUF tensor directory
  int32_t quant_block_size;   // elements that share scales; 1 for float types
  int32_t quant_block_bytes;  // bytes of such a block
};

const DTypeInfo& InfoOf(DType dtype);
// The type that matrices of a rarer type are widened to when they are loaded (quant/widen.h); the
// type itself for the others.
DType KeptAs(DType dtype);
inline const char* NameOf(DType dtype) { return InfoOf(dtype).name; }

// Bytes of `elements` consecutive elements. REQUIRES: a multiple of the block size, no overflow
// (checked by the readers).
int64_t BytesOf(DType dtype, int64_t elements);

// kUnsupported, listing the supported types, for a number that is none of the above.
Result<DType> DTypeFromGgml(uint32_t ggml_type);

// The name of any type number, for listings: also of types that are not supported; "type 99" where
// it is not known.
std::string NameOfGgmlType(uint32_t ggml_type);

// Widens n consecutive elements to float32, exactly as the format defines. The scalar reference for
// every faster path. REQUIRES: n a multiple of the block size; src holds BytesOf(dtype, n) bytes,
// any alignment.
void DequantizeRow(DType dtype, const void* src, float* dst, int64_t n);

}  // namespace tidal

#endif  // TIDAL_QUANT_DTYPE_H_
