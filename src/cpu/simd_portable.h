// The vector operations that every kernel is written in, here on plain GCC and Clang vectors.
//
// simd_avx2.h and simd_avx512.h define the same names on their instructions. Exactly one of the
// three is included inside an ISA's namespace by that ISA's kernels_*.cc, before the *-inl.h files;
// hence no include guard, no #include and nothing with external linkage. The file that includes it
// has <stdint.h>, <string.h> and, where needed, <immintrin.h>.
//
// What the names mean, the same in all three:
//   kLanes        floats in an F32: 8, 8 and 16
//   LoadU, StoreU any alignment
//   LoadN, StoreN and the other *N: the first n elements only, 0 <= n <= kLanes; the other lanes
//                 are loaded as 0
//   MulAdd        a * b + c, fused where the ISA has it
//   NegMulAdd     c - a * b, likewise
//   Max, Min      b where either is NaN
//   ReduceAdd     over the lanes, as a balanced tree: one order per ISA
//   FoldPair      with ReduceFolded: the sums of the lanes of kLanes vectors, each in the order of
//                 ReduceAdd, as one vector; folded[i] is FoldPair(vector i, vector i + kLanes / 2)
//   Transpose     of kLanes vectors as the rows of a square
//   LoadF16 ...   as in base/float16.h: to nearest even, subnormals kept
//   RoundToI32    to nearest even; |a| < 2^22
//   StoreI8       the low byte of each lane; -128 <= lane <= 127
//   StoreRounded32  32 floats times a factor, rounded, as bytes; within -128 .. 127
//   Exp           e^a, relative error below 2^-22.5 (1.4 ulp); 0 below ln(2^-126), so subnormal
//                 results are flushed and Exp(-inf) is 0; above 88.37 the result for 88.37, never
//                 infinity; NaN for NaN
//   ExpOfNonPositive  e^a for a <= 0 in two thirds of the operations; relative error below
//                 2^-22 + |a| 2^-23.5; never below 2^-126; a is no NaN
//   FirstN        lanes below n from a, the others from b
//   LanesAtLeast  bit i: lane i of a >= lane i of b
//   SwapPairs     the lanes 1, 0, 3, 2, ...
//   InRegister    a, loaded once: compilers repeat a load in each instruction that can have an
//                 operand in memory, and loads are what such code runs out of
//   Prefetch      a hint to read the cache line at p soon, into the second-level cache: it takes in
//                 several times as many lines at once as the first, whose few would be the limit

#define TIDAL_INLINE static inline __attribute__((always_inline))
#define TIDAL_INLINE_MEMBER __attribute__((always_inline))

typedef float F32x4 __attribute__((vector_size(16)));
typedef int32_t I32x4 __attribute__((vector_size(16)));
typedef uint32_t U32x4 __attribute__((vector_size(16)));

static constexpr int kLanes = 8;
static constexpr int kVectorRegisters = 8;  // an F32 takes two of SSE2's 16

// Two halves of 16 bytes, which SSE2 and NEON keep in registers where a 32-byte vector would not
// be.
struct F32 {
  F32x4 lo, hi;
};
struct I32 {
  I32x4 lo, hi;
};

TIDAL_INLINE F32 LoadU(const float* p) {
  F32 a;
  memcpy(&a, p, sizeof(a));
  return a;
}
TIDAL_INLINE void StoreU(float* p, F32 a) { memcpy(p, &a, sizeof(a)); }
TIDAL_INLINE F32 Set1(float x) { return {F32x4{x, x, x, x}, F32x4{x, x, x, x}}; }
TIDAL_INLINE F32 ZeroF() { return Set1(0.0f); }

TIDAL_INLINE F32 LoadN(const float* p, int n) {
  float lanes[kLanes] = {};
  for (int i = 0; i < n; ++i) lanes[i] = p[i];
  return LoadU(lanes);
}
TIDAL_INLINE void StoreN(float* p, F32 a, int n) {
  float lanes[kLanes];
  StoreU(lanes, a);
  for (int i = 0; i < n; ++i) p[i] = lanes[i];
}

TIDAL_INLINE F32 Add(F32 a, F32 b) { return {a.lo + b.lo, a.hi + b.hi}; }
TIDAL_INLINE F32 Sub(F32 a, F32 b) { return {a.lo - b.lo, a.hi - b.hi}; }
TIDAL_INLINE F32 Mul(F32 a, F32 b) { return {a.lo * b.lo, a.hi * b.hi}; }
TIDAL_INLINE F32 Div(F32 a, F32 b) { return {a.lo / b.lo, a.hi / b.hi}; }
TIDAL_INLINE F32 MulAdd(F32 a, F32 b, F32 c) { return {a.lo * b.lo + c.lo, a.hi * b.hi + c.hi}; }
TIDAL_INLINE F32 NegMulAdd(F32 a, F32 b, F32 c) { return {c.lo - a.lo * b.lo, c.hi - a.hi * b.hi}; }

