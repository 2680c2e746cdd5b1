#include "cli/task_tokens.h"

#include <algorithm>

namespace tidal {

Result<TaskTokenizer> TaskTokenizer::ForModel(const Model& model, const Tokenizer& tokenizer,
                                              UseChat use_chat) {
  std::optional<ChatRenderer> renderer;
  if (use_chat == UseChat::kIfThere) {
    TIDAL_ASSIGN_OR_RETURN(const std::optional<std::string> source, model.ReadChatTemplate());
    if (source) {
      TIDAL_ASSIGN_OR_RETURN(renderer, ChatRenderer::ForModel(model, tokenizer));
    }
  }
  return TaskTokenizer(&tokenizer, std::move(renderer));
}

std::vector<TokenId> TaskTokenizer::TokensOf(const TaskPrompt& prompt,
                                             const std::string& text) const {
  return UsesChat(prompt) ? renderer_->Tokenize(text)
                          : tokenizer_->Tokenize(text, SpecialTokens::kAsText);
}

Result<TaskTokens> TaskTokenizer::Tokenize(const TaskPrompt& prompt) const {
  std::string text = prompt.context + prompt.question;
  // Templates may take white space away from the end of a message.
  const size_t last = prompt.question.find_last_not_of(" \n\t");
  const std::string question = prompt.question.substr(0, last + 1);
  if (UsesChat(prompt)) {
    const ChatMessage message = {"user", text};
    TIDAL_ASSIGN_OR_RETURN(text, renderer_->Render({&message, 1}));
    text += prompt.answer_prefix;
  } else if (!prompt.answer_prefix.empty()) {
    text += " " + prompt.answer_prefix;
  }
  // The answer's beginning may repeat words of the question, not all of it.
  const size_t at = text.rfind(question);
  if (at == std::string::npos) {
    return InvalidArgument(
        "the model's chat template changes the question of task {}; leave it out with --no-chat",
        prompt.task);
  }
  TaskTokens result;
  result.tokens = TokensOf(prompt, text);
  // A token across the border belongs to the question.
  const std::vector<TokenId> before = TokensOf(prompt, text.substr(0, at));
  const auto common =
      std::mismatch(before.begin(), before.end(), result.tokens.begin(), result.tokens.end());
  const auto count = static_cast<int32_t>(common.first - before.begin());
  const auto size = static_cast<int32_t>(result.tokens.size());
  if (size < 2)
    return InvalidArgument("a prompt of task {} has {} tokens, expected at least 2", prompt.task,
                           size);
  result.question_begin = std::clamp(count, 1, size - 1);
  return result;
}

}  // namespace tidal
