// --prompt-cache: the KV cache of a prompt in a file, between runs (docs/prompt_cache.md).
#ifndef TIDAL_CLI_PROMPT_CACHE_H_
#define TIDAL_CLI_PROMPT_CACHE_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "base/status.h"
#include "engine/engine.h"

namespace CLI {
class App;
}  // namespace CLI

namespace tidal {

struct PromptCacheOptions {
  std::string path;  // empty: no cache in a file
  bool read_only = false;
};

// Declares --prompt-cache and --prompt-cache-ro.
void AddPromptCacheOptions(CLI::App* app, PromptCacheOptions* options);
// kInvalidArgument: --prompt-cache-ro without --prompt-cache.
Status CheckPromptCacheOptions(const PromptCacheOptions& options);

// Does nothing where no file was named.
class PromptCache {
 public:
  // Opens the file, which need not be there, and checks that it can be written. Errors: those of
  // SavedPrompt::Open but for kNotFound, and of CheckOutputPath.
  static Result<PromptCache> Open(const PromptCacheOptions& options);

  // Whether the engine can use what is saved. Errors: those of Engine::CheckSavedPrompt.
  Status Check(const Engine& engine) const;
  // Brings what the file has in common with a prompt into the sequence's cache. Errors: those of
  // Engine::LoadPrompt.
  Status Load(Engine* engine, SequenceId sequence, std::span<const TokenId> prompt);
  // Saves the first tokens of the sequence's cache, at most max_tokens and only clean ones, unless
  // the file holds as many of the prompt that was loaded for. Errors: those of Engine::SavePrompt
  // and Output.
  Status Save(const Engine& engine, SequenceId sequence, int32_t max_tokens) const;

  bool is_used() const { return !options_.path.empty(); }
  int32_t loaded_tokens() const { return loaded_tokens_; }  // by the last Load, from the file
  double load_ms() const { return load_ms_; }

 private:
  explicit PromptCache(PromptCacheOptions options) : options_(std::move(options)) {}

  PromptCacheOptions options_;
  std::optional<SavedPrompt> saved_;
  int32_t held_tokens_ = 0;  // of the last prompt, in the file
  int32_t loaded_tokens_ = 0;
  double load_ms_ = 0;
};

}  // namespace tidal

#endif  // TIDAL_CLI_PROMPT_CACHE_H_
