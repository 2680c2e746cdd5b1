// One wrong value of the metadata at a time: each is one clear error.
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "model/model_testing.h"

namespace tidal {
namespace {

struct WrongValue {
  const char* name;
  const char* key;  // replaced
  std::function<void(GgufWriter*, const std::string& key)> add;
  StatusCode code;
  std::vector<std::string> parts;  // of the message, besides file and key
  TestModelSpec spec = {};
};

template <typename T>
std::function<void(GgufWriter*, const std::string&)> Value(T value) {
  return [value](GgufWriter* writer, const std::string& key) { writer->Add(key, value); };
}
std::function<void(GgufWriter*, const std::string&)> Text(const char* value) {
  return [value](GgufWriter* writer, const std::string& key) { writer->AddString(key, value); };
}
const auto kRemoved = [](GgufWriter*, const std::string&) {};

std::vector<WrongValue> WrongValues() {
  constexpr auto kBad = StatusCode::kCorrupt;
  constexpr auto kNo = StatusCode::kUnsupported;
  const float nan = std::nanf("");
  const float infinity = std::numeric_limits<float>::infinity();
  return {
      {"NoArchitecture", "general.architecture", kRemoved, kBad, {"missing"}},
      {"OtherArchitecture",
       "general.architecture",
       Text("gemma\n3"),
       kNo,
       {"gemma\\n3", "llama", "qwen2", "SmolLM2"}},
      {"ArchitectureIsNumber",
       "general.architecture",
       Value(uint32_t{1}),
       kBad,
       {"uint32", "expected string"}},
      {"Adapter", "general.type", Text("adapter"), kNo, {"adapter", "expected \"model\""}},
      {"NoLayers", "llama.block_count", Value(uint32_t{0}), kBad, {"is 0", "1 to 1024"}},
      {"TooManyLayers", "llama.block_count", Value(uint32_t{1025}), kBad, {"is 1025", "1 to 1024"}},
      {"AbsurdLayers",
       "llama.block_count",
       Value(uint64_t{1} << 60),
       kBad,
       {"1152921504606846976", "1 to 1024"}},
      {"NegativeLayers", "llama.block_count", Value(int32_t{-1}), kBad, {"is -1"}},
      {"LayersMissing", "llama.block_count", kRemoved, kBad, {"missing"}},
      {"LayersAreText", "llama.block_count", Text("30"), kBad, {"string", "expected an integer"}},
      {"OneLayerMore",
       "llama.block_count",
       Value(uint32_t{3}),
       kBad,
       {"blk.2.attn_norm.weight is missing"}},
      {"NoModelDim", "llama.embedding_length", Value(uint32_t{0}), kBad, {"is 0"}},
      {"HugeModelDim", "llama.embedding_length", Value(uint32_t{1 << 21}), kBad, {"1048576"}},
      {"OtherModelDim",
       "llama.embedding_length",
       Value(uint32_t{128}),
       kBad,
       {"token_embd.weight", "[64, ", "[128, "}},
      {"NoFfnDim", "llama.feed_forward_length", kRemoved, kBad, {"missing"}},
      {"HugeFfnDim", "llama.feed_forward_length", Value(uint32_t{1} << 31), kBad, {"2147483648"}},
      {"NoHeads", "llama.attention.head_count", Value(uint32_t{0}), kBad, {"is 0", "1 to 1024"}},
      {"ManyHeads",
       "llama.attention.head_count",
       Value(uint32_t{4096}),
       kBad,
       {"is 4096", "1 to 1024"}},
      {"KvHeadsDoNotDivide",
       "llama.attention.head_count_kv",
       Value(uint32_t{3}),
       kBad,
       {"is 3", "divisor of the 4"}},
      {"NoKvHeads", "llama.attention.head_count_kv", Value(uint32_t{0}), kBad, {"is 0"}},
      {"OddHeadDim", "llama.attention.key_length", Value(uint32_t{15}), kBad, {"is 15", "even"}},
      {"SmallHeadDim",
       "llama.attention.key_length",
       Value(uint32_t{4}),
       kBad,
       {"is 4", "8 to 512"}},
      {"LargeHeadDim",
       "llama.attention.key_length",
       Value(uint32_t{514}),
       kBad,
       {"is 514", "8 to 512"}},
      {"OtherValueLength",
       "llama.attention.value_length",
       Value(uint32_t{32}),
       kNo,
       {"is 32", "expected 16"}},
      {"NoContext", "llama.context_length", kRemoved, kBad, {"missing"}},
      {"HugeContext", "llama.context_length", Value(uint32_t{1} << 28), kBad, {"134217728"}},
      {"NoEps", "llama.attention.layer_norm_rms_epsilon", kRemoved, kBad, {"missing"}},
      {"ZeroEps",
       "llama.attention.layer_norm_rms_epsilon",
       Value(0.0F),
       kBad,
       {"is 0", "at most 0.1"}},
      {"LargeEps", "llama.attention.layer_norm_rms_epsilon", Value(0.5F), kBad, {"is 0.5"}},
      {"NanEps", "llama.attention.layer_norm_rms_epsilon", Value(nan), kBad, {"is nan"}},
      {"InfiniteTheta", "llama.rope.freq_base", Value(infinity), kBad, {"is inf"}},
      {"HugeTheta", "llama.rope.freq_base", Value(1e300), kBad, {"1e+300"}},
      {"ZeroTheta", "llama.rope.freq_base", Value(0.0F), kBad, {"is 0"}},
      {"NegativeTheta", "llama.rope.freq_base", Value(-1.0F), kBad, {"is -1"}},
      {"OddRopeDim", "llama.rope.dimension_count", Value(uint32_t{7}), kBad, {"is 7", "even"}},
      {"LargeRopeDim",
       "llama.rope.dimension_count",
       Value(uint32_t{18}),
       kBad,
       {"is 18", "2 to 16"}},
      {"YarnWithoutFactor",
       "llama.rope.scaling.type",
       Text("yarn"),
       kBad,
       {"rope.scaling.factor is missing"}},
      {"LongRope", "llama.rope.scaling.type", Text("longrope"), kNo, {"longrope", "linear"}},
      {"LinearWithoutFactor",
       "llama.rope.scaling.type",
       Text("linear"),
       kBad,
       {"rope.scaling.factor is missing"}},
      {"Experts", "llama.expert_count", Value(uint32_t{8}), kNo, {"is 8", "mixture-of-experts"}},
      {"SlidingWindow",
       "llama.attention.sliding_window",
       Value(uint32_t{256}),
       kNo,
       {"is 256", "512"}},
      {"NotCausal", "llama.attention.causal", Value(false), kNo, {"look ahead"}},
  };
}

class WrongValueTest : public testing::TestWithParam<WrongValue> {};
INSTANTIATE_TEST_SUITE_P(Keys, WrongValueTest, testing::ValuesIn(WrongValues()),
                         [](const auto& test) { return std::string(test.param.name); });

TEST_P(WrongValueTest, IsOneClearError) {
  const WrongValue& wrong = GetParam();
  const Result<Model> model = LoadChanged(wrong.spec, [&](GgufWriter* writer) {
    writer->RemoveEntry(wrong.key);
    wrong.add(writer, wrong.key);
  });
  ExpectError(model, wrong.code, wrong.parts);
}

TEST(ModelConfigTest, HarmlessValuesOfRefusedFeaturesPass) {
  const Result<Model> model = LoadChanged({}, [](GgufWriter* writer) {
    writer->Add("llama.expert_count", uint32_t{0});
    writer->Add("llama.attention.sliding_window", uint32_t{512});
    writer->Add("llama.attention.causal", true);
    writer->AddString("llama.rope.scaling.type", "none");
  });
  EXPECT_TRUE(model.ok()) << model.status().message();
}

TEST(ModelConfigTest, ModelDimMustBeDivisibleWhereTheHeadDimFollowsFromIt) {
  ExpectError(LoadChanged({.num_heads = 3, .num_kv_heads = 3},
                          [](GgufWriter* w) { w->RemoveEntry("llama.attention.key_length"); }),
              StatusCode::kCorrupt, {"llama.embedding_length", "is 64", "3 heads"});
}

TEST(ModelConfigTest, RopeFreqsMustBePositiveAndOfTheRightLength) {
  std::vector<float> freqs(8, 1.0F);
  freqs[3] = 0;
  ExpectError(LoadChanged({.rope_freqs = freqs}, [](GgufWriter*) {}), StatusCode::kCorrupt,
              {"rope_freqs.weight", "element 3"});
  freqs[3] = std::nanf("");
  ExpectError(LoadChanged({.rope_freqs = freqs}, [](GgufWriter*) {}), StatusCode::kCorrupt,
              {"rope_freqs.weight", "nan"});
  freqs.assign(9, 1.0F);
  ExpectError(LoadChanged({.rope_freqs = freqs}, [](GgufWriter*) {}), StatusCode::kCorrupt,
              {"rope_freqs.weight", "[9]", "[8]"});
}

}  // namespace
}  // namespace tidal
