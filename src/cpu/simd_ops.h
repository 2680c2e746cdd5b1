// For simd_test.cc: the vector operations of one ISA on arrays of its kLanes elements. C headers
// only, as in kernels.h: simd_ops_*_test.cc are compiled for their ISA.
#ifndef TIDAL_CPU_SIMD_OPS_H_
#define TIDAL_CPU_SIMD_OPS_H_

#include <stdint.h>

namespace tidal {

inline constexpr int kMaxLanes = 16;

struct SimdOps {
  int lanes;
  void (*exp)(const float* a, float* out);
  void (*exp_of_non_positive)(const float* a, float* out);
  void (*max)(const float* a, const float* b, float* out);
  void (*min)(const float* a, const float* b, float* out);
  void (*mul_add)(const float* a, const float* b, const float* c, float* out);
  void (*neg_mul_add)(const float* a, const float* b, const float* c, float* out);
  void (*first_n)(int n, const float* a, const float* b, float* out);
  void (*swap_pairs)(const float* a, float* out);
  void (*load_n)(const float* p, int n, float* out);
  void (*store_n)(const float* a, int n, float* p);
  float (*reduce_add)(const float* a);
  float (*reduce_max)(const float* a);
  void (*reduce_folded)(const float* vectors, float* out);  // vectors: [lanes][lanes]
  void (*transpose)(float* rows);                           // [lanes][lanes]
  void (*load_f16)(const uint16_t* p, int n, float* out);   // n = lanes: the whole load
  void (*load_bf16)(const uint16_t* p, int n, float* out);
  void (*load_i8)(const int8_t* p, int n, float* out);
  void (*load_u8)(const uint8_t* p, float* out);
  void (*store_f16)(const float* a, int n, uint16_t* p);
  void (*store_bf16)(const float* a, int n, uint16_t* p);
  void (*round_to_i8)(const float* a, int n, int8_t* p);
};

extern const SimdOps kPortableSimdOps;
#if defined(__x86_64__)
extern const SimdOps kAvx2SimdOps;
extern const SimdOps kAvx512SimdOps;
#endif

}  // namespace tidal

#endif  // TIDAL_CPU_SIMD_OPS_H_
