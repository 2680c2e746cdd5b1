// Products of quantised weights with 8-bit activations, for any vector width. Included inside an
// ISA's namespace after its simd_*.h and dot_*.h.
//
// Two sources of codes feed the same arithmetic: with few tokens, the packed tile is unpacked in
// registers and read once per kFusedTokens (decode: the time is that of reading the weights); with
// many, kChunkGroups groups of kScratchTiles tiles are unpacked to a scratch buffer that stays in
// the first-level cache while all tokens pass over it.

// A group's scales unpacked to the scratch buffer: d and, where the type has it, m of 16 rows, or
// for Q6_K d and the half vectors.
static constexpr int kScaleBytes = kRowTile * 4;

static constexpr int ScratchCodeBytes(PackedType type) {
  return kSplitPlanes && TraitsOf(type).bits == 8 ? 16 * kStepBytes : 8 * kStepBytes;
}
static constexpr int ScratchGroupBytes(PackedType type) {
  return ScratchCodeBytes(type) + kScaleBytes * 4;
}
static_assert(ScratchGroupBytes(PackedType::kQ8_0) <= kScratchGroupBytes);

// Codes of step s and vector v of a packed group; the whole byte of 8-bit codes.
template <PackedType kType>
TIDAL_INLINE Bytes UnpackCodes(const uint8_t* group, int step, int v) {
  constexpr int kBits = TraitsOf(kType).bits;
  const uint8_t* lanes = group + v * kLanes * 4;
  if constexpr (kBits == 8) return LoadBytes(lanes + step * kStepBytes);
  const Bytes pair = LoadBytes(lanes + step % 4 * kStepBytes);
  const Bytes low = And(step < 4 ? pair : ShiftBits(pair, -4), 15);
  const uint8_t* high = lanes + 4 * kStepBytes;
  if constexpr (kBits == 5) return Or(low, And(ShiftBits(LoadBytes(high), 4 - step), 16));
  if constexpr (kBits == 6) {
    const Bytes plane = LoadBytes(high + step / 4 * kStepBytes);
    return Or(low, And(ShiftBits(plane, 4 - step % 4 * 2), 48));
  }
  return low;
}

// A group of a packed tile, unpacked as it is used.
template <PackedType kType>
struct PackedGroup {
  static constexpr ScaleLayout kScales = TraitsOf(kType).scales;

  const uint8_t* codes;
  const uint8_t* scales;  // of its unit
  int group_in_unit;

  TIDAL_INLINE_MEMBER Bytes Codes(int step, int v) const {
    if constexpr (kSplitPlanes && TraitsOf(kType).bits == 8) {
      const Bytes whole = UnpackCodes<kType>(codes, step % 8, v);
      return And(step < 8 ? whole : ShiftBits(whole, -4), 15);
    } else {
      return UnpackCodes<kType>(codes, step, v);
    }
  }
  TIDAL_INLINE_MEMBER F32 Half(int array, int v) const {
    return LoadF16((const uint16_t*)scales + array * kRowTile + v * kLanes);
  }
  // The byte arrays after the f16 ones.
  TIDAL_INLINE_MEMBER const uint8_t* ScaleBytesAt(int array) const {
    constexpr int kHalves = kScales == ScaleLayout::kSuperAffine ? 2 : 1;
    return scales + kHalves * kRowTile * 2 + (2 * group_in_unit + array) * kRowTile;
  }
  TIDAL_INLINE_MEMBER F32 D(int v) const {
    if constexpr (kScales == ScaleLayout::kSuperAffine)
      return Mul(Half(0, v), LoadU8(ScaleBytesAt(0) + v * kLanes));
    return Half(0, v);
  }
  TIDAL_INLINE_MEMBER F32 M(int v) const {
    if constexpr (kScales == ScaleLayout::kSuperAffine)
      return Mul(Half(1, v), LoadU8(ScaleBytesAt(1) + v * kLanes));
    return Half(1, v);
  }
  TIDAL_INLINE_MEMBER I32 HalfVector(int i, int v) const {
    return MakeHalfVector((const int8_t*)ScaleBytesAt(0) + v * kLanes, i);
  }
  // The scale of the columns of a step, as a float.
  TIDAL_INLINE_MEMBER F32 StepScale(int step, int v) const {
    if constexpr (kScales == ScaleLayout::kSuperSymmetric)
      return Mul(Half(0, v), LoadI8((const int8_t*)ScaleBytesAt(step / 4) + v * kLanes));
    return D(v);
  }
};

