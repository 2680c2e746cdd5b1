#include "chat/chat_prompt.h"

#include <gtest/gtest.h>

namespace tidal {
namespace {

ChatTemplate ParseOrDie(std::string_view source) {
  Result<ChatTemplate> parsed = ChatTemplate::Parse(source);
  EXPECT_TRUE(parsed.ok()) << parsed.status().message();
  return std::move(parsed).value();
}

const ChatMessage kConversation[] = {
    {"system", "Be brief."}, {"user", "Hi\n"}, {"assistant", "Hello"}, {"user", "{{ x }}"}};

TEST(ChatPrompt, DefaultTemplateIsChatMl) {
  const ChatTemplate chat_template = ParseOrDie(kDefaultChatTemplate);
  const std::string turns =
      "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi\n<|im_end|>\n"
      "<|im_start|>assistant\nHello<|im_end|>\n<|im_start|>user\n{{ x }}<|im_end|>\n";
  EXPECT_EQ(*RenderChat(chat_template, kConversation), turns + "<|im_start|>assistant\n");
  ChatPromptOptions options;
  options.add_generation_prompt = false;
  EXPECT_EQ(*RenderChat(chat_template, kConversation, options), turns);
}

TEST(ChatPrompt, VariablesReachTheTemplate) {
  const ChatTemplate chat_template = ParseOrDie(
      "{{ bos_token }}{{ messages|map(attribute='role')|join(',') }}{{ eos_token }}"
      "{{ tools|tojson if tools is not none else 'no tools' }}");
  ChatPromptOptions options;
  options.bos_token = "<s>";
  options.eos_token = "</s>";
  EXPECT_EQ(*RenderChat(chat_template, kConversation, options),
            "<s>system,user,assistant,user</s>no tools");
  options.tools_json = R"([{"type":"function","function":{"name":"f"}}])";
  EXPECT_EQ(*RenderChat(chat_template, {}, options),
            R"(<s></s>[{"type": "function", "function": {"name": "f"}}])");
}

TEST(ChatPrompt, ToolsMustBeAJsonList) {
  const ChatTemplate chat_template = ParseOrDie(kDefaultChatTemplate);
  ChatPromptOptions options;
  for (const char* tools : {"{}", "[", "1", "null", "nonsense", "\xFF"}) {
    options.tools_json = tools;
    const Result<std::string> rendered = RenderChat(chat_template, kConversation, options);
    ASSERT_FALSE(rendered.ok()) << tools;
    EXPECT_EQ(rendered.status().code(), StatusCode::kInvalidArgument);
    EXPECT_NE(rendered.status().message().find("expected a JSON list"), std::string::npos);
  }
}

}  // namespace
}  // namespace tidal
