// Attention kernels against plain float64 code, on shuffled pages.
#include "cuda/attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <gtest/gtest.h>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/float16.h"
#include "base/math.h"
#include "cuda/cuda_status.h"
#include "cuda/device_testing.h"
#include "cuda/kv_f8_testing.h"

namespace tidal {
namespace {

constexpr int32_t kPageTokens = 64;

struct Shape {
  int32_t num_heads = 4;
  int32_t num_kv_heads = 2;
  int32_t head_dim = 64;
  CacheType type = CacheType::kF16;
};

// One sequence of a step: its rows are its last q_len tokens.
struct Sequence {
  int32_t kv_len = 1;
  int32_t q_len = 1;
  uint8_t flags = kReadsAll;
  std::vector<std::vector<int32_t>> sets = {};  // positions
};

int32_t ElementBytes(CacheType type) {
  if (type == CacheType::kF32) return 4;
  return type == CacheType::kF8e4m3 ? 1 : 2;
}

void Store(CacheType type, float x, uint8_t* to) {
  if (type == CacheType::kF32) {
    std::memcpy(to, &x, sizeof(x));
    return;
  }
  const uint16_t bits = type == CacheType::kF16 ? F32ToF16(x) : F32ToBf16(x);
  std::memcpy(to, &bits, sizeof(bits));
}

double Load(CacheType type, const uint8_t* from) {
  if (type == CacheType::kF32) {
    float x = 0;
    std::memcpy(&x, from, sizeof(x));
    return static_cast<double>(x);
  }
  uint16_t bits = 0;
  std::memcpy(&bits, from, sizeof(bits));
  return static_cast<double>(type == CacheType::kF16 ? F16ToF32(bits) : Bf16ToF32(bits));
}

class World {
 public:
  World(const Shape& shape, const std::vector<Sequence>& sequences, uint32_t seed)
      : shape_(shape), sequences_(sequences), random_(seed) {
    row_bytes_ = shape.head_dim * ElementBytes(shape.type);
    const int64_t scale_bytes = shape.type == CacheType::kF8e4m3 ? kTokenScaleBytes : 0;
    part_bytes_ = kPageTokens * (int64_t{2} * row_bytes_ + scale_bytes);
    int32_t num_pages = 0;
    for (const Sequence& s : sequences)
      num_pages += static_cast<int32_t>(CeilDiv(s.kv_len, kPageTokens));
    // Twice the pages: the others hold values that nobody may see.
    std::vector<int32_t> ids(static_cast<size_t>(2 * num_pages));
    std::iota(ids.begin(), ids.end(), 0);
    std::shuffle(ids.begin(), ids.end(), random_);
    kv_.resize(static_cast<size_t>(2 * num_pages * shape.num_kv_heads * part_bytes_));
    for (int64_t part = 0; part < static_cast<int64_t>(kv_.size()); part += part_bytes_)
      for (int32_t row = 0; row < 2 * kPageTokens; ++row)
        FillRow(&kv_[static_cast<size_t>(part)], row);
    int32_t row = 0;
    int32_t next_page = 0;
    for (const Sequence& s : sequences) {
      const auto pages = static_cast<int32_t>(CeilDiv(s.kv_len, kPageTokens));
      steps_.push_back({.row_begin = row,
                        .q_len = s.q_len,
                        .kv_len = s.kv_len,
                        .page_begin = static_cast<int32_t>(page_ids_.size()),
                        .state = 0});
      flags_.push_back(s.flags);
      page_ids_.insert(page_ids_.end(), ids.begin() + next_page, ids.begin() + next_page + pages);
      next_page += pages;
      row += s.q_len;
    }
    num_rows_ = row;
    q_.resize(static_cast<size_t>(row * shape.num_heads * shape.head_dim));
    for (float& x : q_) x = normal_(random_);
  }

