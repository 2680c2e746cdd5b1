// config.json and the weights of a Hugging Face folder: what is accepted, and one clear line for
// each thing that is not.
#include <cstdio>
#include <filesystem>
#include <functional>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "gguf/gguf_writer.h"
#include "hf/hf_folder.h"
#include "hf/json_file.h"
#include "hf/mutate_for_test.h"
#include "hf/safetensors_file.h"
#include "hf/safetensors_writer.h"
#include "model/describe.h"
#include "model/model.h"
#include "model/test_hf_folder.h"
#include "model/test_model.h"

namespace tidal {
namespace {

using testing::HasSubstr;

// A folder with a small model of the family; config.json can be changed.
class Folder {
 public:
  explicit Folder(const std::string& architecture = "llama")
      : path_(fmt::format("{}/tidal_hf_config_{}", testing::TempDir(), getpid())) {
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
    const std::string gguf = path_ + "/model.gguf";
    EXPECT_TRUE(WriteRandomModel(gguf, {.architecture = architecture, .num_layers = 1}).ok());
    Result<Model> model = Model::Load(gguf);
    EXPECT_TRUE(model.ok() && WriteTestFolder(*model, path_, {.dtype = DType::kF16}).ok());
    config_ = *ReadJsonFile(path_ + "/config.json", kMaxConfigBytes);
  }
  ~Folder() { std::filesystem::remove_all(path_); }

  const std::string& path() const { return path_; }
  JsonValue& config() { return config_; }

  Result<Model> Load() const { return LoadText(config_.dump()); }
  Result<Model> LoadText(std::string_view config) const {
    EXPECT_TRUE(WriteWholeFile(path_ + "/config.json", std::as_bytes(std::span(config))).ok());
    return Model::Load(path_);
  }

