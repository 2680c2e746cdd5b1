// A prompt's KV cache in a file: docs/prompt_cache.md has the format. This file knows bytes and
// checksums; whether a saved prompt fits an engine is Engine's to say.
#ifndef TIDAL_ENGINE_SAVED_PROMPT_H_
#define TIDAL_ENGINE_SAVED_PROMPT_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "executor/executor.h"
#include "gguf/mapped_file.h"

namespace tidal {

// What a saved prompt was made with.
struct SavedPromptHead {
  std::string model_hash;
  std::string precision;  // NameOf
  PageFormat format;
  int32_t num_tokens = 0;

  int32_t num_pages() const;
  // Of all pages but the last one: kPageSize.
  int32_t TokensOfPage(int32_t page) const;
};

// Takes the next bytes of a file; its error ends the writing and is handed on.
using WriteBytesFn = std::function<Status(std::span<const std::byte> bytes)>;

// Writes the parts of a saved prompt in their order: Begin, then WritePage num_pages() times.
class SavedPromptWriter {
 public:
  SavedPromptWriter(SavedPromptHead head, WriteBytesFn write)
      : head_(std::move(head)), write_(std::move(write)) {}

  // REQUIRES: head.num_tokens tokens.
  Status Begin(std::span<const int32_t> tokens);
  // K and V, then the index: format.kv_bytes + format.index_bytes.
  Status WritePage(std::span<const std::byte> page);

 private:
  Status WriteSection(std::span<const std::byte> bytes);

  SavedPromptHead head_;
  WriteBytesFn write_;
  uint64_t next_seed_ = 0;  // of the next section's checksum
};

// A saved prompt, mapped. Movable. The file may be replaced or removed meanwhile, but must not
// shrink.
class SavedPrompt {
 public:
  // Checks everything but the pages. Errors, with the path: kNotFound (no such file), kIo (not a
  // regular file, or the system refuses), kCorrupt (not a saved prompt, damaged or cut off),
  // kUnsupported (of another version of the format).
  static Result<SavedPrompt> Open(const std::string& path);

  const std::string& path() const { return path_; }  // fit for a message
  const SavedPromptHead& head() const { return head_; }
  const std::vector<int32_t>& tokens() const { return tokens_; }

  struct Page {
    std::span<const std::byte> kv;
    std::span<const std::byte> index;
  };
  // A page as it was saved, inside the mapping. REQUIRES: 0 <= page < num_pages(). kCorrupt where
  // its checksum is wrong.
  Result<Page> ReadPage(int32_t page) const;

 private:
  SavedPrompt(std::string path, MappedFile file) : path_(std::move(path)), file_(std::move(file)) {}

  Status ParseHead();
  Status ReadTokens();

  std::string path_;
  MappedFile file_;
  SavedPromptHead head_;
  int64_t head_bytes_ = 0;
  uint64_t first_seed_ = 0;  // of the checksum of the first section behind the head
  std::vector<int32_t> tokens_;
};

}  // namespace tidal

#endif  // TIDAL_ENGINE_SAVED_PROMPT_H_
