// Chooses between the matrix-vector kernels and cuBLAS.
//
// Numerics, in normal mode. Up to 8 rows: float32 activations and sums (matvec_float.cu,
// matvec_half.cu, matvec_packed.cu). More: BF16 weights with bf16 activations, as such models are
// trained; F16 and all packed weights with f16, because a quantised weight rounded to bf16 is off
// by up to 2^-8 of itself and to f16 by 2^-11 only. f16's range is the reason not to: weights
// beyond 65504 do not occur, and activations are divided by kF16ActivationScale, which reaches 2
// million (beyond it they are clamped) and keeps full precision down to 0.002. F32 weights run with
// tf32, whose fraction is f16's. Sums are float32. In Precision::kF32 everything is float32, packed
// weights widened exactly; few rows with F16 and BF16 weights have x in three parts there too,
// which is all of it.
#include "cuda/products.h"

#include <algorithm>
#include <array>
#include <cublas_v2.h>
#include <utility>

#include "base/check.h"
#include "base/math.h"
#include "cuda/cuda_status.h"
#include "cuda/device_buffer.h"
#include "cuda/matvec.h"
#include "cuda/matvec_params.h"
#include "cuda/row_ops.h"
#include "cuda/upload.h"
#include "cuda/weight_layout.h"
#include "cuda/widen.h"

namespace tidal {
namespace {

constexpr int64_t kDeviceAlign = 256;
// What cuBLAS asks for on Hopper; given to it so that captured graphs need no allocation.
constexpr int64_t kWorkspaceBytes = int64_t{32} << 20;
constexpr int64_t kScratchColAlign = 8;  // rows of 16-bit scratch start at multiples of 16 bytes

Status CublasStatus(cublasStatus_t error, std::string_view what) {
  if (error == CUBLAS_STATUS_SUCCESS) return OkStatus();
  return Unsupported("{}: cuBLAS says {}", what, cublasGetStatusString(error));
}

cudaDataType_t CudaType(DType type) {
  return type == DType::kF32 ? CUDA_R_32F : (type == DType::kF16 ? CUDA_R_16F : CUDA_R_16BF);
}

struct CublasDeleter {
  void operator()(cublasHandle_t handle) const { (void)cublasDestroy(handle); }
};
using Cublas = std::unique_ptr<cublasContext, CublasDeleter>;

class CudaProductsImpl : public CudaProducts {
 public:
  explicit CudaProductsImpl(const ProductOptions& options) : options_(options) {}

