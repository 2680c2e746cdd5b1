#include "hf/hf_folder.h"

#include <filesystem>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gguf/gguf_writer.h"
#include "hf/mutate_for_test.h"
#include "hf/safetensors_writer.h"

namespace tidal {
namespace {

using testing::HasSubstr;

class HfFolderTest : public testing::Test {
 protected:
  HfFolderTest() : path_(fmt::format("{}/tidal_hf_folder_{}", testing::TempDir(), getpid())) {
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
    Write("config.json", "{\"model_type\": \"llama\"}");
  }
  ~HfFolderTest() override { std::filesystem::remove_all(path_); }

  void Write(const std::string& name, std::string_view text) {
    ASSERT_TRUE(WriteWholeFile(path_ + "/" + name, std::as_bytes(std::span(text))).ok());
  }
  // A file with one tensor.
  void WriteTensor(const std::string& name, const std::string& tensor) {
    SafetensorsWriter writer;
    writer.Add(tensor, "F32", {1}, std::vector<std::byte>(4));
    ASSERT_TRUE(writer.WriteFile(path_ + "/" + name).ok());
  }
  void ExpectError(StatusCode code, const std::vector<std::string>& parts) {
    const Result<HfFolder> folder = HfFolder::Open(path_);
    ASSERT_FALSE(folder.ok());
    EXPECT_EQ(folder.status().code(), code) << folder.status().message();
    EXPECT_TRUE(IsOneClearLine(folder.status().message())) << folder.status().message();
    for (const std::string& part : parts) EXPECT_THAT(folder.status().message(), HasSubstr(part));
  }

