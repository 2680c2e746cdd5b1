// Sealing and scanning the key index, merging and page bounds, against plain code.
#include "cpu/selection_kernels.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <gtest/gtest.h>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "base/float16.h"
#include "cpu/aligned_buffer.h"
#include "cpu/elementwise.h"
#include "cpu/isa_test_util.h"
#include "cpu/key_index.h"

namespace tidal {
namespace {

class SelectionKernelsTest : public IsaTest {
 protected:
  const SelectionKernels& kernels() const { return KernelsFor(GetParam()).selection; }
};
INSTANTIATE_TEST_SUITE_P(Isas, SelectionKernelsTest,
                         testing::Values(Isa::kPortable, Isa::kAvx2, Isa::kAvx512),
                         [](const auto& param) { return std::string(NameOf(param.param)); });

// A page of keys whose channels have biases of very different size, one of them constant.
struct KeyPage {
  KvLayout layout;
  AlignedBuffer memory;
  std::vector<float> stored;  // [kPageSize][head_dim], what the cache gives back

  KeyPage(CacheType type, int32_t head_dim, uint32_t seed)
      : layout(KvLayout::Create(1, head_dim, type, type).value()),
        memory(AlignedBuffer::Create(layout.page_bytes()).value()) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0, 1);
    std::vector<float> bias(static_cast<size_t>(head_dim));
    for (float& b : bias) b = normal(random) * (random() % 8 == 0 ? 40.0f : 1.0f);
    std::vector<float> key(static_cast<size_t>(head_dim));
    for (int32_t t = 0; t < kPageSize; ++t) {
      for (size_t d = 0; d < key.size(); ++d) key[d] = bias[d] + (d == 3 ? 0.0f : normal(random));
      StoreKv(kPortableKernels.elementwise, layout, 0, t, key.data(), key.data(), memory.data());
      for (int32_t d = 0; d < head_dim; ++d) stored.push_back(Read(t, d));
    }
  }

  float Read(int32_t t, int32_t d) const {
    const std::byte* row = memory.data() + layout.k().rows_offset + t * layout.k().row_bytes;
    uint16_t half = 0;
    float whole = 0;
    switch (layout.k().type) {
      case CacheType::kF32:
        std::memcpy(&whole, row + 4 * d, 4);
        return whole;
      case CacheType::kF16:
        std::memcpy(&half, row + 2 * d, 2);
        return F16ToF32(half);
      case CacheType::kBF16:
        std::memcpy(&half, row + 2 * d, 2);
        return Bf16ToF32(half);
      case CacheType::kQ8_0:
        std::memcpy(&half,
                    memory.data() + layout.k().scales_offset +
                        2 * (t * layout.k().scales_per_row + d / kCacheQuantGroup),
                    2);
        return F16ToF32(half) * static_cast<float>(static_cast<int8_t>(row[d]));
      case CacheType::kF8e4m3:  // none on the CPU
        break;
    }
    return 0;
  }

  CacheBlock block() const {
    const auto* base = reinterpret_cast<const uint8_t*>(memory.data());
    return {.rows = base + layout.k().rows_offset,
            .scales = reinterpret_cast<const uint16_t*>(base + layout.k().scales_offset),
            .num_tokens = kPageSize,
            .head_dim = layout.head_dim(),
            .prefetch = nullptr,
            .prefetch_bytes = 0};
  }
  float key(int32_t t, int32_t d) const {
    return stored[static_cast<size_t>(t * layout.head_dim() + d)];
  }
};

// The index as its definition reads.
struct PlainIndex {
  std::vector<float> minima, steps;  // [head_dim], rounded to f16
  std::vector<int32_t> codes;        // [kPageSize][head_dim]

