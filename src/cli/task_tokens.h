// The prompts of tasks as a model reads them: in its chat template where it has one.
#ifndef TIDAL_CLI_TASK_TOKENS_H_
#define TIDAL_CLI_TASK_TOKENS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/chat_renderer.h"
#include "eval/task_prompt.h"

namespace tidal {

struct TaskTokens {
  std::vector<TokenId> tokens;  // of the whole prompt; at least two
  int32_t question_begin = 0;   // so many of them hold nothing of the question; 1 to size - 1
};

enum class UseChat : uint8_t { kIfThere, kNever };

class TaskTokenizer {
 public:
  // `tokenizer` must outlive it. Errors: those of ChatRenderer::ForModel.
  static Result<TaskTokenizer> ForModel(const Model& model, const Tokenizer& tokenizer,
                                        UseChat use_chat);

  // Errors: those of ChatRenderer::Render; kInvalidArgument where the template changes the question
  // or the prompt is too short to be parted.
  Result<TaskTokens> Tokenize(const TaskPrompt& prompt) const;

 private:
  TaskTokenizer(const Tokenizer* tokenizer, std::optional<ChatRenderer> renderer)
      : tokenizer_(tokenizer), renderer_(std::move(renderer)) {}
  std::vector<TokenId> TokensOf(const TaskPrompt& prompt, const std::string& text) const;
  bool UsesChat(const TaskPrompt& prompt) const { return renderer_ && prompt.chat; }

  const Tokenizer* tokenizer_;
  std::optional<ChatRenderer> renderer_;  // none: prompts stay as they are
};

}  // namespace tidal

#endif  // TIDAL_CLI_TASK_TOKENS_H_
