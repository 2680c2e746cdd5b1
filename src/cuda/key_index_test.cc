// Sealed pages against their definition.
#include "cuda/key_index.h"

#include <gtest/gtest.h>
#include <string>

#include "cuda/key_index.cuh"
#include "cuda/selection_test_bed.h"

namespace tidal {
namespace {

TEST(CudaKeyIndexTest, CodesHaveAPlaceOfTheirOwn) {
  for (const int32_t bits : {4, 2}) {
    for (const int32_t head_dim : {64, 80}) {
      const int64_t words = int64_t{64} * head_dim * bits / 32;
      std::vector<uint32_t> used(static_cast<size_t>(words), 0);
      for (int32_t token = 0; token < 64; ++token) {
        for (int32_t channel = 0; channel < head_dim; ++channel) {
          const IndexPlace place = PlaceOfCode(token, channel, bits);
          const uint32_t mask = ((1u << bits) - 1) << place.bit;
          ASSERT_LT(place.word, words);
          EXPECT_EQ(used[static_cast<size_t>(place.word)] & mask, 0u);
          used[static_cast<size_t>(place.word)] |= mask;
        }
      }
      for (const uint32_t word : used) EXPECT_EQ(word, 0xffffffffu);
    }
  }
}

TEST(CudaKeyIndexTest, SealsAsDefined) {
  if (!HasCudaDevice()) GTEST_SKIP() << "NOT TESTED: there is no CUDA device here";
  for (const CacheType type :
       {CacheType::kF32, CacheType::kF16, CacheType::kBF16, CacheType::kF8e4m3}) {
    for (const int32_t head_dim : {64, 80, 96, 128, 256}) {
      for (const int32_t bits : {4, 2}) {
        SCOPED_TRACE(std::string(NameOf(type)) + " head_dim " + std::to_string(head_dim) +
                     " bits " + std::to_string(bits));
        SelectionBed bed(
            {.num_kv_heads = 3, .head_dim = head_dim, .type = type, .index_bits = bits});
        BedSequence sequence =
            bed.Add(ChoosingPlan(2, Scorer::kIndex4, SetScope::kShared, Merge::kMass, 64), 200);
        ReferenceInput expected = sequence.input;
        IndexKeys(sequence.input, &expected.keys);
        const DeviceIndex& index = bed.index();
        std::vector<uint8_t> bytes(static_cast<size_t>(index.page_bytes));
        for (int32_t page = 0; page < 3; ++page) {
          cudaMemcpy(bytes.data(),
                     index.base + sequence.pages[static_cast<size_t>(page)] * index.page_bytes,
                     bytes.size(), cudaMemcpyDeviceToHost);
          for (int32_t h = 0; h < 3; ++h) {
            const uint8_t* part = bytes.data() + h * IndexKvHeadBytes(head_dim, bits);
            const auto half_at = [&](int64_t i) {
              uint16_t half = 0;
              std::memcpy(&half, part + 2 * i, 2);
              return F16ToF32(half);
            };
            for (int32_t t = 0; t < 64; ++t) {
              for (int32_t d = 0; d < head_dim; ++d) {
                const IndexPlace place = PlaceOfCode(t, d, bits);
                uint32_t word = 0;
                std::memcpy(&word, part + IndexCodesOffset(head_dim) + 4 * place.word, 4);
                const auto code = static_cast<float>(word >> place.bit & ((1u << bits) - 1));
                ASSERT_EQ(half_at(d) + code * half_at(head_dim + d),
                          static_cast<float>(expected.Key(h, page * 64 + t, d)))
                    << "page " << page << " kv head " << h << " token " << t << " channel " << d;
              }
            }
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace tidal
