#include "model/tensor_bytes.h"

#include "base/math.h"
#include "quant/dtype.h"

namespace tidal {

std::optional<int64_t> BytesOfTensor(const GgufTensor& tensor) {
  const Result<DType> dtype = DTypeFromGgml(tensor.ggml_type);
  if (!dtype.ok()) return std::nullopt;
  const DTypeInfo& info = InfoOf(*dtype);
  int64_t quant_blocks = tensor.dims[0] / info.quant_block_size;
  if (tensor.dims[0] % info.quant_block_size != 0) return std::nullopt;
  for (int i = 1; i < tensor.num_dims; ++i) {
    if (!CheckedMul(quant_blocks, tensor.dims[i], &quant_blocks)) return std::nullopt;
  }
  int64_t bytes = 0;
  if (!CheckedMul(quant_blocks, int64_t{info.quant_block_bytes}, &bytes)) return std::nullopt;
  return bytes;
}

}  // namespace tidal
