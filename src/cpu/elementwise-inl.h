// The kernels of elementwise_kernels.h for one ISA. Included inside that ISA's namespace after its
// simd_*.h (simd_portable.h says how); no include guard.

// LoadN that is a plain load where nothing is left out, as in all but the last round of a loop.
TIDAL_INLINE F32 LoadSome(const float* p, int n) { return n == kLanes ? LoadU(p) : LoadN(p, n); }

static void RmsNorm(const float* x, const float* weight, float eps, int64_t n, float* out) {
  F32 sums[4] = {ZeroF(), ZeroF(), ZeroF(), ZeroF()};
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    for (int k = 0; k < 4; ++k) {
      const F32 v = LoadU(x + i + k * kLanes);
      sums[k] = MulAdd(v, v, sums[k]);
    }
  }
  for (; i < n; i += kLanes) {
    const int lanes = n - i < kLanes ? (int)(n - i) : kLanes;
    const F32 v = LoadN(x + i, lanes);
    sums[0] = MulAdd(v, v, sums[0]);
  }
  const float sum = ReduceAdd(Add(Add(sums[0], sums[1]), Add(sums[2], sums[3])));
  const F32 scale = Set1(1.0f / __builtin_sqrtf(sum / (float)n + eps));
  for (i = 0; i + kLanes <= n; i += kLanes)
    StoreU(out + i, Mul(Mul(LoadU(x + i), scale), LoadU(weight + i)));
  if (i < n) {
    const int lanes = (int)(n - i);
    StoreN(out + i, Mul(Mul(LoadN(x + i, lanes), scale), LoadN(weight + i, lanes)), lanes);
  }
}

// (a, b) times (cos, cos) plus (b, a) times (-sin, sin): the factors are spread out once for all
// heads.
static void RopeInterleaved(const float* cos, const float* sin, int64_t num_heads, int64_t head_dim,
                            int64_t rope_dim, float* heads) {
  float straight[kMaxRopeDim];
  float crossed[kMaxRopeDim];
  for (int64_t i = 0; i < rope_dim / 2; ++i) {
    straight[2 * i] = straight[2 * i + 1] = cos[i];
    crossed[2 * i] = -sin[i];
    crossed[2 * i + 1] = sin[i];
  }
  for (int64_t head = 0; head < num_heads; ++head) {
    float* x = heads + head * head_dim;
    for (int64_t i = 0; i < rope_dim; i += kLanes) {
      const int lanes = rope_dim - i < kLanes ? (int)(rope_dim - i) : kLanes;
      const F32 pairs = LoadSome(x + i, lanes);
      const F32 turned = Mul(pairs, LoadSome(straight + i, lanes));
      StoreN(x + i, MulAdd(SwapPairs(pairs), LoadSome(crossed + i, lanes), turned), lanes);
    }
  }
}

static void RopeHalf(const float* cos, const float* sin, int64_t num_heads, int64_t head_dim,
                     int64_t rope_dim, float* heads) {
  const int64_t half = rope_dim / 2;
  for (int64_t head = 0; head < num_heads; ++head) {
    float* x = heads + head * head_dim;
    float* y = x + half;
    for (int64_t i = 0; i < half; i += kLanes) {
      const int lanes = half - i < kLanes ? (int)(half - i) : kLanes;
      const F32 c = LoadSome(cos + i, lanes);
      const F32 s = LoadSome(sin + i, lanes);
      const F32 a = LoadSome(x + i, lanes);
      const F32 b = LoadSome(y + i, lanes);
      StoreN(x + i, NegMulAdd(b, s, Mul(a, c)), lanes);
      StoreN(y + i, MulAdd(a, s, Mul(b, c)), lanes);
    }
  }
}

TIDAL_INLINE F32 SiluMulVector(F32 gate, F32 up) {
  const F32 one = Set1(1.0f);
  return Mul(Div(gate, Add(one, Exp(Sub(ZeroF(), gate)))), up);
}
static void SiluMul(const float* gate, const float* up, int64_t n, float* out) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    StoreU(out + i, SiluMulVector(LoadU(gate + i), LoadU(up + i)));
  if (i < n) {
    const int lanes = (int)(n - i);
    StoreN(out + i, SiluMulVector(LoadN(gate + i, lanes), LoadN(up + i, lanes)), lanes);
  }
}

