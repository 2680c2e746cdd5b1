// A saved prompt's file by itself: what is written comes back, and nothing damaged does.
#include "engine/saved_prompt.h"

#include <cstring>
#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <random>
#include <unistd.h>

#include "base/checksum.h"
#include "engine/saved_prompt_format.h"

namespace tidal {
namespace {

using ::testing::HasSubstr;

constexpr int32_t kNumTokens = 150;  // three pages, the last one not full

SavedPromptHead SomeHead() {
  SavedPromptHead head;
  head.model_hash = std::string(64, 'a');
  head.precision = "fast";
  head.format = {.kv = "somewhere 1", .kv_bytes = 300, .index = "index 1", .index_bytes = 50};
  head.num_tokens = kNumTokens;
  return head;
}

std::vector<int32_t> SomeTokens() {
  std::vector<int32_t> tokens;
  for (int32_t i = 0; i < kNumTokens; ++i) tokens.push_back(i * 31 % 1000);
  return tokens;
}

std::vector<std::byte> SomePage(int32_t page) {
  std::vector<std::byte> bytes(350);
  for (size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = static_cast<std::byte>(static_cast<size_t>(page) * 77 + i * 13);
  return bytes;
}

std::string Encode(const SavedPromptHead& head) {
  std::string text;
  SavedPromptWriter writer(head, [&text](std::span<const std::byte> bytes) {
    text.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return OkStatus();
  });
  EXPECT_TRUE(writer.Begin(SomeTokens()).ok());
  for (int32_t page = 0; page < 3; ++page) EXPECT_TRUE(writer.WritePage(SomePage(page)).ok());
  return text;
}

class SavedPromptTest : public testing::Test {
 protected:
  ~SavedPromptTest() override { std::filesystem::remove(path_); }

  Result<SavedPrompt> Open(const std::string& text) const {
    std::filesystem::remove(path_);
    std::ofstream(path_, std::ios::binary) << text;
    return SavedPrompt::Open(path_);
  }

  // The file as it was written, or one line; nothing in between.
  enum class Outcome { kSame, kRefused };
  Outcome ReadAll(const std::string& text) const {
    const Result<SavedPrompt> saved = Open(text);
    Status status = saved.status();
    for (int32_t page = 0; saved.ok() && page < saved->head().num_pages(); ++page) {
      const Result<SavedPrompt::Page> read = saved->ReadPage(page);
      if (!read.ok()) {
        status = read.status();
        break;
      }
      const std::vector<std::byte> expected = SomePage(page);
      EXPECT_TRUE(std::equal(read->kv.begin(), read->kv.end(), expected.begin()));
      EXPECT_TRUE(std::equal(read->index.begin(), read->index.end(), expected.begin() + 300));
    }
    if (status.ok()) {
      EXPECT_EQ(saved->tokens(), SomeTokens());
      EXPECT_EQ(saved->head().model_hash, SomeHead().model_hash);
      EXPECT_EQ(saved->head().format.kv, SomeHead().format.kv);
      return Outcome::kSame;
    }
    EXPECT_THAT(status.message(), HasSubstr(path_)) << "names the file";
    EXPECT_EQ(status.message().find('\n'), std::string::npos);
    return Outcome::kRefused;
  }

  const std::string path_ =
      testing::TempDir() + "/tidal_saved_prompt_" + std::to_string(getpid()) + ".kv";
  const std::string text_ = Encode(SomeHead());
};

TEST_F(SavedPromptTest, ComesBackAsItWas) {
  EXPECT_EQ(ReadAll(text_), Outcome::kSame);
  const Result<SavedPrompt> saved = Open(text_);
  ASSERT_TRUE(saved.ok());
  EXPECT_EQ(saved->head().num_pages(), 3);
  EXPECT_EQ(saved->head().TokensOfPage(0), 64);
  EXPECT_EQ(saved->head().TokensOfPage(2), 150 - 128);
  EXPECT_EQ(saved->head().format.index_bytes, 50);
}

TEST_F(SavedPromptTest, EveryTruncationIsRefused) {
  for (size_t size = 0; size < text_.size(); ++size)
    EXPECT_EQ(ReadAll(text_.substr(0, size)), Outcome::kRefused) << size << " bytes";
  EXPECT_EQ(ReadAll(text_ + '\0'), Outcome::kRefused);
  EXPECT_THAT(Open("").status().message(), HasSubstr("the file is empty"));
  EXPECT_THAT(Open("GGUF, not a cache").status().message(), HasSubstr("no saved prompt"));
  EXPECT_THAT(Open(text_.substr(0, text_.size() - 1)).status().message(),
              HasSubstr("1831 bytes, but 150 tokens of 358 bytes a page need 1832"));
}

TEST_F(SavedPromptTest, EveryFlippedBitIsRefused) {
  std::string text = text_;
  for (size_t at = 0; at < text.size(); ++at) {
    const auto flip = static_cast<char>(1 << at % 8);
    text[at] = static_cast<char>(text[at] ^ flip);
    EXPECT_EQ(ReadAll(text), Outcome::kRefused) << "byte " << at;
    text[at] = static_cast<char>(text[at] ^ flip);
  }
}

TEST_F(SavedPromptTest, MutantsAreRefused) {
  std::mt19937 rng(20240611);
  const auto below = [&rng](size_t n) { return rng() % n; };
  for (int i = 0; i < 400; ++i) {
    std::string text = text_;
    const size_t at = below(text.size());
    const size_t count = std::min(1 + below(40), text.size() - at);
    switch (below(4)) {
      case 0:  // noise
        for (size_t j = 0; j < count; ++j) text[at + j] = static_cast<char>(rng());
        break;
      case 1:
        text.erase(at, count);
        break;
      case 2:
        text.insert(at, text_.substr(below(text.size() - count), count));
        break;
      default:  // a piece of it elsewhere
        text.replace(at, count, text_.substr(below(text.size() - count), count));
    }
    EXPECT_EQ(ReadAll(text), text == text_ ? Outcome::kSame : Outcome::kRefused) << "mutant " << i;
  }
}

TEST_F(SavedPromptTest, PagesThatChangedPlacesAreRefused) {
  const size_t section = 350 + kChecksumBytes;
  const size_t pages = text_.size() - 3 * section;
  const std::string swapped = text_.substr(0, pages) + text_.substr(pages + section, section) +
                              text_.substr(pages, section) + text_.substr(pages + 2 * section);
  ASSERT_EQ(swapped.size(), text_.size());
  EXPECT_EQ(ReadAll(swapped), Outcome::kRefused);
  SavedPromptHead other = SomeHead();
  other.model_hash.back() = 'b';
  EXPECT_EQ(ReadAll(Encode(other).substr(0, pages) + text_.substr(pages)), Outcome::kRefused);
}

// A head that lies with a right checksum: sizes are believed only where the file has so many bytes.
TEST_F(SavedPromptTest, ForgedSizesAreRefusedBeforeTheyAreUsed) {
  constexpr size_t kFields = kSavedPromptPreambleBytes;
  struct Field {
    size_t offset;
    size_t bytes;
  };
  const Field fields[] = {{12, 4},          {kFields, 4},      {kFields + 4, 4},
                          {kFields + 8, 8}, {kFields + 16, 8}, {kFields + 24, 4}};
  const uint64_t values[] = {0,
                             1,
                             63,
                             64,
                             65,
                             149,
                             151,
                             uint64_t{1} << 27,
                             uint64_t{1} << 31,
                             (uint64_t{1} << 32) - 1,
                             uint64_t{1} << 40,
                             uint64_t{1} << 62,
                             ~uint64_t{0}};
  uint32_t head_bytes = 0;
  std::memcpy(&head_bytes, text_.data() + 12, sizeof(head_bytes));
  for (const auto& [offset, bytes] : fields) {
    for (const uint64_t value : values) {
      std::string text = text_;
      std::memcpy(text.data() + offset, &value, bytes);
      const uint64_t checksum =
          Checksum64(std::as_bytes(std::span(text)).first(head_bytes - kChecksumBytes), 0);
      std::memcpy(text.data() + head_bytes - kChecksumBytes, &checksum, sizeof(checksum));
      EXPECT_EQ(ReadAll(text), text == text_ ? Outcome::kSame : Outcome::kRefused)
          << "offset " << offset << ", value " << value;
    }
  }
}

TEST_F(SavedPromptTest, AnotherVersionIsUnsupported) {
  std::string text = text_;
  text[8] = 2;
  const Result<SavedPrompt> saved = Open(text);
  EXPECT_EQ(saved.status().code(), StatusCode::kUnsupported);
  EXPECT_THAT(saved.status().message(), HasSubstr("format 2, this program has format 1"));
}

TEST_F(SavedPromptTest, WhatIsNoFileIsSaid) {
  EXPECT_EQ(SavedPrompt::Open(path_ + ".absent").status().code(), StatusCode::kNotFound);
  EXPECT_EQ(SavedPrompt::Open(testing::TempDir()).status().code(), StatusCode::kIo);
}

TEST_F(SavedPromptTest, AnErrorOfTheSinkEndsTheWriting) {
  for (int good_calls = 0; good_calls < 9; ++good_calls) {
    int calls = 0;
    SavedPromptWriter writer(SomeHead(), [&](std::span<const std::byte>) {
      return calls++ < good_calls ? OkStatus() : IoError("full");
    });
    Status status = writer.Begin(SomeTokens());
    for (int32_t page = 0; status.ok() && page < 3; ++page)
      status = writer.WritePage(SomePage(page));
    EXPECT_EQ(status.message(), "full");
    EXPECT_EQ(calls, good_calls + 1);
  }
}

}  // namespace
}  // namespace tidal