template <PackedType kType>
TIDAL_INLINE PackedGroup<kType> GroupOfTile(const uint8_t* tile, int64_t group) {
  constexpr int64_t kGroups = UnitGroups(kType);
  const uint8_t* unit = tile + group / kGroups * UnitBytes(kType);
  return {unit + UnitScaleBytes(kType) + group % kGroups * GroupCodeBytes(kType), unit,
          (int)(group % kGroups)};
}

// A group in the scratch buffer.
template <PackedType kType>
struct ScratchGroup {
  const uint8_t* base;

  TIDAL_INLINE_MEMBER Bytes Codes(int step, int v) const {
    return LoadBytes(base + step * kStepBytes + v * kLanes * 4);
  }
  TIDAL_INLINE_MEMBER const uint8_t* ScalesAt(int array, int v) const {
    return base + ScratchCodeBytes(kType) + array * kScaleBytes + v * kLanes * 4;
  }
  TIDAL_INLINE_MEMBER F32 D(int v) const { return LoadU((const float*)ScalesAt(0, v)); }
  TIDAL_INLINE_MEMBER F32 M(int v) const { return LoadU((const float*)ScalesAt(1, v)); }
  TIDAL_INLINE_MEMBER I32 HalfVector(int i, int v) const { return LoadI32(ScalesAt(1 + i, v)); }
};

template <PackedType kType>
TIDAL_NOINLINE static void UnpackGroup(const PackedGroup<kType>& from, uint8_t* base) {
  constexpr int kSteps = ScratchCodeBytes(kType) / kStepBytes;
  uint8_t* scales = base + ScratchCodeBytes(kType);
  for (int v = 0; v < kVecs; ++v) {
    const int lane_bytes = v * kLanes * 4;
    TIDAL_UNROLL
    for (int step = 0; step < kSteps; ++step)
      StoreBytes(base + step * kStepBytes + lane_bytes, from.Codes(step, v));
    StoreU((float*)(scales + lane_bytes), from.D(v));
    if constexpr (HasMinimum(kType)) StoreU((float*)(scales + kScaleBytes + lane_bytes), from.M(v));
    if constexpr (TraitsOf(kType).scales == ScaleLayout::kSuperSymmetric) {
      for (int i = 0; i < kHalfVectors; ++i)
        StoreI32(scales + (1 + i) * kScaleBytes + lane_bytes, from.HalfVector(i, v));
    }
  }
}

// Adds the share of one group of each of kTiles tiles to the sums of kTokens tokens. The order of
// the roundings is the contract of matmul_kernels.h.
template <PackedType kType, int kTokens, int kTiles, class Group>
TIDAL_INLINE void AddGroups(const Group* groups, const ActivationBlock* const* blocks,
                            F32 sums[kTiles * kVecs][kTokens]) {
  F32 dots[kTiles * kVecs][kTokens];
  GroupDots<kType, kTokens, kTiles>(groups, blocks, dots);
  TIDAL_UNROLL
  for (int n = 0; n < kTokens; ++n) {
    const F32 scale = Set1(blocks[n]->scale);
    TIDAL_UNROLL
    for (int v = 0; v < kTiles * kVecs; ++v) {
      const F32 d = groups[v / kVecs].D(v % kVecs);
      sums[v][n] = MulAdd(d, Mul(dots[v][n], scale), sums[v][n]);
    }
    if constexpr (HasMinimum(kType)) {
      const F32 sum = Set1(blocks[n]->sum);
      TIDAL_UNROLL
      for (int v = 0; v < kTiles * kVecs; ++v)
        sums[v][n] = MulAdd(groups[v / kVecs].M(v % kVecs), sum, sums[v][n]);
    }
  }
}

