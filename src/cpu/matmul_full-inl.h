// Products with float32 activations, for float types and, in full precision, quantised ones; for
// any vector width. Included after matmul_quantized-inl.h.
//
// Weights are widened to [columns][kRowTile] float32: in registers for up to six tokens of a float
// type, else kFullChunk columns at a time in the scratch buffer.

static constexpr int64_t kFullChunk = kGroupCols * 4;
static_assert(kFullChunk * kRowTile * 4 <= kTileGroupBytes);

// kRowTile weights of one column as floats.
template <PackedType kType>
TIDAL_INLINE F32 LoadWeights(const uint8_t* tile, int64_t k, int v) {
  const int64_t element = k * kRowTile + v * kLanes;
  if constexpr (kType == PackedType::kF32) return LoadU((const float*)tile + element);
  if constexpr (kType == PackedType::kF16) return LoadF16((const uint16_t*)tile + element);
  return LoadBF16((const uint16_t*)tile + element);
}

// Columns k0 .. k0 + columns - 1 of a tile as floats, exactly as the type defines them.
template <PackedType kType>
TIDAL_NOINLINE static void WidenChunk(const uint8_t* tile, int64_t k0, int64_t columns, float* to) {
  if constexpr (!IsQuantized(kType)) {
    for (int64_t k = 0; k < columns; ++k) {
      for (int v = 0; v < kVecs; ++v)
        StoreU(to + k * kRowTile + v * kLanes, LoadWeights<kType>(tile, k0 + k, v));
    }
    return;
  }
  if constexpr (IsQuantized(kType)) {
    const F32 zero = Set1((float)-TraitsOf(kType).zero_point);
    for (int64_t k = 0; k < columns; k += kGroupCols) {
      const auto group = GroupOfTile<kType>(tile, (k0 + k) / kGroupCols);
      TIDAL_UNROLL
      for (int step = 0; step < 8; ++step) {
        for (int v = 0; v < kVecs; ++v) {
          const F32 scale = group.StepScale(step, v);
          const Bytes codes = UnpackCodes<kType>(group.codes, step, v);
          for (int t = 0; t < 4; ++t) {
            // Codes times scales have at most 24 bits: only adding the minimum rounds.
            const F32 code = Add(ByteToF32(codes, t), zero);
            F32 weight = Mul(scale, code);
            if constexpr (HasMinimum(kType)) weight = Add(weight, group.M(v));
            StoreU(to + (k + 4 * step + t) * kRowTile + v * kLanes, weight);
          }
        }
      }
    }
  }
}

// kTokens tokens over `columns` columns of kTiles tiles of float32 weights, tile_stride floats
// apart; tile_sums as in ScratchChunk.
template <int kTokens, int kTiles>
TIDAL_NOINLINE static void FullChunk(const float* weights, int64_t tile_stride, int64_t columns,
                                     const float* x, int64_t x_stride, float* tile_sums) {
  constexpr int kAll = kTiles * kVecs;
  F32 sums[kTokens][kAll];
  TIDAL_UNROLL
  for (int n = 0; n < kTokens; ++n) {
    TIDAL_UNROLL
    for (int v = 0; v < kAll; ++v) sums[n][v] = LoadU(SumsOf(tile_sums, n, v));
  }
  for (int64_t k = 0; k < columns; ++k, weights += kRowTile) {
    F32 weight[kAll];
    TIDAL_UNROLL
    for (int v = 0; v < kAll; ++v)
      weight[v] = LoadU(weights + v / kVecs * tile_stride + v % kVecs * kLanes);
    TIDAL_UNROLL
    for (int n = 0; n < kTokens; ++n) {
      const F32 activation = Set1(x[n * x_stride + k]);
      TIDAL_UNROLL
      for (int v = 0; v < kAll; ++v) sums[n][v] = MulAdd(weight[v], activation, sums[n][v]);
    }
  }
  TIDAL_UNROLL
  for (int n = 0; n < kTokens; ++n) {
    TIDAL_UNROLL
    for (int v = 0; v < kAll; ++v) StoreU(SumsOf(tile_sums, n, v), sums[n][v]);
  }
}

template <int kTokens, int kTiles>
static void FullChunkOf(const float* weights, int64_t tile_stride, int64_t columns, const float* x,
                        int64_t x_stride, float* tile_sums, int64_t tokens) {
  for (; tokens >= kTokens; tokens -= kTokens) {
    FullChunk<kTokens, kTiles>(weights, tile_stride, columns, x, x_stride, tile_sums);
    x += kTokens * x_stride;
    tile_sums += kTokens * kRowTile;
  }
  if constexpr (kTokens > 1) {
    FullChunkOf<FewerTokens(kTokens), kTiles>(weights, tile_stride, columns, x, x_stride, tile_sums,
                                              tokens);
  }
}

