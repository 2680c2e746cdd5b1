// The kernels of selection_kernels.h for one ISA. Included inside that ISA's namespace after its
// dot_*.h; no include guard.
//
// Bytes     a scan reads 4 * head_dim bytes of minima and steps and kPageSize * head_dim * bits / 8
//           of codes per page and KV head, once for all query heads of it: 9/64 of an f16 K and V
//           with 4 bits, 5/64 with 2.
// Work      per code and query head one 8-bit multiply and add: with AVX2 that is 2.5 instructions
//           for 32 of them, with VNNI one for 64. A page's codes are unpacked once for up to
//           kMaxGroupRows heads; folding the steps into the queries is a fifth of a scan.

// --- Sealing -------------------------------------------------------------------------------------

template <typename Row>
static void SealPage(const CacheBlock& keys, int32_t bits, const IndexPage& page) {
  const BlockRows<Row> rows(keys);
  const int32_t head_dim = keys.head_dim;
  const int32_t group_channels = IndexChannelsPerGroup(bits);
  const float top = (float)((1 << bits) - 1);
  const int32_t groups = (head_dim + group_channels - 1) / group_channels;
  memset(page.codes, 0, (size_t)groups * kBlockTokens * 4);
  for (int32_t d = 0; d < head_dim; d += kLanes) {
    const int lanes = head_dim - d < kLanes ? head_dim - d : kLanes;
    const auto key = [&](int t) TIDAL_INLINE_MEMBER {
      return lanes == kLanes ? rows.At(t).Load(d) : rows.At(t).LoadPart(d, lanes);
    };
    F32 low = key(0);
    F32 high = low;
    for (int t = 1; t < kBlockTokens; ++t) {
      low = Min(key(t), low);
      high = Max(key(t), high);
    }
    StoreF16N(page.minima + d, low, lanes);
    low = LoadF16N(page.minima + d, lanes);
    StoreF16N(page.steps + d, Div(Sub(high, low), Set1(top)), lanes);
    // Where the step is 0 all codes are: a division by infinity.
    float divisors[kLanes];
    StoreU(divisors, LoadF16N(page.steps + d, lanes));
    for (int i = 0; i < kLanes; ++i) divisors[i] = divisors[i] > 0 ? divisors[i] : __builtin_inff();
    const F32 step = LoadU(divisors);
    for (int t = 0; t < kBlockTokens; ++t) {
      int8_t codes[kLanes];
      const F32 code = Max(Div(Sub(key(t), low), step), ZeroF());
      StoreI8(codes, RoundToI32(Min(code, Set1(top))));
      for (int i = 0; i < lanes; ++i) {
        const int32_t channel = (d + i) % group_channels;
        uint8_t* byte =
            page.codes + ((d + i) / group_channels * kBlockTokens + t) * 4 + channel % 4;
        *byte = (uint8_t)(*byte | codes[i] << channel / 4 * bits);
      }
    }
  }
}

// --- Scanning ------------------------------------------------------------------------------------

// A query with a page's steps folded in, rounded to 8 bits.
struct FoldedRow {
  float base;   // q . minima
  float scale;  // of the codes
  int8_t codes[kMaxHeadDim];
};

// Rows side by side: every minimum and step is read once, no sum waits for itself, and all sums
// stay in registers.
static constexpr int kFoldRows = 3;

