// Reading cache rows, and attention of a few query rows (attention_kernels.h). Included by
// attention-inl.h; no include guard.

// A row of a cache as floats. Load(i) is elements i .. i + kLanes - 1, LoadN the first n of these;
// i is a multiple of kLanes.
struct F32Row {
  const float* row;
  TIDAL_INLINE_MEMBER F32 Load(int64_t i) const { return LoadU(row + i); }
  TIDAL_INLINE_MEMBER F32 LoadPart(int64_t i, int n) const { return LoadN(row + i, n); }
};
struct F16Row {
  const uint16_t* row;
  TIDAL_INLINE_MEMBER F32 Load(int64_t i) const { return LoadF16(row + i); }
  TIDAL_INLINE_MEMBER F32 LoadPart(int64_t i, int n) const { return LoadF16N(row + i, n); }
};
struct BF16Row {
  const uint16_t* row;
  TIDAL_INLINE_MEMBER F32 Load(int64_t i) const { return LoadBF16(row + i); }
  TIDAL_INLINE_MEMBER F32 LoadPart(int64_t i, int n) const { return LoadBF16N(row + i, n); }
};
struct Q8Row {
  const int8_t* row;
  const float* scales;
  TIDAL_INLINE_MEMBER F32 Scale(int64_t i) const { return Set1(scales[i / kCacheQuantGroup]); }
  TIDAL_INLINE_MEMBER F32 Load(int64_t i) const { return Mul(LoadI8(row + i), Scale(i)); }
  TIDAL_INLINE_MEMBER F32 LoadPart(int64_t i, int n) const {
    return Mul(LoadI8N(row + i, n), Scale(i));
  }
};

TIDAL_INLINE void WidenScales(const uint16_t* scales, int64_t num_scales, float* out) {
  int64_t i = 0;
  for (; i + kLanes <= num_scales; i += kLanes) StoreU(out + i, LoadF16(scales + i));
  if (i < num_scales) {
    const int lanes = (int)(num_scales - i);
    StoreN(out + i, LoadF16N(scales + i, lanes), lanes);
  }
}

// The rows of a block: At(t). Only here and in GatheredRows is it decided where token t's row lies.
// q8_0 scales are widened once per block, not once per use.
template <typename Row>
class BlockRows {
 public:
  explicit BlockRows(const CacheBlock& block)
      : rows_(block.rows), row_bytes_(block.head_dim * (int64_t)ElementBytes()) {}
  TIDAL_INLINE_MEMBER Row At(int64_t t) const { return {Cast(rows_ + t * row_bytes_)}; }

 private:
  using Pointer = decltype(Row::row);
  static constexpr int ElementBytes() { return (int)sizeof(*Pointer()); }
  static Pointer Cast(const uint8_t* p) { return (Pointer)p; }

  const uint8_t* rows_;
  int64_t row_bytes_;
};

template <>
class BlockRows<Q8Row> {
 public:
  explicit BlockRows(const CacheBlock& block)
      : rows_((const int8_t*)block.rows),
        row_bytes_(block.head_dim),
        scales_per_row_((block.head_dim + kCacheQuantGroup - 1) / kCacheQuantGroup) {
    WidenScales(block.scales, block.num_tokens * scales_per_row_, scales_);
  }
  TIDAL_INLINE_MEMBER Q8Row At(int64_t t) const {
    return {rows_ + t * row_bytes_, scales_ + t * scales_per_row_};
  }

 private:
  const int8_t* rows_;
  int64_t row_bytes_;
  int64_t scales_per_row_;
  float scales_[kBlockTokens * kMaxHeadDim / kCacheQuantGroup];
};

// The rows of a gathered block.
template <typename Row>
class GatheredRows {
 public:
  explicit GatheredRows(const GatheredBlock& block) : rows_(block.rows) {}
  TIDAL_INLINE_MEMBER Row At(int64_t t) const { return {(decltype(Row::row))rows_[t]}; }

 private:
  const uint8_t* const* rows_;
};

template <>
class GatheredRows<Q8Row> {
 public:
  explicit GatheredRows(const GatheredBlock& block)
      : rows_(block.rows),
        scales_per_row_((block.head_dim + kCacheQuantGroup - 1) / kCacheQuantGroup) {
    for (int64_t t = 0; t < block.num_tokens; ++t)
      WidenScales(block.scales[t], scales_per_row_, scales_ + t * scales_per_row_);
  }
  TIDAL_INLINE_MEMBER Q8Row At(int64_t t) const {
    return {(const int8_t*)rows_[t], scales_ + t * scales_per_row_};
  }

