// Codes and their integer dot products on AVX-512 with VNNI. What the names mean: dot_portable.h.
// Included after simd_avx512.h, in the same way.
//
// vpdpbusd multiplies unsigned codes by signed activations and adds four products in 32 bits, so
// that every type takes one instruction for 16 rows of 4 columns.

typedef __m512i Bytes;

static constexpr int kVecs = kRowTile / kLanes;
static constexpr int kFusedTokens = 4;
static constexpr int kFusedLimit = 4;
// Q6_K has two sums for each of the others' one.
static constexpr int ScratchTokens(PackedType type) { return type == PackedType::kQ6_K ? 4 : 6; }
static constexpr int kTilesAtOnce = 2;
static constexpr int kFullTokens = 8;
static constexpr int kFusedTiles = 2;
static constexpr int kDecodeTiles = 4;
static constexpr bool kSplitPlanes = false;
static constexpr int kHalfVectors = 2;

TIDAL_INLINE Bytes LoadBytes(const uint8_t* p) { return _mm512_loadu_si512(p); }
TIDAL_INLINE void StoreBytes(uint8_t* p, Bytes a) { _mm512_storeu_si512(p, a); }
TIDAL_INLINE Bytes And(Bytes a, uint8_t mask) {
  return _mm512_and_si512(a, _mm512_set1_epi8((char)mask));
}
TIDAL_INLINE Bytes Or(Bytes a, Bytes b) { return _mm512_or_si512(a, b); }
// A switch because the intrinsics need a literal where nothing is inlined.
TIDAL_INLINE Bytes ShiftBits(Bytes a, int left) {
  switch (left) {
    case 4:
      return _mm512_slli_epi16(a, 4);
    case 3:
      return _mm512_slli_epi16(a, 3);
    case 2:
      return _mm512_slli_epi16(a, 2);
    case 1:
      return _mm512_slli_epi16(a, 1);
    case -1:
      return _mm512_srli_epi16(a, 1);
    case -2:
      return _mm512_srli_epi16(a, 2);
    case -3:
      return _mm512_srli_epi16(a, 3);
    case -4:
      return _mm512_srli_epi16(a, 4);
    case -6:
      return _mm512_srli_epi16(a, 6);
    default:
      return a;
  }
}
TIDAL_INLINE F32 ByteToF32(Bytes a, int t) {
  const __m512i shifted = _mm512_srlv_epi32(a, _mm512_set1_epi32(8 * t));
  return ConvertToF32(_mm512_and_si512(shifted, _mm512_set1_epi32(255)));
}

// The scales of half i as floats.
TIDAL_INLINE I32 MakeHalfVector(const int8_t* scales, int i) {
  return _mm512_castps_si512(LoadI8(scales + i * kRowTile));
}
TIDAL_INLINE I32 LoadI32(const uint8_t* p) { return LoadBytes(p); }
TIDAL_INLINE void StoreI32(uint8_t* p, I32 a) { StoreBytes(p, a); }

TIDAL_INLINE I32 Broadcast32(const void* p) {
  int32_t word;
  memcpy(&word, p, sizeof(word));
  return _mm512_set1_epi32(word);
}

