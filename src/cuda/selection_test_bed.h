// For tests and benchmarks: caches of random keys on a device, and choices made over them.
#ifndef TIDAL_CUDA_SELECTION_TEST_BED_H_
#define TIDAL_CUDA_SELECTION_TEST_BED_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <cuda_runtime_api.h>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/float16.h"
#include "cuda/device_buffer.h"
#include "cuda/key_index.h"
#include "cuda/kv_f8_testing.h"
#include "cuda/selection.h"
#include "cuda/selection_reference.h"

namespace tidal {

inline bool HasCudaDevice() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
}

template <typename T>
DeviceBuffer OnDevice(const std::vector<T>& values) {
  DeviceBuffer buffer =
      DeviceBuffer::Create(static_cast<int64_t>(std::max<size_t>(values.size(), 1) * sizeof(T)),
                           "test data")
          .value();
  cudaMemcpy(buffer.data(), values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice);
  return buffer;
}

struct BedShape {
  int32_t num_kv_heads = 2;
  int32_t gqa_ratio = 4;
  int32_t head_dim = 64;
  CacheType type = CacheType::kF16;
  Precision precision = Precision::kFast;
  int32_t index_bits = 4;  // 0: no index
  int32_t max_tokens = 512;
  int32_t max_sequences = 4;
  int32_t num_layers = 2;

  int32_t num_heads() const { return num_kv_heads * gqa_ratio; }
};

inline int32_t BytesOf(CacheType type) {
  if (type == CacheType::kF32) return 4;
  return type == CacheType::kF8e4m3 ? 1 : 2;
}

// What a cache gives back of a row.
inline std::vector<float> Stored(CacheType type, std::vector<float> row) {
  if (type == CacheType::kF8e4m3) {
    const F8Row quantised = QuantisedRow(row);
    for (size_t d = 0; d < row.size(); ++d)
      row[d] = static_cast<float>(quantised.At(static_cast<int32_t>(d)));
    return row;
  }
  for (float& x : row) {
    if (type == CacheType::kF16) x = F16ToF32(F32ToF16(x));
    if (type == CacheType::kBF16) x = Bf16ToF32(F32ToBf16(x));
  }
  return row;
}
// Also its scale, where the type has one.
inline void Store(CacheType type, const std::vector<float>& row, uint8_t* to, uint16_t* scale) {
  if (type == CacheType::kF8e4m3) {
    const F8Row quantised = QuantisedRow(row);
    std::copy(quantised.codes.begin(), quantised.codes.end(), to);
    *scale = F32ToBf16(static_cast<float>(quantised.scale));
    return;
  }
  for (size_t d = 0; d < row.size(); ++d) {
    const uint16_t half = type == CacheType::kF16 ? F32ToF16(row[d]) : F32ToBf16(row[d]);
    if (type == CacheType::kF32)
      std::memcpy(to + 4 * d, &row[d], 4);
    else
      std::memcpy(to + 2 * d, &half, 2);
  }
}

// A plan in which every layer chooses.
inline AttentionPlan ChoosingPlan(int32_t num_layers, Scorer scorer, SetScope scope, Merge merge,
                                  int32_t budget) {
  AttentionPlan plan;
  plan.preset = "tidal";
  plan.reads_all.assign(static_cast<size_t>(num_layers), 0);
  plan.selects.assign(static_cast<size_t>(num_layers), 1);
  plan.scorer = scorer;
  plan.scope = scope;
  plan.merge = merge;
  plan.budget = {TokenAmount::Unit::kTokens, static_cast<double>(budget)};
  plan.sinks = 4;
  plan.recent = {TokenAmount::Unit::kTokens, 8};
  plan.below = 0;
  return plan;
}

// One sequence of a bed: its keys, its pages, its query, and what a choice gave.
struct BedSequence {
  AttentionPlan plan;
  ReferenceInput input;
  std::vector<int32_t> pages;
  int32_t state = 0;
  bool wants_mass = false;
  bool forget_sets = false;
  // Results.
  std::vector<std::vector<int32_t>> slots;
  std::vector<std::vector<int32_t>> positions;
  DeviceChoiceReport report;
};

