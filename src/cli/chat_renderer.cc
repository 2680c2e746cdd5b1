#include "cli/chat_renderer.h"

#include <spdlog/spdlog.h>

namespace tidal {
namespace {

constexpr std::string_view kTemplateKey = "tokenizer.chat_template";

std::string TextOf(const Tokenizer& tokenizer, TokenId id) {
  return id == kNoToken ? "" : std::string(tokenizer.TokenBytes(id, /*show_special=*/true));
}

}  // namespace

Result<ChatRenderer> ChatRenderer::ForModel(const Model& model, const Tokenizer& tokenizer) {
  const GgufFile& file = model.gguf();
  std::string_view source = kDefaultChatTemplate;
  if (file.Has(kTemplateKey)) {
    TIDAL_ASSIGN_OR_RETURN(source, file.GetString(kTemplateKey));
  } else {
    spdlog::warn("{} brings no chat template ({}), ChatML is used", file.path(), kTemplateKey);
  }
  Result<ChatTemplate> parsed = ChatTemplate::Parse(source);
  if (!parsed.ok())
    return parsed.status().Annotate(fmt::format("{}: {}", file.path(), kTemplateKey));
  ChatPromptOptions options;
  options.bos_token = TextOf(tokenizer, tokenizer.bos());
  options.eos_token = TextOf(tokenizer, tokenizer.eos());
  return ChatRenderer(&tokenizer, std::move(parsed).value(), std::move(options));
}

Result<std::string> ChatRenderer::Render(std::span<const ChatMessage> messages) const {
  Result<std::string> text = RenderChat(template_, messages, options_);
  if (!text.ok()) return text.status().Annotate("the model's chat template");
  return text;
}

std::vector<TokenId> ChatRenderer::Tokenize(std::string_view text) const {
  const bool has_bos = !options_.bos_token.empty() && text.starts_with(options_.bos_token);
  return tokenizer_->Tokenize(text, SpecialTokens::kParse,
                              has_bos ? AddBos::kNever : AddBos::kModelDefault);
}

}  // namespace tidal
