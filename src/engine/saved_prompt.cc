#include "engine/saved_prompt.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <utility>

#include "base/checksum.h"
#include "base/math.h"
#include "engine/saved_prompt_format.h"
#include "gguf/printable.h"

namespace tidal {
namespace {

static_assert(std::endian::native == std::endian::little, "the file's byte order is the machine's");

class HeadWriter {
 public:
  template <typename T>
  void Add(T value) {
    AddBytes({reinterpret_cast<const char*>(&value), sizeof(T)});
  }
  void AddBytes(std::string_view bytes) { text_ += bytes; }
  void AddText(std::string_view text) {
    Add(static_cast<uint32_t>(text.size()));
    AddBytes(text);
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

// Takes fields off the front of bytes; false where they are not there.
class HeadReader {
 public:
  explicit HeadReader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  template <typename T>
  [[nodiscard]] bool Take(T* value) {
    if (bytes_.size() < sizeof(T)) return false;
    std::memcpy(value, bytes_.data(), sizeof(T));
    bytes_ = bytes_.subspan(sizeof(T));
    return true;
  }
  [[nodiscard]] bool TakeText(std::string* text) {
    uint32_t size = 0;
    if (!Take(&size) || size > bytes_.size()) return false;
    text->assign(reinterpret_cast<const char*>(bytes_.data()), size);
    bytes_ = bytes_.subspan(size);
    return true;
  }
  bool is_empty() const { return bytes_.empty(); }

 private:
  std::span<const std::byte> bytes_;
};

uint64_t LoadU64(const std::byte* bytes) {
  uint64_t value = 0;
  std::memcpy(&value, bytes, sizeof(value));
  return value;
}

std::string EncodeFields(const SavedPromptHead& head) {
  HeadWriter fields;
  fields.Add(static_cast<uint32_t>(head.num_tokens));
  fields.Add(static_cast<uint32_t>(kPageSize));
  fields.Add(static_cast<uint64_t>(head.format.kv_bytes));
  fields.Add(static_cast<uint64_t>(head.format.index_bytes));
  fields.AddText(head.model_hash);
  fields.AddText(head.precision);
  fields.AddText(head.format.kv);
  fields.AddText(head.format.index);
  return fields.text();
}

// False where the fields are not there or beyond their bounds.
bool DecodeFields(std::span<const std::byte> bytes, SavedPromptHead* head) {
  HeadReader fields(bytes);
  uint32_t num_tokens = 0;
  uint32_t page_tokens = 0;
  uint64_t kv_bytes = 0;
  uint64_t index_bytes = 0;
  if (!fields.Take(&num_tokens) || !fields.Take(&page_tokens) || !fields.Take(&kv_bytes) ||
      !fields.Take(&index_bytes) || !fields.TakeText(&head->model_hash) ||
      !fields.TakeText(&head->precision) || !fields.TakeText(&head->format.kv) ||
      !fields.TakeText(&head->format.index) || !fields.is_empty()) {
    return false;
  }
  if (num_tokens < 1 || num_tokens > kMaxSavedPromptTokens || page_tokens != kPageSize ||
      kv_bytes > kMaxSavedPageBytes || index_bytes > kMaxSavedPageBytes) {
    return false;
  }
  head->num_tokens = static_cast<int32_t>(num_tokens);
  head->format.kv_bytes = static_cast<int64_t>(kv_bytes);
  head->format.index_bytes = static_cast<int64_t>(index_bytes);
  return true;
}

int64_t TokenSectionBytes(const SavedPromptHead& head) {
  return head.num_tokens * int64_t{sizeof(int32_t)} + kChecksumBytes;
}

// At most 2^41 + 8, since both parts are bounded.
int64_t PageSectionBytes(const SavedPromptHead& head) {
  return head.format.kv_bytes + head.format.index_bytes + kChecksumBytes;
}

// The section of `bytes` bytes and their checksum at `section`, which is inside the mapping.
bool IsSound(const std::byte* section, int64_t bytes, uint64_t seed) {
  return Checksum64({section, static_cast<size_t>(bytes)}, seed) == LoadU64(section + bytes);
}

}  // namespace

int32_t SavedPromptHead::num_pages() const {
  return static_cast<int32_t>(CeilDiv(num_tokens, kPageSize));
}

int32_t SavedPromptHead::TokensOfPage(int32_t page) const {
  return std::min(kPageSize, num_tokens - page * kPageSize);
}

Status SavedPromptWriter::WriteSection(std::span<const std::byte> bytes) {
  const uint64_t checksum = Checksum64(bytes, next_seed_++);
  TIDAL_RETURN_IF_ERROR(write_(bytes));
  return write_(std::as_bytes(std::span(&checksum, 1)));
}

Status SavedPromptWriter::Begin(std::span<const int32_t> tokens) {
  TIDAL_CHECK(tokens.size() == static_cast<size_t>(head_.num_tokens), "{} tokens of {}",
              tokens.size(), head_.num_tokens);
  const std::string fields = EncodeFields(head_);
  HeadWriter head;
  head.AddBytes(kSavedPromptMagic);
  head.Add(kSavedPromptVersion);
  head.Add(static_cast<uint32_t>(kSavedPromptPreambleBytes + static_cast<int64_t>(fields.size()) +
                                 kChecksumBytes));
  head.AddBytes(fields);
  // Sections are bound to their head and to their place: one of another file is not taken for them.
  const uint64_t checksum = Checksum64(std::as_bytes(std::span(head.text())), 0);
  head.Add(checksum);
  next_seed_ = checksum + 1;
  TIDAL_RETURN_IF_ERROR(write_(std::as_bytes(std::span(head.text()))));
  return WriteSection(std::as_bytes(tokens));
}

Status SavedPromptWriter::WritePage(std::span<const std::byte> page) {
  TIDAL_CHECK(static_cast<int64_t>(page.size()) == PageSectionBytes(head_) - kChecksumBytes,
              "a page of {} bytes", page.size());
  return WriteSection(page);
}

Result<SavedPrompt> SavedPrompt::Open(const std::string& path) {
  const std::string name = PrintablePath(path);
  Result<MappedFile> file = MappedFile::Open(path);
  if (!file.ok()) return file.status().Annotate(name);
  SavedPrompt saved(name, std::move(file).value());
  Status status = saved.ParseHead();
  if (status.ok()) status = saved.ReadTokens();
  if (!status.ok()) return status.Annotate(name);
  return saved;
}

Status SavedPrompt::ParseHead() {
  const std::span<const std::byte> bytes = file_.bytes();
  const auto file_bytes = static_cast<int64_t>(bytes.size());
  HeadReader preamble(bytes);
  std::array<char, kSavedPromptMagic.size()> magic{};
  if (!preamble.Take(&magic) || std::string_view(magic.data(), magic.size()) != kSavedPromptMagic)
    return Corrupt("this is no saved prompt; name another file");
  uint32_t version = 0;
  uint32_t head_bytes = 0;
  if (!preamble.Take(&version) || !preamble.Take(&head_bytes))
    return Corrupt("{} bytes are the beginning of a saved prompt; delete the file", file_bytes);
  if (version != kSavedPromptVersion) {
    return Unsupported("a saved prompt of format {}, this program has format {}; delete the file",
                       version, kSavedPromptVersion);
  }
  head_bytes_ = head_bytes;
  if (head_bytes_ < kSavedPromptPreambleBytes + kChecksumBytes ||
      head_bytes_ > std::min(kMaxSavedPromptHeadBytes, file_bytes)) {
    return Corrupt("its head is said to have {} bytes of {}; delete the file", head_bytes_,
                   file_bytes);
  }
  const int64_t checked_bytes = head_bytes_ - kChecksumBytes;
  const auto fields = bytes.subspan(kSavedPromptPreambleBytes,
                                    static_cast<size_t>(checked_bytes - kSavedPromptPreambleBytes));
  if (!IsSound(bytes.data(), checked_bytes, 0) || !DecodeFields(fields, &head_))
    return Corrupt("its head is damaged; delete the file");
  first_seed_ = LoadU64(bytes.data() + checked_bytes) + 1;
  // At most 2^21 pages of 2^41 bytes: this fits.
  const int64_t expected =
      head_bytes_ + TokenSectionBytes(head_) + head_.num_pages() * PageSectionBytes(head_);
  if (expected != file_bytes) {
    return Corrupt("{} bytes, but {} tokens of {} bytes a page need {}; delete the file",
                   file_bytes, head_.num_tokens, PageSectionBytes(head_), expected);
  }
  return OkStatus();
}

Status SavedPrompt::ReadTokens() {
  const std::byte* section = file_.bytes().data() + head_bytes_;
  const int64_t bytes = TokenSectionBytes(head_) - kChecksumBytes;
  if (!IsSound(section, bytes, first_seed_))
    return Corrupt("its tokens are damaged; delete the file");
  tokens_.resize(static_cast<size_t>(head_.num_tokens));
  std::memcpy(tokens_.data(), section, static_cast<size_t>(bytes));
  return OkStatus();
}

Result<SavedPrompt::Page> SavedPrompt::ReadPage(int32_t page) const {
  TIDAL_CHECK(page >= 0 && page < head_.num_pages(), "page {} of {}", page, head_.num_pages());
  const int64_t section_bytes = PageSectionBytes(head_);
  const std::byte* section =
      file_.bytes().data() + head_bytes_ + TokenSectionBytes(head_) + page * section_bytes;
  const uint64_t seed = first_seed_ + 1 + static_cast<uint64_t>(page);
  if (!IsSound(section, section_bytes - kChecksumBytes, seed)) {
    return Corrupt("{}: page {} of {} is damaged; delete the file", path_, page, head_.num_pages());
  }
  const auto kv_bytes = static_cast<size_t>(head_.format.kv_bytes);
  return Page{{section, kv_bytes},
              {section + kv_bytes, static_cast<size_t>(head_.format.index_bytes)}};
}

}  // namespace tidal