class SelectionBed {
 public:
  explicit SelectionBed(const BedShape& shape, uint32_t seed = 1) : shape_(shape), random_(seed) {
    num_pages_ = shape.max_sequences * shape.max_tokens / 64 + 3;
    row_bytes_ = shape.head_dim * BytesOf(shape.type);
    kv_.v_offset = int64_t{64} * row_bytes_;
    kv_.scales_offset = 2 * kv_.v_offset;
    kv_.kv_head_bytes =
        kv_.scales_offset + (shape.type == CacheType::kF8e4m3 ? 64 * kTokenScaleBytes : 0);
    kv_.page_bytes = shape.num_kv_heads * kv_.kv_head_bytes;
    kv_.row_bytes = row_bytes_;
    kv_.head_dim = shape.head_dim;
    kv_.num_kv_heads = shape.num_kv_heads;
    kv_.type = shape.type;
    kv_memory_ = DeviceBuffer::Create(num_pages_ * kv_.page_bytes, "keys").value();
    kv_.base = reinterpret_cast<uint8_t*>(kv_memory_.data());
    cudaMemset(kv_.base, 0xff, static_cast<size_t>(kv_memory_.bytes()));  // NaN
    if (shape.index_bits != 0) {
      index_.bits = shape.index_bits;
      index_.page_bytes =
          DeviceIndexPageBytes(shape.num_kv_heads, shape.head_dim, shape.index_bits);
      index_memory_ = DeviceBuffer::Create(num_pages_ * index_.page_bytes, "index").value();
      index_.base = reinterpret_cast<uint8_t*>(index_memory_.data());
      cudaMemset(index_.base, 0xff, static_cast<size_t>(index_memory_.bytes()));
    }
    free_pages_.resize(static_cast<size_t>(num_pages_));
    std::iota(free_pages_.begin(), free_pages_.end(), 0);
    std::shuffle(free_pages_.begin(), free_pages_.end(), random_);
    CudaSelectionOptions options;
    options.num_layers = shape.num_layers;
    options.num_heads = shape.num_heads();
    options.num_kv_heads = shape.num_kv_heads;
    options.head_dim = shape.head_dim;
    options.attn_scale = 1 / std::sqrt(static_cast<float>(shape.head_dim));
    options.precision = shape.precision;
    options.max_sequences = shape.max_sequences;
    options.max_tokens = shape.max_tokens;
    options.upload = &upload_;
    selection_ = CudaSelection::Create(options).value();
    const Status status = upload_.Allocate();
    TIDAL_CHECK(status.ok(), "{}", status.message());
  }

  CudaSelection& selection() { return *selection_; }
  std::mt19937& random() { return random_; }
  const BedShape& shape() const { return shape_; }

  // Random keys, written to shuffled pages, full ones sealed; a random query.
  BedSequence Add(const AttentionPlan& plan, int32_t kv_len, int32_t state = 0) {
    BedSequence sequence;
    sequence.plan = plan;
    sequence.state = state;
    ReferenceInput& in = sequence.input;
    in.num_heads = shape_.num_heads();
    in.num_kv_heads = shape_.num_kv_heads;
    in.head_dim = shape_.head_dim;
    in.index_bits = shape_.index_bits;
    in.kv_len = 0;
    std::normal_distribution<float> normal(0, 1);
    bias_.resize(static_cast<size_t>(shape_.num_kv_heads * shape_.head_dim));
    for (float& bias : bias_) bias = normal(random_) * (random_() % 8 == 0 ? 8.0f : 1.0f);
    Extend(kv_len, &sequence);
    NewQuery(&sequence);
    return sequence;
  }
  void NewQuery(BedSequence* sequence) {
    std::normal_distribution<float> normal(0, 1);
    sequence->input.q.resize(static_cast<size_t>(shape_.num_heads() * shape_.head_dim));
    for (float& x : sequence->input.q) x = normal(random_);
  }

