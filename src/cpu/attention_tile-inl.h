// Attention of many query rows: matrix products on a block that is widened once
// (attention_kernels.h). Included by attention-inl.h after attention_rows-inl.h; no include guard.

// A strip of rows times a panel of columns is summed in registers: 12 sums with 16 registers.
static constexpr int kStripRows = kVectorRegisters >= 32 ? 12 : kVectorRegisters >= 16 ? 6 : 2;
static constexpr int kPanelVectors = 2;
static constexpr int kPanelCols = kPanelVectors * kLanes;
static_assert(kTileRows % kStripRows == 0);
static_assert(kBlockTokens % kPanelCols == 0);
static_assert(PaddedHeadDim(1) % kPanelCols == 0);

// Strip by strip, [head_dim][kStripRows].
static void PackTile(const QueryRows& rows, float scale, float* packed) {
  for (int32_t first = 0; first < rows.num_rows; first += kStripRows) {
    for (int32_t r = 0; r < kStripRows; ++r) {
      float* out = packed + r;
      if (first + r >= rows.num_rows) {
        for (int32_t d = 0; d < rows.head_dim; ++d) out[d * kStripRows] = 0;
        continue;
      }
      const float* q = QueryRow(rows, first + r);
      for (int32_t d = 0; d < rows.head_dim; ++d) out[d * kStripRows] = q[d] * scale;
    }
    packed += (int64_t)kStripRows * rows.head_dim;
  }
}

// Panel by panel of kPanelCols tokens, [head_dim][kPanelCols]. Tokens past num_tokens hold the last
// one's key: their scores are never used.
template <typename Row>
static void LoadKeys(const CacheBlock& keys, float* panels) {
  const BlockRows<Row> rows(keys);
  Prefetcher prefetcher(keys, keys.num_tokens);
  const int64_t head_dim = keys.head_dim;
  for (int t0 = 0; t0 < keys.num_tokens; t0 += kLanes) {
    float* panel = panels + t0 / kPanelCols * (head_dim * kPanelCols) + t0 % kPanelCols;
    prefetcher.Step(kLanes);
    for (int64_t d = 0; d < head_dim; d += kLanes) {
      const int lanes = head_dim - d < kLanes ? (int)(head_dim - d) : kLanes;
      F32 square[kLanes];
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) {
        const auto row = rows.At(t0 + i < keys.num_tokens ? t0 + i : keys.num_tokens - 1);
        square[i] = lanes == kLanes ? row.Load(d) : row.LoadPart(d, lanes);
      }
      Transpose(square);
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i)
        if (i < lanes) StoreU(panel + (d + i) * kPanelCols, square[i]);
    }
  }
}

// Panel by panel of kPanelCols elements of a row, [kBlockTokens][kPanelCols]; elements past
// head_dim are 0.
template <typename Row>
static void LoadValues(const CacheBlock& values, float* panels) {
  const BlockRows<Row> rows(values);
  Prefetcher prefetcher(values, values.num_tokens);
  const int64_t head_dim = values.head_dim;
  for (int64_t t = 0; t < values.num_tokens; ++t) {
    const auto row = rows.At(t);
    prefetcher.Step(1);
    float* out = panels + t * kPanelCols;
    for (int64_t d = 0; d < head_dim; d += kPanelCols, out += kBlockTokens * kPanelCols) {
#pragma GCC unroll 2
      for (int v = 0; v < kPanelVectors; ++v) {
        const int64_t i = d + v * kLanes;
        const int lanes = head_dim - i < 0 ? 0 : (int)(head_dim - i);
        F32 value = ZeroF();
        if (lanes >= kLanes)
          value = row.Load(i);
        else if (lanes > 0)
          value = row.LoadPart(i, lanes);
        StoreU(out + v * kLanes, value);
      }
    }
  }
}

// c[kStripRows][kPanelCols] += a[.][k] * b[k][kPanelCols] for `depth` values of k; element (r, k)
// of a is at a[r * kRowStride + k * kDepthStride].
template <int kRowStride, int kDepthStride>
TIDAL_INLINE void MultiplyStrip(const float* a, const float* b, int depth,
                                F32 (&c)[kStripRows][kPanelVectors]) {
  for (int k = 0; k < depth; ++k, a += kDepthStride, b += kPanelCols) {
    F32 right[kPanelVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kPanelVectors; ++v) right[v] = LoadU(b + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < kStripRows; ++r) {
      const F32 left = Set1(a[r * kRowStride]);
#pragma GCC unroll 2
      for (int v = 0; v < kPanelVectors; ++v) c[r][v] = MulAdd(left, right[v], c[r][v]);
    }
  }
}

// Panels outside, strips inside: a panel stays in the L1 cache, strips stream past it.
static void ScoreTile(const float* panels, const float* packed, int32_t num_rows,
                      int32_t num_tokens, int32_t head_dim, float* scores) {
  for (int t0 = 0; t0 < num_tokens; t0 += kPanelCols) {
    const float* panel = panels + (int64_t)t0 * head_dim;
    for (int row = 0; row < num_rows; row += kStripRows) {
      F32 c[kStripRows][kPanelVectors];
#pragma GCC unroll 16
      for (int r = 0; r < kStripRows; ++r) c[r][0] = c[r][1] = ZeroF();
      MultiplyStrip<1, kStripRows>(packed + (int64_t)row * head_dim, panel, head_dim, c);
#pragma GCC unroll 16
      for (int r = 0; r < kStripRows; ++r) {
        StoreU(scores + (row + r) * kBlockTokens + t0, c[r][0]);
        StoreU(scores + (row + r) * kBlockTokens + t0 + kLanes, c[r][1]);
      }
    }
  }
}

static void MixTile(const float* panels, const float* probs, const float* alpha, int32_t num_rows,
                    int32_t num_tokens, int32_t head_dim, float* out) {
  const int64_t stride = PaddedHeadDim(head_dim);
  for (int d = 0; d < head_dim; d += kPanelCols) {
    const float* panel = panels + (int64_t)d * kBlockTokens;
    for (int row = 0; row < num_rows; row += kStripRows) {
      float* out_row = out + row * stride + d;
      F32 c[kStripRows][kPanelVectors];
#pragma GCC unroll 16
      for (int r = 0; r < kStripRows; ++r) {
        const F32 factor = Set1(alpha[row + r]);
        c[r][0] = Mul(LoadU(out_row + r * stride), factor);
        c[r][1] = Mul(LoadU(out_row + r * stride + kLanes), factor);
      }
      MultiplyStrip<kBlockTokens, 1>(probs + (int64_t)row * kBlockTokens, panel, num_tokens, c);
#pragma GCC unroll 16
      for (int r = 0; r < kStripRows; ++r) {
        StoreU(out_row + r * stride, c[r][0]);
        StoreU(out_row + r * stride + kLanes, c[r][1]);
      }
    }
  }
}