template <int kRows>
static TIDAL_NOINLINE void FoldRows(const IndexPage& page, const float* q, FoldedRow* folded) {
  const int64_t stride = PaddedHeadDim(page.head_dim);
  float products[kRows][kMaxHeadDim];
  F32 base[kRows];
  F32 most[kRows];
  F32 least[kRows];
  TIDAL_UNROLL
  for (int r = 0; r < kRows; ++r) base[r] = most[r] = least[r] = ZeroF();
  const auto fold = [&](int64_t d, F32 minima, F32 steps) TIDAL_INLINE_MEMBER {
    TIDAL_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const F32 x = LoadU(q + r * stride + d);
      const F32 product = Mul(x, steps);
      base[r] = MulAdd(x, minima, base[r]);
      most[r] = Max(product, most[r]);
      least[r] = Min(product, least[r]);
      StoreU(products[r] + d, product);
    }
  };
  int64_t d = 0;
  for (; d + kLanes <= page.head_dim; d += kLanes)
    fold(d, LoadF16(page.minima + d), LoadF16(page.steps + d));
  for (; d < stride; d += kLanes) {
    const int lanes = d < page.head_dim ? (int)(page.head_dim - d) : 0;
    fold(d, LoadF16N(page.minima + d, lanes), LoadF16N(page.steps + d, lanes));
  }
  F32 inverse[kRows];
  TIDAL_UNROLL
  for (int r = 0; r < kRows; ++r) {
    const float max = ReduceMax(Max(most[r], Sub(ZeroF(), least[r])));
    folded[r].base = ReduceAdd(base[r]);
    folded[r].scale = max / 127;
    inverse[r] = Set1(max > 0 ? 127 / max : 0.0f);
  }
  for (d = 0; d < stride; d += 32) {
    TIDAL_UNROLL
    for (int r = 0; r < kRows; ++r)
      StoreRounded32(folded[r].codes + d, products[r] + d, inverse[r]);
  }
}

static void FoldPage(const IndexPage& page, const ScanRows& rows, FoldedRow* folded) {
  const int64_t stride = PaddedHeadDim(page.head_dim);
  int32_t r = 0;
  for (; r + kFoldRows <= rows.num_rows; r += kFoldRows)
    FoldRows<kFoldRows>(page, rows.q + r * stride, folded + r);
  for (; r < rows.num_rows; ++r) FoldRows<1>(page, rows.q + r * stride, folded + r);
}

// The products of one group of channels for kScanVectors * kLanes tokens; added to the sums, or
// where they begin.
template <int kBits, int kRows, bool kBegins>
TIDAL_INLINE void AddGroup(const uint8_t* codes, const FoldedRow* rows, int32_t channel,
                           DotSum (&sums)[kRows][kScanVectors]) {
  constexpr int kParts = 8 / kBits;
  TIDAL_UNROLL
  for (int part = 0; part < kParts; ++part) {
    Bytes x[kScanVectors];
    TIDAL_UNROLL
    for (int v = 0; v < kScanVectors; ++v) x[v] = UnpackPart<kBits>(codes + v * kLanes * 4, part);
    TIDAL_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const int8_t* word = rows[r].codes + channel + part * 4;
      if (kBegins && part == 0)
        BeginDots(x, word, sums[r]);
      else
        AddDots(x, word, sums[r]);
    }
  }
}

// Adds a run of groups, short enough not to overflow, to the totals of kScanVectors * kLanes
// tokens. With kWhole it is kRunGroups<kBits> of them, written out so that their sums stay in
// registers.
template <int kBits>
static constexpr int kRunGroups = kDotSteps<kBits>* kBits / 8 < 4 ? kDotSteps<kBits>* kBits / 8 : 4;

template <int kBits, int kRows, bool kWhole>
TIDAL_INLINE void AddRun(const uint8_t* codes, const FoldedRow* rows, int32_t channel,
                         int32_t groups, DotTotal (&totals)[kRows][kScanVectors]) {
  constexpr int kGroupBytes = kBlockTokens * 4;
  constexpr int kChannels = IndexChannelsPerGroup(kBits);
  DotSum sums[kRows][kScanVectors];
  AddGroup<kBits, kRows, true>(codes, rows, channel, sums);
  if constexpr (kWhole) {
    TIDAL_UNROLL
    for (int g = 1; g < kRunGroups<kBits>; ++g) {
      AddGroup<kBits, kRows, false>(codes + g * kGroupBytes, rows, channel + g * kChannels, sums);
    }
  } else {
    for (int32_t g = 1; g < groups; ++g)
      AddGroup<kBits, kRows, false>(codes + g * kGroupBytes, rows, channel + g * kChannels, sums);
  }
  TIDAL_UNROLL
  for (int r = 0; r < kRows; ++r) {
    TIDAL_UNROLL
    for (int v = 0; v < kScanVectors; ++v) totals[r][v] = AddSum(totals[r][v], sums[r][v]);
  }
}

