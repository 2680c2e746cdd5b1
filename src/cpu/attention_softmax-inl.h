// Running softmax over blocks and the merge of partial results (attention_kernels.h). Included by
// attention-inl.h; no include guard.

static constexpr float kMinusInfinity = -__builtin_inff();

TIDAL_INLINE float ExpOf(float x) {
  float lanes[kLanes];
  StoreU(lanes, Exp(Set1(x)));
  return lanes[0];
}

static void Softmax(float* scores, const int32_t* visible, int32_t num_rows, int32_t num_tokens,
                    const SoftmaxState& state, float* alpha) {
  for (int32_t r = 0; r < num_rows; ++r, scores += kBlockTokens) {
    const int n = visible[r];
    const int whole = n / kLanes * kLanes;
    int used = whole;  // where the vectors with a visible token end
    if (whole < n) {
      StoreU(scores + whole, FirstN(n - whole, LoadU(scores + whole), Set1(kMinusInfinity)));
      used += kLanes;
    }
    for (int t = used; t < num_tokens; t += kLanes) StoreU(scores + t, ZeroF());
    if (n == 0) {
      alpha[r] = 1;
      continue;
    }
    F32 most = LoadU(scores);
    for (int t = kLanes; t < used; t += kLanes) most = Max(most, LoadU(scores + t));
    const float old_max = state.max[r];
    const float block_max = ReduceMax(most);
    const float new_max = old_max > block_max ? old_max : block_max;
    const F32 offset = Set1(new_max);
    F32 sum = ZeroF();
    for (int t = 0; t < used; t += kLanes) {
      const F32 prob = Exp(Sub(LoadU(scores + t), offset));
      sum = Add(sum, prob);
      StoreU(scores + t, prob);
    }
    alpha[r] = old_max == new_max ? 1.0f : ExpOf(old_max - new_max);
    state.max[r] = new_max;
    state.sum[r] = state.sum[r] * alpha[r] + ReduceAdd(sum);
  }
}

static void MergeParts(const float* parts, const SoftmaxState& states, int32_t num_parts,
                       int32_t head_dim, float* out) {
  float most = states.max[0];
  for (int32_t i = 1; i < num_parts; ++i) most = states.max[i] > most ? states.max[i] : most;
  // The weights take the place of the maxima, which nobody needs any more.
  float sum = 0;
  for (int32_t i = 0; i < num_parts; ++i) {
    states.max[i] = ExpOf(states.max[i] - most);
    sum += states.max[i] * states.sum[i];
  }
  const F32 inverse = Set1(1.0f / sum);
  const int64_t stride = PaddedHeadDim(head_dim);
  for (int32_t d = 0; d < head_dim; d += kLanes) {
    F32 total = ZeroF();
    for (int32_t i = 0; i < num_parts; ++i)
      total = MulAdd(Set1(states.max[i]), LoadU(parts + i * stride + d), total);
    const int lanes = head_dim - d < kLanes ? head_dim - d : kLanes;
    StoreN(out + d, Mul(total, inverse), lanes);
  }
}