  std::string path_;
};

TEST_F(HfFolderTest, OneFile) {
  WriteTensor("model.safetensors", "a");
  const Result<HfFolder> folder = HfFolder::Open(path_);
  ASSERT_TRUE(folder.ok()) << folder.status().message();
  EXPECT_EQ(folder->files().size(), 1u);
  EXPECT_NE(folder->Find("a"), nullptr);
  EXPECT_EQ(folder->Find("b"), nullptr);
  EXPECT_EQ(folder->config()["model_type"], "llama");
  EXPECT_EQ(folder->file_bytes(), std::filesystem::file_size(path_ + "/model.safetensors"));
}

TEST_F(HfFolderTest, Shards) {
  WriteTensor("x-1.safetensors", "b");
  WriteTensor("x-2.safetensors", "a");
  Write("model.safetensors.index.json",
        R"({"metadata": {}, "weight_map": {"a": "x-2.safetensors", "b": "x-1.safetensors"}})");
  const Result<HfFolder> folder = HfFolder::Open(path_);
  ASSERT_TRUE(folder.ok()) << folder.status().message();
  EXPECT_EQ(folder->files().size(), 2u);
  ASSERT_EQ(folder->tensors().size(), 2u);
  EXPECT_EQ(folder->tensors()[0]->name, "a");
  EXPECT_NE(folder->Find("b"), nullptr);
}

TEST_F(HfFolderTest, TheHashIsOfTheConfigAndOfEachTensorByName) {
  // b comes first in the file, and has more than the 4 KiB that are hashed.
  std::vector<std::byte> large(5000, std::byte{7});
  const auto add_a = [](SafetensorsWriter* writer) {
    writer->Add("a", "F16", {2, 1}, std::vector<std::byte>(4, std::byte{1}));
  };
  const auto add_b = [&](SafetensorsWriter* writer) { writer->Add("b", "U8", {5000}, large); };
  SafetensorsWriter both;
  add_b(&both);
  add_a(&both);
  ASSERT_TRUE(both.WriteFile(path_ + "/model.safetensors").ok());
  Write("config.json", "{ }\n");
  const std::string hash = HfFolder::Open(path_)->ModelHash();
  // python3: hashlib.sha256(b"{ }\n" b"a\nF16\n[2, 1]\n" + b"\x01" * 4 +
  //                         b"b\nU8\n[5000]\n" + b"\x07" * 4096).hexdigest()
  EXPECT_EQ(hash, "9a465a9c1a238533aa25b87506c83005266358f1cd5106d979a5afd95ce5617f");
  large.back() = std::byte{8};  // past what is hashed
  SafetensorsWriter first, second;
  add_b(&first);
  add_a(&second);
  std::filesystem::remove(path_ + "/model.safetensors");
  ASSERT_TRUE(first.WriteFile(path_ + "/z.safetensors").ok());
  ASSERT_TRUE(second.WriteFile(path_ + "/y.safetensors").ok());
  Write("model.safetensors.index.json",
        R"({"weight_map": {"a": "y.safetensors", "b": "z.safetensors"}})");
  EXPECT_EQ(HfFolder::Open(path_)->ModelHash(), hash);
  large.front() = std::byte{8};
  SafetensorsWriter other;
  add_b(&other);
  ASSERT_TRUE(other.WriteFile(path_ + "/z.safetensors").ok());
  const std::string other_hash = HfFolder::Open(path_)->ModelHash();
  EXPECT_NE(other_hash, hash);
  Write("config.json", "{}\n");
  EXPECT_NE(HfFolder::Open(path_)->ModelHash(), other_hash);
}

TEST_F(HfFolderTest, WhatIsMissingIsNamed) {
  ExpectError(StatusCode::kNotFound, {"neither model.safetensors nor"});
  std::filesystem::remove(path_ + "/config.json");
  ExpectError(StatusCode::kNotFound, {"no config.json", "GGUF"});
  Write("config.json", "{");
  ExpectError(StatusCode::kCorrupt, {"config.json", "no JSON"});
}

// As an unfinished download leaves it in the cache of Hugging Face's libraries.
TEST_F(HfFolderTest, ALinkThatLeadsNowhereIsNotTakenForAFileThatIsNotThere) {
  WriteTensor("model.safetensors", "a");
  std::filesystem::create_symlink("absent", path_ + "/generation_config.json");
  std::filesystem::create_symlink("absent", path_ + "/chat_template.jinja");
  const Result<HfFolder> folder = HfFolder::Open(path_);
  ASSERT_TRUE(folder.ok()) << folder.status().message();
  for (const Status& status : {folder->ReadOptional("generation_config.json").status(),
                               folder->ReadChatTemplate().status()}) {
    EXPECT_EQ(status.code(), StatusCode::kNotFound);
    EXPECT_THAT(status.message(), HasSubstr("no such file"));
  }
  EXPECT_FALSE(folder->ReadOptional("tokenizer_config.json")->has_value());
  std::filesystem::remove(path_ + "/config.json");
  std::filesystem::create_symlink("absent", path_ + "/config.json");
  ExpectError(StatusCode::kNotFound, {"config.json: no such file"});
}

TEST_F(HfFolderTest, AFolderThatCannotBeLookedIntoIsNotTakenForAnEmptyOne) {
  std::filesystem::create_symlink("round", path_ + "/round");
  path_ += "/round";
  ExpectError(StatusCode::kIo, {"config.json: cannot open the file"});
  path_.resize(path_.rfind('/'));
}

TEST_F(HfFolderTest, AnIndexIsChecked) {
  WriteTensor("x.safetensors", "a");
  const std::string index = "model.safetensors.index.json";
  Write(index, "{}");
  ExpectError(StatusCode::kCorrupt, {index, "weight_map is missing"});
  Write(index, R"({"weight_map": {"a": 1}})");
  ExpectError(StatusCode::kCorrupt, {"key a is 1"});
  Write(index, R"({"weight_map": {"b": "x.safetensors"}})");
  ExpectError(StatusCode::kCorrupt, {"x.safetensors", "tensor b is missing"});
  Write(index, R"({"weight_map": {"a": "y.safetensors"}})");
  ExpectError(StatusCode::kNotFound, {"y.safetensors", "no such file"});
  for (const char* name : {"../x.safetensors", "/etc/passwd", "sub/x.safetensors", "x.bin", "",
                           ".safetensors", "..\\x.safetensors"}) {
    Write(index, JsonValue({{"weight_map", {{"a", name}}}}).dump());
    ExpectError(StatusCode::kCorrupt, {"in the same folder"});
  }
}

TEST_F(HfFolderTest, APipeIsNotWaitedFor) {
  ASSERT_EQ(mkfifo((path_ + "/model.safetensors").c_str(), 0600), 0);
  ExpectError(StatusCode::kIo, {"a pipe"});
}

TEST_F(HfFolderTest, TheChatTemplateHasThreePlaces) {
  WriteTensor("model.safetensors", "a");
  const auto chat = [&] { return *HfFolder::Open(path_)->ReadChatTemplate(); };
  EXPECT_EQ(chat(), std::nullopt);
  Write("tokenizer_config.json", R"({"chat_template": "one"})");
  EXPECT_EQ(chat(), "one");
  Write("tokenizer_config.json", R"({"chat_template": [{"name": "x", "template": "two"},)"
                                 R"({"name": "default", "template": "three"}]})");
  EXPECT_EQ(chat(), "three");
  Write("chat_template.jinja", "four");
  EXPECT_EQ(chat(), "four");
  std::filesystem::remove(path_ + "/chat_template.jinja");
  for (const char* bad : {R"({"chat_template": 1})", R"({"chat_template": [1]})",
                          R"({"chat_template": [{"name": "x", "template": "y"}]})", "[]"}) {
    Write("tokenizer_config.json", bad);
    const auto result = HfFolder::Open(path_)->ReadChatTemplate();
    EXPECT_EQ(result.status().code(), StatusCode::kCorrupt) << bad;
  }
}

TEST(JsonFileTest, NestingIsLimited) {
  const std::string ok = std::string(kMaxJsonDepth, '[') + std::string(kMaxJsonDepth, ']');
  EXPECT_TRUE(ParseJson(ok).ok());
  EXPECT_FALSE(ParseJson("[" + ok + "]").ok());
  EXPECT_FALSE(ParseJson(std::string(10'000'000, '[')).ok());
  EXPECT_FALSE(ParseJson("1e999").ok());
  EXPECT_EQ(*ParseJson("{\"a\": [1, {\"b\": null}], \"c\": -2.5}"),
            JsonValue({{"a", {1, {{"b", nullptr}}}}, {"c", -2.5}}));
}

TEST(JsonFileTest, FieldsAreChecked) {
  const JsonValue json = {{"n", 5},    {"big", UINT64_MAX}, {"f", 0.5},  {"t", "text"},
                          {"b", true}, {"null", nullptr},   {"neg", -3}, {"list", {1, 2}}};
  const Result<JsonFields> fields = JsonFields::Of("x.json", json);
  ASSERT_TRUE(fields.ok());
  EXPECT_EQ(*fields->Count("n", 1, 5), 5);
  EXPECT_EQ(*fields->CountOr("null", 1, 5, 3), 3);
  EXPECT_EQ(fields->Count("n", 1, 4).status().message(),
            "x.json: the key n is 5, expected an integer from 1 to 4");
  for (const char* key : {"big", "f", "t", "neg", "list", "null", "none"})
    EXPECT_FALSE(fields->Count(key, 0, INT64_MAX).ok()) << key;
  EXPECT_EQ(*fields->Positive("f", 1), 0.5);
  for (const char* key : {"t", "neg", "big", "none"})
    EXPECT_FALSE(fields->Positive(key, 10).ok()) << key;
  EXPECT_EQ(*fields->Text("t"), "text");
  EXPECT_FALSE(fields->Text("n").ok());
  EXPECT_TRUE(*fields->BoolOr("b", false));
  EXPECT_FALSE(fields->BoolOr("n", false).ok());
  EXPECT_FALSE(fields->Object("list").ok());
  EXPECT_EQ((*fields->Array("list"))->size(), 2u);
  EXPECT_FALSE(JsonFields::Of("x.json", json["list"]).ok());
}

}  // namespace
}  // namespace tidal