  PlainIndex(const KeyPage& page, int32_t bits) {
    const int32_t head_dim = page.layout.head_dim();
    const auto top = static_cast<float>((1 << bits) - 1);
    codes.resize(static_cast<size_t>(kPageSize * head_dim));
    for (int32_t d = 0; d < head_dim; ++d) {
      float low = page.key(0, d);
      float high = low;
      for (int32_t t = 1; t < kPageSize; ++t) {
        low = std::min(low, page.key(t, d));
        high = std::max(high, page.key(t, d));
      }
      low = F16ToF32(F32ToF16(low));
      const float step = F16ToF32(F32ToF16((high - low) / top));
      minima.push_back(low);
      steps.push_back(step);
      for (int32_t t = 0; t < kPageSize; ++t) {
        const float code = step > 0 ? std::nearbyint((page.key(t, d) - low) / step) : 0;
        codes[static_cast<size_t>(t * head_dim + d)] =
            static_cast<int32_t>(std::clamp(code, 0.0f, top));
      }
    }
  }
};

struct Sealed {
  KeyIndexLayout layout;
  AlignedBuffer memory;
  IndexPage page;
  Sealed(const SelectionKernels& kernels, const KeyPage& keys, int32_t bits)
      : layout(1, keys.layout.head_dim(), bits),
        memory(AlignedBuffer::Create(layout.page_bytes()).value()),
        page(layout.At(memory.data(), 0, 0)) {
    // What lies there before must not shine through.
    std::memset(memory.data(), 0xa5, static_cast<size_t>(memory.bytes()));
    kernels.seal_page[static_cast<size_t>(keys.layout.k().type)](keys.block(), bits, page);
  }
  int32_t Code(int32_t t, int32_t d) const {
    const int32_t channels = IndexChannelsPerGroup(layout.bits());
    const uint8_t byte = page.codes[(d / channels * kPageSize + t) * 4 + d % channels % 4];
    return byte >> d % channels / 4 * layout.bits() & ((1 << layout.bits()) - 1);
  }
};

constexpr CacheType kTypes[] = {CacheType::kF32, CacheType::kF16, CacheType::kBF16,
                                CacheType::kQ8_0};
constexpr int32_t kHeadDims[] = {8, 64, 72, 80, 128, 256};

TEST_P(SelectionKernelsTest, SealingIsItsDefinition) {
  uint32_t seed = 1;
  for (const CacheType type : kTypes) {
    for (const int32_t head_dim : kHeadDims) {
      for (const int32_t bits : {4, 2}) {
        const KeyPage keys(type, head_dim, ++seed);
        const PlainIndex expected(keys, bits);
        const Sealed sealed(kernels(), keys, bits);
        for (int32_t d = 0; d < head_dim; ++d) {
          ASSERT_EQ(F16ToF32(sealed.page.minima[d]), expected.minima[static_cast<size_t>(d)]);
          ASSERT_EQ(F16ToF32(sealed.page.steps[d]), expected.steps[static_cast<size_t>(d)]);
          for (int32_t t = 0; t < kPageSize; ++t) {
            ASSERT_EQ(sealed.Code(t, d), expected.codes[static_cast<size_t>(t * head_dim + d)])
                << NameOf(type) << " head_dim " << head_dim << " bits " << bits << " t " << t
                << " d " << d;
          }
        }
      }
    }
  }
}

TEST_P(SelectionKernelsTest, AnIndexTakesNineSixtyFourthsOfAnF16Cache) {
  for (const int32_t head_dim : {64, 128}) {
    const auto f16 = KvLayout::Create(1, head_dim, CacheType::kF16, CacheType::kF16).value();
    const auto page_bytes = static_cast<double>(f16.page_bytes());
    EXPECT_LE(static_cast<double>(KeyIndexLayout(1, head_dim, 4).page_bytes()), 0.145 * page_bytes);
    EXPECT_LE(static_cast<double>(KeyIndexLayout(1, head_dim, 2).page_bytes()), 0.08 * page_bytes);
  }
}

