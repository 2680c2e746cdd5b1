#include "model/describe.h"

#include <algorithm>
#include <filesystem>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "model/model_hash.h"
#include "model/test_model.h"

namespace tidal {
namespace {

using testing::HasSubstr;
using Json = nlohmann::json;

std::string TempPath() {
  return fmt::format("{}tidal_describe_test_{}.gguf", testing::TempDir(), getpid());
}

template <typename T>
Result<T> OpenWith(Result<T> (*open)(const std::string&), const GgufWriter& writer) {
  const std::string path = TempPath();
  EXPECT_TRUE(writer.WriteFile(path).ok());
  Result<T> opened = open(path);
  std::filesystem::remove(path);
  EXPECT_TRUE(opened.ok()) << opened.status().message();
  return opened;
}

TestModelSpec Spec() {
  return {.num_layers = 3,
          .num_heads = 4,
          .num_kv_heads = 2,
          .head_dim = 16,
          .dtype = DType::kQ8_0,
          .tied_output = true};
}

TEST(CacheMemoryTest, FollowsFromTheShape) {
  // SmolLM2's shape; its f16 cache takes 23,040 bytes a token.
  ModelConfig config;
  config.num_layers = 30;
  config.num_kv_heads = 3;
  config.head_dim = 64;
  const std::vector<CacheMemory> memories = CacheMemoryOf(config, 1000);
  ASSERT_EQ(memories.size(), 5u);
  EXPECT_STREQ(memories[0].type, "f32");
  EXPECT_EQ(memories[0].bytes_per_token, 46080);
  EXPECT_STREQ(memories[1].type, "f16");
  EXPECT_EQ(memories[1].bytes_per_token, 23040);
  EXPECT_EQ(memories[1].total_bytes, 23040000);
  EXPECT_STREQ(memories[2].type, "bf16");
  EXPECT_EQ(memories[2].bytes_per_token, 23040);
  EXPECT_STREQ(memories[3].type, "q8_0");
  EXPECT_EQ(memories[3].bytes_per_token, 23040 * 34 / 64);
  EXPECT_STREQ(memories[4].type, "f8e4m3");
  EXPECT_EQ(memories[4].bytes_per_token, 2 * 30 * 3 * (64 + 2));
  // A head that is no multiple of 32 needs a scale for what is left.
  config.head_dim = 80;
  EXPECT_EQ(CacheMemoryOf(config, 1)[3].bytes_per_token, 2 * 30 * 3 * (80 + 3 * 2));
  // The largest that the limits allow.
  config.num_layers = 1024;
  config.num_kv_heads = 1024;
  config.head_dim = 512;
  EXPECT_EQ(CacheMemoryOf(config, 1 << 27)[0].total_bytes, int64_t{1} << 59);
}

TEST(DescribeTest, JsonHasEverything) {
  const Result<Model> model = OpenWith(&Model::Load, BuildRandomModel(Spec()));
  ASSERT_TRUE(model.ok());
  const Result<std::string> text = DescribeModelJson(*model, 100);
  ASSERT_TRUE(text.ok());
  EXPECT_EQ(text->find('\n'), std::string::npos);
  const Json json = Json::parse(*text);
  EXPECT_EQ(json["path"], TempPath());
  EXPECT_EQ(json["gguf_version"], 3);
  EXPECT_EQ(json["num_files"], 1);
  EXPECT_EQ(json["file_bytes"], model->gguf()->file_bytes());
  EXPECT_EQ(json["model_hash"], ModelHash(*model->gguf()));
  EXPECT_EQ(json["model"]["architecture"], "llama");
  EXPECT_EQ(json["model"]["num_layers"], 3);
  EXPECT_EQ(json["model"]["tied_output"], true);
  EXPECT_EQ(
      json["metadata"][0],
      (Json{
          {"key", "general.architecture"}, {"type", "string"}, {"count", 1}, {"value", "llama"}}));
  EXPECT_EQ(json["tensors"].size(), model->gguf()->tensors().size());
  EXPECT_EQ(json["tensors"][0], (Json{{"name", "token_embd.weight"},
                                      {"type", "Q8_0"},
                                      {"shape", {64, 275}},
                                      {"bytes", 275 * 68}}));
  EXPECT_EQ(json["num_parameters"], model->num_parameters());
  EXPECT_EQ(json["weight_bytes"], model->weight_bytes());
  EXPECT_EQ(json["context_tokens"], 100);
  EXPECT_EQ(
      json["cache"][1],
      (Json{{"type", "f16"}, {"bytes_per_token", 2 * 3 * 2 * 16 * 2}, {"total_bytes", 38400}}));
  int64_t bytes = 0;
  for (const Json& type : json["weights_by_type"]) bytes += type["bytes"].get<int64_t>();
  EXPECT_EQ(bytes, model->weight_bytes());
  EXPECT_EQ(json["weights_by_type"][0]["type"], "Q8_0");
  EXPECT_EQ(json["weights_by_type"][0]["num_tensors"], 1 + 3 * 7);
  EXPECT_EQ(json["weights_by_type"][1],
            (Json{{"type", "F32"}, {"kept_as", "F32"}, {"num_tensors", 7}, {"bytes", 7 * 64 * 4}}));
}

TEST(DescribeTest, RarerTypesCountAsTheyAreKept) {
  TestModelSpec spec = Spec();
  spec.num_layers = 1;
  GgufWriter writer = BuildRandomModel(spec);
  ASSERT_TRUE(writer.RemoveTensor("blk.0.attn_output.weight"));
  const auto bytes = static_cast<size_t>(BytesOf(DType::kIQ4_NL, 64 * 64));
  writer.AddTensor("blk.0.attn_output.weight", InfoOf(DType::kIQ4_NL).ggml_type, {64, 64},
                   std::vector<std::byte>(bytes));
  const Result<Model> model = OpenWith(&Model::Load, writer);
  ASSERT_TRUE(model.ok()) << model.status().message();
  EXPECT_EQ(model->weights().layers[0].attn_output.dtype, DType::kIQ4_NL);
  EXPECT_EQ(model->weight_bytes(),
            (*OpenWith(&Model::Load, BuildRandomModel(spec))).weight_bytes());
  const Json json = Json::parse(*DescribeModelJson(*model, 100));
  EXPECT_THAT(json["weights_by_type"],
              testing::Contains(Json{{"type", "IQ4_NL"},
                                     {"kept_as", "Q8_0"},
                                     {"num_tensors", 1},
                                     {"bytes", BytesOf(DType::kQ8_0, 64 * 64)}}));
  EXPECT_THAT(*DescribeModel(*model, 0), HasSubstr("kept as Q8_0"));
}

TEST(DescribeTest, TextHasEverything) {
  const Result<Model> model = OpenWith(&Model::Load, BuildRandomModel(Spec()));
  ASSERT_TRUE(model.ok());
  const Result<std::string> text = DescribeModel(*model, 0);
  ASSERT_TRUE(text.ok());
  for (const char* part : {"GGUF version 3", "architecture    llama", "llama.block_count",
                           "token_embd.weight", "64 x 275", "blk.2.ffn_down.weight", "Q8_0",
                           "context of 512 tokens", "384 bytes a token", "string[275]"}) {
    EXPECT_THAT(*text, HasSubstr(part));
  }
}

TEST(DescribeTest, TheContextIsChecked) {
  const Result<Model> model = OpenWith(&Model::Load, BuildRandomModel(Spec()));
  ASSERT_TRUE(model.ok());
  for (const int64_t tokens : {int64_t{-1}, (int64_t{1} << 27) + 1, int64_t{1} << 60}) {
    EXPECT_EQ(DescribeModel(*model, tokens).status().code(), StatusCode::kInvalidArgument);
    EXPECT_EQ(DescribeModelJson(*model, tokens).status().code(), StatusCode::kInvalidArgument);
  }
}

TEST(DescribeTest, AnyFileIsPrintable) {
  GgufWriter writer;
  writer.AddString("strange\n\xff", "value\x1b[2J\xc3");
  writer.AddStringArray("words", {"\n", "\xed\xa0\x80"});
  writer.AddTensor("bad\x01name", 99, {3, 5}, std::vector<std::byte>(15));
  writer.AddTensor("huge", 0, {int64_t{1} << 61, 2}, std::vector<std::byte>(4));
  writer.AddTensor("odd", 8, {33}, std::vector<std::byte>(34));
  const Result<GgufFile> file = OpenWith(&GgufFile::Open, writer);
  ASSERT_TRUE(file.ok());
  const std::string text = DescribeFile(*file);
  EXPECT_TRUE(std::all_of(text.begin(), text.end(), [](char c) {
    return c == '\n' || (c >= ' ' && c < '\x7f');
  })) << text;
  EXPECT_THAT(text, HasSubstr("type 99"));
  const Json json = Json::parse(DescribeFileJson(*file));
  EXPECT_EQ(json["metadata"][0]["key"], "strange\\n\\xff");
  EXPECT_EQ(json["tensors"][0]["name"], "bad\\x01name");
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(json["tensors"][i]["bytes"].is_null()) << i;
}

}  // namespace
}  // namespace tidal