template <PackedType kType, int kTokens, int kTiles, class Group>
TIDAL_INLINE void GroupDots(const Group* groups, const ActivationBlock* const* blocks,
                            F32 dots[kTiles * kVecs][kTokens]) {
  static_assert(kVecs == 1);
  constexpr PackedTraits kTraits = TraitsOf(kType);
  constexpr bool kHalves = kTraits.scales == ScaleLayout::kSuperSymmetric;
  // Sums that are added up at the end, so that few of them do not wait for each other: steps 0..3
  // go to the first half of them, and steps 4..7 to the second.
  constexpr int kChains = kTokens * kTiles;
  constexpr int kSums = kChains <= 2 ? 4 : (kChains <= 4 || kHalves) ? 2 : 1;
  I32 sum[kTiles][kTokens][kSums];
  TIDAL_UNROLL
  for (int n = 0; n < kTokens; ++n) {
    TIDAL_UNROLL
    for (int u = 0; u < kTiles; ++u) {
      TIDAL_UNROLL
      for (int i = 0; i < kSums; ++i) sum[u][n][i] = _mm512_setzero_si512();
    }
    if constexpr (kTraits.zero_point != 0) {
      // half_sums[0] is the low 16 bits of the word. A half has its own sum, or shares one.
      const I32 half_sums = Broadcast32(blocks[n]->half_sums);
      const int zero = -kTraits.zero_point;
      if constexpr (kHalves) {
        const I32 low = _mm512_set1_epi32(zero & 0xffff);
        const I32 high = _mm512_set1_epi32((int32_t)((uint32_t)zero << 16));
        const I32 first = _mm512_madd_epi16(half_sums, low);
        const I32 second = _mm512_madd_epi16(half_sums, high);
        TIDAL_UNROLL
        for (int u = 0; u < kTiles; ++u) sum[u][n][0] = first, sum[u][n][kSums / 2] = second;
      } else {
        const I32 both = _mm512_madd_epi16(half_sums, _mm512_set1_epi16((int16_t)zero));
        TIDAL_UNROLL
        for (int u = 0; u < kTiles; ++u) sum[u][n][0] = both;
      }
    }
  }
  TIDAL_UNROLL
  for (int step = 0; step < 8; ++step) {
    const int i = kSums == 1 ? 0 : step / 4 * (kSums / 2) + step % (kSums / 2);
    Bytes codes[kTiles];
    TIDAL_UNROLL
    for (int u = 0; u < kTiles; ++u) codes[u] = groups[u].Codes(step, 0);
    TIDAL_UNROLL
    for (int n = 0; n < kTokens; ++n) {
      const I32 x = Broadcast32(blocks[n]->codes + step * 4);
      TIDAL_UNROLL
      for (int u = 0; u < kTiles; ++u)
        sum[u][n][i] = _mm512_dpbusd_epi32(sum[u][n][i], codes[u], x);
    }
  }
  TIDAL_UNROLL
  for (int n = 0; n < kTokens; ++n) {
    TIDAL_UNROLL
    for (int u = 0; u < kTiles; ++u) {
      I32 first = sum[u][n][0];
      I32 second = sum[u][n][kSums / 2];
      if constexpr (kSums == 4) {
        first = _mm512_add_epi32(first, sum[u][n][1]);
        second = _mm512_add_epi32(second, sum[u][n][3]);
      }
      if constexpr (kHalves) {
        // Exact: magnitudes are below 2^24.
        const F32 scaled =
            Mul(ConvertToF32(second), _mm512_castsi512_ps(groups[u].HalfVector(1, 0)));
        dots[u][n] =
            MulAdd(ConvertToF32(first), _mm512_castsi512_ps(groups[u].HalfVector(0, 0)), scaled);
      } else {
        dots[u][n] = ConvertToF32(kSums == 1 ? first : _mm512_add_epi32(first, second));
      }
    }
  }
}

typedef __m512i DotSum;
typedef __m512i DotTotal;
static constexpr int kScanVectors = 2;
template <int kBits>
static constexpr int kDotSteps = 1 << 12;  // 2^31 / (15 * 127 * 4) is far beyond any head_dim
TIDAL_INLINE DotTotal ZeroTotal() { return _mm512_setzero_si512(); }
template <int kBits>
TIDAL_INLINE Bytes UnpackPart(const uint8_t* p, int part) {
  return And(ShiftBits(LoadBytes(p), -kBits * part), (1 << kBits) - 1);
}
TIDAL_INLINE void AddDots(const Bytes codes[kScanVectors], const int8_t* q,
                          DotSum sums[kScanVectors]) {
  const I32 x = Broadcast32(q);
  TIDAL_UNROLL
  for (int v = 0; v < kScanVectors; ++v) sums[v] = _mm512_dpbusd_epi32(sums[v], codes[v], x);
}
TIDAL_INLINE void BeginDots(const Bytes codes[kScanVectors], const int8_t* q,
                            DotSum sums[kScanVectors]) {
  TIDAL_UNROLL
  for (int v = 0; v < kScanVectors; ++v) sums[v] = _mm512_setzero_si512();
  AddDots(codes, q, sums);
}
TIDAL_INLINE DotTotal AddSum(DotTotal total, DotSum sum) { return _mm512_add_epi32(total, sum); }
TIDAL_INLINE F32 TotalToF32(DotTotal total) { return _mm512_cvtepi32_ps(total); }