// kTiles tiles and up to kTokenBlock tokens.
template <PackedType kType, int kTiles>
static void FullBlock(const MatMulTask& task, int64_t row, int64_t token, int64_t tokens) {
  const int64_t tile_bytes = TileBytes(kType, task.cols);
  const uint8_t* tiles = task.tiles + row / kRowTile * tile_bytes;
  ClearSums(task, kTiles, tokens);
  for (int64_t k0 = 0; k0 < task.cols; k0 += kFullChunk) {
    const int64_t columns = AtMost(task.cols - k0, kFullChunk);
    const float* weights = (const float*)tiles + k0 * kRowTile;
    int64_t tile_stride = tile_bytes / 4;
    if constexpr (kType != PackedType::kF32) {
      for (int u = 0; u < kTiles; ++u) {
        WidenChunk<kType>(tiles + u * tile_bytes, k0, columns, (float*)ScratchGroups(task, u));
      }
      weights = (const float*)ScratchGroups(task, 0);
      tile_stride = kTileGroupBytes / 4;
    }
    FullChunkOf<kFullTokens, kTiles>(weights, tile_stride, columns,
                                     task.x + token * task.x_stride + k0, task.x_stride,
                                     ScratchSums(task, 0), tokens);
  }
  WriteBlock(task, row, kTiles, token, tokens);
}

// kTokens tokens and kTiles tiles of a float type, straight from the packed weights.
template <PackedType kType, int kTokens, int kTiles>
TIDAL_NOINLINE static void FullDecode(const MatMulTask& task, int64_t row) {
  constexpr int kAll = kTiles * kVecs;
  const int64_t tile_bytes = TileBytes(kType, task.cols);
  const uint8_t* tiles = task.tiles + row / kRowTile * tile_bytes;
  F32 sums[kTokens][kAll];
  TIDAL_UNROLL
  for (int n = 0; n < kTokens; ++n) {
    TIDAL_UNROLL
    for (int v = 0; v < kAll; ++v) sums[n][v] = ZeroF();
  }
  for (int64_t k = 0; k < task.cols; ++k) {
    F32 weight[kAll];
    TIDAL_UNROLL
    for (int v = 0; v < kAll; ++v)
      weight[v] = LoadWeights<kType>(tiles + v / kVecs * tile_bytes, k, v % kVecs);
    TIDAL_UNROLL
    for (int n = 0; n < kTokens; ++n) {
      const F32 activation = Set1(task.x[n * task.x_stride + k]);
      TIDAL_UNROLL
      for (int v = 0; v < kAll; ++v) sums[n][v] = MulAdd(weight[v], activation, sums[n][v]);
    }
  }
  for (int u = 0; u < kTiles; ++u, row += kRowTile) {
    for (int n = 0; n < kTokens; ++n) {
      WriteSums(sums[n] + u * kVecs, AtMost(task.num_rows - row, kRowTile),
                task.bias == nullptr ? nullptr : task.bias + row, task.mode,
                task.out + n * task.out_stride + row);
    }
  }
}

template <PackedType kType, int kTokens>
static void FullDecodeTiles(const MatMulTask& task) {
  // As many sums as keep the multipliers busy.
  constexpr int kTiles = kDecodeTiles > kTokens ? kDecodeTiles / kTokens : 1;
  int64_t row = 0;
  for (; task.num_rows - row > (kTiles - 1) * kRowTile; row += kTiles * kRowTile)
    FullDecode<kType, kTokens, kTiles>(task, row);
  for (; row < task.num_rows; row += kRowTile) FullDecode<kType, kTokens, 1>(task, row);
}

template <PackedType kType>
static void FullTiles(const MatMulTask& task) {
  if constexpr (!IsQuantized(kType)) {
    switch (task.num_tokens) {
      case 1:
        return FullDecodeTiles<kType, 1>(task);
      case 2:
        return FullDecodeTiles<kType, 2>(task);
      case 3:
        return FullDecodeTiles<kType, 3>(task);
      case 4:
        return FullDecodeTiles<kType, 4>(task);
      default:
        break;
    }
  }
  constexpr int64_t kRows = kTilesAtOnce * kRowTile;
  for (int64_t row = 0; row < task.num_rows; row += kRows) {
    for (int64_t token = 0; token < task.num_tokens; token += kTokenBlock) {
      const int64_t tokens = AtMost(task.num_tokens - token, kTokenBlock);
      if (task.num_rows - row > kRows - kRowTile)
        FullBlock<kType, kTilesAtOnce>(task, row, token, tokens);
      else
        FullBlock<kType, 1>(task, row, token, tokens);
    }
  }
}

static void FullMatMul(const MatMulTask& task) {
  switch (task.type) {
    case PackedType::kF32:
      return FullTiles<PackedType::kF32>(task);
    case PackedType::kF16:
      return FullTiles<PackedType::kF16>(task);
    case PackedType::kBF16:
      return FullTiles<PackedType::kBF16>(task);
    case PackedType::kQ4_0:
      return FullTiles<PackedType::kQ4_0>(task);
    case PackedType::kQ4_1:
      return FullTiles<PackedType::kQ4_1>(task);
    case PackedType::kQ5_0:
      return FullTiles<PackedType::kQ5_0>(task);
    case PackedType::kQ8_0:
      return FullTiles<PackedType::kQ8_0>(task);
    case PackedType::kQ4_K:
      return FullTiles<PackedType::kQ4_K>(task);
    case PackedType::kQ5_K:
      return FullTiles<PackedType::kQ5_K>(task);
    case PackedType::kQ6_K:
      return FullTiles<PackedType::kQ6_K>(task);
    case PackedType::kQ5_1:
      return FullTiles<PackedType::kQ5_1>(task);
  }
}

static const MatMulKernels kMatMul = {
    .quantize_row = QuantizeRow,
    .quantized = QuantizedMatMul,
    .full = FullMatMul,
};