  // Appends random tokens up to kv_len.
  void Extend(int32_t kv_len, BedSequence* sequence) {
    ReferenceInput& in = sequence->input;
    std::normal_distribution<float> normal(0, 1);
    const int32_t before = in.kv_len;
    std::vector<float> keys(static_cast<size_t>(int64_t{in.num_kv_heads} * kv_len * in.head_dim));
    for (int32_t h = 0; h < in.num_kv_heads; ++h) {
      const auto row = [&](const std::vector<float>& of, int32_t length) {
        return of.begin() + int64_t{h} * length * in.head_dim;
      };
      std::copy_n(row(in.keys, before), int64_t{before} * in.head_dim,
                  keys.begin() + int64_t{h} * kv_len * in.head_dim);
    }
    const auto key_at = [&](int32_t h, int32_t pos, int32_t d) -> float& {
      return keys[static_cast<size_t>((int64_t{h} * kv_len + pos) * in.head_dim + d)];
    };
    for (int32_t pos = before; pos < kv_len; ++pos) {
      for (int32_t h = 0; h < in.num_kv_heads; ++h) {
        std::vector<float> row;
        for (int32_t d = 0; d < in.head_dim; ++d) {
          const float bias = bias_[static_cast<size_t>(h * in.head_dim + d)];
          row.push_back(bias + (d == 3 ? 0.0f : normal(random_)));
        }
        row = Stored(shape_.type, std::move(row));
        for (int32_t d = 0; d < in.head_dim; ++d) key_at(h, pos, d) = row[static_cast<size_t>(d)];
      }
    }
    in.keys = std::move(keys);
    in.kv_len = kv_len;
    WriteKeys(before, sequence);
  }

  // One choice of a layer for all of the sequences.
  void Choose(std::vector<BedSequence*> sequences, int32_t layer = 0) {
    StepBatch batch;
    std::vector<DeviceSequence> rows;
    std::vector<int32_t> page_ids;
    std::vector<float> q;
    std::vector<uint8_t> flags;
    std::vector<int32_t> all;
    for (size_t i = 0; i < sequences.size(); ++i) {
      BedSequence& sequence = *sequences[i];
      StepSequence row;
      row.row_begin = static_cast<int32_t>(i);
      row.q_len = 1;
      row.kv_len = sequence.input.kv_len;
      row.page_table = sequence.pages.data();
      row.plan = &sequence.plan;
      row.state = sequence.state;
      row.forget_sets = sequence.forget_sets;
      row.wants_mass = sequence.wants_mass;
      row.keep = sequence.input.keep.data();
      row.num_keep = static_cast<int32_t>(sequence.input.keep.size());
      batch.sequences.push_back(row);
      rows.push_back(
          {row.row_begin, 1, row.kv_len, static_cast<int32_t>(page_ids.size()), row.state});
      page_ids.insert(page_ids.end(), sequence.pages.begin(), sequence.pages.end());
      q.insert(q.end(), sequence.input.q.begin(), sequence.input.q.end());
      flags.push_back(kChooses);
      all.push_back(static_cast<int32_t>(i));
    }
    const DeviceBuffer device_rows = OnDevice(rows);
    const DeviceBuffer device_pages = OnDevice(page_ids);
    const DeviceBuffer device_q = OnDevice(q);
    const DeviceBuffer device_flags = OnDevice(flags);
    selection_->BeginStep(batch);
    Check(upload_.Send(upload_.bytes(), nullptr));
    const DeviceStep step = {device_rows.as<DeviceSequence>(), device_pages.as<int32_t>(),
                             device_flags.as<uint8_t>(), static_cast<int32_t>(rows.size())};
    selection_->Choose(layer, all, step, kv_, index_, device_q.as<float>());
    Check(selection_->status());
    for (size_t i = 0; i < sequences.size(); ++i) {
      BedSequence& sequence = *sequences[i];
      Check(selection_->ReadSets(static_cast<int32_t>(i), &sequence.slots));
      cudaMemcpy(&sequence.report,
                 selection_->reports() + int64_t{layer} * shape_.max_sequences + i,
                 sizeof(DeviceChoiceReport), cudaMemcpyDeviceToHost);
      ToPositions(&sequence);
    }
  }
  void Prepare(const BedSequence& sequence) {
    Check(selection_->Prepare(sequence.state, sequence.plan));
  }