// Writes the sums of one token to `rows` outputs.
TIDAL_INLINE void WriteSums(const F32* sums, int64_t rows, const float* bias, OutputMode mode,
                            float* out) {
  for (int v = 0; v < kVecs && v * kLanes < rows; ++v) {
    const int64_t left = rows - v * kLanes;
    const int n = left < kLanes ? (int)left : kLanes;
    F32 value = sums[v];
    if (bias != nullptr) value = Add(value, LoadN(bias + v * kLanes, n));
    if (mode == OutputMode::kAdd) value = Add(LoadN(out + v * kLanes, n), value);
    StoreN(out + v * kLanes, value, n);
  }
}

static inline int64_t AtMost(int64_t a, int64_t limit) { return a < limit ? a : limit; }
// The size of pieces of `total` that are at most `limit` and as even as can be.
static inline int64_t EvenPieces(int64_t total, int64_t limit) {
  const int64_t pieces = (total + limit - 1) / limit;
  return (total + pieces - 1) / pieces;
}

// Asks for the group that is used a few groups later. Unpacking fewer bits leaves the hardware's
// own prefetching idle for too long; 8-bit codes keep it busy, and asking would take its place.
static constexpr int kFetchDistance = 1536;
template <PackedType kType>
TIDAL_INLINE void FetchAhead(const uint8_t* codes) {
  if constexpr (TraitsOf(kType).bits < 8) {
    for (int i = 0; i < GroupCodeBytes(kType); i += 64) Prefetch(codes + kFetchDistance + i);
  }
}
// Asks for the start of a stream.
static inline void FetchStart(const uint8_t* stream) {
  for (int i = 0; i < kFetchDistance; i += 64) Prefetch(stream + i);
}

// kTiles packed tiles, tile_stride tiles apart, for kTokens tokens.
template <PackedType kType, int kTokens, int kTiles>
TIDAL_NOINLINE static void FusedTile(const MatMulTask& task, int64_t tile, int64_t tile_stride,
                                     int64_t token) {
  constexpr int kAll = kTiles * kVecs;
  const int64_t tile_bytes = TileBytes(kType, task.cols);
  const ActivationBlock* blocks[kTokens];
  F32 sums[kAll][kTokens];
  TIDAL_UNROLL
  for (int n = 0; n < kTokens; ++n) {
    blocks[n] = task.blocks + (token + n) * task.block_stride;
    TIDAL_UNROLL
    for (int v = 0; v < kAll; ++v) sums[v][n] = ZeroF();
  }
  PackedGroup<kType> group[kTiles];
  TIDAL_UNROLL
  for (int u = 0; u < kTiles; ++u)
    group[u] = GroupOfTile<kType>(task.tiles + (tile + u * tile_stride) * tile_bytes, 0);
  for (int64_t unit = 0; unit < task.cols / UnitCols(kType); ++unit) {
    for (int g = 0; g < UnitGroups(kType); ++g) {
      TIDAL_UNROLL
      for (int u = 0; u < kTiles; ++u) FetchAhead<kType>(group[u].codes);
      AddGroups<kType, kTokens, kTiles>(group, blocks, sums);
      TIDAL_UNROLL
      for (int n = 0; n < kTokens; ++n) ++blocks[n];
      TIDAL_UNROLL
      for (int u = 0; u < kTiles; ++u) {
        group[u].codes += GroupCodeBytes(kType);
        ++group[u].group_in_unit;
      }
    }
    TIDAL_UNROLL
    for (int u = 0; u < kTiles; ++u) {
      group[u].codes += UnitScaleBytes(kType);
      group[u].scales += UnitBytes(kType);
      group[u].group_in_unit = 0;
    }
  }
  for (int u = 0; u < kTiles; ++u) {
    const int64_t row = (tile + u * tile_stride) * kRowTile;
    for (int n = 0; n < kTokens; ++n) {
      F32 token_sums[kVecs];
      for (int v = 0; v < kVecs; ++v) token_sums[v] = sums[u * kVecs + v][n];
      WriteSums(token_sums, AtMost(task.num_rows - row, kRowTile),
                task.bias == nullptr ? nullptr : task.bias + row, task.mode,
                task.out + (token + n) * task.out_stride + row);
    }
  }
}