template <int kBits, int kRows>
static TIDAL_NOINLINE void ScanGroup(const IndexPage& page, const FoldedRow* rows,
                                     const uint8_t* prefetch, int64_t prefetch_bytes,
                                     float* scores) {
  constexpr int kPieces = kBlockTokens / (kScanVectors * kLanes);
  constexpr int kChannels = IndexChannelsPerGroup(kBits);
  const int32_t groups = (page.head_dim + kChannels - 1) / kChannels;
  // Evenly over the runs: requests in bursts fill the core's miss buffers.
  const int runs = kPieces * (groups + kRunGroups<kBits> - 1) / kRunGroups<kBits>;
  const int64_t lines = (prefetch_bytes / 64 + runs - 1) / runs;
  for (int t = 0; t < kBlockTokens; t += kScanVectors * kLanes) {
    DotTotal totals[kRows][kScanVectors];
    TIDAL_UNROLL
    for (int r = 0; r < kRows; ++r) {
      TIDAL_UNROLL
      for (int v = 0; v < kScanVectors; ++v) totals[r][v] = ZeroTotal();
    }
    const uint8_t* codes = page.codes + t * 4;
    int32_t g = 0;
    for (; g + kRunGroups<kBits> <= groups; g += kRunGroups<kBits>) {
      for (int64_t i = 0; i < lines; ++i, prefetch += 64) Prefetch(prefetch);
      AddRun<kBits, kRows, true>(codes + g * kBlockTokens * 4, rows, g * kChannels,
                                 kRunGroups<kBits>, totals);
    }
    if (g < groups) {
      AddRun<kBits, kRows, false>(codes + g * kBlockTokens * 4, rows, g * kChannels, groups - g,
                                  totals);
    }
    TIDAL_UNROLL
    for (int r = 0; r < kRows; ++r) {
      TIDAL_UNROLL
      for (int v = 0; v < kScanVectors; ++v) {
        StoreU(scores + r * kBlockTokens + t + v * kLanes,
               MulAdd(TotalToF32(totals[r][v]), Set1(rows[r].scale), Set1(rows[r].base)));
      }
    }
  }
}

static void ScanPage(const IndexPage& page, int32_t bits, const ScanRows& rows,
                     const uint8_t* prefetch, int64_t prefetch_bytes, float* scores) {
  FoldedRow folded[kMaxDecodeRows];
  FoldPage(page, rows, folded);
  ForEachGroup(rows.num_rows, [&]<int kRows>(int row) {
    const FoldedRow* q = folded + row;
    float* out = scores + row * kBlockTokens;
    if (bits == 4)
      ScanGroup<4, kRows>(page, q, prefetch, prefetch_bytes, out);
    else
      ScanGroup<2, kRows>(page, q, prefetch, prefetch_bytes, out);
    prefetch_bytes = 0;  // asked for once
  });
}

// A page's minima and steps as floats, zeros past head_dim.
struct WideIndex {
  float minima[kMaxHeadDim];
  float steps[kMaxHeadDim];

  explicit WideIndex(const IndexPage& page) {
    const auto padded = (int32_t)PaddedHeadDim(page.head_dim);
    int32_t d = 0;
    for (; d + kLanes <= page.head_dim; d += kLanes) {
      StoreU(minima + d, LoadF16(page.minima + d));
      StoreU(steps + d, LoadF16(page.steps + d));
    }
    for (; d < padded; d += kLanes) {
      const int lanes = d < page.head_dim ? page.head_dim - d : 0;
      StoreU(minima + d, LoadF16N(page.minima + d, lanes));
      StoreU(steps + d, LoadF16N(page.steps + d, lanes));
    }
  }
};