// Lanes of a where the mask is all ones, of b where it is 0.
TIDAL_INLINE F32x4 Select4(I32x4 mask, F32x4 a, F32x4 b) {
  return (F32x4)(((I32x4)a & mask) | ((I32x4)b & ~mask));
}
TIDAL_INLINE F32 Max(F32 a, F32 b) {
  return {Select4(a.lo > b.lo, a.lo, b.lo), Select4(a.hi > b.hi, a.hi, b.hi)};
}
TIDAL_INLINE F32 Min(F32 a, F32 b) {
  return {Select4(a.lo < b.lo, a.lo, b.lo), Select4(a.hi < b.hi, a.hi, b.hi)};
}
TIDAL_INLINE F32 FirstN(int n, F32 a, F32 b) {
  const I32x4 limit = {n, n, n, n};
  return {Select4(I32x4{0, 1, 2, 3} < limit, a.lo, b.lo),
          Select4(I32x4{4, 5, 6, 7} < limit, a.hi, b.hi)};
}

TIDAL_INLINE uint32_t LanesAtLeast(F32 a, F32 b) {
  const I32x4 low = a.lo >= b.lo;
  const I32x4 high = a.hi >= b.hi;
  uint32_t bits = 0;
  for (int i = 0; i < 4; ++i)
    bits |= ((uint32_t)low[i] & 1u) << i | ((uint32_t)high[i] & 1u) << (i + 4);
  return bits;
}

TIDAL_INLINE float ReduceAdd(F32 a) {
  const F32x4 s = a.lo + a.hi;
  return (s[0] + s[2]) + (s[1] + s[3]);
}
TIDAL_INLINE float ReduceMax(F32 a) {
  const F32x4 m = Select4(a.lo > a.hi, a.lo, a.hi);
  const float even = m[0] > m[2] ? m[0] : m[2];
  const float odd = m[1] > m[3] ? m[1] : m[3];
  return even > odd ? even : odd;
}
TIDAL_INLINE F32 FoldPair(F32 a, F32 b) { return {a.lo + a.hi, b.lo + b.hi}; }
TIDAL_INLINE F32x4 FoldPair4(F32x4 a, F32x4 b) {
  return __builtin_shufflevector(a, b, 0, 1, 4, 5) + __builtin_shufflevector(a, b, 2, 3, 6, 7);
}
TIDAL_INLINE F32x4 FoldQuad4(F32x4 ab, F32x4 cd) {
  return __builtin_shufflevector(ab, cd, 0, 2, 4, 6) + __builtin_shufflevector(ab, cd, 1, 3, 5, 7);
}
TIDAL_INLINE F32 ReduceFolded(const F32* folded) {
  return {FoldQuad4(FoldPair4(folded[0].lo, folded[1].lo), FoldPair4(folded[2].lo, folded[3].lo)),
          FoldQuad4(FoldPair4(folded[0].hi, folded[1].hi), FoldPair4(folded[2].hi, folded[3].hi))};
}

TIDAL_INLINE void Transpose4(F32x4* a, F32x4* b, F32x4* c, F32x4* d) {
  const F32x4 ab_low = __builtin_shufflevector(*a, *b, 0, 4, 1, 5);
  const F32x4 ab_high = __builtin_shufflevector(*a, *b, 2, 6, 3, 7);
  const F32x4 cd_low = __builtin_shufflevector(*c, *d, 0, 4, 1, 5);
  const F32x4 cd_high = __builtin_shufflevector(*c, *d, 2, 6, 3, 7);
  *a = __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5);
  *b = __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7);
  *c = __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5);
  *d = __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7);
}
TIDAL_INLINE void Transpose(F32* rows) {
  for (int i = 0; i < 8; i += 4) {
    Transpose4(&rows[i].lo, &rows[i + 1].lo, &rows[i + 2].lo, &rows[i + 3].lo);
    Transpose4(&rows[i].hi, &rows[i + 1].hi, &rows[i + 2].hi, &rows[i + 3].hi);
  }
  for (int i = 0; i < 4; ++i) {
    const F32x4 upper_right = rows[i].hi;
    rows[i].hi = rows[i + 4].lo;
    rows[i + 4].lo = upper_right;
  }
}