 private:
  const uint8_t* const* rows_;
  int64_t scales_per_row_;
  float scales_[kBlockTokens * kMaxHeadDim / kCacheQuantGroup];
};

// Asks for a block's prefetch evenly over the kernel's work: requests in bursts fill the core's
// miss buffers, and then its own loads wait.
class Prefetcher {
 public:
  // `work` is the sum of what Step will be given.
  Prefetcher(const CacheBlock& block, int64_t work)
      : next_(block.prefetch), rate_((block.prefetch_bytes * kLine / 64 + work - 1) / work) {}
  TIDAL_INLINE_MEMBER void Step(int64_t work) {
    for (due_ += rate_ * work; due_ >= kLine; due_ -= kLine, next_ += 64) Prefetch(next_);
  }

 private:
  static constexpr int64_t kLine = 1 << 20;  // one cache line, as a fixed-point number
  const uint8_t* next_;
  int64_t rate_;
  int64_t due_ = 0;
};

// The same for rows that lie apart.
class RowPrefetcher {
 public:
  RowPrefetcher(const GatheredBlock& block, int64_t work)
      : row_(block.prefetch),
        end_(block.prefetch + block.num_prefetch),
        row_bytes_(block.prefetch_bytes),
        rate_((block.num_prefetch * ((block.prefetch_bytes + 63) / 64) * kLine + work - 1) / work) {
  }
  TIDAL_INLINE_MEMBER void Step(int64_t work) {
    for (due_ += rate_ * work; due_ >= kLine; due_ -= kLine) {
      if (row_ == end_) return;
      Prefetch(*row_ + offset_);
      offset_ += 64;
      if (offset_ >= row_bytes_) {
        offset_ = 0;
        ++row_;
      }
    }
  }

 private:
  static constexpr int64_t kLine = 1 << 20;
  const uint8_t* const* row_;
  const uint8_t* const* end_;
  int64_t row_bytes_;
  int64_t rate_;
  int64_t offset_ = 0;
  int64_t due_ = 0;
};

// Query rows are taken in groups whose sums fit in registers together, of as equal sizes as can be.
static constexpr int kMaxGroupRows = kVectorRegisters >= 32 ? 8 : 6;
TIDAL_INLINE int NextGroupRows(int rows_left) {
  const int groups_left = (rows_left + kMaxGroupRows - 1) / kMaxGroupRows;
  return (rows_left + groups_left - 1) / groups_left;
}
// Calls fn<rows in the group>(first row) for each group.
template <typename Fn>
TIDAL_INLINE void ForEachGroup(int num_rows, const Fn& fn) {
  for (int row = 0; row < num_rows;) {
    const int rows = NextGroupRows(num_rows - row);
    switch (rows) {
      case 1:
        fn.template operator()<1>(row);
        break;
      case 2:
        fn.template operator()<2>(row);
        break;
      case 3:
        fn.template operator()<3>(row);
        break;
      case 4:
        fn.template operator()<4>(row);
        break;
      case 5:
        fn.template operator()<5>(row);
        break;
      case 6:
        fn.template operator()<6>(row);
        break;
      default:
        if constexpr (kMaxGroupRows == 8) {
          if (rows == 7)
            fn.template operator()<7>(row);
          else
            fn.template operator()<8>(row);
        }
    }
    row += rows;
  }
}

TIDAL_INLINE const float* QueryRow(const QueryRows& rows, int32_t r) {
  const int32_t row = rows.first_row + r;
  return rows.q + row / rows.gqa_ratio * rows.token_stride +
         (int64_t)(row % rows.gqa_ratio) * rows.head_dim;
}

// Group by group, [vectors of a row][rows of the group][kLanes], so that score_rows walks one
// pointer.
static void PackRows(const QueryRows& rows, float scale, float* packed) {
  const F32 factor = Set1(scale);
  for (int row = 0; row < rows.num_rows;) {
    const int group_rows = NextGroupRows(rows.num_rows - row);
    for (int r = 0; r < group_rows; ++r) {
      const float* q = QueryRow(rows, row + r);
      float* out = packed + (int64_t)row * PaddedHeadDim(rows.head_dim) + r * kLanes;
      for (int i = 0; i < rows.head_dim; i += kLanes, out += group_rows * kLanes) {
        const int lanes = rows.head_dim - i < kLanes ? rows.head_dim - i : kLanes;
        StoreU(out, Mul(LoadN(q + i, lanes), factor));
      }
    }
    row += group_rows;
  }
}