// A scan in float32 differs by the rounding of a sum of head_dim products; with 8-bit queries each
// channel's query is off by at most half its scale, times a code.
TEST_P(SelectionKernelsTest, ScanningIsADotProductWithTheIndex) {
  uint32_t seed = 500;
  double worst = 0;
  for (const int32_t head_dim : kHeadDims) {
    for (const int32_t bits : {4, 2}) {
      for (const int32_t num_rows : {1, 2, 3, 5, 6, 7, 8, 9, 32}) {
        const KeyPage keys(CacheType::kF16, head_dim, ++seed);
        const PlainIndex index(keys, bits);
        const Sealed sealed(kernels(), keys, bits);
        std::mt19937 random(seed);
        std::normal_distribution<float> normal(0, 1);
        const int64_t stride = PaddedHeadDim(head_dim);
        std::vector<float> q(static_cast<size_t>(num_rows * stride));
        for (int32_t r = 0; r < num_rows; ++r) {
          for (int32_t d = 0; d < head_dim; ++d)
            q[static_cast<size_t>(r * stride + d)] = normal(random);
        }
        std::vector<float> exact(static_cast<size_t>(num_rows * kPageSize));
        std::vector<float> fast(exact.size());
        const ScanRows rows = {q.data(), num_rows};
        kernels().scan_page_f32(sealed.page, bits, rows, nullptr, 0, exact.data());
        kernels().scan_page(sealed.page, bits, rows, nullptr, 0, fast.data());
        for (int32_t r = 0; r < num_rows; ++r) {
          const float* row = q.data() + r * stride;
          double max_step = 0;
          for (int32_t d = 0; d < head_dim; ++d)
            max_step =
                std::max(max_step, std::abs(double{row[d]} * index.steps[static_cast<size_t>(d)]));
          for (int32_t t = 0; t < kPageSize; ++t) {
            double score = 0;
            double size = 0;
            double codes = 0;
            for (int32_t d = 0; d < head_dim; ++d) {
              const auto c = static_cast<size_t>(d);
              const int32_t code = index.codes[static_cast<size_t>(t * head_dim + d)];
              const double key = double{index.minima[c]} + code * double{index.steps[c]};
              score += row[d] * key;
              size += std::abs(row[d] * index.minima[c]) + std::abs(row[d] * code * index.steps[c]);
              codes += code;
            }
            const size_t at = static_cast<size_t>(r * kPageSize + t);
            const double rounding =
                0x1p-24 * std::sqrt(static_cast<double>(head_dim)) * size + 1e-6;
            ASSERT_NEAR(exact[at], score, 4 * rounding);
            const double bound = 4 * rounding + max_step / 127 / 2 * codes;
            worst = std::max(worst, std::abs(fast[at] - score) / bound);
            ASSERT_NEAR(fast[at], score, bound) << "head_dim " << head_dim << " bits " << bits;
          }
        }
      }
    }
  }
  EXPECT_GT(worst, 0.01) << "the bound is too loose to catch anything";
}

TEST_P(SelectionKernelsTest, FactorsMakeProbabilitiesOfPages) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal(0, 4);
  for (const int32_t num_heads : {1, 2, 9, 12, 32}) {
    const int32_t num_pages = 7;
    std::vector<std::vector<float>> scores(static_cast<size_t>(num_heads));
    for (auto& head : scores) {
      for (int32_t i = 0; i < num_pages * kPageSize; ++i) head.push_back(normal(random));
    }
    std::vector<float> page_max(static_cast<size_t>(num_pages * num_heads));
    std::vector<float> page_sum(page_max.size());
    std::vector<float> factors(page_max.size());
    std::vector<float> max(static_cast<size_t>(num_heads));
    std::vector<float> sum(max.size());
    for (int32_t p = 0; p < num_pages; ++p) {
      for (int32_t h = 0; h < num_heads; ++h) {
        const auto begin = scores[static_cast<size_t>(h)].begin() + p * kPageSize;
        const size_t at = static_cast<size_t>(p * num_heads + h);
        page_max[at] = *std::max_element(begin, begin + kPageSize);
        for (int32_t t = 0; t < kPageSize; ++t) page_sum[at] += std::exp(begin[t] - page_max[at]);
      }
    }
    kernels().page_factors(page_max.data(), page_sum.data(), num_pages, num_heads, factors.data(),
                           max.data(), sum.data());
    std::vector<float> merged(kPageSize);
    std::vector<float> largest(kPageSize);
    std::vector<double> total(static_cast<size_t>(num_heads));
    for (int32_t h = 0; h < num_heads; ++h) {
      for (const float s : scores[static_cast<size_t>(h)])
        total[static_cast<size_t>(h)] += std::exp(double{s});
    }
    for (int32_t p = 0; p < num_pages; ++p) {
      std::vector<float> probs(static_cast<size_t>(num_heads * kPageSize));
      for (int32_t h = 0; h < num_heads; ++h) {
        for (int32_t t = 0; t < kPageSize; ++t) {
          probs[static_cast<size_t>(h * kPageSize + t)] =
              std::exp(scores[static_cast<size_t>(h)][static_cast<size_t>(p * kPageSize + t)] -
                       page_max[static_cast<size_t>(p * num_heads + h)]);
        }
      }
      const float* factor = factors.data() + p * num_heads;
      kernels().merge_sum(probs.data(), factor, num_heads, merged.data());
      kernels().merge_max(probs.data(), factor, num_heads, largest.data());
      for (int32_t t = 0; t < kPageSize; ++t) {
        double expected = 0;
        double most = 0;
        for (int32_t h = 0; h < num_heads; ++h) {
          const double prob =
              std::exp(
                  double{scores[static_cast<size_t>(h)][static_cast<size_t>(p * kPageSize + t)]}) /
              total[static_cast<size_t>(h)];
          expected += prob;
          most = std::max(most, prob);
        }
        // A few roundings of exp and of sums over some hundred terms.
        ASSERT_NEAR(merged[static_cast<size_t>(t)], expected, 1e-5 * expected);
        ASSERT_NEAR(largest[static_cast<size_t>(t)], most, 1e-5 * most);
      }
    }
  }
}

