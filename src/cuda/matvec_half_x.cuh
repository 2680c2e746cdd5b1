// How matvec_half.cu has x: from the L2 cache to shared memory, passes ahead of where it is needed,
// and from there to registers, as the tensor cores want it.
//
// A float32 is the sum of three parts of the weights' type, each what rounding left of it: 3 * 8
// bits of BF16 are all it has. F16 has more, but no large numbers, so that the 64 columns of a pass
// and row are scaled by a power of two: bits count down to 2^-40 of the largest of them.
#ifndef TIDAL_CUDA_MATVEC_HALF_X_CUH_
#define TIDAL_CUDA_MATVEC_HALF_X_CUH_

#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <type_traits>

#include "cuda/matvec_block_ring.cuh"
#include "cuda/matvec_common.cuh"
#include "cuda/mma.cuh"
#include "cuda/shared_barrier.cuh"

namespace tidal {

// A pass is the columns of a stage, of which each warp has 64, four tensor core steps.
inline constexpr int kHalfPassCols = kBoxGroups * kBoxGroupCols;
inline constexpr int kHalfSteps = kBoxGroupCols / 16;
static_assert(kBoxGroups == kMatvecWarps);

template <DType kType>
using Half = std::conditional_t<kType == DType::kF16, __half, __nv_bfloat16>;

// The warp's first column in a pass.
__device__ __forceinline__ int FirstCol(int pass) {
  return pass * kHalfPassCols + static_cast<int>(threadIdx.x / 32) * kBoxGroupCols;
}

// What a warp needs of x in a pass: its 64 columns of each row, and of the norm's weights behind
// them, in shared memory, in quads of four columns. Quad q of a row lies at place q ^ q / 8 of its
// row, in odd rows of x with bit 1 turned over too, so that lanes read without bank conflicts.
inline constexpr int kRowQuads = kBoxGroupCols / 4;
static_assert(HalfXBytes(0) == kRowQuads * int64_t{sizeof(float4)});  // as the host counts them

// A warp's ring of these, passes ahead of the one that is worked on: x comes from the L2 cache,
// which takes long to answer while weights stream through it.
class XRing {
 public:
  static __device__ int SlotQuads(const MatvecParams& p) { return (p.num_rows + 1) * kRowQuads; }

  // quads: depth times SlotQuads; barriers: depth; both of this warp alone.
  __device__ XRing(const MatvecParams& p, float4* quads, uint64_t* barriers, int depth)
      : p_(p), quads_(quads), barriers_(barriers), depth_(depth), slot_quads_(SlotQuads(p)) {
    if (Lane() == 0) {
      for (int i = 0; i < depth; ++i) InitBarrier(&barriers[i], 32);
      FenceBarrierInits();
    }
    __syncwarp();
  }
  // Once what came before has been waited for.
  __device__ __forceinline__ void FindRows() {
#pragma unroll
    for (int i = 0; i < kRowsOfLane; ++i) rows_[i] = RowOfX(p_, FirstRow() + 2 * i);
  }

  // Starts bringing the norm's weights, or x, of a pass to a slot that is free.
  template <bool kAligned>
  __device__ __forceinline__ void BringNorm(int pass, int slot) const {
    if (p_.norm == nullptr || FirstRow() > 0) return;
    const int place = p_.num_rows * kRowQuads + (Quad() ^ Quad() / 8);
    BringQuad<kAligned>(p_.norm, FirstCol(pass) + Quad() * 4, &quads_[slot * slot_quads_ + place]);
  }
  template <bool kAligned>
  __device__ __forceinline__ void BringX(int pass, int slot) const {
    const int place = FirstRow() * kRowQuads + (Quad() ^ Quad() / 8 ^ FirstRow() * 2);
#pragma unroll
    for (int i = 0; i < kRowsOfLane; ++i) {
      if (rows_[i] == nullptr) continue;
      BringQuad<kAligned>(rows_[i], FirstCol(pass) + Quad() * 4,
                          &quads_[slot * slot_quads_ + place] + i * 2 * kRowQuads);
    }
    if constexpr (kAligned) {
      ArriveAfterCopies(&barriers_[slot]);
    } else {
      Arrive(&barriers_[slot]);
    }
  }
  // Waits for the slot of the pass that comes next; the lane's quads of it, of row lane / 4 the
  // four from 4 * (lane % 4) on.
  __device__ __forceinline__ void Take(float4 (&x)[kHalfSteps], float4 (&norm)[kHalfSteps]) const {
    const int row = Lane() / 4;
    const int c = Lane() % 4;
    const float4* slot = quads_ + take_.slot * slot_quads_;
    const float4* x_at = slot + (row < p_.num_rows ? row : 0) * kRowQuads + c * kHalfSteps;
    const float4* norm_at = slot + p_.num_rows * kRowQuads + c * kHalfSteps;
    WaitForPhase(&barriers_[take_.slot], take_.phase & 1);
#pragma unroll
    for (int i = 0; i < kHalfSteps; ++i) x[i] = x_at[i ^ c / 2 ^ row % 2 * 2];
    if (p_.norm == nullptr) return;
#pragma unroll
    for (int i = 0; i < kHalfSteps; ++i) norm[i] = norm_at[i ^ c / 2];
  }
  // Done with it; returns the slot, for another pass. By the whole warp.
  __device__ __forceinline__ int Release() {
    __syncwarp();
    const int slot = take_.slot;
    take_.Advance(depth_);
    return slot;
  }