// Tokens whose scores are summed at the same time: as many as registers allow, as each query vector
// is read once for all of them.
template <int kRows>
constexpr int TokensAtATime() {
  if (kVectorRegisters >= 32) return kRows <= 3 ? 8 : kRows <= 6 ? 4 : 2;
  return kRows == 1 ? 8 : kRows <= 3 ? 4 : 2;
}

// sums[i][j] += a(i) * b(j). The smaller side is loaded first and kept, the other is streamed, so
// that it all fits in registers.
template <int kA, int kB, typename A, typename B>
TIDAL_INLINE void AddProducts(const B& b, const A& a, F32 (&sums)[kA][kB]) {
  if constexpr (kA < kB) {
    F32 kept[kA];
#pragma GCC unroll 8
    for (int i = 0; i < kA; ++i) kept[i] = a(i);
#pragma GCC unroll 8
    for (int j = 0; j < kB; ++j) {
      const F32 streamed = InRegister(b(j));
#pragma GCC unroll 8
      for (int i = 0; i < kA; ++i) sums[i][j] = MulAdd(kept[i], streamed, sums[i][j]);
    }
  } else {
    F32 kept[kB];
#pragma GCC unroll 8
    for (int j = 0; j < kB; ++j) kept[j] = b(j);
#pragma GCC unroll 8
    for (int i = 0; i < kA; ++i) {
      const F32 streamed = InRegister(a(i));
#pragma GCC unroll 8
      for (int j = 0; j < kB; ++j) sums[i][j] = MulAdd(streamed, kept[j], sums[i][j]);
    }
  }
}

// Scores are reduced kLanes at a time; the sums of tokens i and i + kLanes / 2 of such a run make a
// pair (FoldPair). The first token of a pair:
TIDAL_INLINE constexpr int FirstOfPair(int pair) {
  return pair + pair / (kLanes / 2) * (kLanes / 2);
}

template <int kRows, typename Block, typename Rows, typename Ahead>
static void ScoreGroup(const Block& keys, const Rows& rows, const float* packed, float* scores,
                       Ahead* prefetcher) {
  constexpr int kTokens = TokensAtATime<kRows>();
  const int64_t head_dim = keys.head_dim;
  const int64_t whole = head_dim / kLanes * kLanes;
  const int last = keys.num_tokens - 1;
  const int pairs = (keys.num_tokens + kLanes - 1) / kLanes * kLanes / 2;
  // Sums over the lanes wait until the end: done at once, their long chains overlap.
  F32 folded[kRows][kBlockTokens / 2];
  for (int pair = 0; pair < pairs; pair += kTokens / 2) {
    decltype(rows.At(0)) k[kTokens];
#pragma GCC unroll 8
    for (int j = 0; j < kTokens; ++j) {
      const int t = FirstOfPair(pair + j / 2) + j % 2 * (kLanes / 2);
      k[j] = rows.At(t < last ? t : last);
    }
    prefetcher->Step(kRows * kTokens);
    F32 sums[kRows][kTokens];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
      for (int j = 0; j < kTokens; ++j) sums[r][j] = ZeroF();
    }
    const float* q = packed;
    for (int64_t d = 0; d < whole; d += kLanes, q += kRows * kLanes) {
      AddProducts([&](int j) TIDAL_INLINE_MEMBER { return k[j].Load(d); },
                  [&](int r) TIDAL_INLINE_MEMBER { return LoadU(q + r * kLanes); }, sums);
    }
    if (whole < head_dim) {
      const int lanes = (int)(head_dim - whole);
#pragma GCC unroll 8
      for (int j = 0; j < kTokens; ++j) {
        const F32 key = k[j].LoadPart(whole, lanes);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) sums[r][j] = MulAdd(LoadU(q + r * kLanes), key, sums[r][j]);
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
      for (int j = 0; j < kTokens; j += 2)
        folded[r][pair + j / 2] = FoldPair(sums[r][j], sums[r][j + 1]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int pair = 0; pair < pairs; pair += kLanes / 2)
      StoreU(scores + r * kBlockTokens + 2 * pair, ReduceFolded(folded[r] + pair));
  }
}

template <typename Rows, typename Ahead, typename Block>
TIDAL_INLINE void ScoreBlock(const Block& keys, const float* packed, int32_t num_rows,
                             float* scores) {
  const Rows rows(keys);
  Ahead prefetcher(keys, num_rows * keys.num_tokens);
  ForEachGroup(num_rows, [&]<int kRows>(int row) {
    ScoreGroup<kRows>(keys, rows, packed + row * PaddedHeadDim(keys.head_dim),
                      scores + row * kBlockTokens, &prefetcher);
  });
}