template <PackedType kType, int kTokens>
static void FusedTileOf(const MatMulTask& task, int64_t tile, int64_t token, int64_t tokens) {
  if (tokens >= kTokens) return FusedTile<kType, kTokens, 1>(task, tile, 0, token);
  if constexpr (kTokens > 1) FusedTileOf<kType, kTokens - 1>(task, tile, token, tokens);
}

template <PackedType kType>
static void FusedTiles(const MatMulTask& task) {
  const int64_t tiles = (task.num_rows + kRowTile - 1) / kRowTile;
  int64_t tile = 0;
  if constexpr (kFusedTiles > 1) {
    // Each stream of kFusedTiles runs through its own stretch of tiles: the hardware fetches long
    // streams ahead, and several of them sooner than one.
    const int64_t stretch = tiles / kFusedTiles;
    if (task.num_tokens == 1) {
      for (int u = 0; u < kFusedTiles; ++u)
        FetchStart(task.tiles + u * stretch * TileBytes(kType, task.cols));
      for (; tile < stretch; ++tile) FusedTile<kType, 1, kFusedTiles>(task, tile, stretch, 0);
      tile = stretch * kFusedTiles;
    }
  }
  for (; tile < tiles; ++tile) {
    for (int64_t token = 0; token < task.num_tokens; token += kFusedTokens)
      FusedTileOf<kType, kFusedTokens>(task, tile, token, task.num_tokens - token);
  }
}

// The scratch buffer of a task: sums [kScratchTiles][kTokenBlock][kRowTile], then unpacked groups
// [kScratchTiles][kChunkGroups].
static constexpr int64_t kTileSums = (int64_t)kTokenBlock * kRowTile;
static constexpr int64_t kTileGroupBytes = (int64_t)kChunkGroups * kScratchGroupBytes;
static inline float* ScratchSums(const MatMulTask& task, int tile) {
  return (float*)task.scratch + tile * kTileSums;
}
static inline uint8_t* ScratchGroups(const MatMulTask& task, int tile) {
  return task.scratch + kScratchTiles * kTileSums * 4 + tile * kTileGroupBytes;
}
// Of token n and vector v, counted over consecutive tiles, from those of token 0 of the first tile.
TIDAL_INLINE float* SumsOf(float* tile_sums, int n, int v) {
  return tile_sums + v / kVecs * kTileSums + n * kRowTile + v % kVecs * kLanes;
}

static inline void ClearSums(const MatMulTask& task, int num_tiles, int64_t tokens) {
  for (int tile = 0; tile < num_tiles; ++tile)
    memset(ScratchSums(task, tile), 0, (size_t)(tokens * kRowTile) * sizeof(float));
}
// The sums of `tokens` tokens and num_tiles tiles, from `token` and `row` on, to the outputs.
static void WriteBlock(const MatMulTask& task, int64_t row, int num_tiles, int64_t token,
                       int64_t tokens) {
  for (int tile = 0; tile < num_tiles; ++tile, row += kRowTile) {
    const int64_t rows = AtMost(task.num_rows - row, kRowTile);
    const float* bias = task.bias == nullptr ? nullptr : task.bias + row;
    for (int64_t n = 0; n < tokens; ++n) {
      F32 sums[kVecs];
      for (int v = 0; v < kVecs; ++v)
        sums[v] = LoadU(SumsOf(ScratchSums(task, tile), 0, v) + n * kRowTile);
      WriteSums(sums, rows, bias, task.mode, task.out + (token + n) * task.out_stride + row);
    }
  }
}

// What is tried for the tokens that are left after as many times kTokens as possible.
static constexpr int FewerTokens(int tokens) { return tokens > 4 ? 4 : tokens - 1; }

