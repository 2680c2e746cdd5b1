// The vector operations on AVX-512 (F, BW, DQ, VL). What each name means, and how this file is
// included: simd_portable.h.

#define TIDAL_INLINE static inline __attribute__((always_inline))
#define TIDAL_INLINE_MEMBER __attribute__((always_inline))

static constexpr int kLanes = 16;
static constexpr int kVectorRegisters = 32;
typedef __m512 F32;
typedef __m512i I32;

TIDAL_INLINE F32 LoadU(const float* p) { return _mm512_loadu_ps(p); }
TIDAL_INLINE void StoreU(float* p, F32 a) { _mm512_storeu_ps(p, a); }
TIDAL_INLINE F32 Set1(float x) { return _mm512_set1_ps(x); }
TIDAL_INLINE F32 ZeroF() { return _mm512_setzero_ps(); }

TIDAL_INLINE __mmask16 MaskOfFirst(int n) { return (__mmask16)((1u << n) - 1u); }
TIDAL_INLINE F32 LoadN(const float* p, int n) { return _mm512_maskz_loadu_ps(MaskOfFirst(n), p); }
TIDAL_INLINE void StoreN(float* p, F32 a, int n) { _mm512_mask_storeu_ps(p, MaskOfFirst(n), a); }

TIDAL_INLINE F32 Add(F32 a, F32 b) { return _mm512_add_ps(a, b); }
TIDAL_INLINE F32 Sub(F32 a, F32 b) { return _mm512_sub_ps(a, b); }
TIDAL_INLINE F32 Mul(F32 a, F32 b) { return _mm512_mul_ps(a, b); }
TIDAL_INLINE F32 Div(F32 a, F32 b) { return _mm512_div_ps(a, b); }
TIDAL_INLINE F32 MulAdd(F32 a, F32 b, F32 c) { return _mm512_fmadd_ps(a, b, c); }
TIDAL_INLINE F32 NegMulAdd(F32 a, F32 b, F32 c) { return _mm512_fnmadd_ps(a, b, c); }
TIDAL_INLINE F32 Max(F32 a, F32 b) { return _mm512_max_ps(a, b); }
TIDAL_INLINE F32 Min(F32 a, F32 b) { return _mm512_min_ps(a, b); }
TIDAL_INLINE F32 FirstN(int n, F32 a, F32 b) { return _mm512_mask_blend_ps(MaskOfFirst(n), b, a); }

TIDAL_INLINE uint32_t LanesAtLeast(F32 a, F32 b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }

TIDAL_INLINE float ReduceAdd(F32 a) {
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
  const __m128 s = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  const __m128 pair = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)));
}
TIDAL_INLINE float ReduceMax(F32 a) {
  const __m256 half = _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
  const __m128 m = _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  const __m128 pair = _mm_max_ps(m, _mm_movehl_ps(m, m));
  return _mm_cvtss_f32(_mm_max_ss(pair, _mm_movehdup_ps(pair)));
}
// A blend in place of a second shuffle: there is one port for shuffles.
TIDAL_INLINE F32 FoldPair(F32 a, F32 b) {
  return Add(_mm512_mask_blend_ps(0xff00, a, b), _mm512_shuffle_f32x4(a, b, 0x4e));
}
TIDAL_INLINE F32 FoldQuarters(F32 a, F32 b) {
  const F32 crossed = _mm512_mask_blend_ps(0x0f0f, a, b);
  return Add(_mm512_mask_blend_ps(0xf0f0, a, b), _mm512_shuffle_f32x4(crossed, crossed, 0xb1));
}
TIDAL_INLINE F32 FoldEighths(F32 a, F32 b) {
  return Add(_mm512_mask_blend_ps(0xcccc, a, b), _mm512_shuffle_ps(a, b, 0x4e));
}
TIDAL_INLINE F32 FoldSixteenths(F32 a, F32 b) {
  return Add(_mm512_mask_blend_ps(0xaaaa, a, b),
             _mm512_permute_ps(_mm512_mask_blend_ps(0x5555, a, b), 0xb1));
}
TIDAL_INLINE F32 ReduceFolded(const F32* folded) {
  F32 quarters[4];
  for (int j = 0; j < 4; ++j) quarters[j] = FoldQuarters(folded[j], folded[j + 4]);
  return FoldSixteenths(FoldEighths(quarters[0], quarters[2]),
                        FoldEighths(quarters[1], quarters[3]));
}

TIDAL_INLINE void Transpose(F32* rows) {
  F32 pairs[16];
  for (int i = 0; i < 16; i += 2) {
    pairs[i] = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
    pairs[i + 1] = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
  }
  F32 quads[16];
  for (int i = 0; i < 16; i += 4) {
    quads[i] = _mm512_shuffle_ps(pairs[i], pairs[i + 2], 0x44);
    quads[i + 1] = _mm512_shuffle_ps(pairs[i], pairs[i + 2], 0xee);
    quads[i + 2] = _mm512_shuffle_ps(pairs[i + 1], pairs[i + 3], 0x44);
    quads[i + 3] = _mm512_shuffle_ps(pairs[i + 1], pairs[i + 3], 0xee);
  }
  // Quarter q of quads[i + 4 * b] now holds column 4 * q + i of the rows 4 * b to 4 * b + 3.
  for (int i = 0; i < 4; ++i) {
    const F32 low01 = _mm512_shuffle_f32x4(quads[i], quads[i + 4], 0x88);
    const F32 high01 = _mm512_shuffle_f32x4(quads[i], quads[i + 4], 0xdd);
    const F32 low23 = _mm512_shuffle_f32x4(quads[i + 8], quads[i + 12], 0x88);
    const F32 high23 = _mm512_shuffle_f32x4(quads[i + 8], quads[i + 12], 0xdd);
    rows[i] = _mm512_shuffle_f32x4(low01, low23, 0x88);
    rows[i + 4] = _mm512_shuffle_f32x4(high01, high23, 0x88);
    rows[i + 8] = _mm512_shuffle_f32x4(low01, low23, 0xdd);
    rows[i + 12] = _mm512_shuffle_f32x4(high01, high23, 0xdd);
  }
}

