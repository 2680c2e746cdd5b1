#include "executor/options.h"

#include <gtest/gtest.h>

#include "kv/page_pool.h"

namespace tidal {
namespace {

TEST(Options, NamesParseBack) {
  for (const Isa isa : {Isa::kAuto, Isa::kPortable, Isa::kAvx2, Isa::kAvx512})
    EXPECT_EQ(*ParseIsa("--isa", NameOf(isa)), isa);
  for (const Precision precision : {Precision::kFast, Precision::kF32})
    EXPECT_EQ(*ParsePrecision("--precision", NameOf(precision)), precision);
  for (const CacheType type :
       {CacheType::kF32, CacheType::kF16, CacheType::kBF16, CacheType::kQ8_0, CacheType::kF8e4m3})
    EXPECT_EQ(*ParseCacheType("-ctk", NameOf(type)), type);
  for (const IndexLayers layers : {IndexLayers::kAuto, IndexLayers::kAll, IndexLayers::kNone})
    EXPECT_EQ(*ParseIndexLayers("--index-layers", NameOf(layers)), layers);
  EXPECT_EQ(*ParseIndexBits("--index-bits", "auto"), 0);
  EXPECT_EQ(*ParseIndexBits("--index-bits", "4"), 4);
  EXPECT_EQ(*ParseIndexBits("--index-bits", "2"), 2);
}

TEST(Options, ErrorsNameFlagTextAndChoices) {
  const Result<Isa> isa = ParseIsa("--isa", "sse9");
  ASSERT_FALSE(isa.ok());
  EXPECT_EQ(isa.status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(isa.status().message(),
            "--isa is \"sse9\", expected one of auto, portable, avx2, avx512");
  EXPECT_EQ(ParsePrecision("--precision", "").status().message(),
            "--precision is \"\", expected one of fast, f32");
  EXPECT_EQ(ParseCacheType("-ctv", "F16").status().message(),
            "-ctv is \"F16\", expected one of f32, f16, bf16, q8_0, f8e4m3");
  EXPECT_EQ(ParseIndexLayers("--index-layers", "0+1").status().message(),
            "--index-layers is \"0+1\", expected one of auto, all, none");
  EXPECT_EQ(ParseIndexBits("--index-bits", "8").status().message(),
            "--index-bits is \"8\", expected one of auto, 4, 2");
}

TEST(Options, SequencesEndWithTheirContextOrThePool) {
  EXPECT_EQ(MaxSequenceTokens(0, 3), 3 * kPageSize);
  EXPECT_EQ(MaxSequenceTokens(kPageSize + 1, 3), kPageSize + 1);
  EXPECT_EQ(MaxSequenceTokens(3 * kPageSize + 1, 3), 3 * kPageSize);
}

}  // namespace
}  // namespace tidal