static void ScanPageF32(const IndexPage& page, int32_t bits, const ScanRows& rows, const uint8_t*,
                        int64_t, float* scores) {
  const WideIndex wide(page);
  const int64_t stride = PaddedHeadDim(page.head_dim);
  const int32_t group_channels = IndexChannelsPerGroup(bits);
  const uint8_t mask = (uint8_t)((1 << bits) - 1);
  for (int32_t r = 0; r < rows.num_rows; ++r) {
    const float* q = rows.q + r * stride;
    for (int t = 0; t < kBlockTokens; t += kLanes) {
      F32 sum = ZeroF();
      for (int32_t d = 0; d < page.head_dim; ++d) {
        const int32_t channel = d % group_channels;
        const uint8_t* codes =
            page.codes + ((int64_t)(d / group_channels) * kBlockTokens + t) * 4 + channel % 4;
        float lanes[kLanes];
        for (int i = 0; i < kLanes; ++i)
          lanes[i] = (float)(codes[i * 4] >> channel / 4 * bits & mask);
        const F32 key = MulAdd(LoadU(lanes), Set1(wide.steps[d]), Set1(wide.minima[d]));
        sum = MulAdd(key, Set1(q[d]), sum);
      }
      StoreU(scores + r * kBlockTokens + t, sum);
    }
  }
}

// --- Merging -------------------------------------------------------------------------------------

static void PageFactors(const float* page_max, const float* page_sum, int32_t num_pages,
                        int32_t num_heads, float* factors, float* max, float* sum) {
  for (int32_t h = 0; h < num_heads; h += kLanes) {
    const int lanes = num_heads - h < kLanes ? num_heads - h : kLanes;
    F32 most = Set1(kMinusInfinity);
    for (int64_t p = 0; p < num_pages; ++p)
      most = Max(FirstN(lanes, LoadN(page_max + p * num_heads + h, lanes), most), most);
    F32 total = ZeroF();
    for (int64_t p = 0; p < num_pages; ++p) {
      const F32 factor = Exp(Sub(LoadN(page_max + p * num_heads + h, lanes), most));
      total = MulAdd(factor, LoadN(page_sum + p * num_heads + h, lanes), total);
      StoreN(factors + p * num_heads + h, factor, lanes);
    }
    const F32 inverse = Div(Set1(1.0f), total);
    for (int64_t p = 0; p < num_pages; ++p) {
      float* factor = factors + p * num_heads + h;
      StoreN(factor, Mul(LoadN(factor, lanes), inverse), lanes);
    }
    StoreN(max + h, most, lanes);
    StoreN(sum + h, total, lanes);
  }
}

static void MergeSum(const float* probs, const float* factors, int32_t num_rows, float* values) {
  for (int t = 0; t < kBlockTokens; t += 4 * kLanes) {
    F32 sums[4] = {ZeroF(), ZeroF(), ZeroF(), ZeroF()};
    for (int32_t r = 0; r < num_rows; ++r) {
      const F32 factor = Set1(factors[r]);
      TIDAL_UNROLL
      for (int v = 0; v < 4; ++v)
        sums[v] = MulAdd(LoadU(probs + r * kBlockTokens + t + v * kLanes), factor, sums[v]);
    }
    TIDAL_UNROLL
    for (int v = 0; v < 4; ++v) StoreU(values + t + v * kLanes, sums[v]);
  }
}

static void MergeMax(const float* probs, const float* factors, int32_t num_rows, float* values) {
  for (int t = 0; t < kBlockTokens; t += kLanes) {
    F32 most = ZeroF();
    for (int32_t r = 0; r < num_rows; ++r)
      most = Max(Mul(LoadU(probs + r * kBlockTokens + t), Set1(factors[r])), most);
    StoreU(values + t, most);
  }
}