TIDAL_INLINE F32 LoadF16(const uint16_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p));
}
TIDAL_INLINE F32 WidenBF16(__m256i half) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}
TIDAL_INLINE F32 LoadBF16(const uint16_t* p) {
  return WidenBF16(_mm256_loadu_si256((const __m256i*)p));
}
TIDAL_INLINE __m256i NarrowF16(F32 a) {
  return _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
TIDAL_INLINE __m256i NarrowBF16(F32 a) {
  const __m512i bits = _mm512_castps_si512(a);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __m512i nan = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
  const __mmask16 is_nan = _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
  return _mm512_cvtepi32_epi16(
      _mm512_srli_epi32(_mm512_mask_blend_epi32(is_nan, rounded, nan), 16));
}
TIDAL_INLINE void StoreF16(uint16_t* p, F32 a) { _mm256_storeu_si256((__m256i*)p, NarrowF16(a)); }
TIDAL_INLINE void StoreBF16(uint16_t* p, F32 a) { _mm256_storeu_si256((__m256i*)p, NarrowBF16(a)); }

TIDAL_INLINE F32 ConvertToF32(I32 a) { return _mm512_cvtepi32_ps(a); }
TIDAL_INLINE I32 LoadI8AsI32(const int8_t* p) {
  return _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p));
}
TIDAL_INLINE F32 LoadI8(const int8_t* p) { return ConvertToF32(LoadI8AsI32(p)); }
TIDAL_INLINE F32 LoadU8(const uint8_t* p) {
  return ConvertToF32(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)p)));
}
TIDAL_INLINE void StoreI8(int8_t* p, I32 a) {
  _mm_storeu_si128((__m128i*)p, _mm512_cvtepi32_epi8(a));
}
TIDAL_INLINE I32 RoundToI32(F32 a) { return _mm512_cvtps_epi32(a); }

TIDAL_INLINE void StoreRounded32(int8_t* p, const float* a, F32 factor) {
  for (int i = 0; i < 32; i += kLanes) StoreI8(p + i, RoundToI32(Mul(LoadU(a + i), factor)));
}

TIDAL_INLINE F32 LoadF16N(const uint16_t* p, int n) {
  return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(MaskOfFirst(n), p));
}
TIDAL_INLINE F32 LoadBF16N(const uint16_t* p, int n) {
  return WidenBF16(_mm256_maskz_loadu_epi16(MaskOfFirst(n), p));
}
TIDAL_INLINE F32 LoadI8N(const int8_t* p, int n) {
  return ConvertToF32(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(MaskOfFirst(n), p)));
}
TIDAL_INLINE void StoreF16N(uint16_t* p, F32 a, int n) {
  _mm256_mask_storeu_epi16(p, MaskOfFirst(n), NarrowF16(a));
}
TIDAL_INLINE void StoreBF16N(uint16_t* p, F32 a, int n) {
  _mm256_mask_storeu_epi16(p, MaskOfFirst(n), NarrowBF16(a));
}
TIDAL_INLINE void StoreI8N(int8_t* p, I32 a, int n) {
  _mm512_mask_cvtepi32_storeu_epi8(p, MaskOfFirst(n), a);
}

// The method and its constants: simd_portable.h.
TIDAL_INLINE F32 Exp(F32 a) {
  const F32 shift = Set1(12583039.0f);
  const F32 x = Min(Set1(88.37f), a);
  const F32 shifted = MulAdd(x, Set1(1.44269504f), shift);
  const F32 n = Sub(shifted, shift);
  const F32 r = NegMulAdd(n, Set1(-2.12194440e-4f), NegMulAdd(n, Set1(0.693359375f), x));
  F32 p = MulAdd(r, Set1(1.38146061e-3f), Set1(8.36871117e-3f));
  p = MulAdd(p, r, Set1(4.16683876e-2f));
  p = MulAdd(p, r, Set1(1.66665207e-1f));
  p = MulAdd(p, r, Set1(4.99999935e-1f));
  p = MulAdd(p, r, Set1(1.0f));
  p = MulAdd(p, r, Set1(1.0f));
  return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(a, Set1(-87.3365f), _CMP_NLT_UQ), p, n);
}

TIDAL_INLINE F32 ExpOfNonPositive(F32 a) {
  const F32 shift = Set1(12582912.0f);
  const F32 x = Max(Mul(a, Set1(1.44269504f)), Set1(-126.0f));
  const F32 n = Sub(Add(x, shift), shift);
  const F32 r = Sub(x, n);
  F32 p = MulAdd(r, Set1(1.32764722e-3f), Set1(9.67554133e-3f));
  p = MulAdd(p, r, Set1(5.55071327e-2f));
  p = MulAdd(p, r, Set1(2.40221197e-1f));
  p = MulAdd(p, r, Set1(6.93146967e-1f));
  p = MulAdd(p, r, Set1(1.0f));
  return _mm512_scalef_ps(p, n);
}

TIDAL_INLINE F32 SwapPairs(F32 a) { return _mm512_permute_ps(a, 0xb1); }
TIDAL_INLINE F32 InRegister(F32 a) {
  __asm__("" : "+v"(a));
  return a;
}
TIDAL_INLINE void Prefetch(const void* p) { _mm_prefetch((const char*)p, _MM_HINT_T1); }
