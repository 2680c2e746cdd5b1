#include "model/model.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <limits>
#include <string>
#include <unistd.h>
#include <vector>

#include "model/test_model.h"

namespace tidal {
namespace {

using testing::HasSubstr;

std::string TempPath(const std::string& name) {
  return fmt::format("{}tidal_model_test_{}_{}", testing::TempDir(), getpid(), name);
}

std::string RealModel(const std::string& name) {
  const char* folder = std::getenv("TIDAL_MODELS_DIR");
  return (folder != nullptr ? std::string(folder) : std::string(TIDAL_SOURCE_DIR) + "/models") +
         "/" + name;
}

// Writes the model that `change` has made of the specified one, loads it and removes the file (the
// mapping stays).
Result<Model> LoadChanged(const TestModelSpec& spec,
                          const std::function<void(GgufWriter*)>& change) {
  const std::string path = TempPath("changed.gguf");
  GgufWriter writer = BuildRandomModel(spec);
  change(&writer);
  const Status written = writer.WriteFile(path);
  EXPECT_TRUE(written.ok()) << written.message();
  Result<Model> model = Model::Load(path);
  std::filesystem::remove(path);
  return model;
}

void ExpectError(const Result<Model>& model, StatusCode code,
                 const std::vector<std::string>& parts) {
  ASSERT_FALSE(model.ok());
  const std::string& message = model.status().message();
  EXPECT_EQ(model.status().code(), code) << message;
  EXPECT_THAT(message, HasSubstr("changed.gguf"));
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  for (const std::string& part : parts) EXPECT_THAT(message, HasSubstr(part));
}

// ---- real files

struct RealFile {
  const char* file;
  const char* architecture;
  int32_t num_layers, model_dim, ffn_dim, num_heads, num_kv_heads, head_dim, vocab_size,
      trained_seq_len;
  float rope_theta, rms_norm_eps;
  RopeStyle rope_style;
  bool tied, biases;
  int64_t parameters;
  DType embedding, output, first_q, first_v, first_down;
};

// As the Python package gguf prints these files.
constexpr RealFile kRealFiles[] = {
    {"smollm2-135m.gguf",
     "llama",
     30,
     576,
     1536,
     9,
     3,
     64,
     49152,
     8192,
     100000,
     1e-5F,
     RopeStyle::kInterleaved,
     true,
     false,
     134515008,
     DType::kQ8_0,
     DType::kQ8_0,
     DType::kQ4_1,
     DType::kQ4_1,
     DType::kQ4_1},
    {"qwen2.5-coder-0.5b.gguf",
     "qwen2",
     24,
     896,
     4864,
     14,
     2,
     64,
     151936,
     32768,
     1000000,
     1e-6F,
     RopeStyle::kHalf,
     false,
     true,
     630167424,
     DType::kQ5_0,
     DType::kQ8_0,
     DType::kQ5_0,
     DType::kQ8_0,
     DType::kQ6_K},
    {"qwen2.5-coder-1.5b.gguf",
     "qwen2",
     28,
     1536,
     8960,
     12,
     2,
     128,
     151936,
     32768,
     1000000,
     1e-6F,
     RopeStyle::kHalf,
     false,
     true,
     1777088000,
     DType::kQ4_K,
     DType::kQ6_K,
     DType::kQ4_K,
     DType::kQ6_K,
     DType::kQ6_K},
};

class RealFileTest : public testing::TestWithParam<RealFile> {};
INSTANTIATE_TEST_SUITE_P(Files, RealFileTest, testing::ValuesIn(kRealFiles), [](const auto& test) {
  std::string name = test.param.file;
  std::erase_if(name, [](char c) { return std::isalnum(static_cast<unsigned char>(c)) == 0; });
  return name;
});

TEST_P(RealFileTest, LoadsWithTheRightNumbers) {
  const RealFile& expected = GetParam();
  const std::string path = RealModel(expected.file);
  if (!std::filesystem::exists(path))
    GTEST_SKIP() << "SKIPPED: no " << path << " (set TIDAL_MODELS_DIR)";
  const Result<Model> model = Model::Load(path);
  ASSERT_TRUE(model.ok()) << model.status().message();
  const ModelConfig& config = model->config();
  EXPECT_EQ(config.architecture, expected.architecture);
  EXPECT_EQ(config.num_layers, expected.num_layers);
  EXPECT_EQ(config.model_dim, expected.model_dim);
  EXPECT_EQ(config.ffn_dim, expected.ffn_dim);
  EXPECT_EQ(config.num_heads, expected.num_heads);
  EXPECT_EQ(config.num_kv_heads, expected.num_kv_heads);
  EXPECT_EQ(config.head_dim, expected.head_dim);
  EXPECT_EQ(config.rope_dim, expected.head_dim);
  EXPECT_EQ(config.vocab_size, expected.vocab_size);
  EXPECT_EQ(config.trained_seq_len, expected.trained_seq_len);
  EXPECT_EQ(config.rope_theta, expected.rope_theta);
  EXPECT_EQ(config.rms_norm_eps, expected.rms_norm_eps);
  EXPECT_EQ(config.rope_style, expected.rope_style);
  EXPECT_TRUE(config.rope_freq_divisors.empty());
  EXPECT_EQ(config.gqa_ratio(), expected.num_heads / expected.num_kv_heads);
  EXPECT_EQ(model->num_parameters(), expected.parameters);
  const ModelWeights& weights = model->weights();
  EXPECT_EQ(weights.tied_output, expected.tied);
  EXPECT_EQ(weights.token_embd.dtype, expected.embedding);
  EXPECT_EQ(weights.output.dtype, expected.output);
  EXPECT_EQ(weights.output.data == weights.token_embd.data, expected.tied);
  ASSERT_EQ(weights.layers.size(), static_cast<size_t>(expected.num_layers));
  EXPECT_EQ(weights.layers[0].attn_q.dtype, expected.first_q);
  EXPECT_EQ(weights.layers[0].attn_v.dtype, expected.first_v);
  EXPECT_EQ(weights.layers[0].ffn_down.dtype, expected.first_down);
  for (const LayerWeights& layer : weights.layers) {
    EXPECT_EQ(layer.attn_q_bias.present(), expected.biases);
    EXPECT_EQ(layer.attn_k_bias.present(), expected.biases);
    EXPECT_EQ(layer.attn_v_bias.present(), expected.biases);
  }
  EXPECT_LE(model->weight_bytes(), static_cast<int64_t>(model->gguf()->file_bytes()));
  EXPECT_GE(model->weight_bytes(), static_cast<int64_t>(model->gguf()->file_bytes()) - (8 << 20));
}

// ---- synthetic files

class EveryShapeTest : public testing::TestWithParam<std::tuple<const char*, DType>> {};
INSTANTIATE_TEST_SUITE_P(Shapes, EveryShapeTest,
                         testing::Combine(testing::Values("llama", "qwen2"),
                                          testing::Values(DType::kF32, DType::kF16, DType::kBF16,
                                                          DType::kQ4_0, DType::kQ4_1, DType::kQ5_0,
                                                          DType::kQ8_0, DType::kQ4_K, DType::kQ5_K,
                                                          DType::kQ6_K, DType::kQ5_1)),
                         [](const auto& test) {
                           return fmt::format("{}_{}", std::get<0>(test.param),
                                              NameOf(std::get<1>(test.param)));
                         });

TEST_P(EveryShapeTest, ARandomModelLoadsAndItsWeightsAreFinite) {
  const auto [architecture, dtype] = GetParam();
  const TestModelSpec spec{.architecture = architecture,
                           .model_dim = 256,
                           .ffn_dim = 512,
                           .num_heads = 8,
                           .num_kv_heads = 2,
                           .head_dim = 32,
                           .dtype = dtype};
  const std::string path = TempPath("random.gguf");
  ASSERT_TRUE(WriteRandomModel(path, spec).ok());
  const Result<Model> model = Model::Load(path);
  std::filesystem::remove(path);
  ASSERT_TRUE(model.ok()) << model.status().message();
  EXPECT_EQ(model->config().head_dim, 32);
  EXPECT_EQ(model->config().vocab_size, TestTokenizerVocabSize());
  for (const LayerWeights& layer : model->weights().layers) {
    EXPECT_EQ(layer.attn_q_bias.present(), std::string(architecture) == "qwen2");
    for (const TensorView* view :
         {&layer.attn_q, &layer.attn_v, &layer.attn_output, &layer.ffn_down}) {
      EXPECT_EQ(view->dtype, dtype);
      std::vector<float> row(static_cast<size_t>(view->cols));
      double squares = 0;
      for (int64_t r = 0; r < view->rows; ++r) {
        DequantizeRow(dtype, view->data + r * BytesOf(dtype, view->cols), row.data(), view->cols);
        for (const float x : row) squares += double{x} * x;
      }
      // Elements of variance 1/cols, so the sum is near the number of rows: 8192 draws or more,
      // whose mean square is off by sqrt(2/8192) = 1.6 %, plus rounding to 4 bits (a step of a
      // quarter of the deviation or so: 1 %).
      EXPECT_NEAR(squares / static_cast<double>(view->rows), 1, 0.05) << view->name;
    }
  }
}

TEST(RandomModelTest, TheSameSeedGivesTheSameBytesAndAnotherSeedOthers) {
  const std::vector<std::byte> first = BuildRandomModel({}).Build().bytes;
  EXPECT_EQ(first, BuildRandomModel({}).Build().bytes);
  EXPECT_NE(first, BuildRandomModel({.seed = 2}).Build().bytes);
}

TEST(RandomModelTest, TiedOutputAndALargerVocabulary) {
  const Result<Model> model =
      LoadChanged({.vocab_size = 400, .embedding_dtype = DType::kQ8_0, .tied_output = true},
                  [](GgufWriter*) {});
  ASSERT_TRUE(model.ok()) << model.status().message();
  EXPECT_TRUE(model->weights().tied_output);
  EXPECT_EQ(model->weights().output.data, model->weights().token_embd.data);
  EXPECT_EQ(model->weights().output.dtype, DType::kQ8_0);
  EXPECT_EQ(model->config().vocab_size, 400);
  // Embedding and norm, then per layer two norms, four attention and three feed-forward matrices.
  EXPECT_EQ(model->num_parameters(),
            400 * 64 + 64 + 2 * (2 * 64 + 2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 96));
  EXPECT_EQ(model->weight_bytes(), 400 * 68 + 4 * (model->num_parameters() - 400 * 64));
}

TEST(RandomModelTest, RopeDivisorsComeFromBothSources) {
  std::vector<float> freqs(8);
  for (size_t i = 0; i < freqs.size(); ++i) freqs[i] = 1 + static_cast<float>(i);
  const Result<Model> llama3 = LoadChanged({.rope_freqs = freqs}, [](GgufWriter*) {});
  ASSERT_TRUE(llama3.ok()) << llama3.status().message();
  EXPECT_EQ(llama3->config().rope_freq_divisors, freqs);
  const Result<Model> linear = LoadChanged({.linear_rope_factor = 4.0F}, [](GgufWriter*) {});
  ASSERT_TRUE(linear.ok()) << linear.status().message();
  EXPECT_EQ(linear->config().rope_freq_divisors, std::vector<float>(8, 4.0F));
  const Result<Model> old_name =
      LoadChanged({}, [](GgufWriter* writer) { writer->Add("llama.rope.scale_linear", 2.0F); });
  ASSERT_TRUE(old_name.ok()) << old_name.status().message();
  EXPECT_EQ(old_name->config().rope_freq_divisors, std::vector<float>(8, 2.0F));
}

TEST(RandomModelTest, YarnKeysReachTheConfiguration) {
  const Result<Model> model =
      LoadChanged({.trained_seq_len = 4096, .yarn_rope_factor = 4.0F}, [](GgufWriter* writer) {
        writer->Add("llama.rope.scaling.attn_factor", 0.5F);
        writer->Add("llama.rope.scaling.yarn_beta_fast", 16.0F);
        writer->Add("llama.rope.scaling.yarn_beta_slow", 2.0F);
      });
  ASSERT_TRUE(model.ok()) << model.status().message();
  const ModelConfig& config = model->config();
  EXPECT_EQ(config.trained_seq_len, 4 * 4096);
  EXPECT_FLOAT_EQ(config.rope_attn_factor, 0.5F * 1.1386294F);
  // 8 pairs of the base 10000: pair 2 turns 65 times within 4096 tokens, pair 6 turns 0.65 times.
  EXPECT_EQ(config.rope_freq_divisors[2], 1);
  EXPECT_EQ(config.rope_freq_divisors[6], 4);
  const Result<Model> variant = LoadChanged({.yarn_rope_factor = 4.0F}, [](GgufWriter* writer) {
    writer->Add("llama.rope.scaling.yarn_log_multiplier", 0.1F);
  });
  ExpectError(variant, StatusCode::kUnsupported, {"yarn_log_multiplier", "0.1"});
}

TEST(RandomModelTest, Qwen3HasQkNormsAndItsOwnHeadDim) {
  const TestModelSpec spec{
      .architecture = "qwen3", .model_dim = 64, .num_heads = 4, .head_dim = 32};
  const Result<Model> model = LoadChanged(spec, [](GgufWriter*) {});
  ASSERT_TRUE(model.ok()) << model.status().message();
  EXPECT_EQ(model->config().head_dim, 32);
  EXPECT_EQ(model->config().rope_style, RopeStyle::kHalf);
  const LayerWeights& layer = model->weights().layers[1];
  EXPECT_EQ(layer.attn_q_norm.cols, 32);
  EXPECT_EQ(layer.attn_k_norm.name, "blk.1.attn_k_norm.weight");
  EXPECT_FALSE(layer.attn_q_bias.present());
  ExpectError(LoadChanged(spec, [](GgufWriter* w) { w->RemoveTensor("blk.0.attn_k_norm.weight"); }),
              StatusCode::kCorrupt, {"blk.0.attn_k_norm.weight", "missing", "[32]"});
}

TEST(RandomModelTest, OptionalKeysHaveDefaults) {
  const Result<Model> model = LoadChanged({.num_kv_heads = 4}, [](GgufWriter* writer) {
    for (const char* key : {"attention.head_count_kv", "attention.key_length",
                            "attention.value_length", "rope.dimension_count", "rope.freq_base"}) {
      EXPECT_TRUE(writer->RemoveEntry(std::string("llama.") + key)) << key;
    }
    EXPECT_TRUE(writer->RemoveEntry("general.name"));
    writer->AddTensor("some.other.tensor", 24, {7}, std::vector<std::byte>(7));
  });
  ASSERT_TRUE(model.ok()) << model.status().message();
  EXPECT_EQ(model->config().num_kv_heads, 4);
  EXPECT_EQ(model->config().head_dim, 16);
  EXPECT_EQ(model->config().rope_dim, 16);
  EXPECT_EQ(model->config().rope_theta, 10000);
  EXPECT_EQ(model->config().attn_scale(), 0.25F);
  EXPECT_EQ(model->config().name, "");
}

TEST(RandomModelTest, AnArrayOfEqualCountsIsOneCount) {
  const auto with_kv_heads = [](const std::vector<int32_t>& counts) {
    return LoadChanged({}, [&](GgufWriter* writer) {
      writer->RemoveEntry("llama.attention.head_count_kv");
      writer->AddArray("llama.attention.head_count_kv", counts);
    });
  };
  const Result<Model> equal = with_kv_heads({2, 2});
  ASSERT_TRUE(equal.ok()) << equal.status().message();
  EXPECT_EQ(equal->config().num_kv_heads, 2);
  ExpectError(with_kv_heads({2, 4}), StatusCode::kUnsupported,
              {"llama.attention.head_count_kv", "2", "4"});
  ExpectError(with_kv_heads({}), StatusCode::kCorrupt, {"llama.attention.head_count_kv", "empty"});
  ExpectError(with_kv_heads({-2, -2}), StatusCode::kCorrupt,
              {"llama.attention.head_count_kv", "expected 1 to 1024"});
}

// ---- one wrong value at a time

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

// ---- one wrong tensor at a time

void ReplaceTensor(GgufWriter* writer, const char* name, uint32_t type, std::vector<int64_t> dims,
                   size_t bytes) {
  EXPECT_TRUE(writer->RemoveTensor(name)) << name;
  writer->AddTensor(name, type, std::move(dims), std::vector<std::byte>(bytes));
}

TEST(ModelWeightsTest, EveryTensorIsNeeded) {
  for (const char* architecture : {"llama", "qwen2"}) {
    std::vector<std::string> names = {"token_embd.weight", "output_norm.weight"};
    for (const char* role : {"attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm",
                             "ffn_gate", "ffn_up", "ffn_down"}) {
      names.push_back(fmt::format("blk.1.{}.weight", role));
    }
    if (architecture == std::string("qwen2")) {
      for (const char* role : {"attn_q", "attn_k", "attn_v"})
        names.push_back(fmt::format("blk.1.{}.bias", role));
    }
    for (const std::string& name : names) {
      const Result<Model> model =
          LoadChanged({.architecture = architecture},
                      [&](GgufWriter* writer) { EXPECT_TRUE(writer->RemoveTensor(name)) << name; });
      ExpectError(model, StatusCode::kCorrupt, {"tensor " + name + " is missing"});
    }
  }
}

TEST(ModelWeightsTest, BiasesOfALlamaAreUsedWhereTheyAreThere) {
  const Result<Model> model = LoadChanged({}, [](GgufWriter* writer) {
    writer->AddTensor("blk.1.attn_k.bias", 0, {32}, std::vector<std::byte>(128));
  });
  ASSERT_TRUE(model.ok()) << model.status().message();
  EXPECT_FALSE(model->weights().layers[0].attn_k_bias.present());
  EXPECT_TRUE(model->weights().layers[1].attn_k_bias.present());
  EXPECT_EQ(model->weights().layers[1].attn_k_bias.cols, 32);
}

TEST(ModelWeightsTest, WrongShapesNameBothShapes) {
  ExpectError(LoadChanged({},
                          [](GgufWriter* w) {
                            ReplaceTensor(w, "blk.0.attn_k.weight", 0, {32, 64}, 8192);
                          }),
              StatusCode::kCorrupt, {"blk.0.attn_k.weight", "[32, 64]", "expected [64, 32]"});
  ExpectError(LoadChanged({},
                          [](GgufWriter* w) {
                            ReplaceTensor(w, "blk.0.attn_k.weight", 0, {64, 32, 2}, 16384);
                          }),
              StatusCode::kCorrupt, {"blk.0.attn_k.weight", "[64, 32, 2]", "expected [64, 32]"});
  ExpectError(LoadChanged({},
                          [](GgufWriter* w) {
                            ReplaceTensor(w, "output_norm.weight", 0, {64, 2}, 512);
                          }),
              StatusCode::kCorrupt, {"output_norm.weight", "[64, 2]", "expected [64]"});
  ExpectError(LoadChanged({},
                          [](GgufWriter* w) {
                            ReplaceTensor(w, "token_embd.weight", 0, {64, 1 << 23}, 64);
                          }),
              StatusCode::kCorrupt, {"token_embd.weight", "8388608 rows", "4194304"});
  // Trailing dimensions of 1 are the same shape.
  EXPECT_TRUE(LoadChanged({}, [](GgufWriter* w) {
                ReplaceTensor(w, "blk.0.attn_k.weight", 0, {64, 32, 1, 1}, 8192);
              }).ok());
}

TEST(ModelWeightsTest, WrongTypesAreNamed) {
  ExpectError(LoadChanged({},
                          [](GgufWriter* w) {
                            ReplaceTensor(w, "blk.0.attn_k.weight", 18, {64, 32}, 8192);
                          }),
              StatusCode::kUnsupported, {"blk.0.attn_k.weight", "IQ3_XXS", "Q4_0"});
  ExpectError(LoadChanged({},
                          [](GgufWriter* w) {
                            ReplaceTensor(w, "blk.0.attn_k.weight", 0xffffffff, {64, 32}, 8192);
                          }),
              StatusCode::kUnsupported, {"blk.0.attn_k.weight", "4294967295", "Q4_0"});
  ExpectError(
      LoadChanged({},
                  [](GgufWriter* w) { ReplaceTensor(w, "blk.0.attn_norm.weight", 1, {64}, 128); }),
      StatusCode::kUnsupported, {"blk.0.attn_norm.weight", "F16", "expected F32"});
  ExpectError(LoadChanged({},
                          [](GgufWriter* w) {
                            ReplaceTensor(w, "blk.0.attn_k.weight", 12, {64, 32}, 8192);
                          }),
              StatusCode::kCorrupt,
              {"blk.0.attn_k.weight", "Q4_K", "64 elements", "multiple of 256"});
}

TEST(ModelWeightsTest, DataThatEndsTooEarlyIsFound) {
  // The last tensor of the file, one byte short.
  ExpectError(
      LoadChanged({}, [](GgufWriter* w) { ReplaceTensor(w, "output_norm.weight", 0, {64}, 255); }),
      StatusCode::kCorrupt, {"output_norm.weight", "256 bytes", "255"});
}

TEST(ModelWeightsTest, TensorsThatWouldChangeTheResultAreRefused) {
  for (const char* name : {"blk.1.attn_q_norm.weight", "blk.0.attn_output.bias", "output.bias",
                           "blk.0.ffn_gate_inp.weight"}) {
    ExpectError(
        LoadChanged(
            {}, [&](GgufWriter* w) { w->AddTensor(name, 0, {64}, std::vector<std::byte>(256)); }),
        StatusCode::kUnsupported, {name});
  }
}

TEST(ModelTest, AMissingFileIsNamed) {
  const Result<Model> model = Model::Load("/no/such/model.gguf");
  ASSERT_FALSE(model.ok());
  EXPECT_EQ(model.status().code(), StatusCode::kNotFound);
  EXPECT_THAT(model.status().message(), HasSubstr("/no/such/model.gguf"));
}

}  // namespace
}  // namespace tidal