// The lanes' maxima of a page's scores; what lies past the last token counts nothing.
TIDAL_INLINE F32 MaxOfPage(const float* scores, int32_t num_tokens) {
  F32 most[2] = {Set1(kMinusInfinity), Set1(kMinusInfinity)};
  int t = 0;
  for (; t + 2 * kLanes <= num_tokens; t += 2 * kLanes) {
    most[0] = Max(LoadU(scores + t), most[0]);
    most[1] = Max(LoadU(scores + t + kLanes), most[1]);
  }
  for (; t < num_tokens; t += kLanes) {
    const int lanes = num_tokens - t < kLanes ? num_tokens - t : kLanes;
    most[0] = Max(FirstN(lanes, LoadU(scores + t), most[0]), most[0]);
  }
  return Max(most[0], most[1]);
}

// Scores to e^(score - max); the sum over the tokens.
TIDAL_INLINE float ExpOfPage(const float* scores, int32_t num_tokens, float max, float* probs) {
  const F32 offset = Set1(max);
  F32 sum[2] = {ZeroF(), ZeroF()};
  int t = 0;
  for (; t + 2 * kLanes <= num_tokens; t += 2 * kLanes) {
    TIDAL_UNROLL
    for (int i = 0; i < 2; ++i) {
      const F32 prob = ExpOfNonPositive(Sub(LoadU(scores + t + i * kLanes), offset));
      StoreU(probs + t + i * kLanes, prob);
      sum[i] = Add(prob, sum[i]);
    }
  }
  for (; t < num_tokens; t += kLanes) {
    const int lanes = num_tokens - t < kLanes ? num_tokens - t : kLanes;
    const F32 prob = Exp(Sub(LoadU(scores + t), offset));
    StoreU(probs + t, prob);
    sum[0] = Add(FirstN(lanes, prob, ZeroF()), sum[0]);
  }
  return ReduceAdd(Add(sum[0], sum[1]));
}

// All maxima first: one row's long chain of operations overlaps with the others'.
static void PageSoftmax(const float* scores, int32_t num_rows, int32_t num_tokens, float* max,
                        float* sum, float* probs) {
  for (int32_t r = 0; r < num_rows; ++r)
    max[r] = ReduceMax(MaxOfPage(scores + r * kBlockTokens, num_tokens));
  for (int32_t r = 0; r < num_rows; ++r) {
    const int64_t row = (int64_t)r * kBlockTokens;
    sum[r] = num_tokens == kBlockTokens ? ExpOfPage(scores + row, kBlockTokens, max[r], probs + row)
                                        : ExpOfPage(scores + row, num_tokens, max[r], probs + row);
  }
}

// --- Page bounds ---------------------------------------------------------------------------------

template <typename Row>
static void AddBounds(const CacheBlock& keys, int32_t begin, int32_t count, int32_t fresh,
                      const BoundSums& sums) {
  const BlockRows<Row> rows(keys);
  for (int32_t d = 0; d < keys.head_dim; d += kLanes) {
    const int lanes = keys.head_dim - d < kLanes ? keys.head_dim - d : kLanes;
    F32 min = fresh ? Set1(__builtin_inff()) : LoadU(sums.min + d);
    F32 max = fresh ? Set1(kMinusInfinity) : LoadU(sums.max + d);
    F32 sum = fresh ? ZeroF() : LoadU(sums.sum + d);
    F32 squares = fresh ? ZeroF() : LoadU(sums.sum_of_squares + d);
    for (int32_t t = begin; t < begin + count; ++t) {
      const F32 key = lanes == kLanes ? rows.At(t).Load(d) : rows.At(t).LoadPart(d, lanes);
      min = Min(key, min);
      max = Max(key, max);
      sum = Add(sum, key);
      squares = MulAdd(key, key, squares);
    }
    StoreU(sums.min + d, min);
    StoreU(sums.max + d, max);
    StoreU(sums.sum + d, sum);
    StoreU(sums.sum_of_squares + d, squares);
  }
}

