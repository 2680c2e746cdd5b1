#include "chat/chat_template.h"

#include <ctime>
#include <utility>

#include <nlohmann/json.hpp>

#include "chat/jinja_interpreter.h"
#include "chat/jinja_json.h"
#include "chat/jinja_parser.h"
#include "chat/jinja_runtime.h"
#include "chat/jinja_strftime.h"
#include "chat/jinja_unicode.h"

namespace tidal {
namespace {

TemplateTime LocalTime() {
  const std::time_t seconds = std::time(nullptr);
  std::tm fields = {};
  localtime_r(&seconds, &fields);
  return {fields.tm_year + 1900, fields.tm_mon + 1, fields.tm_mday,
          fields.tm_hour,        fields.tm_min,     fields.tm_sec};
}

// One printable line of UTF-8, whatever text of the template or its variables is in the message.
Status OneLine(const Status& status) {
  const std::string& from = status.message();
  std::string message;
  for (size_t pos = 0; pos < from.size();) {
    const size_t begin = pos;
    const char32_t code = jinja::DecodeUtf8(from, &pos);
    if (code == '\n') {
      message += "\\n";
    } else if (jinja::Contains(jinja::kPrintable, code)) {
      message.append(from, begin, pos - begin);
    } else {
      message += ' ';
    }
  }
  return Status(status.code(), std::move(message)).Annotate("chat template");
}

}  // namespace

struct ChatTemplate::Impl {
  std::unique_ptr<jinja::TemplateTree> tree;
  TemplateLimits limits;
};

ChatTemplate::ChatTemplate(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;
ChatTemplate::~ChatTemplate() = default;

Result<ChatTemplate> ChatTemplate::Parse(std::string_view source, TemplateLimits limits) {
  limits.max_depth = std::min(limits.max_depth, jinja::kMaxTemplateDepth);
  Result<std::unique_ptr<jinja::TemplateTree>> tree =
      jinja::ParseTemplate(source, limits.max_depth);
  if (!tree.ok()) return OneLine(tree.status());
  auto impl = std::make_unique<Impl>();
  impl->tree = std::move(tree).value();
  impl->limits = limits;
  return ChatTemplate(std::move(impl));
}

Result<std::string> ChatTemplate::Render(const nlohmann::ordered_json& variables,
                                         const RenderOptions& options) const {
  if (!variables.is_object()) {
    return InvalidArgument("chat template: expected an object of variables, found {}",
                           variables.type_name());
  }
  const TemplateTime now = options.now.value_or(LocalTime());
  if (!jinja::IsValidTime(now)) {
    return InvalidArgument("chat template: expected a valid date and time of day, found {}-{}-{}",
                           now.year, now.month, now.day);
  }
  Result<jinja::Value> values = jinja::FromJson(variables);
  if (!values.ok()) return OneLine(values.status());
  // The runtime goes last: values of the interpreter belong to it.
  jinja::Runtime runtime(impl_->limits, now);
  jinja::Interpreter interpreter(*impl_->tree, *values, &runtime);
  Result<std::string> text = interpreter.Run();
  if (!text.ok()) return OneLine(text.status());
  return text;
}

}  // namespace tidal
