// The vector operations on AVX2, FMA and F16C. What each name means, and how this file is included:
// simd_portable.h.

#define TIDAL_INLINE static inline __attribute__((always_inline))
#define TIDAL_INLINE_MEMBER __attribute__((always_inline))

static constexpr int kLanes = 8;
static constexpr int kVectorRegisters = 16;
typedef __m256 F32;
typedef __m256i I32;

TIDAL_INLINE F32 LoadU(const float* p) { return _mm256_loadu_ps(p); }
TIDAL_INLINE void StoreU(float* p, F32 a) { _mm256_storeu_ps(p, a); }
TIDAL_INLINE F32 Set1(float x) { return _mm256_set1_ps(x); }
TIDAL_INLINE F32 ZeroF() { return _mm256_setzero_ps(); }

// All ones in the lanes below n.
TIDAL_INLINE __m256i MaskOfFirst(int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
TIDAL_INLINE F32 LoadN(const float* p, int n) { return _mm256_maskload_ps(p, MaskOfFirst(n)); }
// Not by a masked store, which is some forty operations on AMD's cores.
TIDAL_INLINE void StoreN(float* p, F32 a, int n) {
  if (n == kLanes) {
    StoreU(p, a);
    return;
  }
  __m128 rest = _mm256_castps256_ps128(a);
  if (n & 4) {
    _mm_storeu_ps(p, rest);
    rest = _mm256_extractf128_ps(a, 1);
    p += 4;
  }
  if (n & 2) {
    _mm_storel_pi((__m64*)p, rest);
    rest = _mm_movehl_ps(rest, rest);
    p += 2;
  }
  if (n & 1) _mm_store_ss(p, rest);
}

TIDAL_INLINE F32 Add(F32 a, F32 b) { return _mm256_add_ps(a, b); }
TIDAL_INLINE F32 Sub(F32 a, F32 b) { return _mm256_sub_ps(a, b); }
TIDAL_INLINE F32 Mul(F32 a, F32 b) { return _mm256_mul_ps(a, b); }
TIDAL_INLINE F32 Div(F32 a, F32 b) { return _mm256_div_ps(a, b); }
TIDAL_INLINE F32 MulAdd(F32 a, F32 b, F32 c) { return _mm256_fmadd_ps(a, b, c); }
TIDAL_INLINE F32 NegMulAdd(F32 a, F32 b, F32 c) { return _mm256_fnmadd_ps(a, b, c); }
TIDAL_INLINE F32 Max(F32 a, F32 b) { return _mm256_max_ps(a, b); }
TIDAL_INLINE F32 Min(F32 a, F32 b) { return _mm256_min_ps(a, b); }
TIDAL_INLINE F32 FirstN(int n, F32 a, F32 b) {
  return _mm256_blendv_ps(b, a, _mm256_castsi256_ps(MaskOfFirst(n)));
}

TIDAL_INLINE uint32_t LanesAtLeast(F32 a, F32 b) {
  return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GE_OQ));
}

TIDAL_INLINE float ReduceAdd(F32 a) {
  const __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  const __m128 pair = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)));
}
TIDAL_INLINE float ReduceMax(F32 a) {
  const __m128 m = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  const __m128 pair = _mm_max_ps(m, _mm_movehl_ps(m, m));
  return _mm_cvtss_f32(_mm_max_ss(pair, _mm_movehdup_ps(pair)));
}
// A blend in place of a second shuffle: shuffles are what there are too few ports for.
TIDAL_INLINE F32 FoldPair(F32 a, F32 b) {
  return Add(_mm256_blend_ps(a, b, 0xf0), _mm256_permute2f128_ps(a, b, 0x21));
}
TIDAL_INLINE F32 FoldQuarters(F32 a, F32 b) {
  return Add(_mm256_blend_ps(a, b, 0xcc), _mm256_shuffle_ps(a, b, 0x4e));
}
TIDAL_INLINE F32 FoldEighths(F32 a, F32 b) {
  return Add(_mm256_blend_ps(a, b, 0xaa), _mm256_permute_ps(_mm256_blend_ps(a, b, 0x55), 0xb1));
}
TIDAL_INLINE F32 ReduceFolded(const F32* folded) {
  return FoldEighths(FoldQuarters(folded[0], folded[2]), FoldQuarters(folded[1], folded[3]));
}

TIDAL_INLINE void Transpose(F32* rows) {
  F32 pairs[8];
  for (int i = 0; i < 8; i += 2) {
    pairs[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
    pairs[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
  }
  F32 quads[8];
  for (int i = 0; i < 8; i += 4) {
    quads[i] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0x44);
    quads[i + 1] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0xee);
    quads[i + 2] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0x44);
    quads[i + 3] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    rows[i] = _mm256_permute2f128_ps(quads[i], quads[i + 4], 0x20);
    rows[i + 4] = _mm256_permute2f128_ps(quads[i], quads[i + 4], 0x31);
  }
}

