#include "cli/prompt_cache.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "base/stopwatch.h"
#include "cli/arguments.h"
#include "cli/output.h"

namespace tidal {

void AddPromptCacheOptions(CLI::App* app, PromptCacheOptions* options) {
  AddText(app,
          {"--prompt-cache", "FILE",
           "Take what FILE holds of the prompt from it instead of computing it, and save the "
           "prompt's cache there afterwards; FILE need not exist"},
          &options->path);
  AddFlag(app, "--prompt-cache-ro", &options->read_only, "With --prompt-cache: never write FILE");
}

Status CheckPromptCacheOptions(const PromptCacheOptions& options) {
  if (options.read_only && options.path.empty())
    return InvalidArgument("--prompt-cache-ro needs --prompt-cache FILE, which is then only read");
  return OkStatus();
}

Result<PromptCache> PromptCache::Open(const PromptCacheOptions& options) {
  PromptCache cache(options);
  if (!cache.is_used()) return cache;
  Result<SavedPrompt> saved = SavedPrompt::Open(options.path);
  if (saved.ok()) {
    cache.saved_ = std::move(saved).value();
  } else if (saved.status().code() != StatusCode::kNotFound) {
    return saved.status().Annotate("--prompt-cache");
  }
  if (!options.read_only) TIDAL_RETURN_IF_ERROR(CheckOutputPath(options.path));
  return cache;
}

Status PromptCache::Check(const Engine& engine) const {
  if (!saved_) return OkStatus();
  return engine.CheckSavedPrompt(*saved_).Annotate("--prompt-cache");
}

Status PromptCache::Load(Engine* engine, SequenceId sequence, std::span<const TokenId> prompt) {
  if (!saved_) return OkStatus();
  const std::vector<TokenId>& tokens = saved_->tokens();
  const auto common = std::mismatch(tokens.begin(), tokens.end(), prompt.begin(), prompt.end());
  held_tokens_ = static_cast<int32_t>(common.first - tokens.begin());
  loaded_tokens_ = 0;
  load_ms_ = 0;
  const Stopwatch stopwatch(&load_ms_);
  const Result<int32_t> cached = engine->LoadPrompt(sequence, *saved_, prompt);
  if (!cached.ok()) return cached.status().Annotate("--prompt-cache");
  loaded_tokens_ = std::min(*cached, held_tokens_);
  return OkStatus();
}

Status PromptCache::Save(const Engine& engine, SequenceId sequence, int32_t max_tokens) const {
  const int32_t num_tokens = std::min(engine.CleanTokens(sequence), max_tokens);
  if (!is_used() || options_.read_only || num_tokens <= held_tokens_) return OkStatus();
  TIDAL_ASSIGN_OR_RETURN(Output file, Output::ToFile(options_.path));
  Status status =
      engine.SavePrompt(sequence, num_tokens, [&file](std::span<const std::byte> bytes) {
        return file.Write({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
      });
  if (status.ok()) status = file.Commit();
  return status.Annotate("--prompt-cache");
}

}  // namespace tidal