template <typename Row>
static void ScoreRows(const CacheBlock& keys, const float* packed, int32_t num_rows,
                      float* scores) {
  ScoreBlock<BlockRows<Row>, Prefetcher>(keys, packed, num_rows, scores);
}
template <typename Row>
static void ScoreGathered(const GatheredBlock& keys, const float* packed, int32_t num_rows,
                          float* scores) {
  ScoreBlock<GatheredRows<Row>, RowPrefetcher>(keys, packed, num_rows, scores);
}

// Adds to the elements from d on of every row of the group, kVectors vectors at a time.
template <int kRows, int kVectors, typename Block, typename Rows, typename Ahead>
static void MixColumns(const Block& values, const Rows& rows, const float* probs,
                       const float* alpha, int64_t d, float* out, Ahead* prefetcher) {
  const int64_t stride = PaddedHeadDim(values.head_dim);
  const int64_t left = values.head_dim - d;
  F32 sums[kRows][kVectors];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    const F32 factor = Set1(alpha[r]);
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v)
      sums[r][v] = Mul(LoadU(out + r * stride + d + v * kLanes), factor);
  }
  Ahead local = *prefetcher;  // in registers
  for (int64_t t = 0; t < values.num_tokens; ++t) {
    const auto row = rows.At(t);
    local.Step(kRows * kVectors);
    AddProducts(
        [&](int v) TIDAL_INLINE_MEMBER {
          // Only a lone vector can be the partial one at the end of a row.
          return kVectors > 1 || left >= kLanes ? row.Load(d + v * kLanes)
                                                : row.LoadPart(d, (int)left);
        },
        [&](int r) TIDAL_INLINE_MEMBER { return Set1(probs[r * kBlockTokens + t]); }, sums);
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) StoreU(out + r * stride + d + v * kLanes, sums[r][v]);
  }
  *prefetcher = local;
}

// Vectors of a row that are summed at the same time.
template <int kRows>
constexpr int VectorsAtATime() {
  if (kVectorRegisters >= 32) return kRows <= 3 ? 8 : kRows <= 6 ? 4 : 2;
  return kRows == 1 ? 8 : kRows <= 3 ? 4 : 2;
}

template <int kRows, typename Block, typename Rows, typename Ahead>
static void MixGroup(const Block& values, const Rows& rows, const float* probs, const float* alpha,
                     float* out, Ahead* prefetcher) {
  constexpr int kVectors = VectorsAtATime<kRows>();
  const int64_t head_dim = values.head_dim;
  int64_t d = 0;
  const auto columns = [&]<int kCount>() {
    for (; d + kCount * kLanes <= head_dim; d += kCount * kLanes)
      MixColumns<kRows, kCount>(values, rows, probs, alpha, d, out, prefetcher);
  };
  columns.template operator()<kVectors>();
  if constexpr (kVectors > 4) columns.template operator()<4>();
  if constexpr (kVectors > 2) columns.template operator()<2>();
  columns.template operator()<1>();
  if (d < head_dim) MixColumns<kRows, 1>(values, rows, probs, alpha, d, out, prefetcher);
}

template <typename Rows, typename Ahead, typename Block>
TIDAL_INLINE void MixBlock(const Block& values, const float* probs, const float* alpha,
                           int32_t num_rows, float* out) {
  const Rows rows(values);
  const int64_t vectors = (values.head_dim + kLanes - 1) / kLanes;
  Ahead prefetcher(values, num_rows * values.num_tokens * vectors);
  ForEachGroup(num_rows, [&]<int kRows>(int row) {
    MixGroup<kRows>(values, rows, probs + row * kBlockTokens, alpha + row,
                    out + row * PaddedHeadDim(values.head_dim), &prefetcher);
  });
}

template <typename Row>
static void MixRows(const CacheBlock& values, const float* probs, const float* alpha,
                    int32_t num_rows, float* out) {
  MixBlock<BlockRows<Row>, Prefetcher>(values, probs, alpha, num_rows, out);
}
template <typename Row>
static void MixGathered(const GatheredBlock& values, const float* probs, const float* alpha,
                        int32_t num_rows, float* out) {
  MixBlock<GatheredRows<Row>, RowPrefetcher>(values, probs, alpha, num_rows, out);
}