 private:
  static constexpr int kRowsOfLane = kMaxMatvecRows / 2;
  static __device__ int Lane() { return static_cast<int>(threadIdx.x % 32); }
  static __device__ int Quad() { return Lane() % kRowQuads; }
  static __device__ int FirstRow() { return Lane() / kRowQuads; }  // then every second one

  template <bool kAligned>
  __device__ __forceinline__ void BringQuad(const float* from, int col, float4* to) const {
    if constexpr (kAligned) {
      const bool exists = col < p_.cols;
      CopyAsync16(to, from + (exists ? col : 0), exists);
    } else {
      *to = LoadQuad<false>(from, col, p_.cols);
    }
  }

  const MatvecParams& p_;
  float4* quads_;
  uint64_t* barriers_;
  int depth_;
  int slot_quads_;
  const float* rows_[kRowsOfLane] = {};
  RingPlace take_;
};

// As the first operand, whose 16 rows are two parts of the 8 rows of x: of row lane / 4, for tensor
// core step s the four columns from 16 * (lane % 4) + 4 * s on (their order does not matter as long
// as it is the weights'), the first two parts; the third ones of two steps, of which one product
// wants the upper half and the other one the lower half.
struct SplitX {
  uint32_t first[kHalfSteps][4];
  uint32_t third[kHalfSteps / 2][4];
  float unscale;  // for the sums
};

// Two columns as three pairs of halves.
template <DType kType>
__device__ __forceinline__ void SplitPair(float a, float b, uint32_t (&parts)[3]) {
#pragma unroll
  for (int i = 0; i < 3; ++i) {
    float2 rounded;
    if constexpr (kType == DType::kF16) {
      const __half2 pair = __floats2half2_rn(a, b);
      parts[i] = *reinterpret_cast<const uint32_t*>(&pair);
      rounded = __half22float2(pair);
    } else {
      const __nv_bfloat162 pair = __floats2bfloat162_rn(a, b);
      parts[i] = *reinterpret_cast<const uint32_t*>(&pair);
      rounded = __bfloat1622float2(pair);
    }
    a -= rounded.x;
    b -= rounded.y;
  }
}

// A power of two that brings `largest` to at least 2^14 and below 2^15; 1 for what has no exponent.
__device__ __forceinline__ float ScaleFor(float largest) {
  const int exponent = static_cast<int>(__float_as_uint(largest) >> 23);  // biased, largest >= 0
  if (exponent == 0 || exponent == 255) return 1;
  const int scale = min(127 + 14 + 127 - exponent, 253);
  return __uint_as_float(static_cast<uint32_t>(scale) << 23);
}

__device__ __forceinline__ float Largest(float4 v) {
  return fmaxf(fmaxf(fabsf(v.x), fabsf(v.y)), fmaxf(fabsf(v.z), fabsf(v.w)));
}

// x in parts.
template <DType kType>
__device__ __forceinline__ void Split(const float4 (&x)[kHalfSteps], SplitX* split) {
  float scale = 1;
  if constexpr (kType == DType::kF16) {
    float largest = 0;
#pragma unroll
    for (int i = 0; i < kHalfSteps; ++i) largest = fmaxf(largest, Largest(x[i]));
    largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 1));
    largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 2));
    scale = ScaleFor(largest);
  }
  split->unscale = 1 / scale;
#pragma unroll
  for (int i = 0; i < kHalfSteps; ++i) {
    float4 v = x[i];
    if constexpr (kType == DType::kF16) v = Times(v, scale);
    const float columns[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int high = 0; high < 2; ++high) {
      uint32_t parts[3];
      SplitPair<kType>(columns[2 * high], columns[2 * high + 1], parts);
      split->first[i][2 * high] = parts[0];
      split->first[i][2 * high + 1] = parts[1];
      split->third[i / 2][2 * high + i % 2] = parts[2];
    }
  }
}

}  // namespace tidal

#endif  // TIDAL_CUDA_MATVEC_HALF_X_CUH_