  Status Init() {
    int device = 0;
    TIDAL_RETURN_IF_CUDA_ERROR(cudaGetDevice(&device));
    TIDAL_RETURN_IF_CUDA_ERROR(
        cudaDeviceGetAttribute(&device_.num_sms, cudaDevAttrMultiProcessorCount, device));
    TIDAL_RETURN_IF_CUDA_ERROR(cudaDeviceGetAttribute(
        &device_.max_shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
    TIDAL_ASSIGN_OR_RETURN(device_.maps, TensorMaps::Create());
    TIDAL_ASSIGN_OR_RETURN(upload_, WeightUpload::Create());
    TIDAL_RETURN_IF_ERROR(InitCublas());
    const int64_t elems = options_.max_rows * RoundUp(options_.max_cols, kScratchColAlign);
    const auto bytes = elems * static_cast<int64_t>(sizeof(float));
    TIDAL_ASSIGN_OR_RETURN(x_, DeviceBuffer::Create(bytes, "the rows of matrix products"));
    TIDAL_ASSIGN_OR_RETURN(up_, DeviceBuffer::Create(bytes, "the rows of matrix products"));
    return OkStatus();
  }

  Status Upload(DType dtype, int64_t rows, int64_t cols, const std::byte* source,
                uint8_t* device) override {
    if (dtype != ComputeType(dtype) && widened_.bytes() == 0) TIDAL_RETURN_IF_ERROR(MakeWidened());
    return upload_->Upload(dtype, rows, cols, source, device);
  }
  Status FinishUploads() override { return upload_->Finish(); }

  void Multiply(const ProductCall& call) override {
    if (call.num_rows == 0) return;
    if (call.num_rows > kMaxMatvecRows || !HasMatvec(call.jobs[0].weight->dtype)) {
      return MultiplyMany(call);
    }
    if (const int64_t rows = MatvecRows(call, device_); rows > 0) {
      return MultiplyFew(call, rows);
    }
    if (call.output == ProductOutput::kSiluMul || call.jobs.size() == 1) return MultiplyMany(call);
    for (const ProductJob& job : call.jobs) {  // of several types
      ProductCall one = call;
      one.jobs = std::span(&job, 1);
      Multiply(one);
    }
  }

  void GatherRows(const DeviceMatrix& matrix, const int32_t* ids, int64_t num_ids, float* out,
                  int64_t out_stride) override {
    if (num_ids == 0) return;
    status_.Note(GatherMatrixRows(matrix.dtype, matrix.data, matrix.rows, matrix.cols, ids, num_ids,
                                  out, out_stride, options_.stream),
                 "gathering embeddings");
  }

  Status status() const override { return status_.status(); }

 private:
  bool IsExact() const { return options_.precision == Precision::kF32; }

  // Packed weights have kernels for few rows that are not plain float32.
  bool HasMatvec(DType dtype) const { return !IsExact() || !IsTiled(dtype); }

  // What a matrix and its rows are multiplied as by cuBLAS.
  DType ComputeType(DType dtype) const {
    if (IsExact() || dtype == DType::kF32) return DType::kF32;
    return dtype == DType::kBF16 ? DType::kBF16 : DType::kF16;
  }
  cublasComputeType_t CublasComputeType(DType type) const {
    if (IsExact()) return CUBLAS_COMPUTE_32F_PEDANTIC;
    return type == DType::kF32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
  }

  Status InitCublas() {
    cublasHandle_t handle = nullptr;
    TIDAL_RETURN_IF_ERROR(CublasStatus(cublasCreate(&handle), "starting cuBLAS"));
    cublas_.reset(handle);
    TIDAL_RETURN_IF_ERROR(
        CublasStatus(cublasSetStream(handle, options_.stream), "starting cuBLAS"));
    TIDAL_ASSIGN_OR_RETURN(workspace_, DeviceBuffer::Create(kWorkspaceBytes, "cuBLAS"));
    return CublasStatus(cublasSetWorkspace(handle, workspace_.data(), kWorkspaceBytes),
                        "starting cuBLAS");
  }

  Status MakeWidened() {
    const int64_t padded_cols = RoundUp(options_.max_cols, kScratchColAlign);
    const int64_t padding = (padded_cols - options_.max_cols) * options_.max_matrix_elems /
                            std::max<int64_t>(options_.max_cols, 1);
    widened_elems_ = std::max(options_.max_matrix_elems + padding, padded_cols * kTileRows);
    TIDAL_ASSIGN_OR_RETURN(
        widened_, DeviceBuffer::Create(widened_elems_ * (IsExact() ? 4 : 2), "a widened matrix"));
    return OkStatus();
  }

  void MultiplyFew(const ProductCall& call, int64_t rows_at_once) {
    std::array<ProductJob, kMaxMatvecJobs> jobs;
    std::copy(call.jobs.begin(), call.jobs.end(), jobs.begin());
    ProductCall part = call;
    part.jobs = std::span(jobs.data(), call.jobs.size());
    for (int64_t row = 0; row < call.num_rows; row += rows_at_once) {
      part.num_rows = std::min(rows_at_once, call.num_rows - row);
      if (call.row_ids != nullptr) {
        part.row_ids = call.row_ids + row;
      } else {
        part.x = call.x + row * call.x_stride;
      }
      for (size_t i = 0; i < call.jobs.size(); ++i) {
        if (call.jobs[i].out == nullptr) continue;
        jobs[i].out = call.jobs[i].out + row * call.jobs[i].out_stride;
      }
      status_.Note(LaunchMatvec(part, device_, options_.stream), "a matrix-vector product");
    }
  }

  void MultiplyMany(const ProductCall& call) {
    std::array<ProductJob, kMaxMatvecJobs> jobs;
    std::copy(call.jobs.begin(), call.jobs.end(), jobs.begin());
    const bool gates = call.output == ProductOutput::kSiluMul;
    if (gates && jobs[1].out == nullptr) {
      jobs[1].out = up_.as<float>();
      jobs[1].out_stride = jobs[1].weight->rows;
    }
    const int64_t cols = jobs[0].weight->cols;
    for (size_t i = 0; i < call.jobs.size(); ++i) {
      const DType type = ComputeType(jobs[i].weight->dtype);
      if (i == 0 || type != ComputeType(jobs[i - 1].weight->dtype)) {
        status_.Note(ConvertRows(call, cols, type, x_.data(), RoundUp(cols, kScratchColAlign),
                                 options_.stream),
                     "converting rows");
      }
      MultiplyJob(jobs[i], call.num_rows, call.output == ProductOutput::kAdd);
    }
    if (gates) {
      status_.Note(SiluMul(jobs[0].out, jobs[0].out_stride, jobs[1].out, jobs[1].out_stride,
                           call.num_rows, jobs[0].weight->rows, options_.stream),
                   "a gated activation");
    }
  }

  // The converted rows times one matrix.
  void MultiplyJob(const ProductJob& job, int64_t num_rows, bool adds) {
    const DeviceMatrix& weight = *job.weight;
    if (job.bias != nullptr) {
      status_.Note((adds ? AddBias : StoreBias)(job.bias, num_rows, weight.rows, job.out,
                                                job.out_stride, options_.stream),
                   "adding a bias");
    }
    const float beta = adds || job.bias != nullptr ? 1 : 0;
    const DType type = ComputeType(weight.dtype);
    if (type == weight.dtype) {
      const int64_t stride = FloatRowBytes(type, weight.cols) / FloatBytes(type);
      return Gemm(type, weight.data, stride, weight.rows, weight.cols, num_rows, beta, job.out,
                  job.out_stride);
    }
    const int64_t stride = RoundUp(weight.cols, kScratchColAlign);
    const int64_t slice = widened_elems_ / stride / kTileRows * kTileRows;
    for (int64_t row = 0; row < weight.rows; row += slice) {
      const int64_t rows = std::min(slice, weight.rows - row);
      status_.Note(WidenRows(weight.dtype, weight.data, weight.cols, row, rows, type,
                             widened_.data(), stride, options_.stream),
                   "widening weights");
      Gemm(type, widened_.data(), stride, rows, weight.cols, num_rows, beta, job.out + row,
           job.out_stride);
    }
  }

  // out[num_rows][rows] = x [num_rows][cols] * weight[rows][cols]^T + beta * out, which column by
  // column is weight^T times x.
  void Gemm(DType type, const void* weight, int64_t weight_stride, int64_t rows, int64_t cols,
            int64_t num_rows, float beta, float* out, int64_t out_stride) {
    const float alpha = type == DType::kF16 ? kF16ActivationScale : 1;
    const cublasStatus_t error = cublasGemmEx(
        cublas_.get(), CUBLAS_OP_T, CUBLAS_OP_N, static_cast<int>(rows), static_cast<int>(num_rows),
        static_cast<int>(cols), &alpha, weight, CudaType(type), static_cast<int>(weight_stride),
        x_.data(), CudaType(type), static_cast<int>(RoundUp(cols, kScratchColAlign)), &beta, out,
        CUDA_R_32F, static_cast<int>(out_stride), CublasComputeType(type), CUBLAS_GEMM_DEFAULT);
    status_.Note(CublasStatus(error, "a matrix product"));
  }

  ProductOptions options_;
  MatvecDevice device_;
  std::unique_ptr<WeightUpload> upload_;
  DeviceBuffer workspace_;
  DeviceBuffer x_;   // converted rows, [max_rows][max_cols]
  DeviceBuffer up_;  // [max_rows][max_cols] f32: the second product of a gate that has no room
  DeviceBuffer widened_;
  int64_t widened_elems_ = 0;
  Cublas cublas_;
  StickyStatus status_;
};

}  // namespace

int64_t DeviceMatrixBytes(DType dtype, int64_t rows, int64_t cols) {
  const int64_t bytes = IsTiled(dtype) ? CeilDiv(rows, kTileRows) * TileBytes(dtype, cols)
                                       : rows * FloatRowBytes(dtype, cols);
  return RoundUp(bytes, kDeviceAlign);
}

Result<std::unique_ptr<CudaProducts>> CudaProducts::Create(const ProductOptions& options) {
  auto products = std::make_unique<CudaProductsImpl>(options);
  TIDAL_RETURN_IF_ERROR(products->Init());
  return std::unique_ptr<CudaProducts>(std::move(products));
}

}  // namespace tidal
