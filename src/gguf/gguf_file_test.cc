#include "gguf/gguf_file.h"

#include <cstring>
#include <filesystem>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <limits>
#include <string>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

#include "gguf/gguf_split.h"
#include "gguf/gguf_writer.h"

namespace tidal {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string TempPath(const std::string& name) {
  return fmt::format("{}tidal_gguf_test_{}_{}", testing::TempDir(), getpid(), name);
}

std::vector<std::byte> Bytes(size_t count, int value = 0) {
  return std::vector<std::byte>(count, static_cast<std::byte>(value));
}

// Every type once, and two tensors.
GgufWriter SmallFile() {
  GgufWriter writer;
  writer.Add("u8", uint8_t{200});
  writer.Add("i8", int8_t{-100});
  writer.Add("u16", uint16_t{60000});
  writer.Add("i16", int16_t{-30000});
  writer.Add("u32", uint32_t{4000000000});
  writer.Add("i32", int32_t{-2000000000});
  writer.Add("f32", 0.5F);
  writer.Add("yes", true);
  writer.Add("no", false);
  writer.AddString("text", "gr\u00fc\u00df\ndich");
  writer.Add("u64", std::numeric_limits<uint64_t>::max());
  writer.Add("i64", std::numeric_limits<int64_t>::min());
  writer.Add("f64", 1e300);
  writer.AddStringArray("words", {"one", "", "three"});
  writer.AddArray("numbers", std::vector<int32_t>{-1, 0, 70000});
  writer.AddArray("floats", std::vector<float>{0.25F, -1});
  writer.AddArray("doubles", std::vector<double>{0.5});
  writer.AddArray("empty", std::vector<uint8_t>{});
  writer.AddTensor("a", 0, {2, 3}, Bytes(24, 1));
  writer.AddTensor("b", 8, {32}, Bytes(34, 2));
  return writer;
}

Result<GgufFile> OpenBytes(std::span<const std::byte> bytes) {
  const std::string path = TempPath("bytes.gguf");
  const Status written = WriteWholeFile(path, bytes);
  EXPECT_TRUE(written.ok()) << written.message();
  Result<GgufFile> file = GgufFile::Open(path);
  std::filesystem::remove(path);
  return file;
}

void ExpectError(const Result<GgufFile>& file, StatusCode code,
                 const std::vector<std::string>& parts) {
  ASSERT_FALSE(file.ok());
  const std::string& message = file.status().message();
  EXPECT_EQ(file.status().code(), code) << message;
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  for (const std::string& part : parts) EXPECT_THAT(message, HasSubstr(part));
}

// The file with `value` in place of the named field's bytes.
template <typename T>
Result<GgufFile> OpenPatched(const GgufWriter& writer, const std::string& field, T value) {
  GgufImage image = writer.Build();
  for (const GgufField& candidate : image.fields) {
    if (candidate.name != field) continue;
    EXPECT_EQ(candidate.bytes, sizeof(T)) << field;
    std::memcpy(image.bytes.data() + candidate.offset, &value, sizeof(T));
    return OpenBytes(image.bytes);
  }
  ADD_FAILURE() << "no field " << field;
  return OpenBytes(image.bytes);
}

// ---- what is in a file

TEST(GgufFileTest, ReadsEveryType) {
  const Result<GgufFile> file = OpenBytes(SmallFile().Build().bytes);
  ASSERT_TRUE(file.ok()) << file.status().message();
  EXPECT_EQ(file->version(), 3u);
  EXPECT_EQ(file->num_files(), 1);
  EXPECT_EQ(file->file_bytes(), SmallFile().Build().bytes.size());
  EXPECT_EQ(*file->GetUint("u8"), 200u);
  EXPECT_EQ(*file->GetUint("u16"), 60000u);
  EXPECT_EQ(*file->GetUint("u32"), 4000000000u);
  EXPECT_EQ(*file->GetUint("u64"), std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(*file->GetFloat("f32"), 0.5);
  EXPECT_EQ(*file->GetFloat("f64"), 1e300);
  EXPECT_EQ(*file->GetFloat("i8"), -100);
  EXPECT_EQ(*file->GetFloat("i64"), -0x1p63);
  EXPECT_EQ(*file->GetFloat("u64"), 0x1p64);
  EXPECT_TRUE(*file->GetBool("yes"));
  EXPECT_FALSE(*file->GetBool("no"));
  EXPECT_EQ(*file->GetString("text"), "gr\u00fc\u00df\ndich");
  EXPECT_THAT(*file->GetStringArray("words"), ElementsAre("one", "", "three"));
  EXPECT_THAT(*file->GetIntArray("numbers"), ElementsAre(-1, 0, 70000));
  EXPECT_THAT(*file->GetFloatArray("floats"), ElementsAre(0.25F, -1));
  EXPECT_THAT(*file->GetFloatArray("doubles"), ElementsAre(0.5F));
  EXPECT_THAT(*file->GetIntArray("empty"), ElementsAre());
  EXPECT_TRUE(file->Has("words"));
  EXPECT_FALSE(file->Has("word"));
}

TEST(GgufFileTest, ReadsTensors) {
  const Result<GgufFile> file = OpenBytes(SmallFile().Build().bytes);
  ASSERT_TRUE(file.ok()) << file.status().message();
  ASSERT_EQ(file->tensors().size(), 2u);
  const GgufTensor* a = file->FindTensor("a");
  const GgufTensor* b = file->FindTensor("b");
  ASSERT_NE(a, nullptr);
  ASSERT_NE(b, nullptr);
  EXPECT_EQ(file->FindTensor("c"), nullptr);
  EXPECT_EQ(a->num_dims, 2);
  EXPECT_THAT(a->dims, ElementsAre(2, 3, 1, 1));
  EXPECT_EQ(a->ggml_type, 0u);
  EXPECT_EQ(b->ggml_type, 8u);
  EXPECT_EQ(a->data[23], std::byte{1});
  EXPECT_EQ(b->data[0], std::byte{2});
  EXPECT_EQ(b->data - a->data, 32);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(a->data) % 32, 0u);
  EXPECT_EQ(b->available_bytes, 34u);
  EXPECT_EQ(a->available_bytes, 32u + 34u);
}

TEST(GgufFileTest, WrongTypesAndMissingKeysAreNamed) {
  const Result<GgufFile> file = OpenBytes(SmallFile().Build().bytes);
  ASSERT_TRUE(file.ok());
  const auto expect = [](const Status& status, StatusCode code, const char* key,
                         const char* found) {
    EXPECT_EQ(status.code(), code) << status.message();
    EXPECT_THAT(status.message(), HasSubstr("bytes.gguf"));
    EXPECT_THAT(status.message(), HasSubstr(key));
    EXPECT_THAT(status.message(), HasSubstr(found));
  };
  expect(file->GetUint("none").status(), StatusCode::kNotFound, "none", "missing");
  expect(file->GetString("no\nne").status(), StatusCode::kNotFound, "no\\nne", "missing");
  expect(file->GetUint("i8").status(), StatusCode::kCorrupt, "i8", "is -100");
  expect(file->GetUint("text").status(), StatusCode::kCorrupt, "text",
         "the type string, expected an integer");
  expect(file->GetUint("f32").status(), StatusCode::kCorrupt, "f32", "float32");
  expect(file->GetUint("yes").status(), StatusCode::kCorrupt, "yes", "bool");
  expect(file->GetUint("numbers").status(), StatusCode::kCorrupt, "numbers", "array of int32");
  expect(file->GetFloat("yes").status(), StatusCode::kCorrupt, "yes", "bool, expected a number");
  expect(file->GetBool("u8").status(), StatusCode::kCorrupt, "u8", "uint8, expected bool");
  expect(file->GetString("words").status(), StatusCode::kCorrupt, "words",
         "array of string, expected string");
  expect(file->GetStringArray("text").status(), StatusCode::kCorrupt, "text",
         "expected array of string");
  expect(file->GetStringArray("numbers").status(), StatusCode::kCorrupt, "numbers",
         "array of int32");
  expect(file->GetIntArray("words").status(), StatusCode::kCorrupt, "words", "array of string");
  expect(file->GetIntArray("floats").status(), StatusCode::kCorrupt, "floats", "array of float32");
  expect(file->GetFloatArray("numbers").status(), StatusCode::kCorrupt, "numbers",
         "array of int32");
}

TEST(GgufFileTest, AnIntegerThatDoesNotFitIsRefused) {
  GgufWriter writer;
  writer.AddArray("big", std::vector<uint64_t>{1, uint64_t{1} << 63});
  const Result<GgufFile> file = OpenBytes(writer.Build().bytes);
  ASSERT_TRUE(file.ok());
  const Status status = file->GetIntArray("big").status();
  EXPECT_EQ(status.code(), StatusCode::kCorrupt);
  EXPECT_THAT(status.message(), HasSubstr("element 1 of metadata key big is 9223372036854775808"));
}

TEST(GgufFileTest, EntriesAreListedInOrderAndPrintable) {
  GgufWriter writer;
  writer.AddString("b", "line\nline\x01");
  writer.AddArray("a", std::vector<int32_t>{1, 2, 3, 4, 5, 6, 7, 8, 9});
  writer.AddStringArray("words", {"x", "y"});
  writer.Add("f", 1e-5F);
  writer.Add("n", int16_t{-7});
  const Result<GgufFile> file = OpenBytes(writer.Build().bytes);
  ASSERT_TRUE(file.ok());
  const std::vector<GgufEntry> entries = file->Entries();
  ASSERT_EQ(entries.size(), 5u);
  EXPECT_EQ(entries[0].key, "b");
  EXPECT_EQ(entries[0].text, "line\\nline\\x01");
  EXPECT_EQ(entries[1].text, "[1, 2, 3, 4, 5, 6, 7, 8, ...]");
  EXPECT_EQ(entries[1].type, GgufType::kArray);
  EXPECT_EQ(entries[1].element_type, GgufType::kInt32);
  EXPECT_EQ(entries[1].count, 9u);
  EXPECT_EQ(entries[2].text, "[x, y]");
  EXPECT_EQ(entries[3].text, "1e-05");
  EXPECT_EQ(entries[4].text, "-7");
}

TEST(GgufFileTest, VersionTwoIsTheSame) {
  const Result<GgufFile> file = OpenPatched(SmallFile(), "version", uint32_t{2});
  ASSERT_TRUE(file.ok()) << file.status().message();
  EXPECT_EQ(file->version(), 2u);
  EXPECT_NE(file->FindTensor("b"), nullptr);
}

TEST(GgufFileTest, AnotherAlignment) {
  for (const uint32_t alignment : {8u, 64u, 4096u, 1u << 20}) {
    GgufWriter writer(alignment);
    writer.Add("general.alignment", alignment);
    writer.AddTensor("a", 0, {1}, Bytes(4, 5));
    writer.AddTensor("b", 0, {1}, Bytes(4, 6));
    const Result<GgufFile> file = OpenBytes(writer.Build().bytes);
    ASSERT_TRUE(file.ok()) << file.status().message();
    EXPECT_EQ(file->FindTensor("b")->data - file->FindTensor("a")->data, alignment);
    EXPECT_EQ(file->FindTensor("b")->data[0], std::byte{6});
  }
}

TEST(GgufFileTest, MetadataAloneIsAFile) {
  GgufWriter writer;
  writer.AddString("k", "v");
  const Result<GgufFile> file = OpenBytes(writer.Build().bytes);
  ASSERT_TRUE(file.ok()) << file.status().message();
  EXPECT_TRUE(file->tensors().empty());
}

TEST(GgufFileTest, TheHeadEndsWithTheTensorDirectory) {
  GgufWriter writer;
  writer.AddTensor("ab", 24, {10}, Bytes(10));
  const Result<GgufFile> file = OpenBytes(writer.Build().bytes);
  ASSERT_EQ(file->Heads().size(), 1u);
  // Magic, version and two counts; then the length of a name and the name, the number of
  // dimensions, one dimension, type and offset.
  EXPECT_EQ(file->Heads()[0].size(), 4u + 4 + 2 * 8 + 8 + 2 + 4 + 8 + 4 + 8);
  EXPECT_EQ(std::memcmp(file->Heads()[0].data(), "GGUF", 4), 0);
}

// ---- what is not a file

TEST(GgufFileTest, PathsThatAreNoFiles) {
  ExpectError(GgufFile::Open("/no/such/file.gguf"), StatusCode::kNotFound,
              {"/no/such/file.gguf: no such file"});
  ExpectError(GgufFile::Open(""), StatusCode::kNotFound, {"no such file"});
  ExpectError(GgufFile::Open("/tmp"), StatusCode::kIo,
              {"/tmp: expected a regular file, found a directory"});
  ExpectError(GgufFile::Open("/dev/null"), StatusCode::kIo, {"a device"});
  ExpectError(GgufFile::Open("/dev/null/x"), StatusCode::kNotFound, {"no such file"});
  ExpectError(GgufFile::Open("bad\nname"), StatusCode::kNotFound, {"bad\\nname"});
  const std::string pipe = TempPath("pipe");
  std::filesystem::remove(pipe);
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  ExpectError(GgufFile::Open(pipe), StatusCode::kIo, {pipe, "a pipe"});
  std::filesystem::remove(pipe);
}

TEST(GgufFileTest, FilesThatAreNotGguf) {
  ExpectError(OpenBytes({}), StatusCode::kCorrupt, {"bytes.gguf: the file is empty"});
  ExpectError(OpenBytes(Bytes(100)), StatusCode::kCorrupt,
              {"\\x00\\x00\\x00\\x00", "not a GGUF file", "name the folder"});
  const std::string text = "PK\x03\x04 and so on, a zip file";
  ExpectError(OpenBytes(std::as_bytes(std::span(text))), StatusCode::kCorrupt,
              {"PK\\x03\\x04", "expected \"GGUF\""});
  ExpectError(OpenBytes(std::as_bytes(std::span(text)).first(2)), StatusCode::kCorrupt, {"PK"});
}

TEST(GgufFileTest, VersionsThatAreNotSupported) {
  ExpectError(OpenPatched(SmallFile(), "version", uint32_t{1}), StatusCode::kUnsupported,
              {"version 1", "2 to 3"});
  ExpectError(OpenPatched(SmallFile(), "version", uint32_t{4}), StatusCode::kUnsupported,
              {"version 4", "2 to 3"});
  ExpectError(OpenPatched(SmallFile(), "version", uint32_t{0}), StatusCode::kUnsupported,
              {"version 0"});
  ExpectError(OpenPatched(SmallFile(), "version", uint32_t{3} << 24), StatusCode::kUnsupported,
              {"big-endian"});
}

TEST(GgufFileTest, EveryTruncationIsAnError) {
  const GgufImage image = SmallFile().Build();
  // Only data of the last tensor may be missing here: how long that has to be depends on its type,
  // which this layer does not know.
  const size_t last_data = image.fields.back().offset;
  for (size_t length = 0; length <= last_data; ++length) {
    ExpectError(OpenBytes(std::span(image.bytes).first(length)), StatusCode::kCorrupt,
                {"bytes.gguf: "});
  }
  EXPECT_TRUE(OpenBytes(std::span(image.bytes).first(last_data + 1)).ok());
}

// ---- fields out of bounds

TEST(GgufFileTest, HugeCountsAreRefusedBeforeAnythingIsAllocated) {
  for (const uint64_t count : {uint64_t{1} << 60, std::numeric_limits<uint64_t>::max(),
                               uint64_t{1} << 20, uint64_t{1000}}) {
    const std::string number = fmt::format("{}", count);
    ExpectError(OpenPatched(SmallFile(), "tensor_count", count), StatusCode::kCorrupt,
                {"tensor count is " + number});
    ExpectError(OpenPatched(SmallFile(), "entry_count", count), StatusCode::kCorrupt,
                {"metadata count is " + number});
    ExpectError(OpenPatched(SmallFile(), "words/count", count), StatusCode::kCorrupt,
                {"key words", number});
    ExpectError(OpenPatched(SmallFile(), "numbers/count", count), StatusCode::kCorrupt,
                {"key numbers", number});
    ExpectError(OpenPatched(SmallFile(), "text/length", count), StatusCode::kCorrupt,
                {"key text", number});
    ExpectError(OpenPatched(SmallFile(), "text/key_length", count), StatusCode::kCorrupt,
                {"metadata entry 9", number});
    ExpectError(OpenPatched(SmallFile(), "b/name_length", count), StatusCode::kCorrupt,
                {"name of tensor 1", number});
  }
}

TEST(GgufFileTest, AnArrayThatIsOneLongerRunsIntoTheNextEntry) {
  EXPECT_FALSE(OpenPatched(SmallFile(), "words/count", uint64_t{4}).ok());
  EXPECT_FALSE(OpenPatched(SmallFile(), "numbers/count", uint64_t{4}).ok());
}

TEST(GgufFileTest, TypesThatDoNotExist) {
  ExpectError(OpenPatched(SmallFile(), "u8/type", uint32_t{13}), StatusCode::kCorrupt,
              {"key u8 is 13", "0 to 12"});
  ExpectError(OpenPatched(SmallFile(), "words/element_type", uint32_t{99}), StatusCode::kCorrupt,
              {"element type of metadata key words is 99"});
  ExpectError(OpenPatched(SmallFile(), "words/element_type", uint32_t{9}), StatusCode::kUnsupported,
              {"key words", "array of arrays"});
}

TEST(GgufFileTest, BoolsAreZeroOrOne) {
  ExpectError(OpenPatched(SmallFile(), "yes/value", uint8_t{2}), StatusCode::kCorrupt,
              {"key yes", "bool 2"});
  GgufWriter writer;
  writer.AddArray("flags", std::vector<uint8_t>{0, 1, 255});
  ExpectError(OpenPatched(writer, "flags/element_type", static_cast<uint32_t>(GgufType::kBool)),
              StatusCode::kCorrupt, {"key flags", "bool 255"});
}

TEST(GgufFileTest, Names) {
  GgufWriter no_key;
  no_key.Add("", uint64_t{1});
  ExpectError(OpenBytes(no_key.Build().bytes), StatusCode::kCorrupt,
              {"metadata entry 0", "0 bytes"});
  GgufWriter long_key;
  long_key.Add(std::string(65536, 'k'), uint8_t{1});
  ExpectError(OpenBytes(long_key.Build().bytes), StatusCode::kCorrupt,
              {"metadata entry 0", "65536 bytes"});
  GgufWriter strange_key;
  strange_key.AddString("a\nb", "x");
  strange_key.AddString("a\nb", "y");
  ExpectError(OpenBytes(strange_key.Build().bytes), StatusCode::kCorrupt,
              {"key a\\nb occurs twice"});
  GgufWriter no_name;
  no_name.AddTensor("", 0, {1}, Bytes(4));
  ExpectError(OpenBytes(no_name.Build().bytes), StatusCode::kCorrupt, {"tensor 0", "0 bytes"});
  GgufWriter twice = SmallFile();
  twice.AddTensor("a", 0, {1}, Bytes(4));
  ExpectError(OpenBytes(twice.Build().bytes), StatusCode::kCorrupt, {"tensor a occurs twice"});
}

TEST(GgufFileTest, Alignments) {
  for (const uint32_t alignment : {0u, 1u, 2u, 4u, 3u, 24u, 33u, 0xffffffffu}) {
    GgufWriter writer;
    writer.Add("general.alignment", alignment);
    ExpectError(OpenBytes(writer.Build().bytes), StatusCode::kCorrupt,
                {fmt::format("general.alignment is {}", alignment), "power of two"});
  }
  GgufWriter text;
  text.AddString("general.alignment", "32");
  ExpectError(OpenBytes(text.Build().bytes), StatusCode::kCorrupt,
              {"general.alignment", "string", "uint32"});
  GgufWriter huge;
  huge.Add("general.alignment", uint32_t{1} << 31);
  huge.AddTensor("a", 0, {1}, Bytes(4));
  ExpectError(OpenBytes(huge.Build().bytes), StatusCode::kCorrupt, {"tensor a", "past the end"});
}

TEST(GgufFileTest, Dimensions) {
  for (const uint32_t count : {0u, 5u, 0xffffffffu}) {
    ExpectError(OpenPatched(SmallFile(), "a/num_dims", count), StatusCode::kCorrupt,
                {fmt::format("tensor a has {} dimensions", count), "1 to 4"});
  }
  ExpectError(OpenPatched(SmallFile(), "a/dims[0]", uint64_t{0}), StatusCode::kCorrupt,
              {"dimension 0 of tensor a is 0"});
  ExpectError(OpenPatched(SmallFile(), "a/dims[1]", int64_t{-1}), StatusCode::kCorrupt,
              {"dimension 1 of tensor a is 18446744073709551615"});
  ExpectError(OpenPatched(SmallFile(), "a/dims[1]", uint64_t{1} << 62), StatusCode::kCorrupt,
              {"tensor a", "elements"});
}

TEST(GgufFileTest, Offsets) {
  ExpectError(OpenPatched(SmallFile(), "b/offset", uint64_t{33}), StatusCode::kCorrupt,
              {"tensor b has the offset 33", "multiple of the alignment 32"});
  ExpectError(OpenPatched(SmallFile(), "b/offset", uint64_t{1} << 40), StatusCode::kCorrupt,
              {"tensor b", "1099511627776", "past the end"});
  ExpectError(OpenPatched(SmallFile(), "b/offset", ~uint64_t{31}), StatusCode::kCorrupt,
              {"tensor b", "past the end"});
}

// ---- split models

TEST(SplitNameTest, ReadsNumbers) {
  const auto name = ParseSplitName("/a/model-00002-of-00013.gguf");
  ASSERT_TRUE(name.has_value());
  EXPECT_EQ(name->prefix, "/a/model");
  EXPECT_EQ(name->number, 2u);
  EXPECT_EQ(name->count, 13u);
  EXPECT_EQ(name->PathOf(1), "/a/model-00001-of-00013.gguf");
  for (const char* other :
       {"", "model.gguf", "model-0002-of-00013.gguf", "model-00002-of-0001x.gguf",
        "model-00002-in-00013.gguf", "model-00002-of-00013.GGUF", "model-00002-of-00013.gguf.1"}) {
    EXPECT_FALSE(ParseSplitName(other).has_value()) << other;
  }
}

// A folder with a model split into three.
class SplitTest : public testing::Test {
 protected:
  SplitTest() : folder_(TempPath("split")) {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directory(folder_);
  }
  ~SplitTest() override { std::filesystem::remove_all(folder_); }

