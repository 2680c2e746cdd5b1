// The constants of the GGUF format, and the limits that this reader puts on a file. Source: the
// GGUF specification in ggml's docs. All integers are little-endian.
//
//   magic "GGUF", u32 version, u64 tensor count, u64 metadata count
//   metadata entries:  string key, u32 type, value; an array's value: u32 element type, u64 count,
//   elements tensor directory:  string name, u32 number of dims, u64 dims (dims[0] contiguous), u32
//   ggml type, u64 offset padding to the alignment, then tensor data; a tensor's offset counts from
//   the start of that data
// A string is a u64 length and as many bytes. Versions 2 and 3 have the same layout; version 1 had
// 32-bit counts.
#ifndef TIDAL_GGUF_GGUF_FORMAT_H_
#define TIDAL_GGUF_GGUF_FORMAT_H_

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "gguf/gguf_file.h"

namespace tidal {

inline constexpr char kGgufMagic[4] = {'G', 'G', 'U', 'F'};
inline constexpr uint32_t kGgufMinVersion = 2;
inline constexpr uint32_t kGgufMaxVersion = 3;
inline constexpr uint32_t kGgufDefaultAlignment = 32;
inline constexpr uint32_t kGgufMinAlignment =
    8;  // so that every element and scale in a tensor is aligned
inline constexpr uint32_t kGgufNumTypes = 13;  // GgufType has the numbers 0 to 12
inline constexpr int kGgufMaxDims = 4;

// The format's limit on keys. Tensor names get the same one here (ggml itself stops at 64).
inline constexpr uint64_t kGgufMaxNameBytes = 65535;
// Far above any real model (the largest have some 100,000 tensors over all of their files).
inline constexpr uint64_t kGgufMaxEntries = 1 << 20;
inline constexpr uint64_t kGgufMaxTensors = 1 << 20;

// The fewest bytes that such a thing takes: bounds a count by what is left of the file.
inline constexpr uint64_t kGgufMinStringBytes = 8;
inline constexpr uint64_t kGgufMinEntryBytes = 8 + 1 + 4 + 1;
inline constexpr uint64_t kGgufMinTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;

// Bytes of a value of a fixed size; 0 for strings and arrays.
constexpr uint64_t GgufTypeBytes(GgufType type) {
  switch (type) {
    case GgufType::kUint8:
    case GgufType::kInt8:
    case GgufType::kBool:
      return 1;
    case GgufType::kUint16:
    case GgufType::kInt16:
      return 2;
    case GgufType::kUint32:
    case GgufType::kInt32:
    case GgufType::kFloat32:
      return 4;
    case GgufType::kUint64:
    case GgufType::kInt64:
    case GgufType::kFloat64:
      return 8;
    case GgufType::kString:
    case GgufType::kArray:
      return 0;
  }
  return 0;
}

// The format's type for a C++ number type.
template <typename T>
constexpr GgufType GgufTypeOf() {
  if constexpr (std::is_same_v<T, uint8_t>)
    return GgufType::kUint8;
  else if constexpr (std::is_same_v<T, int8_t>)
    return GgufType::kInt8;
  else if constexpr (std::is_same_v<T, uint16_t>)
    return GgufType::kUint16;
  else if constexpr (std::is_same_v<T, int16_t>)
    return GgufType::kInt16;
  else if constexpr (std::is_same_v<T, uint32_t>)
    return GgufType::kUint32;
  else if constexpr (std::is_same_v<T, int32_t>)
    return GgufType::kInt32;
  else if constexpr (std::is_same_v<T, uint64_t>)
    return GgufType::kUint64;
  else if constexpr (std::is_same_v<T, int64_t>)
    return GgufType::kInt64;
  else if constexpr (std::is_same_v<T, float>)
    return GgufType::kFloat32;
  else if constexpr (std::is_same_v<T, double>)
    return GgufType::kFloat64;
  else if constexpr (std::is_same_v<T, bool>)
    return GgufType::kBool;
  else
    static_assert(!sizeof(T), "GGUF has no such type");
}

}  // namespace tidal

#endif  // TIDAL_GGUF_GGUF_FORMAT_H_