// Groups 0 .. groups - 1 of the scratch areas of kTiles tiles, for kTokens tokens. `sums` and
// `scratch` are those of the first tile.
template <PackedType kType, int kTokens, int kTiles>
TIDAL_NOINLINE static void ScratchChunk(const uint8_t* scratch, int64_t groups,
                                        const ActivationBlock* first, int64_t block_stride,
                                        float* tile_sums) {
  constexpr int kAll = kTiles * kVecs;
  const ActivationBlock* blocks[kTokens];
  F32 sums[kAll][kTokens];
  TIDAL_UNROLL
  for (int n = 0; n < kTokens; ++n) {
    blocks[n] = first + n * block_stride;
    TIDAL_UNROLL
    for (int v = 0; v < kAll; ++v) sums[v][n] = LoadU(SumsOf(tile_sums, n, v));
  }
  for (int64_t g = 0; g < groups; ++g) {
    ScratchGroup<kType> group[kTiles];
    TIDAL_UNROLL
    for (int u = 0; u < kTiles; ++u) group[u].base = scratch + u * kTileGroupBytes;
    AddGroups<kType, kTokens, kTiles>(group, blocks, sums);
    scratch += ScratchGroupBytes(kType);
    TIDAL_UNROLL
    for (int n = 0; n < kTokens; ++n) ++blocks[n];
  }
  TIDAL_UNROLL
  for (int n = 0; n < kTokens; ++n) {
    TIDAL_UNROLL
    for (int v = 0; v < kAll; ++v) StoreU(SumsOf(tile_sums, n, v), sums[v][n]);
  }
}

// All tokens of a block, kTokens at a time, then fewer.
template <PackedType kType, int kTokens, int kTiles>
static void ScratchChunkOf(const uint8_t* scratch, int64_t groups, const ActivationBlock* first,
                           int64_t block_stride, float* tile_sums, int64_t tokens) {
  for (; tokens >= kTokens; tokens -= kTokens) {
    ScratchChunk<kType, kTokens, kTiles>(scratch, groups, first, block_stride, tile_sums);
    first += kTokens * block_stride;
    tile_sums += kTokens * kRowTile;
  }
  if constexpr (kTokens > 1) {
    ScratchChunkOf<kType, FewerTokens(kTokens), kTiles>(scratch, groups, first, block_stride,
                                                        tile_sums, tokens);
  }
}

// Up to kScratchTiles tiles and kTokenBlock tokens.
template <PackedType kType>
static void ScratchBlock(const MatMulTask& task, const uint8_t* tiles, int64_t row, int num_tiles,
                         int64_t token, int64_t tokens) {
  const int64_t tile_bytes = TileBytes(kType, task.cols);
  const int64_t groups = task.cols / kGroupCols;
  ClearSums(task, num_tiles, tokens);
  const int64_t most = EvenPieces(groups, kChunkGroups);
  for (int64_t g0 = 0; g0 < groups; g0 += most) {
    const int64_t chunk = AtMost(groups - g0, most);
    for (int tile = 0; tile < num_tiles; ++tile) {
      uint8_t* scratch = ScratchGroups(task, tile);
      for (int64_t g = 0; g < chunk; ++g) {
        UnpackGroup(GroupOfTile<kType>(tiles + tile * tile_bytes, g0 + g),
                    scratch + g * ScratchGroupBytes(kType));
      }
    }
    const ActivationBlock* blocks = task.blocks + token * task.block_stride + g0;
    int tile = 0;
    for (; tile + kTilesAtOnce <= num_tiles; tile += kTilesAtOnce) {
      ScratchChunkOf<kType, ScratchTokens(kType), kTilesAtOnce>(ScratchGroups(task, tile), chunk,
                                                                blocks, task.block_stride,
                                                                ScratchSums(task, tile), tokens);
    }
    if constexpr (kTilesAtOnce > 1) {
      for (; tile < num_tiles; ++tile) {
        ScratchChunkOf<kType, ScratchTokens(kType), 1>(ScratchGroups(task, tile), chunk, blocks,
                                                       task.block_stride, ScratchSums(task, tile),
                                                       tokens);
      }
    }
  }
  WriteBlock(task, row, num_tiles, token, tokens);
}

