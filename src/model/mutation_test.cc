// Damaged and hostile model files. Every mutant must either load as a model whose every weight can
// be read, or give one clear line; it must never crash, hang or take memory that the file cannot
// fill. The sanitizer builds run this too.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <limits>
#include <random>
#include <string>
#include <sys/resource.h>
#include <unistd.h>
#include <vector>

#include "model/model.h"
#include "model/model_hash.h"
#include "model/test_model.h"

// Under the address sanitizer one allocation of this many megabytes ends the test: the largest
// mutant has some 200 KB.
extern "C" const char* __asan_default_options();
extern "C" const char* __asan_default_options() { return "max_allocation_size_mb=64"; }

namespace tidal {
namespace {

constexpr int64_t kMaxRssGrowthBytes =
    256 << 20;  // of all mutants together; the sanitizers' own memory counted in
constexpr auto kMaxTime = std::chrono::seconds(2);  // for one load; real ones take a millisecond

uint64_t Seed() {
  const char* text = std::getenv("TEST_SEED");
  return text != nullptr ? std::strtoull(text, nullptr, 10) : 20240607;
}

// In memory where there is such a folder: a disk takes milliseconds for each of the thousands of
// files.
std::string TempPath(const std::string& name) {
  const std::string memory = "/dev/shm/";
  const std::string folder = access(memory.c_str(), W_OK) == 0 ? memory : testing::TempDir();
  return fmt::format("{}tidal_mutation_test_{}_{}.gguf", folder, getpid(), name);
}

int64_t PeakRssBytes() {
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * 1024;
}

// Reads the first and the last row of every weight, so that a view past the end of the mapping is
// caught.
void ReadEverything(const Model& model) {
  const ModelWeights& weights = model.weights();
  std::vector<const TensorView*> views = {&weights.token_embd, &weights.output_norm,
                                          &weights.output};
  for (const LayerWeights& w : weights.layers) {
    views.insert(views.end(), {&w.attn_norm, &w.attn_q, &w.attn_k, &w.attn_v, &w.attn_q_bias,
                               &w.attn_k_bias, &w.attn_v_bias, &w.attn_output, &w.ffn_norm,
                               &w.ffn_gate, &w.ffn_up, &w.ffn_down});
  }
  for (const TensorView* view : views) {
    if (!view->present()) continue;
    std::vector<float> row(static_cast<size_t>(view->cols));
    for (const int64_t r : {int64_t{0}, view->rows - 1}) {
      DequantizeRow(view->dtype, view->data + r * BytesOf(view->dtype, view->cols), row.data(),
                    view->cols);
    }
  }
  for (const GgufEntry& entry : model.gguf()->Entries())
    EXPECT_EQ(entry.text.find('\n'), std::string::npos);
  EXPECT_EQ(ModelHash(*model.gguf()).size(), 64u);
  EXPECT_GT(model.num_parameters(), 0);
  // Q2_K, of 2.6 bits, is kept as F16.
  EXPECT_LE(model.weight_bytes(), static_cast<int64_t>(model.gguf()->file_bytes()) * 7);
}

class MutationTest : public testing::Test {
 protected:
  MutationTest() : path_(TempPath("mutant")), rss_before_(PeakRssBytes()) {}
  ~MutationTest() override {
    std::filesystem::remove(path_);
    EXPECT_LE(PeakRssBytes() - rss_before_, kMaxRssGrowthBytes);
    std::printf("%d mutants: %d loaded, %d refused\n", loaded_ + refused_, loaded_, refused_);
  }

