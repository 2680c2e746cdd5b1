#include "cpu/cpu_activations.h"

#include <utility>
#include <vector>

#include "base/math.h"

namespace tidal {

Result<CpuActivations> CpuActivations::Create(const ModelConfig& config, int64_t rows) {
  CpuActivations a;
  const int64_t q_dim = int64_t{config.num_heads} * config.head_dim;
  const int64_t kv_dim = int64_t{config.num_kv_heads} * config.head_dim;
  int64_t bytes = 0;
  const auto take = [&](int64_t row_bytes) {
    const int64_t offset = bytes;
    bytes += RoundUp(rows * row_bytes, 64);
    return offset;
  };
  const std::pair<float**, int64_t> arrays[] = {{&a.x, config.model_dim},
                                                {&a.normed, config.model_dim},
                                                {&a.q, q_dim},
                                                {&a.k, kv_dim},
                                                {&a.v, kv_dim},
                                                {&a.attended, q_dim},
                                                {&a.gate, config.ffn_dim},
                                                {&a.up, config.ffn_dim},
                                                {&a.cos, config.rope_dim / 2},
                                                {&a.sin, config.rope_dim / 2}};
  std::vector<int64_t> offsets;
  for (const auto& [pointer, cols] : arrays)
    offsets.push_back(take(cols * static_cast<int64_t>(sizeof(float))));
  TIDAL_ASSIGN_OR_RETURN(a.memory, AlignedBuffer::Create(bytes));
  for (size_t i = 0; i < offsets.size(); ++i)
    *arrays[i].first = reinterpret_cast<float*>(a.memory.data() + offsets[i]);
  return a;
}

}  // namespace tidal
