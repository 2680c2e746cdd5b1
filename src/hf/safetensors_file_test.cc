#include "hf/safetensors_file.h"

#include <cstdio>
#include <cstring>
#include <filesystem>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "gguf/gguf_writer.h"
#include "hf/mutate_for_test.h"
#include "hf/safetensors_writer.h"

// Under the address sanitizer one allocation of this many megabytes ends the test: the largest
// mutant has some 10 KB.
extern "C" const char* __asan_default_options();
extern "C" const char* __asan_default_options() { return "max_allocation_size_mb=64"; }

namespace tidal {
namespace {

std::string TempPath() {
  return fmt::format("{}/tidal_safetensors_{}.safetensors", testing::TempDir(), getpid());
}

Result<SafetensorsFile> OpenBytes(const std::vector<std::byte>& bytes) {
  const std::string path = TempPath();
  EXPECT_TRUE(WriteWholeFile(path, bytes).ok());
  Result<SafetensorsFile> file = SafetensorsFile::Open(path);
  std::filesystem::remove(path);
  return file;
}

SafetensorsWriter TwoTensors() {
  SafetensorsWriter writer;
  writer.Add("b", "F32", {2, 3}, std::vector<std::byte>(24, std::byte{1}));
  writer.Add("a", "BF16", {4}, std::vector<std::byte>(8, std::byte{2}));
  writer.Add("none", "F16", {0, 7}, {});
  writer.Add("scalar", "U8", {}, std::vector<std::byte>(1, std::byte{3}));
  return writer;
}

void ExpectError(const Result<SafetensorsFile>& file, StatusCode code,
                 const std::vector<std::string>& parts) {
  ASSERT_FALSE(file.ok());
  EXPECT_EQ(file.status().code(), code) << file.status().message();
  EXPECT_TRUE(IsOneClearLine(file.status().message())) << file.status().message();
  for (const std::string& part : parts)
    EXPECT_THAT(file.status().message(), testing::HasSubstr(part));
}

TEST(SafetensorsFileTest, ReadsWhatWasWritten) {
  const Result<SafetensorsFile> file = OpenBytes(TwoTensors().Build());
  ASSERT_TRUE(file.ok()) << file.status().message();
  ASSERT_EQ(file->tensors().size(), 4u);
  const SafetensorsTensor* b = file->Find("b");
  ASSERT_NE(b, nullptr);
  EXPECT_EQ(b->dtype, "F32");
  EXPECT_EQ(b->shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(b->data.size(), 24u);
  EXPECT_EQ(b->data[23], std::byte{1});
  EXPECT_EQ(file->Find("a")->data[0], std::byte{2});
  EXPECT_EQ(file->Find("none")->data.size(), 0u);
  EXPECT_EQ(file->Find("scalar")->data.size(), 1u);
  EXPECT_EQ(file->Find("c"), nullptr);
  EXPECT_EQ(file->Find("__metadata__"), nullptr);
}

TEST(SafetensorsFileTest, AFileThatIsNoneIsOneClearError) {
  ExpectError(SafetensorsFile::Open("/no/such/file"), StatusCode::kNotFound, {"no such file"});
  ExpectError(OpenBytes({}), StatusCode::kCorrupt, {"empty"});
  ExpectError(OpenBytes(std::vector<std::byte>(7)), StatusCode::kCorrupt, {"7 bytes"});
  ExpectError(OpenBytes(std::vector<std::byte>(8)), StatusCode::kCorrupt, {"no JSON"});
  ExpectError(OpenBytes(std::vector<std::byte>(8, std::byte{0xff})), StatusCode::kCorrupt,
              {"18446744073709551615 bytes"});
}

struct HeaderCase {
  const char* name;
  std::string header;
  StatusCode code;
  std::vector<std::string> parts;
};

// 16 bytes of data follow each header.
class HeaderTest : public testing::TestWithParam<HeaderCase> {};

TEST_P(HeaderTest, IsOneClearError) {
  SafetensorsWriter writer;
  writer.Add("t", "F32", {4}, std::vector<std::byte>(16));
  ExpectError(OpenBytes(writer.BuildWith(GetParam().header)), GetParam().code, GetParam().parts);
}

std::string Header(std::string_view dtype, std::string_view shape, std::string_view offsets) {
  return fmt::format(R"({{"t":{{"dtype":{},"shape":{},"data_offsets":{}}}}})", dtype, shape,
                     offsets);
}

std::vector<HeaderCase> HeaderCases() {
  constexpr StatusCode kBad = StatusCode::kCorrupt;
  constexpr const char* kF32 = "\"F32\"";
  std::string deep(1000, '[');
  return {
      {"NotJson", "{", kBad, {"no JSON at byte"}},
      {"NotAnObject", "[1]", kBad, {"expected an object"}},
      {"TwoValues", "{} {}", kBad, {"no JSON"}},
      {"Deep", deep, kBad, {"deeper than 32"}},
      {"BadUtf8", "{\"\xff\": 1}", kBad, {"no JSON", "\\xff"}},
      {"TwiceTheSameKey", R"({"t":1,"t":2})", kBad, {"\"t\" stands twice"}},
      {"TensorIsANumber", R"({"t":1})", kBad, {"tensor t", "found 1"}},
      {"NoType", R"({"t":{"shape":[4],"data_offsets":[0,16]}})", kBad, {"dtype is missing"}},
      {"TypeIsANumber", Header("7", "[4]", "[0,16]"), kBad, {"dtype is 7"}},
      {"UnknownType", Header("\"Q9\"", "[4]", "[0,16]"), StatusCode::kUnsupported, {"Q9"}},
      {"NoShape", R"({"t":{"dtype":"F32","data_offsets":[0,16]}})", kBad, {"shape is missing"}},
      {"NegativeShape", Header(kF32, "[-4]", "[0,16]"), kBad, {"[-4]"}},
      {"FractionalShape", Header(kF32, "[4.5]", "[0,16]"), kBad, {"[4.5]"}},
      {"HugeShape", Header(kF32, "[281474976710657]", "[0,16]"), kBad, {"2^48"}},
      {"OverflowingShape",
       Header(kF32, "[281474976710656,281474976710656]", "[0,16]"),
       kBad,
       {"more than 2^63"}},
      {"NineDimensions", Header(kF32, "[1,1,1,1,1,1,1,1,4]", "[0,16]"), kBad, {"9 dimensions"}},
      {"WrongShape", Header(kF32, "[5]", "[0,16]"), kBad, {"takes 20 bytes", "16 are given"}},
      {"OneOffset", Header(kF32, "[4]", "[0]"), kBad, {"data_offsets is [0]"}},
      {"NegativeOffset", Header(kF32, "[4]", "[-1,15]"), kBad, {"[-1, 15]", "16 bytes of data"}},
      {"BackwardOffsets", Header(kF32, "[4]", "[16,0]"), kBad, {"[16, 0]"}},
      {"PastTheEnd", Header(kF32, "[4]", "[1,17]"), kBad, {"[1, 17]"}},
      {"HugeOffsets",
       Header(kF32, "[4]", "[18446744073709551600,18446744073709551615]"),
       kBad,
       {"within the 16 bytes"}},
      {"GapInFront", Header("\"U8\"", "[15]", "[1,16]"), kBad, {"begins at byte 1", "expected 0"}},
      {"GapAtTheEnd", Header("\"U8\"", "[15]", "[0,15]"), kBad, {"end after 15", "16 bytes"}},
      {"Overlap",
       R"({"a":{"dtype":"U8","shape":[9],"data_offsets":[0,9]},)"
       R"("b":{"dtype":"U8","shape":[8],"data_offsets":[8,16]}})",
       kBad,
       {"tensor b begins at byte 8", "expected 9"}},
      {"Nothing", "{}", kBad, {"end after 0"}},
  };
}

INSTANTIATE_TEST_SUITE_P(Headers, HeaderTest, testing::ValuesIn(HeaderCases()),
                         [](const auto& tested) { return std::string(tested.param.name); });

TEST(SafetensorsFileTest, AnUnalignedFileIsRead) {
  SafetensorsWriter writer;
  writer.Add("t", "F32", {1}, std::vector<std::byte>(4));
  std::string header = writer.Header();
  header.resize(header.find_last_of('}') + 1);
  while (header.size() % 4 != 1) header += ' ';
  const Result<SafetensorsFile> file = OpenBytes(writer.BuildWith(header));
  ASSERT_TRUE(file.ok()) << file.status().message();
  EXPECT_EQ(file->Find("t")->data.size(), 4u);
}

// Every mutant either opens with all tensors inside the file, or is refused in one line.
TEST(SafetensorsMutationTest, NoHeaderDoesHarm) {
  const SafetensorsWriter writer = TwoTensors();
  JsonMutator mutator(writer.Header(), 20240607);
  int opened = 0;
  constexpr int kMutants = 1500;
  for (int i = 0; i < kMutants; ++i) {
    const std::string header = mutator.Next();
    const Result<SafetensorsFile> file = OpenBytes(writer.BuildWith(header));
    if (!file.ok()) {
      EXPECT_TRUE(IsOneClearLine(file.status().message())) << file.status().message();
      continue;
    }
    ++opened;
    int sum = 0;
    for (const SafetensorsTensor& tensor : file->tensors()) {
      for (const std::byte byte : tensor.data) sum += static_cast<int>(byte);
    }
    EXPECT_LE(sum, 33 * 255) << header;
  }
  std::printf("%d mutants: %d opened\n", kMutants, opened);
  EXPECT_GT(opened, 0);
  EXPECT_LT(opened, kMutants);
}

TEST(SafetensorsMutationTest, NoSizeAndNoTruncationDoesHarm) {
  const std::vector<std::byte> bytes = TwoTensors().Build();
  for (size_t size = 0; size < bytes.size(); ++size) {
    const Result<SafetensorsFile> file =
        OpenBytes(std::vector<std::byte>(bytes.begin(), bytes.begin() + static_cast<int>(size)));
    ASSERT_FALSE(file.ok()) << size;
    EXPECT_TRUE(IsOneClearLine(file.status().message())) << file.status().message();
  }
  for (int bit = 0; bit < 64; ++bit) {
    std::vector<std::byte> mutant = bytes;
    mutant[static_cast<size_t>(bit / 8)] ^= std::byte{1} << (bit % 8);
    const Result<SafetensorsFile> file = OpenBytes(mutant);
    ASSERT_FALSE(file.ok()) << bit;
    EXPECT_TRUE(IsOneClearLine(file.status().message())) << file.status().message();
  }
}

}  // namespace
}  // namespace tidal
