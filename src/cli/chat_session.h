// A conversation on one sequence of an engine, whose cache is kept from turn to turn.
#ifndef TIDAL_CLI_CHAT_SESSION_H_
#define TIDAL_CLI_CHAT_SESSION_H_

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "cli/chat_renderer.h"
#include "cli/interrupt.h"
#include "cli/prompt_cache.h"
#include "cli/run_request.h"
#include "engine/engine.h"

namespace tidal {

struct ChatSettings {
  std::optional<std::string> system;
  SamplingParams sampling;
  AttentionPlan attention;
  int32_t max_tokens = -1;  // per answer
  bool ignore_eos = false;
  PromptCache* prompt_cache = nullptr;  // borrowed: where conversations may begin from a file
};

struct ChatAnswer {
  std::string text;
  FinishReason reason = FinishReason::kStop;
  bool context_is_full = false;  // why it ended, where reason is kLength
  Timings timings;
  AttentionStats attention;
};

class ChatSession {
 public:
  // Opens a sequence of `engine`, which must outlive the session. Errors: those of OpenSequence
  // and ChatRenderer::ForModel.
  static Result<ChatSession> Open(Engine* engine, ChatSettings settings);

  // Sends a user's message. `on_prefill` hears how many tokens of the prompt are done (done, total,
  // found in the cache), `on_text` the answer as it comes; an error of on_text ends the answer and
  // is returned. A cancelled answer counts: what was said stays said. After an error the message is
  // forgotten. Errors: those of ChatRenderer::Render, PromptCache::Load and RunRequest;
  // kInvalidArgument where the conversation does not fit into the context, which is never shortened
  // by itself.
  using PrefillFn = std::function<void(int32_t done, int32_t total, int32_t reused)>;
  using TextFn = std::function<Status(const std::string& text)>;
  Result<ChatAnswer> Ask(const std::string& text, const InterruptScope& interrupt,
                         const PrefillFn& on_prefill, const TextFn& on_text);

  // Leaves the conversation's cache to the next one, where there was any. Errors: those of
  // PromptCache::Save.
  Status SaveCache() const;

  // Forgets the conversation, not the system message.
  void Clear();
  // Replaces the system message (empty: none) and forgets the conversation.
  void SetSystem(const std::string& text);

  const ChatSettings& settings() const { return settings_; }
  int32_t cached_tokens() const { return engine_->CachedTokens(sequence_); }

 private:
  ChatSession(Engine* engine, SequenceId sequence, ChatRenderer renderer, ChatSettings settings)
      : engine_(engine),
        sequence_(sequence),
        renderer_(std::move(renderer)),
        settings_(std::move(settings)) {}

  struct Prompt {
    std::string text;
    std::vector<TokenId> tokens;
  };
  Result<Prompt> MakePrompt() const;
  Result<ChatAnswer> Answer(const InterruptScope& interrupt, const PrefillFn& on_prefill,
                            const TextFn& on_text);

  Engine* engine_;
  SequenceId sequence_;
  ChatRenderer renderer_;
  ChatSettings settings_;
  std::vector<ChatMessage> messages_;  // without the system message
  Prompt known_;  // the conversation so far, with the last answer's tokens as they were drawn
};

}  // namespace tidal

#endif  // TIDAL_CLI_CHAT_SESSION_H_