  // Fills what nobody may see with what is no number: the ends of last pages, and pages of no
  // sequence.
  void HideBehindNan() {
    const auto num_parts = static_cast<int64_t>(kv_.size()) / part_bytes_;
    std::vector<bool> seen(static_cast<size_t>(num_parts * kPageTokens));
    for (const Sequence& s : sequences_) {
      for (int32_t pos = 0; pos < s.kv_len; ++pos) {
        for (int32_t kv_head = 0; kv_head < shape_.num_kv_heads; ++kv_head)
          seen[static_cast<size_t>(PartAt(s, pos, kv_head) * kPageTokens + pos % kPageTokens)] =
              true;
      }
    }
    for (int64_t part = 0; part < num_parts; ++part) {
      for (int32_t token = 0; token < kPageTokens; ++token) {
        if (!seen[static_cast<size_t>(part * kPageTokens + token)])
          FillWithNan(&kv_[static_cast<size_t>(part * part_bytes_)], token);
      }
    }
  }

  // The KV head's part of a token's page, counted from the first page's first.
  int64_t PartAt(const Sequence& s, int32_t pos, int32_t kv_head) const {
    const size_t index = static_cast<size_t>(&s - sequences_.data());
    const int32_t page =
        page_ids_[static_cast<size_t>(steps_[index].page_begin + pos / kPageTokens)];
    return int64_t{page} * shape_.num_kv_heads + kv_head;
  }

  // K or V of a token, as stored.
  std::vector<double> RowAt(const Sequence& s, int32_t pos, int32_t kv_head, bool value) const {
    const uint8_t* part = kv_.data() + PartAt(s, pos, kv_head) * part_bytes_;
    const uint8_t* row = part + ((value ? kPageTokens : 0) + pos % kPageTokens) * row_bytes_;
    std::vector<double> out;
    if (shape_.type == CacheType::kF8e4m3) {
      uint16_t scale = 0;
      std::memcpy(&scale, part + ScaleOffset(pos % kPageTokens, value), sizeof(scale));
      for (int32_t d = 0; d < shape_.head_dim; ++d)
        out.push_back(E4m3Value(row[d]) * static_cast<double>(Bf16ToF32(scale)));
      return out;
    }
    for (int32_t d = 0; d < shape_.head_dim; ++d)
      out.push_back(Load(shape_.type, row + d * ElementBytes(shape_.type)));
    return out;
  }

  // Of row i of sequence s and a head, over these positions.
  std::vector<double> Expected(size_t s, int32_t i, int32_t head,
                               const std::vector<int32_t>& positions) const {
    const Sequence& sequence = sequences_[s];
    const int32_t kv_head = head / (shape_.num_heads / shape_.num_kv_heads);
    const float* q = &q_[static_cast<size_t>(((steps_[s].row_begin + i) * shape_.num_heads + head) *
                                             shape_.head_dim)];
    std::vector<double> scores;
    for (const int32_t pos : positions) {
      const std::vector<double> k = RowAt(sequence, pos, kv_head, false);
      double score = 0;
      for (int32_t d = 0; d < shape_.head_dim; ++d)
        score += static_cast<double>(q[d]) * k[static_cast<size_t>(d)];
      scores.push_back(score / std::sqrt(shape_.head_dim));
    }
    const double max = *std::max_element(scores.begin(), scores.end());
    double sum = 0;
    std::vector<double> out(static_cast<size_t>(shape_.head_dim));
    for (size_t t = 0; t < positions.size(); ++t) {
      const double weight = std::exp(scores[t] - max);
      sum += weight;
      const std::vector<double> v = RowAt(sequence, positions[t], kv_head, true);
      for (size_t d = 0; d < v.size(); ++d) out[d] += weight * v[d];
    }
    for (double& x : out) x /= sum;
    return out;
  }

