#include "cli/chat_renderer.h"

#include <optional>
#include <spdlog/spdlog.h>

namespace tidal {
namespace {

std::string TextOf(const Tokenizer& tokenizer, TokenId id) {
  return id == kNoToken ? "" : std::string(tokenizer.TokenBytes(id, /*show_special=*/true));
}

}  // namespace

Result<ChatRenderer> ChatRenderer::ForModel(const Model& model, const Tokenizer& tokenizer) {
  TIDAL_ASSIGN_OR_RETURN(const std::optional<std::string> source, model.ReadChatTemplate());
  if (!source) spdlog::warn("{} brings no chat template, ChatML is used", model.path());
  Result<ChatTemplate> parsed =
      ChatTemplate::Parse(source ? std::string_view(*source) : kDefaultChatTemplate);
  if (!parsed.ok())
    return parsed.status().Annotate(fmt::format("{}: the chat template", model.path()));
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