  std::string Path(int number) const {
    return fmt::format("{}/m-0000{}-of-00003.gguf", folder_, number);
  }

  GgufWriter Part(int number, uint16_t count = 3, int32_t tensors = 3) const {
    GgufWriter writer;
    if (number == 1) writer.AddString("general.name", "whole");
    writer.Add("split.no", static_cast<uint16_t>(number - 1));
    writer.Add("split.count", count);
    writer.Add("split.tensors.count", tensors);
    writer.AddTensor(fmt::format("t{}", number), 0, {1}, Bytes(4, number));
    return writer;
  }
  void Write(int number, const GgufWriter& writer) const {
    ASSERT_TRUE(writer.WriteFile(Path(number)).ok());
  }
  void WriteAll() const {
    for (int number = 1; number <= 3; ++number) Write(number, Part(number));
  }

  std::string folder_;
};

TEST_F(SplitTest, TheFirstFileOpensAll) {
  WriteAll();
  const Result<GgufFile> file = GgufFile::Open(Path(1));
  ASSERT_TRUE(file.ok()) << file.status().message();
  EXPECT_EQ(file->num_files(), 3);
  EXPECT_EQ(file->tensors().size(), 3u);
  EXPECT_EQ(file->FindTensor("t3")->file_index, 2);
  EXPECT_EQ(file->FindTensor("t3")->data[0], std::byte{3});
  EXPECT_EQ(file->FindTensor("t2")->available_bytes, 4u);
  EXPECT_EQ(*file->GetString("general.name"), "whole");
  EXPECT_EQ(file->file_bytes(), std::filesystem::file_size(Path(1)) +
                                    std::filesystem::file_size(Path(2)) +
                                    std::filesystem::file_size(Path(3)));
  EXPECT_EQ(file->Heads().size(), 3u);
}

TEST_F(SplitTest, AnotherFileNamesTheFirst) {
  WriteAll();
  ExpectError(GgufFile::Open(Path(2)), StatusCode::kInvalidArgument,
              {Path(2), "file 2 of a model split into 3", "open the first one, " + Path(1)});
}

TEST_F(SplitTest, AMissingFileIsNamed) {
  WriteAll();
  std::filesystem::remove(Path(3));
  ExpectError(GgufFile::Open(Path(1)), StatusCode::kNotFound, {Path(3), "no such file"});
}

TEST_F(SplitTest, MixedUpFiles) {
  WriteAll();
  Write(2, Part(3));
  ExpectError(GgufFile::Open(Path(1)), StatusCode::kCorrupt,
              {Path(2), "file 3 of 3, expected file 2 of 3"});
  Write(2, Part(2, 4));
  ExpectError(GgufFile::Open(Path(1)), StatusCode::kCorrupt, {Path(2), "file 2 of 4"});
  GgufWriter no_keys;
  no_keys.AddTensor("t2", 0, {1}, Bytes(4));
  Write(2, no_keys);
  ExpectError(GgufFile::Open(Path(1)), StatusCode::kCorrupt,
              {Path(2), "file 1 of 1, expected file 2 of 3"});
}

TEST_F(SplitTest, CountsThatDisagree) {
  WriteAll();
  Write(1, Part(1, 3, 4));
  ExpectError(GgufFile::Open(Path(1)), StatusCode::kCorrupt,
              {Path(1), "split.tensors.count is 4", "have 3 tensors"});
  GgufWriter no_count = Part(1);
  no_count.RemoveEntry("split.tensors.count");
  Write(1, no_count);
  ExpectError(GgufFile::Open(Path(1)), StatusCode::kCorrupt, {"split.tensors.count is missing"});
  Write(1, Part(1, 2));
  ExpectError(GgufFile::Open(Path(1)), StatusCode::kCorrupt, {Path(1), "-00001-of-00002.gguf"});
  GgufWriter outside = Part(1);
  outside.RemoveEntry("split.no");
  outside.Add("split.no", uint16_t{3});
  Write(1, outside);
  ExpectError(GgufFile::Open(Path(1)), StatusCode::kCorrupt,
              {"split.no is 3", "less than split.count, 3"});
}

TEST_F(SplitTest, ATensorInTwoFiles) {
  WriteAll();
  GgufWriter again = Part(2);
  again.RemoveTensor("t2");
  again.AddTensor("t1", 0, {1}, Bytes(4));
  Write(2, again);
  ExpectError(GgufFile::Open(Path(1)), StatusCode::kCorrupt, {"tensor t1 occurs twice"});
}

TEST_F(SplitTest, ARenamedFirstFile) {
  WriteAll();
  const std::string renamed = folder_ + "/model.gguf";
  std::filesystem::rename(Path(1), renamed);
  ExpectError(GgufFile::Open(renamed), StatusCode::kCorrupt, {renamed, "-00001-of-00003.gguf"});
}

TEST_F(SplitTest, ADamagedSisterIsNamed) {
  WriteAll();
  std::filesystem::resize_file(Path(2), 30);
  ExpectError(GgufFile::Open(Path(1)), StatusCode::kCorrupt, {Path(2), "incomplete"});
}

TEST_F(SplitTest, ACountOfOneIsNoSplit) {
  GgufWriter writer;
  writer.Add("split.no", uint16_t{0});
  writer.Add("split.count", uint16_t{1});
  const std::string path = folder_ + "/model.gguf";
  ASSERT_TRUE(writer.WriteFile(path).ok());
  EXPECT_TRUE(GgufFile::Open(path).ok());
}

// ---- the writer

TEST(GgufWriterTest, FieldsCoverTheFileWithoutGaps) {
  const GgufImage image = SmallFile().Build();
  size_t end = 0;
  for (const GgufField& field : image.fields) {
    EXPECT_EQ(field.offset, end) << field.name;
    end = field.offset + field.bytes;
  }
  EXPECT_EQ(end, image.bytes.size());
}

TEST(GgufWriterTest, AFailureLeavesNothingBehind) {
  const Status status = SmallFile().WriteFile("/no/such/folder/file.gguf");
  EXPECT_EQ(status.code(), StatusCode::kIo);
  EXPECT_THAT(status.message(), HasSubstr("/no/such/folder/file.gguf"));
  // A full disk: the device takes no byte. The temporary file would be /dev/full.partial, so write
  // by a link to it.
  const std::string folder = TempPath("full");
  std::filesystem::remove_all(folder);
  std::filesystem::create_directory(folder);
  std::filesystem::create_symlink("/dev/full", folder + "/file.gguf.partial");
  EXPECT_EQ(SmallFile().WriteFile(folder + "/file.gguf").code(), StatusCode::kIo);
  EXPECT_TRUE(std::filesystem::is_empty(folder));
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace tidal
