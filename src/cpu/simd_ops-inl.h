// The table of simd_ops.h for one ISA. Included inside its namespace after its simd_*.h; no include
// guard.

static constexpr SimdOps kOps = {
    .lanes = kLanes,
    .exp = [](const float* a, float* out) { StoreU(out, Exp(LoadU(a))); },
    .exp_of_non_positive = [](const float* a,
                              float* out) { StoreU(out, ExpOfNonPositive(LoadU(a))); },
    .max = [](const float* a, const float* b, float* out) { StoreU(out, Max(LoadU(a), LoadU(b))); },
    .min = [](const float* a, const float* b, float* out) { StoreU(out, Min(LoadU(a), LoadU(b))); },
    .mul_add = [](const float* a, const float* b, const float* c,
                  float* out) { StoreU(out, MulAdd(LoadU(a), LoadU(b), LoadU(c))); },
    .neg_mul_add = [](const float* a, const float* b, const float* c,
                      float* out) { StoreU(out, NegMulAdd(LoadU(a), LoadU(b), LoadU(c))); },
    .first_n = [](int n, const float* a, const float* b,
                  float* out) { StoreU(out, FirstN(n, LoadU(a), LoadU(b))); },
    .swap_pairs = [](const float* a, float* out) { StoreU(out, SwapPairs(LoadU(a))); },
    .load_n = [](const float* p, int n, float* out) { StoreU(out, LoadN(p, n)); },
    .store_n = [](const float* a, int n, float* p) { StoreN(p, LoadU(a), n); },
    .reduce_add = [](const float* a) { return ReduceAdd(LoadU(a)); },
    .reduce_max = [](const float* a) { return ReduceMax(LoadU(a)); },
    .reduce_folded =
        [](const float* vectors, float* out) {
          F32 folded[kLanes / 2];
          for (int i = 0; i < kLanes / 2; ++i)
            folded[i] =
                FoldPair(LoadU(vectors + i * kLanes), LoadU(vectors + (i + kLanes / 2) * kLanes));
          StoreU(out, ReduceFolded(folded));
        },
    .transpose =
        [](float* rows) {
          F32 square[kLanes];
          for (int i = 0; i < kLanes; ++i) square[i] = LoadU(rows + i * kLanes);
          Transpose(square);
          for (int i = 0; i < kLanes; ++i) StoreU(rows + i * kLanes, square[i]);
        },
    .load_f16 = [](const uint16_t* p, int n,
                   float* out) { StoreU(out, n == kLanes ? LoadF16(p) : LoadF16N(p, n)); },
    .load_bf16 = [](const uint16_t* p, int n,
                    float* out) { StoreU(out, n == kLanes ? LoadBF16(p) : LoadBF16N(p, n)); },
    .load_i8 = [](const int8_t* p, int n,
                  float* out) { StoreU(out, n == kLanes ? LoadI8(p) : LoadI8N(p, n)); },
    .load_u8 = [](const uint8_t* p, float* out) { StoreU(out, LoadU8(p)); },
    .store_f16 =
        [](const float* a, int n, uint16_t* p) {
          n == kLanes ? StoreF16(p, LoadU(a)) : StoreF16N(p, LoadU(a), n);
        },
    .store_bf16 =
        [](const float* a, int n, uint16_t* p) {
          n == kLanes ? StoreBF16(p, LoadU(a)) : StoreBF16N(p, LoadU(a), n);
        },
    .round_to_i8 =
        [](const float* a, int n, int8_t* p) {
          n == kLanes ? StoreI8(p, RoundToI32(LoadU(a))) : StoreI8N(p, RoundToI32(LoadU(a)), n);
        },
};
