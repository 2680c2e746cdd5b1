#include "eval/task_jsonl.h"

#include <nlohmann/json.hpp>

#include "eval/json_lines.h"
#include "eval/task_score.h"

namespace tidal {
namespace {

using Json = nlohmann::ordered_json;

Result<std::optional<double>> ReadDepth(const Json& object) {
  const auto found = object.find("depth");
  if (found == object.end() || found->is_null()) return std::optional<double>();
  if (!found->is_number()) return InvalidArgument("\"depth\" is neither null nor a number");
  const auto depth = found->get<double>();
  if (!(depth >= 0 && depth <= 1))
    return InvalidArgument("\"depth\" is {}, expected 0 to 1", depth);
  return std::optional<double>(depth);
}

Result<TaskMetric> ReadMetric(const Json& object) {
  TIDAL_ASSIGN_OR_RETURN(const std::string name, JsonText(object, "metric"));
  const std::optional<TaskMetric> metric = FindTaskMetric(name);
  if (!metric) return InvalidArgument("\"metric\" is \"{}\", which is not known", name);
  return *metric;
}

Result<TaskPrompt> ReadPrompt(const Json& object) {
  TaskPrompt prompt;
  TIDAL_ASSIGN_OR_RETURN(prompt.task, JsonText(object, "task"));
  TIDAL_ASSIGN_OR_RETURN(prompt.length, JsonCount(object, "length", 1));
  TIDAL_ASSIGN_OR_RETURN(prompt.depth, ReadDepth(object));
  TIDAL_ASSIGN_OR_RETURN(prompt.number, JsonCount(object, "number", 0));
  TIDAL_ASSIGN_OR_RETURN(prompt.context, JsonText(object, "context"));
  TIDAL_ASSIGN_OR_RETURN(prompt.question, JsonText(object, "question"));
  TIDAL_ASSIGN_OR_RETURN(prompt.answer_prefix, JsonText(object, "answer_prefix"));
  TIDAL_ASSIGN_OR_RETURN(prompt.answers, JsonTexts(object, "answers"));
  TIDAL_ASSIGN_OR_RETURN(prompt.classes, JsonTexts(object, "classes"));
  TIDAL_ASSIGN_OR_RETURN(prompt.max_tokens, JsonCount(object, "max_tokens", 1));
  TIDAL_ASSIGN_OR_RETURN(prompt.metric, ReadMetric(object));
  const auto chat = object.find("chat");
  if (chat == object.end() || !chat->is_boolean())
    return InvalidArgument("\"chat\" is neither true nor false");
  prompt.chat = chat->get<bool>();
  if (prompt.answers.empty()) return InvalidArgument("\"answers\" is empty");
  if (prompt.question.empty()) return InvalidArgument("\"question\" is empty");
  return prompt;
}

}  // namespace

std::string TaskPromptLine(const TaskPrompt& prompt) {
  const Json object = {{"task", prompt.task},
                       {"length", prompt.length},
                       {"depth", prompt.depth ? Json(*prompt.depth) : Json()},
                       {"number", prompt.number},
                       {"context", prompt.context},
                       {"question", prompt.question},
                       {"answer_prefix", prompt.answer_prefix},
                       {"answers", prompt.answers},
                       {"classes", prompt.classes},
                       {"max_tokens", prompt.max_tokens},
                       {"metric", NameOf(prompt.metric)},
                       {"chat", prompt.chat}};
  return object.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

Result<std::vector<TaskPrompt>> ParseTaskPrompts(std::string_view name, std::string_view text) {
  std::vector<TaskPrompt> prompts;
  const auto take = [&](const Json& object) -> Status {
    TIDAL_ASSIGN_OR_RETURN(TaskPrompt prompt, ReadPrompt(object));
    prompts.push_back(std::move(prompt));
    return OkStatus();
  };
  TIDAL_RETURN_IF_ERROR(ForEachJsonLine(name, text, take));
  if (prompts.empty())
    return InvalidArgument("{}: no prompt, expected one JSON object a line", name);
  return prompts;
}

}  // namespace tidal
