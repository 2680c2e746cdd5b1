// Codes and their integer dot products on AVX2. What the names mean: dot_portable.h. Included after
// simd_avx2.h, in the same way.
//
// vpmaddubsw multiplies unsigned codes by signed activations and adds pairs in 16 bits, saturating;
// a sum of pairs may therefore only grow while codes * 127 * 2 * steps stays below 2^15: 8 steps of
// 4-bit codes, 4 of 5-bit, 2 of 6-bit. 8-bit codes are taken as two planes of 4 bits.

typedef __m256i Bytes;

static constexpr int kVecs = kRowTile / kLanes;
static constexpr int kFusedTokens =
    3;  // two rows of i16 sums, f32 sums and codes fill the registers
static constexpr int kFusedLimit = 4;
static constexpr int ScratchTokens(PackedType) { return 4; }
static constexpr int kTilesAtOnce = 1;
static constexpr int kFullTokens = 6;
static constexpr int kFusedTiles = 2;
static constexpr int kDecodeTiles = 2;
static constexpr bool kSplitPlanes = true;
static constexpr int kHalfVectors = 3;

TIDAL_INLINE Bytes LoadBytes(const uint8_t* p) { return _mm256_loadu_si256((const __m256i*)p); }
TIDAL_INLINE void StoreBytes(uint8_t* p, Bytes a) { _mm256_storeu_si256((__m256i*)p, a); }
TIDAL_INLINE Bytes And(Bytes a, uint8_t mask) {
  return _mm256_and_si256(a, _mm256_set1_epi8((char)mask));
}
TIDAL_INLINE Bytes Or(Bytes a, Bytes b) { return _mm256_or_si256(a, b); }
TIDAL_INLINE Bytes ShiftBits(Bytes a, int left) {
  return left >= 0 ? _mm256_slli_epi16(a, left) : _mm256_srli_epi16(a, -left);
}
TIDAL_INLINE F32 ByteToF32(Bytes a, int t) {
  return ConvertToF32(_mm256_and_si256(_mm256_srli_epi32(a, 8 * t), _mm256_set1_epi32(255)));
}

// 0 and 1: the scales of a half, twice in each row's lane. 2: both, times -32.
TIDAL_INLINE I32 MakeHalfVector(const int8_t* scales, int i) {
  const I32 first = LoadI8AsI32(scales);
  const I32 second = LoadI8AsI32(scales + kRowTile);
  if (i == 2) {
    const I32 both = _mm256_blend_epi16(first, _mm256_slli_epi32(second, 16), 0xaa);
    return _mm256_sub_epi16(_mm256_setzero_si256(), _mm256_slli_epi16(both, 5));
  }
  const I32 half = i == 0 ? first : second;
  return _mm256_blend_epi16(half, _mm256_slli_epi32(half, 16), 0xaa);
}
TIDAL_INLINE I32 LoadI32(const uint8_t* p) { return LoadBytes(p); }
TIDAL_INLINE void StoreI32(uint8_t* p, I32 a) { StoreBytes(p, a); }

TIDAL_INLINE I32 Broadcast32(const void* p) {
  int32_t word;
  memcpy(&word, p, sizeof(word));
  return _mm256_set1_epi32(word);
}

// Products of both vectors, then sums of both: Zen's scheduler deals the four vector units out in
// order of decoding, and multiplications have only two of them. The empty instruction keeps GCC
// from reordering them, or worse, from putting all sums of a group off to its end.
TIDAL_INLINE void Multiply(const Bytes codes[kVecs], I32 x, __m256i products[kVecs]) {
  products[0] = _mm256_maddubs_epi16(codes[0], x);
  products[1] = _mm256_maddubs_epi16(codes[1], x);
  asm volatile("" : "+x"(products[0]), "+x"(products[1]));
}
TIDAL_INLINE void AddTo(__m256i& sum0, __m256i& sum1, const __m256i products[kVecs]) {
  sum0 = _mm256_add_epi16(sum0, products[0]);
  sum1 = _mm256_add_epi16(sum1, products[1]);
  asm volatile("" : "+x"(sum0), "+x"(sum1));
}