template <PackedType kType>
static void ScratchTiles(const MatMulTask& task) {
  const int64_t tile_bytes = TileBytes(kType, task.cols);
  for (int64_t row = 0; row < task.num_rows; row += kScratchTiles * kRowTile) {
    const int tiles = (int)AtMost((task.num_rows - row + kRowTile - 1) / kRowTile, kScratchTiles);
    for (int64_t token = 0; token < task.num_tokens; token += kTokenBlock) {
      ScratchBlock<kType>(task, task.tiles + row / kRowTile * tile_bytes, row, tiles, token,
                          AtMost(task.num_tokens - token, kTokenBlock));
    }
  }
}

template <PackedType kType>
static void QuantizedTiles(const MatMulTask& task) {
  if constexpr (ScratchTokens(kType) > 0) {
    if (task.num_tokens > kFusedLimit) return ScratchTiles<kType>(task);
  }
  FusedTiles<kType>(task);
}

static void QuantizedMatMul(const MatMulTask& task) {
  switch (task.type) {
    case PackedType::kQ4_0:
      return QuantizedTiles<PackedType::kQ4_0>(task);
    case PackedType::kQ4_1:
      return QuantizedTiles<PackedType::kQ4_1>(task);
    case PackedType::kQ5_0:
      return QuantizedTiles<PackedType::kQ5_0>(task);
    case PackedType::kQ8_0:
      return QuantizedTiles<PackedType::kQ8_0>(task);
    case PackedType::kQ4_K:
      return QuantizedTiles<PackedType::kQ4_K>(task);
    case PackedType::kQ5_K:
      return QuantizedTiles<PackedType::kQ5_K>(task);
    case PackedType::kQ6_K:
      return QuantizedTiles<PackedType::kQ6_K>(task);
    case PackedType::kQ5_1:
      return QuantizedTiles<PackedType::kQ5_1>(task);
    case PackedType::kF32:
    case PackedType::kF16:
    case PackedType::kBF16:
      return;  // never asked for: see MatMul
  }
}

// The bits of the largest magnitude of kGroupCols floats; as integers they order NaN above all.
static inline uint32_t MaxMagnitudeBits(const float* x) {
  uint32_t most = 0;
  for (int i = 0; i < kGroupCols; ++i) {
    uint32_t bits;
    memcpy(&bits, x + i, sizeof(bits));
    bits &= 0x7fffffffu;
    most = bits > most ? bits : most;
  }
  return most;
}

static void QuantizeRow(const float* x, int64_t cols, ActivationBlock* blocks) {
  constexpr uint32_t kSmallest = 0x08800000;  // 2^-110: below, 127 / magnitude could overflow
  constexpr uint32_t kInfinity = 0x7f800000;
  for (; cols > 0; cols -= kGroupCols, x += kGroupCols, ++blocks) {
    const uint32_t bits = MaxMagnitudeBits(x);
    if (bits < kSmallest || bits >= kInfinity) {
      memset(blocks, 0, sizeof(*blocks));
      if (bits >= kInfinity) blocks->scale = blocks->sum = __builtin_nanf("");
      continue;
    }
    float magnitude;
    memcpy(&magnitude, &bits, sizeof(magnitude));
    const F32 to_code = Set1(127.0f / magnitude);
    blocks->scale = magnitude / 127.0f;
    for (int half = 0; half < 2; ++half) {
      F32 sum = ZeroF();
      for (int i = half * 16; i < half * 16 + 16; i += kLanes) {
        const I32 codes = RoundToI32(Mul(LoadU(x + i), to_code));
        StoreI8(blocks->codes + i, codes);
        sum = Add(sum, ConvertToF32(codes));
      }
      blocks->half_sums[half] = (int16_t)ReduceAdd(sum);
    }
    blocks->sum = blocks->scale * (float)(blocks->half_sums[0] + blocks->half_sums[1]);
  }
}
