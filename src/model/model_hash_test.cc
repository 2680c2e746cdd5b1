#include "model/model_hash.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <unistd.h>
#include <vector>

#include "base/sha256.h"
#include "model/test_model.h"

namespace tidal {
namespace {

std::string TempPath() {
  return fmt::format("{}tidal_model_hash_test_{}.gguf", testing::TempDir(), getpid());
}

// The file's bytes and its hash.
struct Hashed {
  std::string bytes;
  std::string hash;
};

Hashed HashOf(const GgufWriter& writer) {
  const std::string path = TempPath();
  EXPECT_TRUE(writer.WriteFile(path).ok());
  Hashed hashed;
  std::ifstream stream(path, std::ios::binary);
  hashed.bytes.assign(std::istreambuf_iterator<char>(stream), {});
  const Result<GgufFile> file = GgufFile::Open(path);
  EXPECT_TRUE(file.ok()) << file.status().message();
  hashed.hash = ModelHash(*file);
  std::filesystem::remove(path);
  return hashed;
}

std::vector<std::byte> Filled(size_t count, int first) {
  std::vector<std::byte> bytes(count);
  for (size_t i = 0; i < count; ++i)
    bytes[i] = static_cast<std::byte>((first + static_cast<int>(i)) % 251);
  return bytes;
}

std::string Text(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string Sha256Of(const std::string& text) {
  Sha256 hash;
  hash.Update(std::as_bytes(std::span(text.data(), text.size())));
  return hash.FinishHex();
}

// With no metadata, the format is short enough to write by hand: magic, version, two counts, and
// per tensor name, dimensions, type and offset.
class HandWritten {
 public:
  template <typename T>
  void Put(T value) {
    char bytes[sizeof(T)];
    std::memcpy(bytes, &value, sizeof(T));
    text.append(bytes, sizeof(T));
  }
  void PutTensor(const std::string& name, uint64_t elements, uint32_t type, uint64_t offset) {
    Put(uint64_t{name.size()});
    text += name;
    Put(uint32_t{1});
    Put(elements);
    Put(type);
    Put(offset);
  }
  std::string text = "GGUF";
};

TEST(ModelHashTest, HashesTheHeadAndTheStartOfEachTensor) {
  constexpr uint32_t kI8 = 24;  // a type that no weight has
  constexpr uint32_t kF32 = 0;
  const std::vector<std::byte> small = Filled(7 * 4, 1);  // 28 bytes, then padding to 32
  const std::vector<std::byte> large = Filled(2000 * 4, 5);
  const std::vector<std::byte> other = Filled(10, 9);
  GgufWriter writer;
  writer.AddTensor("small", kF32, {7}, small);
  writer.AddTensor("large", kF32, {2000}, large);
  writer.AddTensor("other", kI8, {10}, other);
  const Hashed hashed = HashOf(writer);

  HandWritten head;
  head.Put(uint32_t{3});
  head.Put(uint64_t{3});
  head.Put(uint64_t{0});
  head.PutTensor("small", 7, kF32, 0);
  head.PutTensor("large", 2000, kF32, 32);
  head.PutTensor("other", 10, kI8, 32 + 8000);
  ASSERT_EQ(hashed.bytes.substr(0, head.text.size()), head.text);
  const std::string rest = hashed.bytes.substr(hashed.bytes.rfind(Text(other)));
  EXPECT_EQ(hashed.hash, Sha256Of(head.text + Text(small) + Text(large).substr(0, 4096) + rest));
}

// The same with another program: the digest is Python's hashlib's.
TEST(ModelHashTest, ASmallFileHasAKnownHash) {
  GgufWriter writer;
  writer.AddTensor("t", 0, {2}, Filled(8, 1));
  const Hashed hashed = HashOf(writer);
  EXPECT_EQ(hashed.hash, "aff6aa699f08ea3b8052737eb3422c0c5daa49a2b67e7316abf988cb5f699b00");
}

TEST(ModelHashTest, ChangesWithMetadataAndTheStartOfTensorsOnly) {
  TestModelSpec spec;
  GgufWriter writer = BuildRandomModel(spec);
  const std::string hash = HashOf(writer).hash;
  EXPECT_EQ(hash, HashOf(BuildRandomModel(spec)).hash);
  writer.Add("more", uint8_t{1});
  EXPECT_NE(hash, HashOf(writer).hash);
  spec.seed = 2;
  EXPECT_NE(hash, HashOf(BuildRandomModel(spec)).hash);

  const auto with_tensor = [](size_t changed) {
    std::vector<std::byte> data = Filled(10000, 0);
    data[changed] ^= std::byte{1};
    GgufWriter one;
    one.AddTensor("a", 0, {2500}, data);
    return HashOf(one).hash;
  };
  EXPECT_EQ(with_tensor(4096), with_tensor(9999));
  EXPECT_NE(with_tensor(4095), with_tensor(9999));
}

TEST(ModelHashTest, AModelHasItsFilesHash) {
  const std::string path = TempPath();
  ASSERT_TRUE(WriteRandomModel(path, {}).ok());
  const Result<Model> model = Model::Load(path);
  ASSERT_TRUE(model.ok()) << model.status().message();
  const Result<std::string> hash = ModelHash(*model);
  ASSERT_TRUE(hash.ok());
  EXPECT_EQ(*hash, ModelHash(*model->gguf()));
  EXPECT_EQ(hash->size(), 64u);
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace tidal
