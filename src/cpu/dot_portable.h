// Codes and their integer dot products on plain GCC and Clang vectors. Included after
// simd_portable.h, in the same way; dot_avx2.h and dot_avx512.h define the same names.
//
// What the names mean, the same in all three:
//   Bytes            4 bytes for each of kLanes rows: one step of a group (packed_layout.h)
//   kVecs            vectors in a tile of kRowTile rows
//   kFusedTokens     tokens whose sums fit the registers while codes are unpacked on the fly
//   ScratchTokens    tokens whose sums fit the registers with codes unpacked to memory; 0: they
//                    never are
//   kFusedLimit      up to so many tokens codes are unpacked on the fly, once per kFusedTokens; for
//                    more they are unpacked to memory once
//   kTilesAtOnce     tiles of unpacked or widened weights that share each load of an activation
//   kFullTokens      tokens whose sums fit the registers with float32 weights
//   kFusedTiles      packed tiles read side by side for one token
//   kDecodeTiles     tiles of float weights taken at a time where tokens are too few to keep the
//                    multipliers busy
//   kSplitPlanes     8-bit codes are given as low nibbles (steps 0..7), then high ones (8..15)
//   And, Or          bitwise, with the same mask for every byte
//   ShiftBits        left by -6..4 bits; bits that cross from byte to byte are masked off after
//   ByteToF32        byte t of each row as a float
//   MakeHalfVector   vector i < kHalfVectors of what GroupDots wants to know of the two scales of a
//                    Q6_K group, from scales[2][kRowTile]
//   GroupDots        dots[v][n] = for each row of vector v (of kTiles tiles, one group of each) the
//                    exact sum over the group's columns of (code - zero point) * activation code of
//                    token n; for Q6_K each half times its scale. Always below 2^24 in magnitude,
//                    so a float holds it.

//   DotSum           kLanes running sums of products of codes and an 8-bit query's 4 channels;
//                    kDotSteps<bits> products of codes of so many bits never overflow it
//   kScanVectors     vectors of tokens whose sums fit the registers with a group of query rows:
//                    what a query's channels are loaded for once
//   UnpackPart       codes `part` of the 8 / kBits that share the bytes at p
//   BeginDots        sums[v] = the products of codes[v] and the 4 channels at q; AddDots adds them
//   DotTotal         sums of DotSums, exact for any head_dim that attention takes

struct Bytes {
  U32x4 lo, hi;
};

static constexpr int kVecs = kRowTile / kLanes;
static constexpr int kFusedTokens = 2;
static constexpr int kFusedLimit = 0;
static constexpr int ScratchTokens(PackedType) { return 0; }
static constexpr int kTilesAtOnce = 1;
static constexpr int kFullTokens = 2;
static constexpr int kFusedTiles = 1;
static constexpr int kDecodeTiles = 1;
static constexpr bool kSplitPlanes = false;
static constexpr int kHalfVectors = 2;

TIDAL_INLINE Bytes LoadBytes(const uint8_t* p) {
  Bytes a;
  memcpy(&a, p, sizeof(a));
  return a;
}
TIDAL_INLINE void StoreBytes(uint8_t* p, Bytes a) { memcpy(p, &a, sizeof(a)); }
TIDAL_INLINE Bytes And(Bytes a, uint8_t mask) {
  const uint32_t word = mask * 0x01010101u;
  return {a.lo & word, a.hi & word};
}
TIDAL_INLINE Bytes Or(Bytes a, Bytes b) { return {a.lo | b.lo, a.hi | b.hi}; }
TIDAL_INLINE Bytes ShiftBits(Bytes a, int left) {
  return left >= 0 ? Bytes{a.lo << left, a.hi << left} : Bytes{a.lo >> -left, a.hi >> -left};
}
TIDAL_INLINE F32 ByteToF32(Bytes a, int t) {
  return ConvertToF32({(I32x4)((a.lo >> (8 * t)) & 255u), (I32x4)((a.hi >> (8 * t)) & 255u)});
}

