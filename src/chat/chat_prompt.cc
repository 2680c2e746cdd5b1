#include "chat/chat_prompt.h"

#include <nlohmann/json.hpp>

namespace tidal {

const std::string_view kDefaultChatTemplate =
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}";

Result<std::string> RenderChat(const ChatTemplate& chat_template,
                               std::span<const ChatMessage> messages,
                               const ChatPromptOptions& options) {
  using Json = nlohmann::ordered_json;
  Json variables = {{"messages", Json::array()},
                    {"tools", nullptr},
                    {"add_generation_prompt", options.add_generation_prompt},
                    {"bos_token", options.bos_token},
                    {"eos_token", options.eos_token}};
  for (const ChatMessage& message : messages) {
    variables["messages"].push_back({{"role", message.role}, {"content", message.content}});
  }
  if (!options.tools_json.empty()) {
    Json tools = Json::parse(options.tools_json, nullptr, /*allow_exceptions=*/false);
    if (!tools.is_array()) {
      return InvalidArgument("the tools are {}, expected a JSON list of tool descriptions",
                             tools.is_discarded() ? "no valid JSON" : tools.type_name());
    }
    variables["tools"] = std::move(tools);
  }
  return chat_template.Render(variables, options.render);
}

}  // namespace tidal