  // Loads one mutant and checks what every mutant must keep.
  void Check(const std::string& name, const std::vector<std::byte>& bytes) {
    SCOPED_TRACE(name);
    std::ofstream(path_, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
    ASSERT_EQ(std::filesystem::file_size(path_), bytes.size());
    const auto begin = std::chrono::steady_clock::now();
    const Result<Model> model = Model::Load(path_);
    EXPECT_LT(std::chrono::steady_clock::now() - begin, kMaxTime);
    if (model.ok()) {
      ++loaded_;
      ReadEverything(*model);
      return;
    }
    ++refused_;
    const std::string& message = model.status().message();
    EXPECT_NE(message.find(path_), std::string::npos) << message;
    EXPECT_EQ(std::count_if(message.begin(), message.end(),
                            [](char c) { return static_cast<unsigned char>(c) < ' '; }),
              0)
        << message;
    EXPECT_GT(message.size(), path_.size() + 20) << message;
    EXPECT_LT(message.size(), path_.size() + 500) << message;
    EXPECT_NE(message.back(), '.') << message;
  }

  std::string path_;
  int64_t rss_before_;
  int loaded_ = 0;
  int refused_ = 0;
};

GgufWriter BaseModel(const char* architecture, DType dtype = DType::kQ8_0) {
  return BuildRandomModel({.architecture = architecture,
                           .num_layers = 1,
                           .model_dim = 32,
                           .ffn_dim = 32,
                           .num_heads = 2,
                           .num_kv_heads = 1,
                           .head_dim = 16,
                           .dtype = dtype,
                           .rope_freqs = std::vector<float>(8, 1.5F)});
}

// Where tensor data begins.
size_t DirectoryBytes(const GgufImage& image) {
  const auto data =
      std::find_if(image.fields.begin(), image.fields.end(),
                   [](const GgufField& field) { return field.name == "token_embd.weight/data"; });
  return data->offset;
}

TEST_F(MutationTest, TheUnchangedFilesLoad) {
  for (const char* architecture : {"llama", "qwen2"})
    Check(architecture, BaseModel(architecture).Build().bytes);
  EXPECT_EQ(loaded_, 2);
}

TEST_F(MutationTest, TruncatedAtEveryFieldAndInside) {
  const GgufImage image = BaseModel("qwen2").Build();
  for (const GgufField& field : image.fields) {
    for (const size_t length : {field.offset, field.offset + field.bytes / 2}) {
      Check(fmt::format("cut at {} ({})", length, field.name),
            {image.bytes.begin(), image.bytes.begin() + static_cast<ptrdiff_t>(length)});
    }
  }
  EXPECT_EQ(loaded_, 0) << "every field holds something that is needed";
  EXPECT_GE(refused_, 200);
}

TEST_F(MutationTest, EveryNumberReplaced) {
  const GgufImage image = BaseModel("llama").Build();
  for (const GgufField& field : image.fields) {
    if (field.bytes == 0 || field.bytes > 8) continue;
    uint64_t original = 0;
    std::memcpy(&original, image.bytes.data() + field.offset, field.bytes);
    for (const uint64_t value :
         {uint64_t{0}, ~uint64_t{0}, uint64_t{1} << 60, uint64_t{1} << (8 * field.bytes - 1),
          uint64_t{0x7fffffffffffffff}, original + 1, original - 1, original << 1,
          original ^ 0xff00, __builtin_bswap64(original) >> (64 - 8 * field.bytes)}) {
      std::vector<std::byte> bytes = image.bytes;
      std::memcpy(bytes.data() + field.offset, &value, field.bytes);
      Check(fmt::format("{} = {}", field.name, value), bytes);
    }
  }
  EXPECT_GE(loaded_ + refused_, 1000);
}

TEST_F(MutationTest, EveryValueOfAnotherType) {
  const std::string path = TempPath("keys");
  ASSERT_TRUE(BaseModel("llama").WriteFile(path).ok());
  const Result<GgufFile> file = GgufFile::Open(path);
  ASSERT_TRUE(file.ok());
  std::vector<std::string> keys;
  for (const GgufEntry& entry : file->Entries()) keys.emplace_back(entry.key);
  std::filesystem::remove(path);
  for (const char* extra :
       {"llama.expert_count", "llama.attention.sliding_window", "llama.rope.scaling.type",
        "llama.rope.scaling.factor", "llama.rope.scale_linear", "llama.attention.causal",
        "split.count", "split.no", "split.tensors.count", "general.alignment"}) {
    keys.emplace_back(extra);
  }
  const auto with = [&](const std::string& key, const char* what, const auto& add) {
    GgufWriter writer = BaseModel("llama");
    writer.RemoveEntry(key);
    add(&writer);
    Check(fmt::format("{} is {}", key, what), writer.Build().bytes);
  };
  for (const std::string& key : keys) {
    with(key, "missing", [](GgufWriter*) {});
    with(key, "there twice",
         [&](GgufWriter* w) { w->Add(key, uint8_t{1}), w->Add(key, uint8_t{1}); });
    with(key, "a small number", [&](GgufWriter* w) { w->Add(key, uint8_t{3}); });
    with(key, "-1", [&](GgufWriter* w) { w->Add(key, int64_t{-1}); });
    with(key, "2^60", [&](GgufWriter* w) { w->Add(key, uint64_t{1} << 60); });
    with(key, "NaN", [&](GgufWriter* w) { w->Add(key, std::numeric_limits<float>::quiet_NaN()); });
    with(key, "infinite",
         [&](GgufWriter* w) { w->Add(key, std::numeric_limits<double>::infinity()); });
    with(key, "true", [&](GgufWriter* w) { w->Add(key, true); });
    with(key, "empty text", [&](GgufWriter* w) { w->AddString(key, ""); });
    with(key, "strange text",
         [&](GgufWriter* w) { w->AddString(key, std::string("\xff\n\0\x1b[2J", 7)); });
    with(key, "long text", [&](GgufWriter* w) { w->AddString(key, std::string(100000, 'x')); });
    with(key, "an empty array", [&](GgufWriter* w) { w->AddArray(key, std::vector<uint32_t>{}); });
    with(key, "numbers", [&](GgufWriter* w) { w->AddArray(key, std::vector<int64_t>{2, -3}); });
    with(key, "texts", [&](GgufWriter* w) { w->AddStringArray(key, {"", "\n"}); });
  }
}

TEST_F(MutationTest, EveryTensorChanged) {
  struct Change {
    const char* what;
    uint32_t type;
    std::vector<int64_t> dims;
    size_t bytes;
  };
  const std::vector<Change> changes = {
      {"a huge vector", 0, {int64_t{1} << 60}, 64},
      {"a huge matrix", 0, {int64_t{1} << 31, int64_t{1} << 31}, 64},
      {"an absurd height", 8, {32, int64_t{1} << 57}, 64},
      {"of four dimensions", 0, {2, 2, 2, 4}, 128},
      {"without data", 8, {32, 32}, 0},
      {"with a byte too few", 8, {32, 32}, 32 * 34 - 1},
      {"of a foreign type", 19, {32, 32}, 4096},
      {"of no type", 4000000000U, {32, 32}, 4096},
      {"of K blocks that do not fit", 12, {32, 32}, 4096},
      {"of whole numbers", 26, {32}, 128},
      {"of f16", 1, {32}, 64},
      {"of NaN", 0, {32}, 128},
  };
  const GgufImage image = BaseModel("qwen2").Build();
  for (const GgufField& field : image.fields) {
    if (!field.name.ends_with("/data")) continue;
    const std::string name = field.name.substr(0, field.name.size() - std::strlen("/data"));
    for (const Change& change : changes) {
      GgufWriter writer = BaseModel("qwen2");
      writer.RemoveTensor(name);
      writer.AddTensor(name, change.type, change.dims,
                       std::vector<std::byte>(change.bytes, std::byte{0xff}));
      Check(fmt::format("{} is {}", name, change.what), writer.Build().bytes);
    }
    GgufWriter twice = BaseModel("qwen2");
    twice.AddTensor(name, 0, {32}, std::vector<std::byte>(128));
    Check(name + " is there twice", twice.Build().bytes);
  }
}

TEST_F(MutationTest, FlippedBits) {
  const uint64_t seed = Seed();
  std::printf("TEST_SEED=%llu\n", static_cast<unsigned long long>(seed));
  std::mt19937_64 random(seed);
  const GgufImage image = BaseModel("llama").Build();
  const size_t directory_bytes = DirectoryBytes(image);
  for (int i = 0; i < 1000; ++i) {
    std::vector<std::byte> bytes = image.bytes;
    const uint64_t flips = 1 + random() % 4;
    for (uint64_t flip = 0; flip < flips; ++flip) {
      bytes[random() % directory_bytes] ^= static_cast<std::byte>(1U << (random() % 8));
    }
    Check(fmt::format("flips {}", i), bytes);
  }
}

TEST_F(MutationTest, BytesTakenOutPutInAndMoved) {
  std::mt19937_64 random(Seed());
  const GgufImage image = BaseModel("llama").Build();
  const size_t directory_bytes = DirectoryBytes(image);
  for (int i = 0; i < 500; ++i) {
    std::vector<std::byte> bytes = image.bytes;
    const auto at = bytes.begin() + static_cast<ptrdiff_t>(random() % directory_bytes);
    const auto length = static_cast<ptrdiff_t>(1 + random() % 64);
    switch (i % 4) {
      case 0:
        bytes.erase(at, at + std::min(length, bytes.end() - at));
        break;
      case 1:
        bytes.insert(at, static_cast<size_t>(length), static_cast<std::byte>(random()));
        break;
      case 2:
        std::fill(at, at + std::min(length, bytes.end() - at), static_cast<std::byte>(random()));
        break;
      case 3:
        std::rotate(at, at + std::min(length, bytes.end() - at) / 2,
                    at + std::min(length, bytes.end() - at));
        break;
    }
    Check(fmt::format("edit {}", i), bytes);
  }
}

TEST_F(MutationTest, NoModelAtAll) {
  const auto bytes_of = [](std::string_view text) {
    std::vector<std::byte> bytes(text.size());
    std::memcpy(bytes.data(), text.data(), text.size());
    return bytes;
  };
  Check("empty", {});
  Check("zeros", std::vector<std::byte>(4096));
  Check("text", bytes_of("Once upon a time there was no model.\n"));
  Check("magic only", bytes_of("GGUF"));
  Check("an older format",
        bytes_of("ggml\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e"));
  Check("safetensors",
        bytes_of(std::string("\x40\0\0\0\0\0\0\0", 8) + "{\"a\":{\"dtype\":\"F32\"}}"));
  Check("no entries", GgufWriter().Build().bytes);
  EXPECT_EQ(loaded_, 0);
}

}  // namespace
}  // namespace tidal