  static void Check(const Status& status) { TIDAL_CHECK(status.ok(), "{}", status.message()); }

  const DeviceKv& kv() const { return kv_; }
  const DeviceIndex& index() const { return index_; }

 private:
  void WriteKeys(int32_t before, BedSequence* sequence) {
    const ReferenceInput& in = sequence->input;
    const int32_t num_pages = (in.kv_len + 63) / 64;
    while (static_cast<int32_t>(sequence->pages.size()) < num_pages) {
      TIDAL_CHECK(!free_pages_.empty(), "out of pages at {} tokens", in.kv_len);
      sequence->pages.push_back(free_pages_.back());
      free_pages_.pop_back();
    }
    std::vector<DeviceSeal> seals;
    for (int32_t page = before / 64; page < num_pages; ++page) {
      const int32_t count = std::min(in.kv_len - page * 64, 64);
      const int32_t page_id = sequence->pages[static_cast<size_t>(page)];
      std::vector<uint8_t> rows(static_cast<size_t>(count * row_bytes_));
      std::vector<uint16_t> scales(static_cast<size_t>(2 * count), 0xffff);  // V's are not read
      for (int32_t h = 0; h < in.num_kv_heads; ++h) {
        for (int32_t t = 0; t < count; ++t) {
          std::vector<float> row;
          for (int32_t d = 0; d < in.head_dim; ++d)
            row.push_back(static_cast<float>(in.Key(h, page * 64 + t, d)));
          Store(shape_.type, row, rows.data() + t * row_bytes_,
                &scales[static_cast<size_t>(2 * t)]);
        }
        uint8_t* part = kv_.base + page_id * kv_.page_bytes + h * kv_.kv_head_bytes;
        cudaMemcpy(part, rows.data(), rows.size(), cudaMemcpyHostToDevice);
        if (shape_.type == CacheType::kF8e4m3) {
          cudaMemcpy(part + kv_.scales_offset, scales.data(), scales.size() * 2,
                     cudaMemcpyHostToDevice);
        }
      }
      if (count == 64) seals.push_back({page_id});
    }
    if (index_.base == nullptr) return;
    const DeviceBuffer device_seals = OnDevice(seals);
    Check(CudaStatus(SealPages(kv_, index_, device_seals.as<DeviceSeal>(),
                               static_cast<int32_t>(seals.size()), nullptr),
                     "sealing"));
    Check(CudaStatus(cudaDeviceSynchronize(), "sealing"));
  }

  void ToPositions(BedSequence* sequence) const {
    std::vector<int32_t> page_of(static_cast<size_t>(num_pages_), -1);
    for (size_t i = 0; i < sequence->pages.size(); ++i)
      page_of[static_cast<size_t>(sequence->pages[i])] = static_cast<int32_t>(i);
    sequence->positions.clear();
    for (const std::vector<int32_t>& set : sequence->slots) {
      std::vector<int32_t> positions;
      for (const int32_t slot : set) {
        const bool is_known =
            slot >= 0 && slot / 64 < num_pages_ && page_of[static_cast<size_t>(slot / 64)] >= 0;
        positions.push_back(is_known ? page_of[static_cast<size_t>(slot / 64)] * 64 + slot % 64
                                     : -1);
      }
      sequence->positions.push_back(std::move(positions));
    }
  }

  const BedShape shape_;
  std::mt19937 random_;
  int32_t num_pages_ = 0;
  int32_t row_bytes_ = 0;
  DeviceKv kv_;
  DeviceIndex index_;
  DeviceBuffer kv_memory_;
  DeviceBuffer index_memory_;
  StepUpload upload_;
  std::unique_ptr<CudaSelection> selection_;
  std::vector<int32_t> free_pages_;
  std::vector<float> bias_;
};

}  // namespace tidal

#endif  // TIDAL_CUDA_SELECTION_TEST_BED_H_
