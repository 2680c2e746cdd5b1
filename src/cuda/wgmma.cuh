// Hopper's asynchronous tensor-core products and tensor copies, as PTX has them on sm_90a alone: in
// code for any other architecture a function here must not be reached.
//
// Products  a warpgroup (4 warps) multiplies [64, 16] [16, n]; b, and a where it is not in
//           registers, lie in shared memory. Neither the accumulators nor an `a` in registers may
//           be touched between the product and the wait for its group. PTX ISA, "Asynchronous
//           Warpgroup Level Matrix Instructions".
// Shared    a matrix is columns of blocks 64 elements (128 bytes) wide: row r of a block is 128
//           bytes at 128 * r, in which the 16 bytes number c are at c ^ (r % 8) ("128-byte
//           swizzle"). Blocks begin at multiples of 1024 bytes.
#ifndef TIDAL_CUDA_WGMMA_CUH_
#define TIDAL_CUDA_WGMMA_CUH_

#include <cstdint>
#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "cuda/mma.cuh"

namespace tidal {

constexpr int kSwizzleBytes = 128;  // of a block's row
constexpr int kSwizzleElements = 64;
constexpr int kSwizzleAlignment = 1024;

// Byte offset in a block of the 16 bytes `piece` of a row.
__host__ __device__ constexpr uint32_t SwizzledOffset(uint32_t row, uint32_t piece) {
  return row * kSwizzleBytes + ((piece ^ (row % 8)) * 16);
}

// Descriptor of an operand at a shared address, of blocks `block_bytes` apart. Where the products'
// k runs along the rows of 128 bytes, its next 16 elements are 32 bytes further, and block_bytes is
// not looked at; where k runs across them ("transposed"), they are 16 rows further.
__host__ __device__ constexpr uint64_t SwizzledMatrix(uint32_t address, uint32_t block_bytes) {
  constexpr uint64_t kEightRows = 8 * kSwizzleBytes / 16;
  constexpr uint64_t kMode128Bytes = 1;
  return ((address & 0x3ffff) >> 4) | static_cast<uint64_t>(block_bytes >> 4) << 16 |
         kEightRows << 32 | kMode128Bytes << 62;
}

// Before a warpgroup's first product, and between its own writes of accumulators or of an `a` in
// registers and the next.
__device__ __forceinline__ void FenceProducts() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
// Makes the products since the last call a group.
__device__ __forceinline__ void CommitProducts() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Waits until at most kPending groups are under way. Follow with Hold of what it waited for.
template <int kPending>
__device__ __forceinline__ void WaitForProducts() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
// Keeps the compiler from moving uses of these registers across: it does not know that products
// write, and read, them later than where it sees the instruction.
template <int kCount>
__device__ __forceinline__ void Hold(float (&registers)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(registers[i])::"memory");
}
template <int kCount>
__device__ __forceinline__ void Hold(uint32_t (&registers)[kCount][4]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) asm volatile("" : "+r"(registers[i][j])::"memory");
  }
}

// d = a b, or d += a b: [64, 128] [+]= [64, 16] [16, 128]; a and b by their descriptors, k along
// the rows of 128 bytes of both. d: as the accumulators of mma.cuh, 16 rows to a warp, 8 columns to
// 4 elements.
template <typename T>
__device__ __forceinline__ void MultiplyShared(float (&d)[64], uint64_t a, uint64_t b, bool add);
// d += a b, [64, kN] += [64, 16] [16, kN]; a in registers (mma.cuh's fragments), b transposed.
template <typename T, int kN>
__device__ __forceinline__ void MultiplyAddTransposed(float (&d)[kN / 2], const uint32_t (&a)[4],
                                                      uint64_t b);

#define TIDAL_ACCUMULATE_8(d, i)                                                              \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
      "+f"(d[i + 6]), "+f"(d[i + 7])
#define TIDAL_ACCUMULATE_16(d, i) TIDAL_ACCUMULATE_8(d, i), TIDAL_ACCUMULATE_8(d, i + 8)
#define TIDAL_REGISTERS_32                                                 \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15," \
  " %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}"
#define TIDAL_REGISTERS_40                                                           \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15,"           \
  " %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31," \
  " %32, %33, %34, %35, %36, %37, %38, %39}"
#define TIDAL_REGISTERS_48                                                           \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15,"           \
  " %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31," \
  " %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47}"
#define TIDAL_REGISTERS_64                                                           \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15,"           \
  " %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31," \
  " %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47," \
  " %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}"
