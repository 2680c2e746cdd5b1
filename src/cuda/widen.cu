// What      widens matrices of any type, by rows or by given row ids.
// Shapes    weight_layout.h -> [rows][cols] f32, f16 or bf16 in device memory.
// Launch    256 threads; a block widens 16 rows x 256 columns, or 1024 columns of one gathered row.
// Bytes     reads the packed matrix, writes rows * cols * (4 or 2).
// Numerics  float32 results equal DequantizeRow's to the bit. Deterministic.
// Oracle    DequantizeRow; products_test.cc.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "cuda/launch.cuh"
#include "cuda/packed_unit.cuh"
#include "cuda/widen.h"

namespace tidal {
namespace {

constexpr int kThreads = 256;
constexpr int kGatherCols = 1024;  // of one block
constexpr float kMaxF16 = 65504;

__device__ void Put(float* out, float value) { *out = value; }
__device__ void Put(__half* out, float value) {
  *out = __float2half(fminf(fmaxf(value, -kMaxF16), kMaxF16));
}
__device__ void Put(__nv_bfloat16* out, float value) { *out = __float2bfloat16(value); }

template <DType kType>
__device__ float Element(const uint8_t* data, int64_t cols, int64_t row, int64_t col) {
  if constexpr (IsTiled(kType)) {
    const uint8_t* unit =
        data + row / kTileRows * TileBytes(kType, cols) + col / UnitCols(kType) * UnitBytes(kType);
    return WeightAt<kType>(unit, static_cast<int>(row % kTileRows),
                           static_cast<int>(col % UnitCols(kType)));
  } else {
    const uint8_t* at = data + row * FloatRowBytes(kType, cols) + col * FloatBytes(kType);
    if constexpr (kType == DType::kF32) return *reinterpret_cast<const float*>(at);
    const uint16_t bits = *reinterpret_cast<const uint16_t*>(at);
    return kType == DType::kF16 ? HalfBits(bits)
                                : __uint_as_float(static_cast<uint32_t>(bits) << 16);
  }
}

template <DType kType, typename To>
__global__ void WidenKernel(const uint8_t* data, int64_t cols, int64_t row_begin, int64_t num_rows,
                            To* out, int64_t out_cols) {
  WaitForInputs();  // the product before may still read `out`
  AllowNext();
  const int64_t first_row = static_cast<int64_t>(blockIdx.y) * kTileRows;
  const int64_t col = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (col >= out_cols) return;
  const int64_t last_row = min(first_row + kTileRows, num_rows);
  for (int64_t row = first_row; row < last_row; ++row) {
    const float value = col < cols ? Element<kType>(data, cols, row_begin + row, col) : 0;
    Put(&out[row * out_cols + col], value);
  }
}

template <DType kType>
__global__ void GatherKernel(const uint8_t* data, int64_t rows, int64_t cols, const int32_t* ids,
                             float* out, int64_t out_stride) {
  WaitForInputs();
  AllowNext();
  const int64_t row = ids[blockIdx.x];
  const bool inside = row >= 0 && row < rows;
  const int64_t begin = static_cast<int64_t>(blockIdx.y) * kGatherCols;
  const int64_t end = min(begin + kGatherCols, cols);
  for (int64_t col = begin + threadIdx.x; col < end; col += kThreads) {
    out[blockIdx.x * out_stride + col] = inside ? Element<kType>(data, cols, row, col) : 0;
  }
}

struct WidenArgs {
  const uint8_t* data;
  int64_t cols;
  int64_t row_begin;
  int64_t num_rows;
  DType to;
  void* out;
  int64_t out_cols;
  cudaStream_t stream;
};

template <DType kType, typename To>
cudaError_t LaunchWiden(const WidenArgs& args) {
  const dim3 grid(static_cast<unsigned>((args.out_cols + kThreads - 1) / kThreads),
                  static_cast<unsigned>((args.num_rows + kTileRows - 1) / kTileRows));
  return Launch(WidenKernel<kType, To>, grid, kThreads, 0, args.stream, args.data, args.cols,
                args.row_begin, args.num_rows, static_cast<To*>(args.out), args.out_cols);
}

template <DType kType>
struct Widen {
  static cudaError_t Run(const WidenArgs& args) {
    switch (args.to) {
      case DType::kF32:
        return LaunchWiden<kType, float>(args);
      case DType::kF16:
        return LaunchWiden<kType, __half>(args);
      default:
        return LaunchWiden<kType, __nv_bfloat16>(args);
    }
  }
};

struct GatherArgs {
  const uint8_t* data;
  int64_t rows;
  int64_t cols;
  const int32_t* ids;
  int64_t num_ids;
  float* out;
  int64_t out_stride;
  cudaStream_t stream;
};

template <DType kType>
struct Gather {
  static cudaError_t Run(const GatherArgs& args) {
    const dim3 grid(static_cast<unsigned>(args.num_ids),
                    static_cast<unsigned>((args.cols + kGatherCols - 1) / kGatherCols));
    return Launch(GatherKernel<kType>, grid, kThreads, 0, args.stream, args.data, args.rows,
                  args.cols, args.ids, args.out, args.out_stride);
  }
};

// Op<type>::Run(args) for the type at hand.
template <template <DType> typename Op, typename Args>
cudaError_t RunForType(DType type, const Args& args) {
  switch (type) {
    case DType::kF32:
      return Op<DType::kF32>::Run(args);
    case DType::kF16:
      return Op<DType::kF16>::Run(args);
    case DType::kBF16:
      return Op<DType::kBF16>::Run(args);
    case DType::kQ4_0:
      return Op<DType::kQ4_0>::Run(args);
    case DType::kQ4_1:
      return Op<DType::kQ4_1>::Run(args);
    case DType::kQ5_0:
      return Op<DType::kQ5_0>::Run(args);
    case DType::kQ5_1:
      return Op<DType::kQ5_1>::Run(args);
    case DType::kQ8_0:
      return Op<DType::kQ8_0>::Run(args);
    case DType::kQ4_K:
      return Op<DType::kQ4_K>::Run(args);
    case DType::kQ5_K:
      return Op<DType::kQ5_K>::Run(args);
    case DType::kQ6_K:
      return Op<DType::kQ6_K>::Run(args);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace

cudaError_t WidenRows(DType type, const uint8_t* data, int64_t cols, int64_t row_begin,
                      int64_t num_rows, DType to, void* out, int64_t out_cols,
                      cudaStream_t stream) {
  return RunForType<Widen>(type, WidenArgs{.data = data,
                                           .cols = cols,
                                           .row_begin = row_begin,
                                           .num_rows = num_rows,
                                           .to = to,
                                           .out = out,
                                           .out_cols = out_cols,
                                           .stream = stream});
}

cudaError_t GatherMatrixRows(DType type, const uint8_t* data, int64_t rows, int64_t cols,
                             const int32_t* ids, int64_t num_ids, float* out, int64_t out_stride,
                             cudaStream_t stream) {
  return RunForType<Gather>(type, GatherArgs{.data = data,
                                             .rows = rows,
                                             .cols = cols,
                                             .ids = ids,
                                             .num_ids = num_ids,
                                             .out = out,
                                             .out_stride = out_stride,
                                             .stream = stream});
}

}  // namespace tidal
