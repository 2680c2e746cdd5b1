#include "cuda/cuda_activations.h"

#include <utility>

#include "base/math.h"

namespace tidal {
namespace {

constexpr int64_t kFloatAlignment = 64;  // of each array, in floats

// Gives each array its place after the one before; returns the end. A null base only counts.
int64_t Place(const ModelConfig& config, int64_t rows, float* base, CudaActivations* a) {
  const int64_t q_dim = int64_t{config.num_heads} * config.head_dim;
  const int64_t kv_dim = int64_t{config.num_kv_heads} * config.head_dim;
  const std::pair<float**, int64_t> arrays[] = {
      {&a->x, config.model_dim}, {&a->q, q_dim},        {&a->k, kv_dim},
      {&a->v, kv_dim},           {&a->attended, q_dim}, {&a->gate, config.ffn_dim},
      {&a->up, config.ffn_dim}};
  int64_t floats = 0;
  for (const auto& [pointer, cols] : arrays) {
    if (base != nullptr) *pointer = base + floats;
    floats += RoundUp(rows * cols, kFloatAlignment);
  }
  if (base != nullptr) a->cos_sin = reinterpret_cast<float2*>(base + floats);
  return floats + RoundUp(rows * config.rope_dim, kFloatAlignment);
}

}  // namespace

int64_t CudaActivations::Bytes(const ModelConfig& config, int64_t rows) {
  CudaActivations unplaced;
  return Place(config, rows, nullptr, &unplaced) * static_cast<int64_t>(sizeof(float));
}

Result<CudaActivations> CudaActivations::Create(const ModelConfig& config, int64_t rows) {
  CudaActivations a;
  TIDAL_ASSIGN_OR_RETURN(a.memory, DeviceBuffer::Create(Bytes(config, rows), "the activations"));
  Place(config, rows, a.memory.as<float>(), &a);
  return a;
}

}  // namespace tidal