#define TIDAL_DEFINE_MULTIPLY(T, TYPE)                                                       \
  template <>                                                                                \
  __device__ __forceinline__ void MultiplyShared<T>(float(&d)[64], uint64_t a, uint64_t b,   \
                                                    bool add) {                              \
    asm volatile(                                                                            \
        "{.reg .pred p; setp.ne.b32 p, %66, 0;"                                              \
        " wgmma.mma_async.sync.aligned.m64n128k16.f32." TYPE "." TYPE " " TIDAL_REGISTERS_64 \
        ", %64, %65, p, 1, 1, 0, 0;}"                                                        \
        : TIDAL_ACCUMULATE_16(d, 0), TIDAL_ACCUMULATE_16(d, 16), TIDAL_ACCUMULATE_16(d, 32), \
          TIDAL_ACCUMULATE_16(d, 48)                                                         \
        : "l"(a), "l"(b), "r"(static_cast<int32_t>(add)));                                   \
  }                                                                                          \
  template <>                                                                                \
  __device__ __forceinline__ void MultiplyAddTransposed<T, 64>(                              \
      float(&d)[32], const uint32_t(&a)[4], uint64_t b) {                                    \
    asm volatile(                                                                            \
        "{.reg .pred p; setp.ne.b32 p, %37, 0;"                                              \
        " wgmma.mma_async.sync.aligned.m64n64k16.f32." TYPE "." TYPE " " TIDAL_REGISTERS_32  \
        ", {%32, %33, %34, %35}, %36, p, 1, 1, 1;}"                                          \
        : TIDAL_ACCUMULATE_16(d, 0), TIDAL_ACCUMULATE_16(d, 16)                              \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(1));                       \
  }                                                                                          \
  template <>                                                                                \
  __device__ __forceinline__ void MultiplyAddTransposed<T, 80>(                              \
      float(&d)[40], const uint32_t(&a)[4], uint64_t b) {                                    \
    asm volatile(                                                                            \
        "{.reg .pred p; setp.ne.b32 p, %45, 0;"                                              \
        " wgmma.mma_async.sync.aligned.m64n80k16.f32." TYPE "." TYPE " " TIDAL_REGISTERS_40  \
        ", {%40, %41, %42, %43}, %44, p, 1, 1, 1;}"                                          \
        : TIDAL_ACCUMULATE_16(d, 0), TIDAL_ACCUMULATE_16(d, 16), TIDAL_ACCUMULATE_8(d, 32)   \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(1));                       \
  }                                                                                          \
  template <>                                                                                \
  __device__ __forceinline__ void MultiplyAddTransposed<T, 96>(                              \
      float(&d)[48], const uint32_t(&a)[4], uint64_t b) {                                    \
    asm volatile(                                                                            \
        "{.reg .pred p; setp.ne.b32 p, %53, 0;"                                              \
        " wgmma.mma_async.sync.aligned.m64n96k16.f32." TYPE "." TYPE " " TIDAL_REGISTERS_48  \
        ", {%48, %49, %50, %51}, %52, p, 1, 1, 1;}"                                          \
        : TIDAL_ACCUMULATE_16(d, 0), TIDAL_ACCUMULATE_16(d, 16), TIDAL_ACCUMULATE_16(d, 32)  \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(1));                       \
  }                                                                                          \
  template <>                                                                                \
  __device__ __forceinline__ void MultiplyAddTransposed<T, 128>(                             \
      float(&d)[64], const uint32_t(&a)[4], uint64_t b) {                                    \
    asm volatile(                                                                            \
        "{.reg .pred p; setp.ne.b32 p, %69, 0;"                                              \
        " wgmma.mma_async.sync.aligned.m64n128k16.f32." TYPE "." TYPE " " TIDAL_REGISTERS_64 \
        ", {%64, %65, %66, %67}, %68, p, 1, 1, 1;}"                                          \
        : TIDAL_ACCUMULATE_16(d, 0), TIDAL_ACCUMULATE_16(d, 16), TIDAL_ACCUMULATE_16(d, 32), \
          TIDAL_ACCUMULATE_16(d, 48)                                                         \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(1));                       \
  }
TIDAL_DEFINE_MULTIPLY(__half, "f16")
TIDAL_DEFINE_MULTIPLY(__nv_bfloat16, "bf16")
#undef TIDAL_DEFINE_MULTIPLY
#undef TIDAL_REGISTERS_32
#undef TIDAL_REGISTERS_40
#undef TIDAL_REGISTERS_48
#undef TIDAL_REGISTERS_64
#undef TIDAL_ACCUMULATE_16
#undef TIDAL_ACCUMULATE_8

// Barriers of some warps of a block, by number (0 is __syncthreads), of `threads` that wait or
// arrive.
__device__ __forceinline__ void WaitForThreads(int32_t number, int32_t threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(number), "r"(threads) : "memory");
}
__device__ __forceinline__ void ArriveOfThreads(int32_t number, int32_t threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(number), "r"(threads) : "memory");
}

// Between ordinary writes of memory and what products or tensor copies read of it: in the thread
// that wrote, or that starts the copies and has seen the writes.
__device__ __forceinline__ void FenceSharedForAsync() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
__device__ __forceinline__ void FenceGlobalForAsync() {
  asm volatile("fence.proxy.async.global;" ::: "memory");
}

// Copies the map's box at column x of row y to a shared address, whose bytes (zeros where the box
// is outside) the barrier counts.
__device__ __forceinline__ void CopyBox(void* shared, const CUtensorMap& map, int32_t x, int32_t y,
                                        uint64_t* barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, "
      "%3}], [%4];" ::"r"(SharedAddress(shared)),
      "l"(&map), "r"(x), "r"(y), "r"(SharedAddress(barrier))
      : "memory");
}

// The most registers that a thread of the warpgroup has from here on.
template <int kCount>
__device__ __forceinline__ void GiveRegisters() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCount));
}
template <int kCount>
__device__ __forceinline__ void TakeRegisters() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kCount));
}

// 2^x, of -infinity 0.
__device__ __forceinline__ float Exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace tidal

#endif  // TIDAL_CUDA_WGMMA_CUH_