TIDAL_INLINE I32 MakeHalfVector(const int8_t* scales, int i) {
  const F32 half = LoadI8(scales + i * kRowTile);
  return {(I32x4)half.lo, (I32x4)half.hi};
}
TIDAL_INLINE I32 LoadI32(const uint8_t* p) {
  I32 a;
  memcpy(&a, p, sizeof(a));
  return a;
}
TIDAL_INLINE void StoreI32(uint8_t* p, I32 a) { memcpy(p, &a, sizeof(a)); }
TIDAL_INLINE F32 AsF32(I32 a) { return {(F32x4)a.lo, (F32x4)a.hi}; }

// In float arithmetic, which is exact here and, unlike 32-bit integer products, fast everywhere.
template <PackedType kType, int kTokens, int kTiles, class Group>
TIDAL_INLINE void GroupDots(const Group* groups, const ActivationBlock* const* blocks,
                            F32 dots[kTiles * kVecs][kTokens]) {
  static_assert(kTiles == 1);
  constexpr PackedTraits kTraits = TraitsOf(kType);
  constexpr bool kHalves = kTraits.scales == ScaleLayout::kSuperSymmetric;
  float x[kTokens][kGroupCols];
  TIDAL_UNROLL
  for (int n = 0; n < kTokens; ++n) {
    for (int k = 0; k < kGroupCols; k += kLanes) StoreU(&x[n][k], LoadI8(blocks[n]->codes + k));
    TIDAL_UNROLL
    for (int v = 0; v < kVecs; ++v) dots[v][n] = ZeroF();
  }
  for (int half = 0; half < 2; ++half) {
    F32 sum[kVecs][kTokens];
    TIDAL_UNROLL
    for (int n = 0; n < kTokens; ++n) {
      TIDAL_UNROLL
      for (int v = 0; v < kVecs; ++v)
        sum[v][n] = Set1((float)(-kTraits.zero_point * blocks[n]->half_sums[half]));
    }
    for (int step = 4 * half; step < 4 * half + 4; ++step) {
      TIDAL_UNROLL
      for (int t = 0; t < 4; ++t) {
        TIDAL_UNROLL
        for (int v = 0; v < kVecs; ++v) {
          const F32 code = ByteToF32(groups->Codes(step, v), t);
          TIDAL_UNROLL
          for (int n = 0; n < kTokens; ++n)
            sum[v][n] = MulAdd(code, Set1(x[n][4 * step + t]), sum[v][n]);
        }
      }
    }
    TIDAL_UNROLL
    for (int v = 0; v < kVecs; ++v) {
      TIDAL_UNROLL
      for (int n = 0; n < kTokens; ++n) {
        if constexpr (kHalves) sum[v][n] = Mul(sum[v][n], AsF32(groups->HalfVector(half, v)));
        dots[v][n] = Add(dots[v][n], sum[v][n]);
      }
    }
  }
}

typedef F32 DotSum;
typedef F32 DotTotal;
static constexpr int kScanVectors = 1;
template <int kBits>
static constexpr int kDotSteps = 64;
TIDAL_INLINE DotTotal ZeroTotal() { return ZeroF(); }
template <int kBits>
TIDAL_INLINE Bytes UnpackPart(const uint8_t* p, int part) {
  return And(ShiftBits(LoadBytes(p), -kBits * part), (1 << kBits) - 1);
}
TIDAL_INLINE void AddDots(const Bytes codes[kScanVectors], const int8_t* q,
                          DotSum sums[kScanVectors]) {
  TIDAL_UNROLL
  for (int t = 0; t < 4; ++t) sums[0] = MulAdd(ByteToF32(codes[0], t), Set1((float)q[t]), sums[0]);
}
TIDAL_INLINE void BeginDots(const Bytes codes[kScanVectors], const int8_t* q,
                            DotSum sums[kScanVectors]) {
  sums[0] = ZeroF();
  AddDots(codes, q, sums);
}
TIDAL_INLINE DotTotal AddSum(DotTotal total, DotSum sum) { return Add(total, sum); }
TIDAL_INLINE F32 TotalToF32(DotTotal total) { return total; }