TIDAL_INLINE F32 LoadF16(const uint16_t* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p));
}
TIDAL_INLINE F32 LoadBF16(const uint16_t* p) {
  const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
TIDAL_INLINE __m128i NarrowF16(F32 a) {
  return _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
TIDAL_INLINE __m128i NarrowBF16(F32 a) {
  const __m256i bits = _mm256_castps_si256(a);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  const __m256i nan = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));
  const __m256i half = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, nan, is_nan), 16);
  return _mm_packus_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}
TIDAL_INLINE void StoreF16(uint16_t* p, F32 a) { _mm_storeu_si128((__m128i*)p, NarrowF16(a)); }
TIDAL_INLINE void StoreBF16(uint16_t* p, F32 a) { _mm_storeu_si128((__m128i*)p, NarrowBF16(a)); }

TIDAL_INLINE F32 ConvertToF32(I32 a) { return _mm256_cvtepi32_ps(a); }
TIDAL_INLINE I32 LoadI8AsI32(const int8_t* p) {
  return _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)p));
}
TIDAL_INLINE F32 LoadI8(const int8_t* p) { return ConvertToF32(LoadI8AsI32(p)); }
TIDAL_INLINE F32 LoadU8(const uint8_t* p) {
  return ConvertToF32(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)p)));
}
TIDAL_INLINE __m128i NarrowI8(I32 a) {
  const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
  return _mm_packs_epi16(words, words);
}
TIDAL_INLINE void StoreI8(int8_t* p, I32 a) { _mm_storel_epi64((__m128i*)p, NarrowI8(a)); }
TIDAL_INLINE I32 RoundToI32(F32 a) { return _mm256_cvtps_epi32(a); }

TIDAL_INLINE void StoreRounded32(int8_t* p, const float* a, F32 factor) {
  I32 x[4];
  for (int i = 0; i < 4; ++i) x[i] = RoundToI32(Mul(LoadU(a + i * kLanes), factor));
  const __m256i bytes =
      _mm256_packs_epi16(_mm256_packs_epi32(x[0], x[1]), _mm256_packs_epi32(x[2], x[3]));
  // Packing works on halves of a vector: their quarters are in the order 0, 2, 4, 6, 1, 3, 5, 7.
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  _mm256_storeu_si256((__m256i*)p, _mm256_permutevar8x32_epi32(bytes, order));
}

TIDAL_INLINE F32 LoadF16N(const uint16_t* p, int n) {
  uint16_t lanes[kLanes] = {};
  memcpy(lanes, p, (size_t)n * sizeof(lanes[0]));
  return LoadF16(lanes);
}
TIDAL_INLINE F32 LoadBF16N(const uint16_t* p, int n) {
  uint16_t lanes[kLanes] = {};
  memcpy(lanes, p, (size_t)n * sizeof(lanes[0]));
  return LoadBF16(lanes);
}
TIDAL_INLINE F32 LoadI8N(const int8_t* p, int n) {
  int8_t lanes[kLanes] = {};
  memcpy(lanes, p, (size_t)n);
  return LoadI8(lanes);
}
TIDAL_INLINE void StoreF16N(uint16_t* p, F32 a, int n) {
  uint16_t lanes[kLanes];
  StoreF16(lanes, a);
  memcpy(p, lanes, (size_t)n * sizeof(lanes[0]));
}
TIDAL_INLINE void StoreBF16N(uint16_t* p, F32 a, int n) {
  uint16_t lanes[kLanes];
  StoreBF16(lanes, a);
  memcpy(p, lanes, (size_t)n * sizeof(lanes[0]));
}
TIDAL_INLINE void StoreI8N(int8_t* p, I32 a, int n) {
  int8_t lanes[kLanes];
  StoreI8(lanes, a);
  memcpy(p, lanes, (size_t)n);
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
  const F32 scale = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(shifted), 23));
  return _mm256_andnot_ps(_mm256_cmp_ps(a, Set1(-87.3365f), _CMP_LT_OQ), Mul(p, scale));
}

TIDAL_INLINE F32 ExpOfNonPositive(F32 a) {
  const F32 shift = Set1(12582912.0f);
  const F32 x = Max(Mul(a, Set1(1.44269504f)), Set1(-126.0f));
  const F32 shifted = Add(x, shift);
  const F32 r = Sub(x, Sub(shifted, shift));
  F32 p = MulAdd(r, Set1(1.32764722e-3f), Set1(9.67554133e-3f));
  p = MulAdd(p, r, Set1(5.55071327e-2f));
  p = MulAdd(p, r, Set1(2.40221197e-1f));
  p = MulAdd(p, r, Set1(6.93146967e-1f));
  p = MulAdd(p, r, Set1(1.0f));
  const __m256i exponent = _mm256_slli_epi32(_mm256_castps_si256(shifted), 23);
  return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), exponent));
}

TIDAL_INLINE F32 SwapPairs(F32 a) { return _mm256_permute_ps(a, 0xb1); }
TIDAL_INLINE F32 InRegister(F32 a) {
  __asm__("" : "+x"(a));
  return a;
}
TIDAL_INLINE void Prefetch(const void* p) { _mm_prefetch((const char*)p, _MM_HINT_T1); }
