// How many bytes a tensor of a GGUF file has.
#ifndef TIDAL_MODEL_TENSOR_BYTES_H_
#define TIDAL_MODEL_TENSOR_BYTES_H_

#include <cstdint>
#include <optional>

#include "gguf/gguf_file.h"

namespace tidal {

// From its type and dimensions, whether or not the file holds them all. Nothing where the type is
// not supported or the dimensions do not fit it.
std::optional<int64_t> BytesOfTensor(const GgufTensor& tensor);

}  // namespace tidal

#endif  // TIDAL_MODEL_TENSOR_BYTES_H_