TIDAL_INLINE F32x4 Widen4F16(const uint16_t* p) {
  const U32x4 half = {p[0], p[1], p[2], p[3]};
  // Scaling by 2^112 moves the exponent from bias 15 to bias 127 and is exact, subnormals too.
  const U32x4 magnitude = half & 0x7fffu;
  const U32x4 scaled = (U32x4)((F32x4)(magnitude << 13) * 0x1p112f);
  const U32x4 special = (U32x4)(magnitude >= 0x7c00u) & 0x7f800000u;  // infinity or NaN
  return (F32x4)(scaled | special | ((half & 0x8000u) << 16));
}
TIDAL_INLINE F32 LoadF16(const uint16_t* p) { return {Widen4F16(p), Widen4F16(p + 4)}; }
TIDAL_INLINE F32 LoadBF16(const uint16_t* p) {
  return {(F32x4)(U32x4{p[0], p[1], p[2], p[3]} << 16),
          (F32x4)(U32x4{p[4], p[5], p[6], p[7]} << 16)};
}

TIDAL_INLINE void Narrow4F16(uint16_t* p, F32x4 a) {
  const U32x4 bits = (U32x4)a;
  const U32x4 magnitude = bits & 0x7fffffffu;
  const U32x4 odd = (magnitude >> 13) & 1u;
  const U32x4 normal = (magnitude - 0x38000000u + 0xfffu + odd) >> 13;
  // Adding 0.5 makes the addition round at 2^-24, the spacing of f16 subnormals.
  const U32x4 subnormal = (U32x4)((F32x4)magnitude + 0.5f) - 0x3f000000u;
  const U32x4 nan = 0x7e00u | ((magnitude >> 13) & 0x3ffu);
  for (int i = 0; i < 4; ++i) {
    uint32_t half = magnitude[i] < 0x38800000u ? subnormal[i] : normal[i];
    if (magnitude[i] >= 0x477ff000u) half = 0x7c00u;  // rounds to infinity
    if (magnitude[i] > 0x7f800000u) half = nan[i];
    p[i] = (uint16_t)(half | ((bits[i] >> 16) & 0x8000u));
  }
}
TIDAL_INLINE void StoreF16(uint16_t* p, F32 a) {
  Narrow4F16(p, a.lo);
  Narrow4F16(p + 4, a.hi);
}
TIDAL_INLINE void Narrow4BF16(uint16_t* p, F32x4 a) {
  const U32x4 bits = (U32x4)a;
  const U32x4 rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const U32x4 nan = (bits >> 16) | 0x40u;
  for (int i = 0; i < 4; ++i)
    p[i] = (uint16_t)((bits[i] & 0x7fffffffu) > 0x7f800000u ? nan[i] : rounded[i]);
}
TIDAL_INLINE void StoreBF16(uint16_t* p, F32 a) {
  Narrow4BF16(p, a.lo);
  Narrow4BF16(p + 4, a.hi);
}

TIDAL_INLINE F32 ConvertToF32(I32 a) {
  return {__builtin_convertvector(a.lo, F32x4), __builtin_convertvector(a.hi, F32x4)};
}
TIDAL_INLINE I32 LoadI8AsI32(const int8_t* p) {
  return {I32x4{p[0], p[1], p[2], p[3]}, I32x4{p[4], p[5], p[6], p[7]}};
}
TIDAL_INLINE F32 LoadI8(const int8_t* p) { return ConvertToF32(LoadI8AsI32(p)); }
TIDAL_INLINE F32 LoadU8(const uint8_t* p) {
  return ConvertToF32({I32x4{p[0], p[1], p[2], p[3]}, I32x4{p[4], p[5], p[6], p[7]}});
}
TIDAL_INLINE void StoreI8(int8_t* p, I32 a) {
  for (int i = 0; i < 4; ++i) {
    p[i] = (int8_t)a.lo[i];
    p[i + 4] = (int8_t)a.hi[i];
  }
}
// Adding 1.5 x 2^23 rounds to an integer that then sits in the low bits of the sum.
static constexpr float kRoundMagic = 12582912.0f;
static constexpr int32_t kRoundMagicBits = 0x4b400000;
TIDAL_INLINE I32 RoundToI32(F32 a) {
  return {(I32x4)(a.lo + kRoundMagic) - kRoundMagicBits,
          (I32x4)(a.hi + kRoundMagic) - kRoundMagicBits};
}

