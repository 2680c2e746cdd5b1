// Renders a model's chat template (tokenizer.chat_template): Jinja as chat templates use it,
// interpreted with no file or system access. The result is that of the Python package jinja2 in the
// environment that Hugging Face transformers gives to chat templates (trim_blocks, lstrip_blocks,
// loop controls, an immutable sandbox); docs/chat_templates.md lists what is there and what is not.
#ifndef TIDAL_CHAT_CHAT_TEMPLATE_H_
#define TIDAL_CHAT_CHAT_TEMPLATE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json_fwd.hpp>

#include "base/status.h"

namespace tidal {

// A template is untrusted: rendering stops with an error at any of these.
struct TemplateLimits {
  int64_t max_steps =
      2'000'000;  // statements and expression nodes evaluated, parts of text handled
  int64_t max_output_bytes =
      16 << 20;             // of the rendered text, and of any string or list on the way
  int32_t max_depth = 100;  // of nesting: of the template's text and of calls; at most 200
};

// A date and time of day, as strftime_now shows it to a template.
struct TemplateTime {
  int32_t year = 1970;
  int32_t month = 1;  // 1 to 12
  int32_t day = 1;    // 1 to 31
  int32_t hour = 0;
  int32_t minute = 0;
  int32_t second = 0;
};

struct RenderOptions {
  // What strftime_now formats; without it, the local time of the machine.
  std::optional<TemplateTime> now;
};

// Threads: const member functions may run at the same time.
class ChatTemplate {
 public:
  // Errors: kInvalidArgument with line and column and what was expected, for what is not Jinja or
  // is beyond the limits; kUnsupported for a construct of Jinja that is not there.
  static Result<ChatTemplate> Parse(std::string_view source, TemplateLimits limits = {});

  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;
  ~ChatTemplate();

  // Renders with `variables`, an object: messages (list of {role, content, ...}),
  // add_generation_prompt, tools, bos_token, eos_token, ... Key order of objects is kept
  // (ordered_json). Errors: kInvalidArgument (the template's own raise_exception, an undefined
  // operation, a limit), with the line; kUnsupported for a filter, test or method of Jinja that is
  // not there. Memory: at most some eight times max_output_bytes beside the variables.
  Result<std::string> Render(const nlohmann::ordered_json& variables,
                             const RenderOptions& options = {}) const;

 private:
  struct Impl;
  explicit ChatTemplate(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace tidal

#endif  // TIDAL_CHAT_CHAT_TEMPLATE_H_