 private:
  std::string path_;
  JsonValue config_;
};

void ExpectError(const Result<Model>& model, StatusCode code,
                 const std::vector<std::string>& parts) {
  ASSERT_FALSE(model.ok());
  EXPECT_EQ(model.status().code(), code) << model.status().message();
  EXPECT_TRUE(IsOneClearLine(model.status().message())) << model.status().message();
  for (const std::string& part : parts) EXPECT_THAT(model.status().message(), HasSubstr(part));
}

struct ConfigCase {
  const char* name;
  const char* key;
  JsonValue value;
  StatusCode code;
  std::vector<std::string> parts;
};

class WrongConfigTest : public testing::TestWithParam<ConfigCase> {};

TEST_P(WrongConfigTest, IsOneClearError) {
  Folder folder;
  folder.config()[GetParam().key] = GetParam().value;
  std::vector<std::string> parts = GetParam().parts;
  parts.push_back("config.json");
  ExpectError(folder.Load(), GetParam().code, parts);
}

std::vector<ConfigCase> ConfigCases() {
  constexpr StatusCode kBad = StatusCode::kCorrupt;
  constexpr StatusCode kNo = StatusCode::kUnsupported;
  const auto rope = [](JsonValue extra) {
    JsonValue value = {{"rope_type", "yarn"}, {"factor", 4.0}};
    value.update(extra);
    return value;
  };
  return {
      {"ModelType", "model_type", "gpt_neox", kNo, {"gpt_neox", "llama, mistral, qwen2, qwen3"}},
      {"ModelTypeIsANumber", "model_type", 7, kBad, {"model_type is 7"}},
      {"OtherHead", "architectures", {"LlamaForSequenceClassification"}, kNo, {"LlamaForCausalLM"}},
      {"NoLayers", "num_hidden_layers", 0, kBad, {"is 0", "1 to 1024"}},
      {"ManyLayers", "num_hidden_layers", 1025, kBad, {"is 1025"}},
      {"NegativeWidth", "hidden_size", -64, kBad, {"is -64"}},
      {"TextForANumber", "hidden_size", "64", kBad, {"is \"64\""}},
      {"FractionForACount", "hidden_size", 64.5, kBad, {"is 64.5"}},
      {"AbsentWidth", "hidden_size", nullptr, kBad, {"hidden_size is missing"}},
      {"HugeVocabulary", "vocab_size", int64_t{1} << 40, kBad, {"1099511627776"}},
      {"NoContext", "max_position_embeddings", 0, kBad, {"is 0"}},
      {"NoEps", "rms_norm_eps", 0, kBad, {"rms_norm_eps is 0"}},
      {"HugeEps", "rms_norm_eps", 0.5, kBad, {"is 0.5"}},
      {"HeadsDontDivide", "num_key_value_heads", 3, kBad, {"is 3", "4 heads"}},
      {"OddHeadDim", "head_dim", 15, kBad, {"15", "even"}},
      {"SmallHeadDim", "head_dim", 4, kBad, {"is 4"}},
      {"Activation", "hidden_act", "gelu", kNo, {"gelu", "silu"}},
      {"Quantised", "quantization_config", {{"bits", 4}}, kNo, {"quantization_config", "GGUF"}},
      {"PartialRotary", "partial_rotary_factor", 0.5, kNo, {"0.5"}},
      {"SlidingLayers",
       "layer_types",
       {"full_attention", "sliding_attention"},
       kNo,
       {"sliding_attention"}},
      {"Theta", "rope_theta", 0, kBad, {"rope_theta is 0"}},
      {"ThetaIsText", "rope_theta", "x", kBad, {"rope_theta"}},
      {"RopeIsAList", "rope_scaling", JsonValue::array({1}), kBad, {"rope_scaling is [1]"}},
      {"DynamicRope",
       "rope_scaling",
       {{"type", "dynamic"}, {"factor", 2}},
       kNo,
       {"dynamic", "default, linear, llama3 and yarn"}},
      {"RopeOfEachKindOfLayer",
       "rope_parameters",
       {{"full_attention", {{"rope_theta", 10000}}}},
       kNo,
       {"full_attention", "differs between layers"}},
      {"LinearWithoutFactor", "rope_scaling", {{"type", "linear"}}, kBad, {"factor is missing"}},
      {"NegativeFactor", "rope_scaling", {{"type", "linear"}, {"factor", -2}}, kBad, {"is -2"}},
      {"Llama3WithoutFactors",
       "rope_scaling",
       {{"rope_type", "llama3"}, {"factor", 8}},
       kBad,
       {"low_freq_factor is missing"}},
      {"Llama3Backwards",
       "rope_scaling",
       {{"rope_type", "llama3"}, {"factor", 8}, {"low_freq_factor", 4}, {"high_freq_factor", 1}},
       kBad,
       {"high_freq_factor is 1", "more than low_freq_factor"}},
      {"YarnOriginal",
       "rope_scaling",
       rope({{"original_max_position_embeddings", 0}}),
       kBad,
       {"original_max_position_embeddings is 0"}},
      {"YarnTheta", "rope_scaling", rope({{"rope_theta", 1}}), kBad, {"base 1"}},
      {"TiedIsANumber", "tie_word_embeddings", 1, kBad, {"tie_word_embeddings is 1"}},
  };
}

INSTANTIATE_TEST_SUITE_P(Keys, WrongConfigTest, testing::ValuesIn(ConfigCases()),
                         [](const auto& tested) { return std::string(tested.param.name); });

TEST(HfConfigTest, OlderSpellingsOfRopeScaling) {
  Folder folder;
  folder.config()["rope_theta"] = 500.0;
  folder.config()["rope_scaling"] = {{"type", "linear"}, {"factor", 4.0}};
  Result<Model> model = folder.Load();
  ASSERT_TRUE(model.ok()) << model.status().message();
  EXPECT_EQ(model->config().rope_freq_divisors, std::vector<float>(8, 4.0F));
  EXPECT_EQ(model->config().rope_theta, 500);
  // YaRN's factor follows from the two lengths, and its attention factor may be given.
  folder.config()["rope_scaling"] = {
      {"type", "yarn"}, {"original_max_position_embeddings", 128}, {"attention_factor", 1.5}};
  model = folder.Load();
  ASSERT_TRUE(model.ok()) << model.status().message();
  EXPECT_EQ(model->config().rope_freq_divisors.back(), 4.0F);
  EXPECT_EQ(model->config().rope_attn_factor, 1.5F);
  EXPECT_EQ(model->config().trained_seq_len, 512);
}

TEST(HfConfigTest, MistralsWindowIsThereUnlessItIsNull) {
  Folder folder;
  JsonValue& config = folder.config();
  config["model_type"] = "mistral";
  config["architectures"] = {"MistralForCausalLM"};
  config["max_position_embeddings"] = 8192;
  ExpectError(folder.Load(), StatusCode::kUnsupported,
              {"sliding_window is 4096 (as the family has it", "8192", "not supported"});
  config["sliding_window"] = 1024;
  ExpectError(folder.Load(), StatusCode::kUnsupported, {"sliding_window is 1024, less"});
  config["sliding_window"] = nullptr;
  const Result<Model> model = folder.Load();
  ASSERT_TRUE(model.ok()) << model.status().message();
  EXPECT_EQ(model->config().architecture, "llama");
  // A window that no position leaves is none.
  config["sliding_window"] = 8192;
  EXPECT_TRUE(folder.Load().ok());
}

TEST(HfConfigTest, QwensWindowCountsWhereItIsUsed) {
  Folder folder("qwen2");
  JsonValue& config = folder.config();
  config["sliding_window"] = 64;
  config["use_sliding_window"] = false;
  EXPECT_TRUE(folder.Load().ok());
  config["use_sliding_window"] = true;
  ExpectError(folder.Load(), StatusCode::kUnsupported, {"sliding_window is 64"});
}

TEST(HfConfigTest, Qwen3HasAHeadDimOfItsOwn) {
  Folder folder("qwen3");
  folder.config().erase("head_dim");
  ExpectError(folder.Load(), StatusCode::kCorrupt, {"q_proj.weight", "[64, 64]", "[512, 64]"});
}

// The tensors of a folder with one of them changed.
Result<Model> LoadWith(const std::function<void(SafetensorsWriter*)>& change) {
  const Folder folder;
  SafetensorsWriter writer;
  {
    const Result<SafetensorsFile> file =
        SafetensorsFile::Open(folder.path() + "/model.safetensors");
    EXPECT_TRUE(file.ok());
    for (const SafetensorsTensor& t : file->tensors())
      writer.Add(t.name, t.dtype, t.shape, {t.data.begin(), t.data.end()});
  }
  change(&writer);
  EXPECT_TRUE(writer.WriteFile(folder.path() + "/model.safetensors").ok());
  return folder.Load();
}

TEST(HfWeightsTest, EachTensorIsChecked) {
  Folder folder;
  folder.config()["num_hidden_layers"] = 2;
  ExpectError(folder.Load(), StatusCode::kCorrupt, {"model.layers.1.input_layernorm.weight"});
  const std::string gate = "model.layers.0.mlp.gate_proj.weight";
  EXPECT_TRUE(LoadWith([](SafetensorsWriter*) {}).ok());
  ExpectError(LoadWith([&](SafetensorsWriter* w) { w->Remove(gate); }), StatusCode::kCorrupt,
              {gate, "missing", "[96, 64]"});
  ExpectError(LoadWith([&](SafetensorsWriter* w) {
                w->Remove(gate);
                w->Add(gate, "F16", {64, 96}, std::vector<std::byte>(64 * 96 * 2));
              }),
              StatusCode::kCorrupt, {gate, "[64, 96]", "[96, 64]"});
  ExpectError(LoadWith([&](SafetensorsWriter* w) {
                w->Remove(gate);
                w->Add(gate, "I16", {96, 64}, std::vector<std::byte>(64 * 96 * 2));
              }),
              StatusCode::kUnsupported, {gate, "I16", "F32, F16 and BF16"});
  ExpectError(LoadWith([](SafetensorsWriter* w) {
                w->Add("model.layers.0.self_attn.o_proj.bias", "F16", {64},
                       std::vector<std::byte>(128));
              }),
              StatusCode::kUnsupported, {"o_proj.bias", "variant"});
  EXPECT_TRUE(LoadWith([](SafetensorsWriter* w) {
                w->Add("model.layers.0.self_attn.rotary_emb.inv_freq", "F32", {8},
                       std::vector<std::byte>(32));
              }).ok());
}

TEST(HfConfigTest, AFolderThatIsNotRunCanBeListed) {
  Folder folder;
  folder.config()["model_type"] = "other\n\x1b[2J";
  ASSERT_EQ(folder.Load().status().code(), StatusCode::kUnsupported);
  const Result<HfFolder> listed = HfFolder::Open(folder.path());
  ASSERT_TRUE(listed.ok()) << listed.status().message();
  const std::string text = DescribeFolder(*listed);
  EXPECT_THAT(text, HasSubstr("other\\n\\x1b[2J"));
  EXPECT_THAT(text, HasSubstr("model.layers.0.mlp.up_proj.weight"));
  const JsonValue json = JsonValue::parse(DescribeFolderJson(*listed));
  EXPECT_EQ(json["format"], "Hugging Face folder");
  EXPECT_EQ(json["tensors"][0]["type"], "F16");
  // The contiguous dimension comes first, as for GGUF files.
  EXPECT_EQ(json["tensors"][0]["shape"], JsonValue::array({64, 275}));
}

TEST(HfConfigTest, NoMutantDoesHarm) {
  constexpr int kMutants = 600;
  Folder folder("qwen2");
  JsonMutator mutator(folder.config().dump(), 7);
  int loaded = 0;
  for (int i = 0; i < kMutants; ++i) {
    const std::string config = mutator.Next();
    const Result<Model> model = folder.LoadText(config.empty() ? " " : config);
    if (model.ok()) {
      ++loaded;
      EXPECT_GT(model->num_parameters(), 0);
    } else {
      EXPECT_TRUE(IsOneClearLine(model.status().message())) << model.status().message();
    }
  }
  std::printf("%d mutants: %d loaded\n", kMutants, loaded);
  EXPECT_GT(loaded, 0);
  EXPECT_LT(loaded, kMutants);
}

}  // namespace
}  // namespace tidal
