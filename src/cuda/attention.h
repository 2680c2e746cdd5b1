// Attention of a step's rows on a CUDA device: over everything that a row sees, or over sets.
//
// Shapes  q, out: float32 [rows][num_heads][head_dim]; q after RoPE, unscaled.
// Rows    row i of a sequence sees kv_len - q_len + i + 1 tokens; with sets (q_len 1) those of its
//         heads' set.
#ifndef TIDAL_CUDA_ATTENTION_H_
#define TIDAL_CUDA_ATTENTION_H_

#include <cstdint>
#include <cuda_runtime_api.h>

#include "cuda/device_types.h"

namespace tidal {

// Rows (tokens times heads of a KV head) that the kernels for few rows take of a sequence.
inline constexpr int32_t kMaxDecodeAttentionRows = 16;

// Where the parts of a context leave their results until the last of them adds them up. Zeroed
// counters before the first use; every use leaves them zero.
struct AttentionWorkspace {
  float* partial = nullptr;     // AttentionPartialFloats(...) floats
  int32_t* counters = nullptr;  // [max_sequences][num_heads]
};

struct AttentionCall {
  DeviceStep step;  // flags say which sequences take part
  DeviceKv kv;
  const DeviceSets* sets = nullptr;   // [sequences]; null: everything
  const int32_t* headmaps = nullptr;  // [states][num_kv_heads], the set that a KV head uses, -1:
                                      // its own; null: none
  const float* q = nullptr;
  float* out = nullptr;
  int32_t num_heads = 0;
  float attn_scale = 0;
  bool per_head = false;  // some sequence has a set per query head
  int32_t num_splits = 1;
  AttentionWorkspace workspace;
};

// How many parts to split contexts into so that `num_sequences` of them fill the device once.
int32_t AttentionSplits(int32_t num_sms, int32_t head_dim, CacheType type,
                        int32_t num_heads_or_kv_heads, int32_t num_sequences);
int64_t AttentionPartialFloats(int32_t max_splits, int32_t max_sequences, int32_t num_heads,
                               int32_t head_dim);
// Whether the tensor-core kernels are written for this head_dim and cache type.
bool HasTensorCoreAttention(int32_t head_dim, CacheType type);

// For sequences with q_len * (num_heads / num_kv_heads) <= kMaxDecodeAttentionRows: splits the
// context, reads each K and V once per KV head (once per head with sets per head).
// REQUIRES: HasTensorCoreAttention.
cudaError_t AttendDecode(const AttentionCall& call, cudaStream_t stream);
// For the other sequences. max_q_len: of the step. REQUIRES: HasTensorCoreAttention, no sets.
cudaError_t AttendPrefill(const AttentionCall& call, int32_t max_q_len, cudaStream_t stream);
// Any head_dim up to 256 and any cache type, in float32 throughout: what the others are compared
// with, and what runs where they do not.
cudaError_t AttendFloat(const AttentionCall& call, int32_t max_q_len, cudaStream_t stream);

}  // namespace tidal

#endif  // TIDAL_CUDA_ATTENTION_H_