static void AddInPlace(const float* y, int64_t n, float* x) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) StoreU(x + i, Add(LoadU(x + i), LoadU(y + i)));
  for (; i < n; ++i) x[i] += y[i];
}

static void StoreRowF32(const float* x, int64_t head_dim, uint8_t* row, uint16_t*) {
  memcpy(row, x, (size_t)head_dim * sizeof(float));
}
static void StoreRowF16(const float* x, int64_t head_dim, uint8_t* row, uint16_t*) {
  uint16_t* out = (uint16_t*)row;
  for (int64_t i = 0; i < head_dim; i += kLanes) {
    const int lanes = head_dim - i < kLanes ? (int)(head_dim - i) : kLanes;
    if (lanes == kLanes)
      StoreF16(out + i, LoadU(x + i));
    else
      StoreF16N(out + i, LoadN(x + i, lanes), lanes);
  }
}
static void StoreRowBF16(const float* x, int64_t head_dim, uint8_t* row, uint16_t*) {
  uint16_t* out = (uint16_t*)row;
  for (int64_t i = 0; i < head_dim; i += kLanes) {
    const int lanes = head_dim - i < kLanes ? (int)(head_dim - i) : kLanes;
    if (lanes == kLanes)
      StoreBF16(out + i, LoadU(x + i));
    else
      StoreBF16N(out + i, LoadN(x + i, lanes), lanes);
  }
}

// A number of at least the magnitude of every x, NaN where one of them is.
TIDAL_INLINE float MaxMagnitude(const float* x, int n) {
  F32 most = ZeroF();
  F32 nan = ZeroF();
  for (int i = 0; i < n; i += kLanes) {
    const F32 v = LoadSome(x + i, n - i < kLanes ? n - i : kLanes);
    most = Max(Max(v, Sub(ZeroF(), v)), most);
    nan = MulAdd(v, ZeroF(), nan);  // 0, or NaN where v is not finite
  }
  const float sum = ReduceAdd(nan);
  return sum == 0 ? ReduceMax(most) : sum;
}
static void StoreRowQ8(const float* x, int64_t head_dim, uint8_t* row, uint16_t* scales) {
  for (int64_t begin = 0; begin < head_dim; begin += kCacheQuantGroup) {
    const int n = head_dim - begin < kCacheQuantGroup ? (int)(head_dim - begin) : kCacheQuantGroup;
    uint16_t* scale = scales + begin / kCacheQuantGroup;
    StoreF16N(scale, Set1(MaxMagnitude(x + begin, n) / 127.0f), 1);
    float rounded[kLanes];
    StoreU(rounded, LoadF16N(scale, 1));
    // An infinite scale (overflow of f16, or a value that is not finite) poisons the row by itself.
    const bool usable = rounded[0] > 0 && rounded[0] < __builtin_inff();
    const F32 inverse = Set1(usable ? 1.0f / rounded[0] : 0.0f);
    for (int i = 0; i < n; i += kLanes) {
      const int lanes = n - i < kLanes ? n - i : kLanes;
      const F32 code = usable ? Mul(LoadSome(x + begin + i, lanes), inverse) : ZeroF();
      const F32 clamped = Max(Min(code, Set1(127.0f)), Set1(-127.0f));
      int8_t* codes = (int8_t*)row + begin + i;
      if (lanes == kLanes)
        StoreI8(codes, RoundToI32(clamped));
      else
        StoreI8N(codes, RoundToI32(clamped), lanes);
    }
  }
}

static constexpr ElementwiseKernels kElementwise = {
    .rms_norm = RmsNorm,
    .rope_interleaved = RopeInterleaved,
    .rope_half = RopeHalf,
    .silu_mul = SiluMul,
    .add_in_place = AddInPlace,
    .store_row = {StoreRowF32, StoreRowF16, StoreRowBF16, StoreRowQ8},
};