  // Runs the kernels as an executor does and compares every row that should have been written; the
  // others must not have been. `kernel`: "float" or "tensor".
  void Check(const std::string& kernel, int32_t num_splits = 5) {
    const DeviceArray<uint8_t> kv(kv_);
    const DeviceArray<DeviceSequence> steps(steps_);
    const DeviceArray<int32_t> page_ids(page_ids_);
    const DeviceArray<uint8_t> flags(flags_);
    const DeviceArray<float> q(q_);
    constexpr float kPoison = 12345.0F;
    const DeviceArray<float> out(std::vector<float>(q_.size(), kPoison));
    std::vector<DeviceArray<int32_t>> memory;
    std::vector<DeviceSets> sets;
    bool any_sets = false;
    bool any_all = false;
    bool per_head = false;
    for (const Sequence& s : sequences_) {
      any_all = any_all || (s.flags & kReadsAll) != 0;
      any_sets = any_sets || (s.flags & kReadsSets) != 0;
      sets.push_back(UploadSets(s, &memory));
      per_head = per_head || (sets.back().num_sets == shape_.num_heads &&
                              shape_.num_heads != shape_.num_kv_heads);
    }
    const DeviceArray<DeviceSets> device_sets(sets);
    const auto num_sequences = static_cast<int32_t>(sequences_.size());
    const DeviceArray<float> partial(
        std::vector<float>(static_cast<size_t>(AttentionPartialFloats(
                               num_splits, num_sequences, shape_.num_heads, shape_.head_dim)),
                           std::nanf("")));
    const DeviceArray<int32_t> counters(
        std::vector<int32_t>(static_cast<size_t>(num_sequences * shape_.num_heads)));
    AttentionCall call;
    call.step = {steps.data(), page_ids.data(), flags.data(), num_sequences};
    call.kv = {.base = kv.data(),
               .page_bytes = part_bytes_ * shape_.num_kv_heads,
               .kv_head_bytes = part_bytes_,
               .v_offset = int64_t{kPageTokens} * row_bytes_,
               .scales_offset = int64_t{2} * kPageTokens * row_bytes_,
               .row_bytes = row_bytes_,
               .head_dim = shape_.head_dim,
               .num_kv_heads = shape_.num_kv_heads,
               .type = shape_.type};
    call.q = q.data();
    call.out = out.data();
    call.num_heads = shape_.num_heads;
    call.attn_scale = static_cast<float>(1 / std::sqrt(shape_.head_dim));
    call.num_splits = num_splits;
    call.workspace = {partial.data(), counters.data()};
    int32_t max_q_len = 1;
    for (const Sequence& s : sequences_) max_q_len = std::max(max_q_len, s.q_len);
    AttentionCall over_sets = call;
    over_sets.sets = device_sets.data();
    over_sets.per_head = per_head;
    if (kernel == "float") {
      if (any_all) {
        ASSERT_EQ(AttendFloat(call, max_q_len, nullptr), cudaSuccess);
      }
      if (any_sets) {
        ASSERT_EQ(AttendFloat(over_sets, 1, nullptr), cudaSuccess);
      }
    } else {
      if (any_all) {
        ASSERT_EQ(AttendDecode(call, nullptr), cudaSuccess);
        ASSERT_EQ(AttendPrefill(call, max_q_len, nullptr), cudaSuccess);
      }
      if (any_sets) {
        ASSERT_EQ(AttendDecode(over_sets, nullptr), cudaSuccess);
      }
    }
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    Compare(out.Read(), kernel, kPoison);
    for (const int32_t left : counters.Read()) EXPECT_EQ(left, 0);
  }

 private:
  // Of K's or V's scale in a part.
  int32_t ScaleOffset(int32_t token, bool value) const {
    return 2 * kPageTokens * row_bytes_ + token * kTokenScaleBytes + (value ? 2 : 0);
  }
  // Row 0 .. 127 of a KV head's part of a page: K, then V. Rows of f8e4m3 have sizes of their own,
  // for their scales to differ, and some are zeros.
  void FillRow(uint8_t* part, int32_t row) {
    uint8_t* to = part + row * row_bytes_;
    if (shape_.type != CacheType::kF8e4m3) {
      for (int32_t d = 0; d < shape_.head_dim; ++d)
        Store(shape_.type, normal_(random_), to + d * ElementBytes(shape_.type));
      return;
    }
    const bool is_value = row >= kPageTokens;
    const uint32_t size = random_() % (is_value ? 12 : 4);
    const float factor = random_() % 16 == 0 ? 0.0F : std::ldexp(1.0F, -static_cast<int>(size));
    std::vector<float> values(static_cast<size_t>(shape_.head_dim));
    for (float& x : values) x = normal_(random_) * factor;
    const F8Row quantised = QuantisedRow(values);
    std::copy(quantised.codes.begin(), quantised.codes.end(), to);
    const uint16_t scale = F32ToBf16(static_cast<float>(quantised.scale));
    std::memcpy(part + ScaleOffset(row % kPageTokens, is_value), &scale, sizeof(scale));
  }