TEST_P(SelectionKernelsTest, BoundsAreTheirDefinition) {
  uint32_t seed = 900;
  for (const CacheType type : kTypes) {
    for (const int32_t head_dim : kHeadDims) {
      const KeyPage keys(type, head_dim, ++seed);
      const int64_t stride = PaddedHeadDim(head_dim);
      std::vector<float> memory(static_cast<size_t>(4 * stride));
      const BoundSums sums = {memory.data(), memory.data() + stride, memory.data() + 2 * stride,
                              memory.data() + 3 * stride};
      // In two parts, as a page that crosses a KV page's end has them.
      const auto add = kernels().add_bounds[static_cast<size_t>(type)];
      add(keys.block(), 5, 11, 1, sums);
      add(keys.block(), 16, 9, 0, sums);
      std::vector<float> q(static_cast<size_t>(2 * stride));
      std::mt19937 random(seed);
      std::normal_distribution<float> normal(0, 1);
      for (int32_t r = 0; r < 2; ++r) {
        for (int32_t d = 0; d < head_dim; ++d)
          q[static_cast<size_t>(r * stride + d)] = normal(random);
      }
      float minmax[2];
      float meanstd[2];
      kernels().score_minmax(sums, head_dim, {q.data(), 2}, minmax);
      kernels().score_meanstd(sums, 20, head_dim, {q.data(), 2}, meanstd);
      for (int32_t r = 0; r < 2; ++r) {
        double bound = 0;
        double spread = 0;
        double size = 0;
        for (int32_t d = 0; d < head_dim; ++d) {
          double low = keys.key(5, d), high = low, sum = 0, squares = 0;
          for (int32_t t = 5; t < 25; ++t) {
            const double key = keys.key(t, d);
            low = std::min(low, key);
            high = std::max(high, key);
            sum += key;
            squares += key * key;
          }
          const double x = q[static_cast<size_t>(r * stride + d)];
          bound += std::max(x * low, x * high);
          const double mean = sum / 20;
          spread += x * mean + std::abs(x) * std::sqrt(std::max(0.0, squares / 20 - mean * mean));
          // A difference of squares in float32 loses what the mean is larger than the deviation.
          size += std::abs(x) * (1 + std::abs(mean) + mean * mean);
        }
        ASSERT_NEAR(minmax[r], bound, 1e-5 * size);
        ASSERT_NEAR(meanstd[r], spread, 2e-3 * std::sqrt(size) + 1e-5 * size);
      }
    }
  }
}

}  // namespace
}  // namespace tidal
