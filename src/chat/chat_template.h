// Renders a model's chat template (tokenizer.chat_template): a Jinja subset, interpreted with no
// file or system access.
#ifndef TIDAL_CHAT_CHAT_TEMPLATE_H_
#define TIDAL_CHAT_CHAT_TEMPLATE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "base/status.h"

namespace tidal {

// A template is untrusted: rendering stops with an error at any of these.
struct TemplateLimits {
  int64_t max_steps = 2'000'000;  // statements and expression nodes evaluated
  int64_t max_output_bytes =
      16 << 20;             // of the rendered text, and of any string or list on the way
  int32_t max_depth = 100;  // of nesting: of the template's text and of calls
};

class ChatTemplate {
 public:
  // Errors: kInvalidArgument with line and column and what was expected, for what is not Jinja;
  // kUnsupported for a construct of Jinja that is not there.
  static Result<ChatTemplate> Parse(std::string_view source, TemplateLimits limits = {});

  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;
  ~ChatTemplate();

  // Renders with `variables`, an object: messages (list of {role, content, ...}),
  // add_generation_prompt, tools, bos_token, eos_token, ... Key order of objects is kept
  // (ordered_json). Errors: kInvalidArgument (the template's own raise_exception, an undefined
  // operation, a limit), with the line.
  Result<std::string> Render(const nlohmann::ordered_json& variables) const;

 private:
  struct Impl;
  explicit ChatTemplate(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tidal

#endif  // TIDAL_CHAT_CHAT_TEMPLATE_H_