  // K and V of a token, and their scales.
  void FillWithNan(uint8_t* part, int32_t token) {
    for (const bool value : {false, true}) {
      uint8_t* row = part + ((value ? kPageTokens : 0) + token) * row_bytes_;
      if (shape_.type == CacheType::kF8e4m3) {
        std::memset(row, 0x7f, static_cast<size_t>(row_bytes_));
        const uint16_t scale = F32ToBf16(std::nanf(""));
        std::memcpy(part + ScaleOffset(token, value), &scale, sizeof(scale));
        continue;
      }
      for (int32_t d = 0; d < shape_.head_dim; ++d)
        Store(shape_.type, std::nanf(""), row + d * ElementBytes(shape_.type));
    }
  }

  DeviceSets UploadSets(const Sequence& s, std::vector<DeviceArray<int32_t>>* memory) const {
    if (s.sets.empty()) return {};
    const auto index = static_cast<size_t>(&s - sequences_.data());
    size_t capacity = 0;
    for (const auto& set : s.sets) capacity = std::max(capacity, set.size());
    std::vector<int32_t> slots(capacity * s.sets.size(), -1);
    std::vector<int32_t> counts;
    for (size_t i = 0; i < s.sets.size(); ++i) {
      counts.push_back(static_cast<int32_t>(s.sets[i].size()));
      for (size_t j = 0; j < s.sets[i].size(); ++j) {
        const int32_t pos = s.sets[i][j];
        const auto entry = static_cast<size_t>(steps_[index].page_begin + pos / kPageTokens);
        slots[i * capacity + j] = page_ids_[entry] * kPageTokens + pos % kPageTokens;
      }
    }
    memory->emplace_back(slots);
    memory->emplace_back(counts);
    return {.slots = (*memory)[memory->size() - 2].data(),
            .counts = memory->back().data(),
            .capacity = static_cast<int32_t>(capacity),
            .num_sets = static_cast<int32_t>(s.sets.size())};
  }

  void Compare(const std::vector<float>& got, const std::string& kernel, float poison) const {
    // 16-bit kernels round the probabilities (and, for many rows, the queries) to the cache's type:
    // half a unit in its last place of values whose weighted mean is of the order of 1. Scores of
    // normal variables have a standard deviation of 1, and a query's rounding changes them by that
    // unit again. Float32 adds up to 10^3 products of order 1. f8e4m3 is exact in f16 and bf16: few
    // rows are multiplied as f16, many as bf16.
    const auto tolerance_of = [&](const Sequence& sequence) {
      const int32_t ratio = shape_.num_heads / shape_.num_kv_heads;
      const bool few = sequence.q_len * ratio <= kMaxDecodeAttentionRows;
      const bool is_half =
          shape_.type == CacheType::kF16 || (shape_.type == CacheType::kF8e4m3 && few);
      return kernel == "float" ? 1e-5 : 6 * std::ldexp(1.0, is_half ? -11 : -8);
    };
    double worst = 0;
    for (size_t s = 0; s < sequences_.size(); ++s) {
      const Sequence& sequence = sequences_[s];
      const double tolerance = tolerance_of(sequence);
      for (int32_t i = 0; i < sequence.q_len; ++i) {
        for (int32_t head = 0; head < shape_.num_heads; ++head) {
          const float* out = &got[static_cast<size_t>(
              ((steps_[s].row_begin + i) * shape_.num_heads + head) * shape_.head_dim)];
          if (sequence.flags == 0) {
            for (int32_t d = 0; d < shape_.head_dim; ++d) ASSERT_EQ(out[d], poison);
            continue;
          }
          std::vector<int32_t> positions(
              static_cast<size_t>(sequence.kv_len - sequence.q_len + i + 1));
          std::iota(positions.begin(), positions.end(), 0);
          if ((sequence.flags & kReadsSets) != 0) {
            const auto num_sets = static_cast<int32_t>(sequence.sets.size());
            positions = sequence.sets[static_cast<size_t>(head * num_sets / shape_.num_heads)];
          }
          const std::vector<double> expected = Expected(s, i, head, positions);
          for (size_t d = 0; d < expected.size(); ++d) {
            const double error = std::abs(static_cast<double>(out[d]) - expected[d]);
            if (!(error <= tolerance)) {
              FAIL() << kernel << ": sequence " << s << " row " << i << " head " << head
                     << " channel " << d << ": " << out[d] << ", expected " << expected[d]
                     << " within " << tolerance;
            }
            worst = std::max(worst, error);
          }
        }
      }
    }
    testing::Test::RecordProperty("worst_error", std::to_string(worst));
  }

