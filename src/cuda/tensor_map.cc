#include "cuda/tensor_map.h"

#include "base/check.h"
#include "cuda/cuda_status.h"
#include "cuda/weight_layout.h"

namespace tidal {

Result<TensorMaps> TensorMaps::Create() {
  TensorMaps maps;
  int device = 0;
  int major = 0;
  TIDAL_RETURN_IF_CUDA_ERROR(cudaGetDevice(&device));
  TIDAL_RETURN_IF_CUDA_ERROR(
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  if (major < 9) return maps;
  constexpr unsigned int kSinceCuda = 12000;
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
  TIDAL_RETURN_IF_CUDA_ERROR(cudaGetDriverEntryPointByVersion(
      "cuTensorMapEncodeTiled", &function, kSinceCuda, cudaEnableDefault, &found));
  if (found != cudaDriverEntryPointSuccess || function == nullptr) {
    return Unsupported(
        "the NVIDIA driver has no cuTensorMapEncodeTiled, which drivers of CUDA 12.0 and newer "
        "have; install a newer driver");
  }
  maps.encode_ = reinterpret_cast<decltype(maps.encode_)>(function);
  return maps;
}

cudaError_t TensorMaps::Make(const DeviceMatrix& matrix, CUtensorMap* map) const {
  TIDAL_CHECK(Exist(), "tensor maps of a device that has none");
  const bool is_f16 = matrix.dtype == DType::kF16;
  const auto row_bytes = static_cast<cuuint64_t>(FloatRowBytes(matrix.dtype, matrix.cols));
  const cuuint64_t sizes[] = {kBoxGroupCols, static_cast<cuuint64_t>(matrix.rows),
                              row_bytes / kBoxGroupBytes};
  const cuuint64_t strides[] = {row_bytes, kBoxGroupBytes};
  const cuuint32_t box[] = {kBoxGroupCols, kBoxRows, kBoxGroups};
  const cuuint32_t steps[] = {1, 1, 1};
  const CUresult result =
      encode_(map, is_f16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3,
              const_cast<uint8_t*>(matrix.data), sizes, strides, box, steps,
              CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
              CU_TENSOR_MAP_L2_PROMOTION_NONE, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

}  // namespace tidal
