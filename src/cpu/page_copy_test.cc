#include "cpu/page_copy.h"

#include <cstring>
#include <gtest/gtest.h>
#include <string>
#include <vector>

#include "cpu/aligned_buffer.h"
#include "cpu/elementwise.h"

namespace tidal {
namespace {

constexpr int32_t kNumLayers = 3;
constexpr int32_t kNumKvHeads = 2;
constexpr int32_t kHeadDim = 40;  // no multiple of q8_0's groups of 32
constexpr int64_t kNumPages = 4;

// A pool with a key index in layers 0 and 2. Its pages are filled with `filler`, its index with
// zeros, as both are in the executor: what aligns the parts of an index is never written.
class Pool {
 public:
  Pool(CacheType k_type, CacheType v_type, int32_t index_bits, uint8_t filler)
      : layout_(KvLayout::Create(kNumKvHeads, kHeadDim, k_type, v_type).value()),
        index_layout_(kNumKvHeads, kHeadDim, index_bits),
        kv_(AlignedBuffer::Create(kNumLayers * kNumPages * layout_.page_bytes()).value()),
        index_(AlignedBuffer::Create(2 * kNumPages * index_layout_.page_bytes()).value()) {
    std::memset(kv_.data(), filler, static_cast<size_t>(kv_.bytes()));
    index_base_ = {index_.data(), nullptr, index_.data() + kNumPages * index_layout_.page_bytes()};
  }

  CpuPages pages() const {
    return {.kernels = &kPortableKernels,
            .layout = &layout_,
            .kv = kv_.data(),
            .num_layers = kNumLayers,
            .num_pages = kNumPages,
            .index_layout = &index_layout_,
            .index_base = index_base_};
  }
  void DropIndex() { index_base_.assign(kNumLayers, nullptr); }

  // Keys and values that differ by layer, head, token and channel, and the page's index.
  void FillPage(PageId page) {
    const ElementwiseKernels& elementwise = kPortableKernels.elementwise;
    for (int32_t layer = 0; layer < kNumLayers; ++layer) {
      for (int32_t token = 0; token < kPageSize; ++token) {
        std::vector<float> k(kNumKvHeads * kHeadDim);
        std::vector<float> v(k.size());
        for (size_t i = 0; i < k.size(); ++i) {
          k[i] = static_cast<float>((layer * 7 + token * 3 + static_cast<int>(i) * 5) % 97) - 48;
          v[i] = -k[i] / 4 + 1;
        }
        StoreKv(elementwise, layout_, page, token, k.data(), v.data(), pages().KvOf(layer, 0));
      }
    }
    for (const int32_t layer : {0, 2})
      for (int32_t kv_head = 0; kv_head < kNumKvHeads; ++kv_head)
        SealPage(pages(), layer, page, kv_head);
  }

  struct Bytes {
    std::vector<std::byte> kv;
    std::vector<std::byte> index;
    bool operator==(const Bytes&) const = default;
  };
  Bytes Out(PageId page, int32_t num_tokens) const {
    const PageFormat format = FormatOf(pages());
    Bytes bytes{std::vector<std::byte>(static_cast<size_t>(format.kv_bytes), std::byte{0x55}),
                std::vector<std::byte>(static_cast<size_t>(format.index_bytes), std::byte{0x55})};
    ThreadPool threads(2);
    CopyPageOut(pages(), page, num_tokens, bytes.kv, bytes.index, &threads);
    return bytes;
  }
  void In(PageId page, int32_t num_tokens, const Bytes& bytes) {
    ThreadPool threads(2);
    CopyPageIn(pages(), page, num_tokens, bytes.kv, bytes.index, &threads);
  }

 private:
  KvLayout layout_;
  KeyIndexLayout index_layout_;
  AlignedBuffer kv_;
  AlignedBuffer index_;
  std::vector<std::byte*> index_base_;
};

class PageCopyTest : public testing::TestWithParam<CacheType> {};

TEST_P(PageCopyTest, APageThatComesBackIsTheSameElsewhere) {
  Pool pool(GetParam(), CacheType::kF16, 4, 0xee);
  pool.FillPage(1);
  const Pool::Bytes bytes = pool.Out(1, kPageSize);
  Pool other(GetParam(), CacheType::kF16, 4, 0x11);
  const Pool::Bytes neighbour = other.Out(2, kPageSize);
  other.In(3, kPageSize, bytes);
  EXPECT_TRUE(other.Out(3, kPageSize) == bytes);
  EXPECT_TRUE(other.Out(2, kPageSize) == neighbour) << "another page was written";
}

TEST_P(PageCopyTest, AnIndexThatIsNotGivenIsComputed) {
  Pool pool(GetParam(), CacheType::kQ8_0, 4, 0xee);
  pool.FillPage(0);
  Pool::Bytes bytes = pool.Out(0, kPageSize);
  const Pool::Bytes whole = bytes;
  bytes.index.clear();
  Pool other(GetParam(), CacheType::kQ8_0, 4, 0x11);
  other.In(2, kPageSize, bytes);
  EXPECT_TRUE(other.Out(2, kPageSize) == whole);
  // One of 2 bits too.
  Pool narrow(GetParam(), CacheType::kQ8_0, 2, 0x11);
  Pool expected(GetParam(), CacheType::kQ8_0, 2, 0xee);
  expected.FillPage(0);
  narrow.In(2, kPageSize, bytes);
  EXPECT_TRUE(narrow.Out(2, kPageSize) == expected.Out(0, kPageSize));
}

// The tokens behind the first ones may be somebody else's.
TEST_P(PageCopyTest, ATailIsZerosWhateverWasThere) {
  Pool pool(GetParam(), GetParam(), 4, 0xee);
  pool.FillPage(0);
  Pool blank(GetParam(), GetParam(), 4, 0);
  for (const int32_t num_tokens : {1, 31, 32, 63}) {
    blank.In(1, num_tokens, pool.Out(0, num_tokens));
    // What came back equals what a blank page with these tokens alone gives.
    EXPECT_TRUE(blank.Out(1, kPageSize).kv == pool.Out(0, num_tokens).kv) << num_tokens;
    const Pool::Bytes bytes = pool.Out(0, num_tokens);
    EXPECT_TRUE(bytes.index == std::vector<std::byte>(bytes.index.size())) << num_tokens;
  }
  // The last token's key, in the last channel of the last head, is there and then is not.
  const Pool::Bytes whole = pool.Out(0, kPageSize);
  EXPECT_FALSE(whole.kv == pool.Out(0, kPageSize - 1).kv);
}

INSTANTIATE_TEST_SUITE_P(Types, PageCopyTest,
                         testing::Values(CacheType::kF32, CacheType::kF16, CacheType::kBF16,
                                         CacheType::kQ8_0),
                         [](const auto& param) { return NameOf(param.param); });

TEST(PageFormat, NamesWhatTheBytesDependOn) {
  Pool pool(CacheType::kF16, CacheType::kQ8_0, 4, 0);
  const PageFormat format = FormatOf(pool.pages());
  EXPECT_EQ(format.kv, "cpu 1: 3 layers, 2 KV heads of 40, 64 tokens, K f16, V q8_0");
  EXPECT_EQ(format.index, "cpu 1: 4 bits, layers 0,2");
  pool.DropIndex();
  EXPECT_EQ(FormatOf(pool.pages()).index, "");
  EXPECT_EQ(FormatOf(pool.pages()).index_bytes, 0);
}

}  // namespace
}  // namespace tidal