template <PackedType kType, int kTokens, int kTiles, class Group>
TIDAL_INLINE void GroupDots(const Group* groups, const ActivationBlock* const* blocks,
                            F32 dots[kTiles * kVecs][kTokens]) {
  static_assert(kVecs == 2);
  constexpr PackedTraits kTraits = TraitsOf(kType);
  constexpr bool kHalves = kTraits.scales == ScaleLayout::kSuperSymmetric;
  constexpr int kAll = kTiles * kVecs;
  constexpr int kSteps = kTraits.bits == 8 ? 16 : 8;
  constexpr int kRun = kTraits.bits == 5 ? 4 : kTraits.bits == 6 ? 2 : 8;  // steps that fit 16 bits
  I32 total[kAll][kTokens];
  TIDAL_UNROLL
  for (int run = 0; run < kSteps / kRun; ++run) {
    __m256i sum[kAll][kTokens];
    TIDAL_UNROLL
    for (int i = 0; i < kRun; ++i) {
      const int step = run * kRun + i;
      TIDAL_UNROLL
      for (int u = 0; u < kTiles; ++u) {
        const Bytes codes[kVecs] = {groups[u].Codes(step, 0), groups[u].Codes(step, 1)};
        TIDAL_UNROLL
        for (int n = 0; n < kTokens; ++n) {
          __m256i products[kVecs];
          Multiply(codes, Broadcast32(blocks[n]->codes + step % 8 * 4), products);
          if (i == 0)
            sum[2 * u][n] = products[0], sum[2 * u + 1][n] = products[1];
          else
            AddTo(sum[2 * u][n], sum[2 * u + 1][n], products);
        }
      }
    }
    TIDAL_UNROLL
    for (int v = 0; v < kAll; ++v) {
      const __m256i weight = kHalves ? groups[v / 2].HalfVector(run * kRun / 4, v % 2)
                                     : _mm256_set1_epi16(run > 0 && kTraits.bits == 8 ? 16 : 1);
      TIDAL_UNROLL
      for (int n = 0; n < kTokens; ++n) {
        const I32 part = _mm256_madd_epi16(sum[v][n], weight);
        total[v][n] = run == 0 ? part : _mm256_add_epi32(total[v][n], part);
      }
    }
  }
  if constexpr (kTraits.zero_point != 0) {
    TIDAL_UNROLL
    for (int n = 0; n < kTokens; ++n) {
      const I32 half_sums = Broadcast32(blocks[n]->half_sums);
      TIDAL_UNROLL
      for (int v = 0; v < kAll; ++v) {
        const __m256i zero = kHalves ? groups[v / 2].HalfVector(2, v % 2)
                                     : _mm256_set1_epi16((int16_t)-kTraits.zero_point);
        total[v][n] = _mm256_add_epi32(total[v][n], _mm256_madd_epi16(half_sums, zero));
      }
    }
  }
  TIDAL_UNROLL
  for (int n = 0; n < kTokens; ++n) {
    TIDAL_UNROLL
    for (int v = 0; v < kAll; ++v) dots[v][n] = ConvertToF32(total[v][n]);
  }
}

// Pairs of products in 16 bits, as above: 8 steps of 4-bit codes, 32 of 2-bit ones (of 42).
typedef __m256i DotSum;
typedef __m256i DotTotal;
static constexpr int kScanVectors = 2;
template <int kBits>
static constexpr int kDotSteps = kBits == 4 ? 8 : 32;
TIDAL_INLINE DotTotal ZeroTotal() { return _mm256_setzero_si256(); }
template <int kBits>
TIDAL_INLINE Bytes UnpackPart(const uint8_t* p, int part) {
  Bytes codes = And(ShiftBits(LoadBytes(p), -kBits * part), (1 << kBits) - 1);
  __asm__("" : "+x"(codes));  // compilers keep what all parts share, and run out of registers
  return codes;
}
TIDAL_INLINE void BeginDots(const Bytes codes[kScanVectors], const int8_t* q,
                            DotSum sums[kScanVectors]) {
  Multiply(codes, Broadcast32(q), sums);
}
TIDAL_INLINE void AddDots(const Bytes codes[kScanVectors], const int8_t* q,
                          DotSum sums[kScanVectors]) {
  __m256i products[kScanVectors];
  Multiply(codes, Broadcast32(q), products);
  AddTo(sums[0], sums[1], products);
}
TIDAL_INLINE DotTotal AddSum(DotTotal total, DotSum sum) {
  return _mm256_add_epi32(total, _mm256_madd_epi16(sum, _mm256_set1_epi16(1)));
}
TIDAL_INLINE F32 TotalToF32(DotTotal total) { return _mm256_cvtepi32_ps(total); }
