#include "cli/chat_session.h"

#include <utility>

namespace tidal {

Result<ChatSession> ChatSession::Open(Engine* engine, ChatSettings settings) {
  TIDAL_ASSIGN_OR_RETURN(const SequenceId sequence, engine->OpenSequence());
  TIDAL_ASSIGN_OR_RETURN(ChatRenderer renderer,
                         ChatRenderer::ForModel(engine->model(), engine->tokenizer()));
  return ChatSession(engine, sequence, std::move(renderer), std::move(settings));
}

// Tokens of the whole conversation. An answer's text, tokenized anew, may split differently from
// how it was drawn; as long as the template repeats it unchanged, the drawn tokens stand, which are
// those that the cache holds.
Result<ChatSession::Prompt> ChatSession::MakePrompt() const {
  std::vector<ChatMessage> messages;
  if (settings_.system) messages.push_back({"system", *settings_.system});
  messages.insert(messages.end(), messages_.begin(), messages_.end());
  Prompt prompt;
  TIDAL_ASSIGN_OR_RETURN(prompt.text, renderer_.Render(messages));
  if (known_.text.empty() || !prompt.text.starts_with(known_.text)) {
    prompt.tokens = renderer_.Tokenize(prompt.text);
    return prompt;
  }
  prompt.tokens = known_.tokens;
  const std::vector<TokenId> rest =
      engine_->tokenizer().Tokenize(std::string_view(prompt.text).substr(known_.text.size()),
                                    SpecialTokens::kParse, AddBos::kNever);
  prompt.tokens.insert(prompt.tokens.end(), rest.begin(), rest.end());
  return prompt;
}

Result<ChatAnswer> ChatSession::Answer(const InterruptScope& interrupt, const PrefillFn& on_prefill,
                                       const TextFn& on_text) {
  TIDAL_ASSIGN_OR_RETURN(Prompt prompt, MakePrompt());
  const auto prompt_tokens = static_cast<int64_t>(prompt.tokens.size());
  if (prompt_tokens >= engine_->ctx_size()) {
    return InvalidArgument(
        "the conversation has {} tokens, the context holds {} and has no room for an answer; "
        "/clear "
        "starts a new conversation, --ctx-size gives a larger context",
        prompt_tokens, engine_->ctx_size());
  }
  if (settings_.prompt_cache != nullptr)
    TIDAL_RETURN_IF_ERROR(settings_.prompt_cache->Load(engine_, sequence_, prompt.tokens));
  Request request;
  request.prompt = prompt.tokens;
  request.max_tokens = settings_.max_tokens;
  request.sampling = settings_.sampling;
  request.attention = settings_.attention;
  request.ignore_eos = settings_.ignore_eos;
  ChatAnswer answer;
  IncrementalDetokenizer detokenizer(engine_->tokenizer());
  const auto emit = [&](const std::string& text) {
    answer.text += text;
    return on_text(text);
  };
  const auto on_event = [&](const Event& event) -> Status {
    if (event.kind == Event::Kind::kPrefill) {
      on_prefill(event.done, event.timings.prompt_tokens, event.timings.reused_tokens);
    } else if (event.kind == Event::Kind::kToken) {
      if (!engine_->tokenizer().IsEndOfGeneration(event.token))
        prompt.tokens.push_back(event.token);
      return emit(detokenizer.Push(event.token));
    } else if (event.kind == Event::Kind::kFinished) {
      return emit(detokenizer.Finish());
    }
    return OkStatus();
  };
  TIDAL_ASSIGN_OR_RETURN(const RequestResult result,
                         RunRequest(engine_, sequence_, std::move(request), &interrupt, on_event));
  answer.reason = result.reason;
  answer.timings = result.timings;
  answer.attention = result.attention;
  answer.context_is_full =
      result.reason == FinishReason::kLength &&
      result.timings.prompt_tokens + result.timings.predicted_tokens >= engine_->ctx_size();
  prompt.text += answer.text;
  known_ = std::move(prompt);
  return answer;
}

Result<ChatAnswer> ChatSession::Ask(const std::string& text, const InterruptScope& interrupt,
                                    const PrefillFn& on_prefill, const TextFn& on_text) {
  messages_.push_back({"user", text});
  Result<ChatAnswer> answer = Answer(interrupt, on_prefill, on_text);
  if (answer.ok())
    messages_.push_back({"assistant", answer->text});
  else
    messages_.pop_back();
  return answer;
}

Status ChatSession::SaveCache() const {
  // After /clear the cache still holds what was to be forgotten.
  if (settings_.prompt_cache == nullptr || messages_.empty()) return OkStatus();
  return settings_.prompt_cache->Save(*engine_, sequence_, engine_->ctx_size());
}

void ChatSession::Clear() {
  messages_.clear();
  known_ = {};
}

void ChatSession::SetSystem(const std::string& text) {
  settings_.system = text.empty() ? std::nullopt : std::optional<std::string>(text);
  Clear();
}

}  // namespace tidal