static void ScoreMinMax(const BoundSums& sums, int32_t head_dim, const ScanRows& rows,
                        float* scores) {
  for (int32_t r = 0; r < rows.num_rows; ++r) {
    const float* q = rows.q + r * PaddedHeadDim(head_dim);
    F32 score = ZeroF();
    for (int32_t d = 0; d < head_dim; d += kLanes) {
      const int lanes = head_dim - d < kLanes ? head_dim - d : kLanes;
      const F32 x = LoadU(q + d);
      const F32 bound = Max(Mul(x, LoadN(sums.max + d, lanes)), Mul(x, LoadN(sums.min + d, lanes)));
      score = Add(score, bound);
    }
    scores[r] = ReduceAdd(score);
  }
}

TIDAL_INLINE F32 Abs(F32 a) { return Max(a, Sub(ZeroF(), a)); }
static F32 SquareRoot(F32 a) {
  float lanes[kLanes];
  StoreU(lanes, a);
  for (int i = 0; i < kLanes; ++i) lanes[i] = __builtin_sqrtf(lanes[i]);
  return LoadU(lanes);
}

static void ScoreMeanStd(const BoundSums& sums, int32_t num_tokens, int32_t head_dim,
                         const ScanRows& rows, float* scores) {
  const F32 inverse = Set1(1.0f / (float)num_tokens);
  float mean[kMaxHeadDim];
  float std[kMaxHeadDim];
  for (int32_t d = 0; d < head_dim; d += kLanes) {
    const int lanes = head_dim - d < kLanes ? head_dim - d : kLanes;
    const F32 m = Mul(LoadN(sums.sum + d, lanes), inverse);
    const F32 squares = Mul(LoadN(sums.sum_of_squares + d, lanes), inverse);
    StoreU(mean + d, m);
    StoreU(std + d, SquareRoot(Max(NegMulAdd(m, m, squares), ZeroF())));
  }
  for (int32_t r = 0; r < rows.num_rows; ++r) {
    const float* q = rows.q + r * PaddedHeadDim(head_dim);
    F32 score = ZeroF();
    for (int32_t d = 0; d < head_dim; d += kLanes) {
      const F32 x = LoadU(q + d);
      score = MulAdd(x, LoadU(mean + d), MulAdd(Abs(x), LoadU(std + d), score));
    }
    scores[r] = ReduceAdd(score);
  }
}

// --- Top-k ---------------------------------------------------------------------------------------

static void Collect(const float* values, int32_t begin, int32_t end, float low, float high,
                    int32_t* above, int32_t* num_above, int32_t* within, int32_t* num_within) {
  int32_t a = 0;
  int32_t w = 0;
  const F32 low_lanes = Set1(low);
  int32_t pos = begin;
  for (; pos + kLanes <= end; pos += kLanes) {
    // Few tokens are chosen: most vectors have none.
    uint32_t hits = LanesAtLeast(LoadU(values + pos), low_lanes);
    for (; hits != 0; hits &= hits - 1) {
      const int32_t at = pos + __builtin_ctz(hits);
      const int is_above = values[at] >= high;
      above[a] = at;
      within[w] = at;
      a += is_above;
      w += 1 - is_above;
    }
  }
  for (; pos < end; ++pos) {
    if (!(values[pos] >= low)) continue;
    const int is_above = values[pos] >= high;
    above[a] = pos;
    within[w] = pos;
    a += is_above;
    w += 1 - is_above;
  }
  *num_above = a;
  *num_within = w;
}

static constexpr SelectionKernels kSelection = {
    .seal_page = {SealPage<F32Row>, SealPage<F16Row>, SealPage<BF16Row>, SealPage<Q8Row>},
    .scan_page = ScanPage,
    .scan_page_f32 = ScanPageF32,
    .page_softmax = PageSoftmax,
    .page_factors = PageFactors,
    .merge_sum = MergeSum,
    .merge_max = MergeMax,
    .add_bounds = {AddBounds<F32Row>, AddBounds<F16Row>, AddBounds<BF16Row>, AddBounds<Q8Row>},
    .score_minmax = ScoreMinMax,
    .score_meanstd = ScoreMeanStd,
    .collect = Collect,
};
