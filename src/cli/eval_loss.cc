// tidal eval loss: what plans lose against full attention on given text.
#include <string>
#include <vector>

#include "cli/arguments.h"
#include "cli/command.h"
#include "cli/log.h"
#include "cli/model_options.h"
#include "eval/loss.h"

namespace tidal {
namespace {

class EvalLossCommand : public Command {
 public:
  explicit EvalLossCommand(CLI::App* app);
  Result<int> Run(const Console& console) override;

 private:
  ModelOptions model_;
  std::vector<std::string> files_;
};

EvalLossCommand::EvalLossCommand(CLI::App* app) : Command(app) {
  SetHeading(app, "Input");
  AddOption(app,
            {"-f,--file", "FILE", "A text; several, each with its -f, are documents",
             Presence::kRequired, Arity::kRepeated},
            [this](const std::string&, const std::string& path) {
              files_.push_back(path);
              return OkStatus();
            });
  AddModelOptions(app, &model_);
  AddLogOption(app);
}

Result<int> EvalLossCommand::Run(const Console& console) {
  return Unsupported("{} texts: not measured yet", files_.size());
}

}  // namespace

std::unique_ptr<Command> MakeEvalLossCommand(CLI::App* eval) {
  return std::make_unique<EvalLossCommand>(
      AddCommand(eval, "loss", "loss against full attention on a text, with intervals"));
}

}  // namespace tidal
