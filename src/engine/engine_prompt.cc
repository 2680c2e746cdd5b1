// Saving a prompt's cache, and loading it again.
#include <algorithm>
#include <vector>

#include "engine/engine_impl.h"
#include "engine/engine_setup.h"
#include "gguf/printable.h"
#include "model/model_hash.h"

namespace tidal {
namespace {

int32_t CommonTokens(std::span<const TokenId> a, std::span<const TokenId> b) {
  const auto common = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  return static_cast<int32_t>(common.first - a.begin());
}

}  // namespace

// Keys of another RoPE scaling are another model's.
Result<std::string> Engine::Impl::ModelIdentity() const {
  TIDAL_ASSIGN_OR_RETURN(const std::string hash, ModelHash(*model));
  const std::string rope = RopeText(options);
  return rope.empty() ? hash : hash + " with " + rope;
}

Status Engine::SavePrompt(SequenceId sequence, int32_t num_tokens,
                          const WriteBytesFn& write) const {
  const OpenSequenceState& state = impl_->SequenceAt(sequence);
  TIDAL_CHECK(state.active == nullptr, "sequence {} is running a request", sequence);
  const ScheduledSequence& scheduled = state.scheduled;
  if (num_tokens < 1 || num_tokens > scheduled.dense_len) {
    return InvalidArgument("{} tokens to save, expected 1 to {}, which the cache holds in full",
                           num_tokens, scheduled.dense_len);
  }
  SavedPromptHead head;
  head.format = impl_->executor->page_format();
  if (head.format.kv.empty())
    return Unsupported("--device {} cannot hand out its cache, so no prompt can be saved",
                       impl_->options.device);
  TIDAL_ASSIGN_OR_RETURN(head.model_hash, impl_->ModelIdentity());
  head.precision = NameOf(impl_->options.precision);
  head.num_tokens = num_tokens;
  SavedPromptWriter writer(head, write);
  TIDAL_RETURN_IF_ERROR(
      writer.Begin(std::span(scheduled.tokens).first(static_cast<size_t>(num_tokens))));
  std::vector<std::byte> page(static_cast<size_t>(head.format.kv_bytes + head.format.index_bytes));
  const std::span<std::byte> kv(page.data(), static_cast<size_t>(head.format.kv_bytes));
  for (int32_t i = 0; i < head.num_pages(); ++i) {
    TIDAL_RETURN_IF_ERROR(impl_->executor->ReadPage(scheduled.pages.data()[i], head.TokensOfPage(i),
                                                    kv, std::span(page).subspan(kv.size())));
    TIDAL_RETURN_IF_ERROR(writer.WritePage(page));
  }
  return OkStatus();
}

Status Engine::CheckSavedPrompt(const SavedPrompt& saved) const {
  const SavedPromptHead& head = saved.head();
  const PageFormat format = impl_->executor->page_format();
  TIDAL_ASSIGN_OR_RETURN(const std::string hash, impl_->ModelIdentity());
  const auto mismatch = [&](const char* what, const std::string& found,
                            const std::string& expected) {
    return InvalidArgument("{}: saved with {} \"{}\", this run has \"{}\"; name another file",
                           saved.path(), what, Printable(found, 200), expected);
  };
  if (head.model_hash != hash) return mismatch("the model of hash", head.model_hash, hash);
  const std::string precision = NameOf(impl_->options.precision);
  if (head.precision != precision) return mismatch("--precision", head.precision, precision);
  if (head.format.kv != format.kv || head.format.kv_bytes != format.kv_bytes)
    return mismatch("the cache", head.format.kv, format.kv);
  return OkStatus();
}

// The first num_tokens tokens of `saved` into the sequence's pages, which are there.
Status Engine::Impl::LoadPages(const SavedPrompt& saved, int32_t num_tokens,
                               const ScheduledSequence& scheduled) {
  const PageFormat format = executor->page_format();
  const PageFormat& saved_format = saved.head().format;
  const bool has_index =
      saved_format.index == format.index && saved_format.index_bytes == format.index_bytes;
  const auto num_pages = static_cast<int32_t>(CeilDiv(num_tokens, kPageSize));
  for (int32_t i = 0; i < num_pages; ++i) {
    TIDAL_ASSIGN_OR_RETURN(const SavedPrompt::Page page, saved.ReadPage(i));
    const int32_t page_tokens = std::min(kPageSize, num_tokens - i * kPageSize);
    TIDAL_RETURN_IF_ERROR(
        executor->WritePage(scheduled.pages.data()[i], page_tokens, page.kv,
                            has_index ? page.index : std::span<const std::byte>()));
  }
  return OkStatus();
}

Result<int32_t> Engine::LoadPrompt(SequenceId sequence, const SavedPrompt& saved,
                                   std::span<const TokenId> prompt) {
  OpenSequenceState& state = impl_->SequenceAt(sequence);
  TIDAL_CHECK(state.active == nullptr, "sequence {} is running a request", sequence);
  TIDAL_RETURN_IF_ERROR(CheckSavedPrompt(saved));
  ScheduledSequence& scheduled = state.scheduled;
  const auto clean = std::span(scheduled.tokens).first(static_cast<size_t>(scheduled.dense_len));
  const int32_t cached = CommonTokens(clean, prompt);
  const int32_t common = std::min(CommonTokens(saved.tokens(), prompt), impl_->options.ctx_size);
  if (common <= cached) return cached;
  scheduled.Restart(0, &*impl_->pool);
  scheduled.tokens.assign(prompt.begin(), prompt.begin() + common);
  Status status = scheduled.pages.Reserve(common, &*impl_->pool);
  if (status.ok()) status = impl_->LoadPages(saved, common, scheduled);
  if (!status.ok()) {
    scheduled.Restart(0, &*impl_->pool);
    scheduled.tokens.clear();
    return status;
  }
  scheduled.kv_len = common;
  scheduled.dense_len = common;
  return common;
}

}  // namespace tidal
