// What kernels of a step are told: plain structs that host code fills and device code reads.
#ifndef TIDAL_CUDA_DEVICE_TYPES_H_
#define TIDAL_CUDA_DEVICE_TYPES_H_

#include <cstdint>

#include "executor/option_enums.h"

namespace tidal {

// A StepSequence on the device. Array of the batch's sequences; lengths change from step to step
// and stand here, not in launch parameters, so that a captured graph can be replayed.
struct DeviceSequence {
  int32_t row_begin = 0;
  int32_t q_len = 0;
  int32_t kv_len = 0;
  int32_t page_begin = 0;  // its page ids begin there in the step's page ids
  int32_t state = 0;       // its selection state
};

// What a layer does with a sequence: bits of one byte, [num_layers][max_sequences].
inline constexpr uint8_t kChooses = 1;
inline constexpr uint8_t kReadsAll = 2;
inline constexpr uint8_t kReadsSets = 4;

// A step's sequences, in device memory.
struct DeviceStep {
  const DeviceSequence* sequences = nullptr;  // [num_sequences]
  const int32_t* page_ids = nullptr;
  const uint8_t* flags = nullptr;  // of the layer at hand, [num_sequences]
  int32_t num_sequences = 0;
};

// One layer's keys and values. Page p, KV head h, token t of the page (64 tokens): K row at
//   base + p * page_bytes + h * kv_head_bytes + t * row_bytes
// and V row v_offset further; rows of head_dim elements of `type` (f32, f16, bf16 or f8e4m3),
// 16-byte aligned. With f8e4m3 the token's scales, which its rows are to be multiplied by, are at
//   base + p * page_bytes + h * kv_head_bytes + scales_offset + t * kTokenScaleBytes
// K's and V's, bf16 (kv_f8.cuh).
inline constexpr int32_t kTokenScaleBytes = 4;
struct DeviceKv {
  uint8_t* base = nullptr;
  int64_t page_bytes = 0;
  int64_t kv_head_bytes = 0;
  int64_t v_offset = 0;
  int64_t scales_offset = 0;
  int32_t row_bytes = 0;
  int32_t head_dim = 0;
  int32_t num_kv_heads = 0;
  CacheType type = CacheType::kF16;
};

// The sets of one sequence: set i has counts[i] slots at slots + i * capacity. A slot is page id *
// 64 + offset. num_sets is 1, num_kv_heads or num_heads.
struct DeviceSets {
  const int32_t* slots = nullptr;
  const int32_t* counts = nullptr;
  int32_t capacity = 0;
  int32_t num_sets = 0;
};

// What a choice did; of the device's array [num_layers][max_sequences].
struct DeviceChoiceReport {
  float selected_mass = 0;  // NaN where the scorer gives none
  float tokens = 0;         // mean over the sets
  int32_t fresh = 1;
};

}  // namespace tidal

#endif  // TIDAL_CUDA_DEVICE_TYPES_H_