TIDAL_INLINE void StoreRounded32(int8_t* p, const float* a, F32 factor) {
  for (int i = 0; i < 32; i += kLanes) StoreI8(p + i, RoundToI32(Mul(LoadU(a + i), factor)));
}

TIDAL_INLINE F32 LoadF16N(const uint16_t* p, int n) {
  uint16_t lanes[kLanes] = {};
  for (int i = 0; i < n; ++i) lanes[i] = p[i];
  return LoadF16(lanes);
}
TIDAL_INLINE F32 LoadBF16N(const uint16_t* p, int n) {
  uint16_t lanes[kLanes] = {};
  for (int i = 0; i < n; ++i) lanes[i] = p[i];
  return LoadBF16(lanes);
}
TIDAL_INLINE F32 LoadI8N(const int8_t* p, int n) {
  int8_t lanes[kLanes] = {};
  for (int i = 0; i < n; ++i) lanes[i] = p[i];
  return LoadI8(lanes);
}
TIDAL_INLINE void StoreF16N(uint16_t* p, F32 a, int n) {
  uint16_t lanes[kLanes];
  StoreF16(lanes, a);
  for (int i = 0; i < n; ++i) p[i] = lanes[i];
}
TIDAL_INLINE void StoreBF16N(uint16_t* p, F32 a, int n) {
  uint16_t lanes[kLanes];
  StoreBF16(lanes, a);
  for (int i = 0; i < n; ++i) p[i] = lanes[i];
}
TIDAL_INLINE void StoreI8N(int8_t* p, I32 a, int n) {
  int8_t lanes[kLanes];
  StoreI8(lanes, a);
  for (int i = 0; i < n; ++i) p[i] = lanes[i];
}

// Range reduction to |r| <= ln(2)/2 and a polynomial of degree 6 with the first two coefficients 1,
// minimax in relative error (3.1e-9, below the rounding of its evaluation). Adding 1.5 x 2^23 + 127
// rounds to the integer n and leaves 2^n's biased exponent in the low bits of the sum.
TIDAL_INLINE F32x4 Exp4(F32x4 a) {
  const F32x4 top = {88.37f, 88.37f, 88.37f, 88.37f};
  const F32x4 x = Select4(top < a, top, a);
  const F32x4 shifted = x * 1.44269504f + 12583039.0f;
  const F32x4 n = shifted - 12583039.0f;
  // ln(2) in two parts: the first has 9 bits, so n times it is exact.
  F32x4 r = x - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  F32x4 p = r * 1.38146061e-3f + 8.36871117e-3f;
  p = p * r + 4.16683876e-2f;
  p = p * r + 1.66665207e-1f;
  p = p * r + 4.99999935e-1f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const F32x4 scale = (F32x4)((U32x4)shifted << 23);
  return (F32x4)((I32x4)(p * scale) & ~(I32x4)(a < -87.3365f));
}
TIDAL_INLINE F32 Exp(F32 a) { return {Exp4(a.lo), Exp4(a.hi)}; }

// Range reduction to |r| <= 1/2 in powers of 2 and a polynomial of degree 5, minimax in relative
// error (7.5e-8) but for its first coefficient, which is 1 as in Exp. The exponent is added to the
// bits.
TIDAL_INLINE F32x4 ExpOfNonPositive4(F32x4 a) {
  const F32x4 least = {-126.0f, -126.0f, -126.0f, -126.0f};
  const F32x4 scaled = a * 1.44269504f;
  const F32x4 x = Select4(scaled < least, least, scaled);
  const F32x4 shifted = x + 12582912.0f;
  const F32x4 r = x - (shifted - 12582912.0f);
  F32x4 p = r * 1.32764722e-3f + 9.67554133e-3f;
  p = p * r + 5.55071327e-2f;
  p = p * r + 2.40221197e-1f;
  p = p * r + 6.93146967e-1f;
  p = p * r + 1.0f;
  return (F32x4)((U32x4)p + ((U32x4)shifted << 23));
}
TIDAL_INLINE F32 ExpOfNonPositive(F32 a) {
  return {ExpOfNonPositive4(a.lo), ExpOfNonPositive4(a.hi)};
}

TIDAL_INLINE F32 SwapPairs(F32 a) {
  return {__builtin_shufflevector(a.lo, a.lo, 1, 0, 3, 2),
          __builtin_shufflevector(a.hi, a.hi, 1, 0, 3, 2)};
}
TIDAL_INLINE F32 InRegister(F32 a) { return a; }
TIDAL_INLINE void Prefetch(const void* p) { __builtin_prefetch(p, 0, 2); }
