// One wrong tensor at a time: each is one clear error.
#include <cmath>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "model/model_testing.h"

namespace tidal {
namespace {

using testing::HasSubstr;

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
