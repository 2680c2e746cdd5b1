// Running softmax over blocks and the merge of partial results (attention_kernels.h). Included by
// attention-inl.h; no include guard.

static constexpr float kMinusInfinity = -__builtin_inff();

TIDAL_INLINE float ExpOf(float x) {
  float lanes[kLanes];
  StoreU(lanes, Exp(Set1(x)));
  return lanes[0];
}

// What lies past a row's visible tokens becomes -infinity in the vector that holds the last of
// them, and 0, a finished prob, in the vectors after it. Returns where these begin.
TIDAL_INLINE int MaskRow(float* scores, int visible, int num_tokens) {
  const int whole = visible / kLanes * kLanes;
  int used = whole;
  if (whole < visible) {
    const F32 last = LoadU(scores + whole);
    StoreU(scores + whole, FirstN(visible - whole, last, Set1(kMinusInfinity)));
    used += kLanes;
  }
  for (int t = used; t < num_tokens; t += kLanes) StoreU(scores + t, ZeroF());
  return used;
}

TIDAL_INLINE F32 MaxOf(const float* scores, int vectors, F32 most) {
  for (int i = 0; i < vectors; ++i) most = Max(most, LoadU(scores + i * kLanes));
  return most;
}
// Scores to probs; returns the lanes' sums.
TIDAL_INLINE F32 ExpInPlace(float* scores, int vectors, F32 offset) {
  F32 sum = ZeroF();
  for (int i = 0; i < vectors; ++i) {
    const F32 prob = Exp(Sub(LoadU(scores + i * kLanes), offset));
    sum = Add(sum, prob);
    StoreU(scores + i * kLanes, prob);
  }
  return sum;
}

// `vectors` of the row have visible tokens. Inlined with a constant for whole blocks: loops this
// short otherwise end in a mispredicted branch each.
TIDAL_INLINE void SoftmaxRow(float* scores, int vectors, float* max, float* sum, float* alpha) {
  const float old_max = *max;
  const float new_max = ReduceMax(MaxOf(scores, vectors, Set1(old_max)));
  const F32 row_sum = ExpInPlace(scores, vectors, Set1(new_max));
  // Not the difference of two infinities where nothing has been visible so far.
  *alpha = old_max == new_max ? 1.0f : ExpOf(old_max - new_max);
  *max = new_max;
  *sum = *sum * *alpha + ReduceAdd(row_sum);
}

static void Softmax(float* scores, const int32_t* visible, int32_t num_rows, int32_t num_tokens,
                    const SoftmaxState& state, float* alpha) {
  for (int32_t r = 0; r < num_rows; ++r, scores += kBlockTokens) {
    if (visible[r] == kBlockTokens) {
      SoftmaxRow(scores, kBlockTokens / kLanes, &state.max[r], &state.sum[r], &alpha[r]);
    } else {
      const int used = MaskRow(scores, visible[r], num_tokens);
      SoftmaxRow(scores, used / kLanes, &state.max[r], &state.sum[r], &alpha[r]);
    }
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
