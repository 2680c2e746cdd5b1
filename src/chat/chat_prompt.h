// From a conversation to the text that a model reads.
#ifndef TIDAL_CHAT_CHAT_PROMPT_H_
#define TIDAL_CHAT_CHAT_PROMPT_H_

#include <span>
#include <string>
#include <string_view>

#include "base/status.h"
#include "chat/chat_template.h"

namespace tidal {

struct ChatMessage {
  std::string role;  // system, user, assistant or tool
  std::string content;
};

struct ChatPromptOptions {
  bool add_generation_prompt = true;  // end with the opening of the assistant's turn
  std::string bos_token;              // the texts of the model's tokens; "" where it has none
  std::string eos_token;
  std::string tools_json;  // a JSON list of tool descriptions; "" for none
  RenderOptions render;
};

// ChatML, for a model that brings no template of its own. The caller tells the user when it is
// used.
extern const std::string_view kDefaultChatTemplate;

// The variables are those of Hugging Face's apply_chat_template: messages, tools (None without
// any), add_generation_prompt, bos_token, eos_token. Errors: kInvalidArgument for a tools_json that
// is no JSON list, and all of ChatTemplate::Render. Threads: any, at the same time.
Result<std::string> RenderChat(const ChatTemplate& chat_template,
                               std::span<const ChatMessage> messages,
                               const ChatPromptOptions& options = {});

}  // namespace tidal

#endif  // TIDAL_CHAT_CHAT_PROMPT_H_