  const Shape shape_;
  const std::vector<Sequence> sequences_;
  std::mt19937 random_;
  std::normal_distribution<float> normal_;
  int32_t row_bytes_ = 0;
  int64_t part_bytes_ = 0;  // of a KV head in a page
  int32_t num_rows_ = 0;
  std::vector<uint8_t> kv_;
  std::vector<DeviceSequence> steps_;
  std::vector<uint8_t> flags_;
  std::vector<int32_t> page_ids_;
  std::vector<float> q_;
};

std::vector<int32_t> RandomSet(int32_t size, int32_t kv_len, std::mt19937* random) {
  std::vector<int32_t> all(static_cast<size_t>(kv_len));
  std::iota(all.begin(), all.end(), 0);
  std::shuffle(all.begin(), all.end(), *random);
  all.resize(static_cast<size_t>(size));
  return all;
}

class CudaAttentionTest : public CudaTest {};

constexpr CacheType kTypes[] = {CacheType::kF32, CacheType::kF16, CacheType::kBF16,
                                CacheType::kF8e4m3};

TEST_F(CudaAttentionTest, EverythingForEveryShape) {
  const std::vector<Sequence> batch = {{.kv_len = 1},
                                       {.kv_len = 15},
                                       {.kv_len = 64},
                                       {.kv_len = 65},
                                       {.kv_len = 1000},
                                       {.kv_len = 333, .q_len = 2},
                                       {.kv_len = 70, .flags = 0},
                                       {.kv_len = 129, .q_len = 129},
                                       {.kv_len = 301, .q_len = 40}};
  uint32_t seed = 1;
  for (const CacheType type : kTypes) {
    for (const int32_t head_dim : {64, 80, 96, 128, 256}) {
      for (const int32_t gqa_ratio : {1, 2, 4, 5, 7, 8}) {
        if (head_dim != 64 && gqa_ratio != 1 && gqa_ratio != 4) continue;
        const Shape shape = {2 * gqa_ratio, 2, head_dim, type};
        SCOPED_TRACE(testing::Message() << "head_dim " << head_dim << " ratio " << gqa_ratio
                                        << " type " << static_cast<int>(type));
        World(shape, batch, seed++).Check("float");
        if (HasTensorCoreAttention(head_dim, type)) World(shape, batch, seed++).Check("tensor");
        if (HasFatalFailure()) return;
      }
    }
  }
}

// Blocks of many rows over several tiles of tokens, whole prompts and later chunks of them, with
// rows that are no multiple of a block's.
TEST_F(CudaAttentionTest, PrefillOverManyTiles) {
  const std::vector<Sequence> batch = {{.kv_len = 385, .q_len = 385},
                                       {.kv_len = 90, .q_len = 90, .flags = 0},
                                       {.kv_len = 650, .q_len = 150},
                                       {.kv_len = 257, .q_len = 70},
                                       {.kv_len = 512, .q_len = 17}};
  uint32_t seed = 500;
  for (const int32_t head_dim : {64, 80, 96, 128, 256}) {
    for (const auto& [num_heads, type] :
         {std::pair{1, CacheType::kBF16}, std::pair{3, CacheType::kF16}}) {
      SCOPED_TRACE(testing::Message() << "head_dim " << head_dim << " heads " << num_heads);
      World world({num_heads, 1, head_dim, type}, batch, seed++);
      world.HideBehindNan();
      world.Check("tensor");
      if (HasFatalFailure()) return;
    }
  }
}

TEST_F(CudaAttentionTest, EveryContextUpToSomePages) {
  for (const CacheType type : {CacheType::kF16, CacheType::kF8e4m3}) {
    for (int32_t kv_len = 1; kv_len <= 200; ++kv_len) {
      SCOPED_TRACE(kv_len);
      World({.type = type}, {{.kv_len = kv_len}}, static_cast<uint32_t>(kv_len)).Check("tensor");
      if (HasFatalFailure()) return;
    }
  }
}

TEST_F(CudaAttentionTest, SetsOfEveryScope) {
  std::mt19937 random(7);
  uint32_t seed = 1000;
  for (const CacheType type : kTypes) {
    for (const int32_t head_dim : {64, 128}) {
      for (const int32_t gqa_ratio : {1, 4, 7}) {
        const int32_t num_heads = 2 * gqa_ratio;
        std::vector<Sequence> batch;
        for (const int32_t num_sets : {1, 2, num_heads}) {
          for (const int32_t size : {1, 16, 17, 64, 500}) {
            // Every other one as if it had just been chosen.
            const uint8_t chooses = batch.size() % 2 == 0 ? kChooses : 0;
            const auto flags = static_cast<uint8_t>(kReadsSets | chooses);
            Sequence s = {.kv_len = 600, .q_len = 1, .flags = flags, .sets = {}};
            // Sets of one sequence have sizes of their own.
            for (int32_t i = 0; i < num_sets; ++i)
              s.sets.push_back(RandomSet(std::max(1, size - 3 * i), s.kv_len, &random));
            batch.push_back(s);
          }
        }
        batch.push_back({.kv_len = 100});  // reads everything meanwhile
        const Shape shape = {num_heads, 2, head_dim, type};
        SCOPED_TRACE(testing::Message() << "head_dim " << head_dim << " ratio " << gqa_ratio);
        World(shape, batch, seed++).Check("float");
        if (HasTensorCoreAttention(head_dim, type)) World(shape, batch, seed++).Check("tensor");
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST_F(CudaAttentionTest, LongContextInParts) {
  for (const CacheType type : {CacheType::kF16, CacheType::kBF16, CacheType::kF8e4m3}) {
    World({8, 2, 128, type}, {{.kv_len = 9001}, {.kv_len = 4096, .q_len = 4}}, 5).Check("tensor");
  }
}

// From one part to more than a context is ever cut into, of more rows than are added up at once.
TEST_F(CudaAttentionTest, AnyNumberOfParts) {
  for (const int32_t num_splits : {1, 2, 33, 132, 264, 400}) {
    SCOPED_TRACE(num_splits);
    World({4, 1, 64, CacheType::kF16}, {{.kv_len = 42000, .q_len = 4}, {.kv_len = 42000}}, 6)
        .Check("tensor", num_splits);
    if (HasFatalFailure()) return;
  }
  for (const int32_t head_dim : {80, 96, 128, 256}) {
    for (const int32_t q_len : {1, 3, 4}) {
      SCOPED_TRACE(testing::Message() << "head_dim " << head_dim << " rows " << 4 * q_len);
      World({8, 2, head_dim, CacheType::kBF16}, {{.kv_len = 5000, .q_len = q_len}}, 7)
          .Check("tensor", 66);
      if (HasFatalFailure()) return;
    }
  }
}

TEST_F(CudaAttentionTest, SetsInAnyNumberOfParts) {
  std::mt19937 random(8);
  for (const int32_t num_sets : {1, 2, 8}) {
    for (const int32_t num_splits : {1, 8, 40, 132}) {
      SCOPED_TRACE(testing::Message() << num_sets << " sets, splits " << num_splits);
      std::vector<Sequence> batch;
      for (const int32_t size : {3, 512, 3000}) {
        Sequence s = {.kv_len = 3000, .q_len = 1, .flags = kReadsSets, .sets = {}};
        for (int32_t i = 0; i < num_sets; ++i)
          s.sets.push_back(RandomSet(size - i % 3, s.kv_len, &random));
        batch.push_back(s);
      }
      World({8, 2, 128, CacheType::kF16}, batch, 9).Check("tensor", num_splits);
      if (HasFatalFailure()) return;
    }
  }
}

}  // namespace
}  // namespace tidal
