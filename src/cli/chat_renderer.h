// A model's chat template, ready for conversations.
#ifndef TIDAL_CLI_CHAT_RENDERER_H_
#define TIDAL_CLI_CHAT_RENDERER_H_

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "chat/chat_prompt.h"
#include "model/model.h"
#include "tokenizer/tokenizer.h"

namespace tidal {

class ChatRenderer {
 public:
  // The template in the model's file; ChatML, with a warning in the log, where it has none. Errors:
  // those of ChatTemplate::Parse, naming the file. `tokenizer` must outlive the renderer.
  static Result<ChatRenderer> ForModel(const Model& model, const Tokenizer& tokenizer);

  // The conversation up to where the assistant's answer begins. Errors: those of RenderChat.
  Result<std::string> Render(std::span<const ChatMessage> messages) const;

  // Tokens of a rendered text. The beginning-of-text token comes first where the model asks for it,
  // once, also where the template writes it.
  std::vector<TokenId> Tokenize(std::string_view text) const;

 private:
  ChatRenderer(const Tokenizer* tokenizer, ChatTemplate chat_template, ChatPromptOptions options)
      : tokenizer_(tokenizer), template_(std::move(chat_template)), options_(std::move(options)) {}

  const Tokenizer* tokenizer_;
  ChatTemplate template_;
  ChatPromptOptions options_;
};

}  // namespace tidal

#endif  // TIDAL_CLI_CHAT_RENDERER_H_
