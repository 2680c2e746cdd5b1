// tidal completion: a script that teaches a shell the commands and options.
#include "cli/arguments.h"
#include "cli/command.h"
#include "cli/completion_script.h"
#include "cli/output.h"

namespace tidal {
namespace {

constexpr const char* kFooter = R"(To have it in every new shell:
  bash  echo 'source <(tidal completion bash)' >> ~/.bashrc
  zsh   echo 'source <(tidal completion zsh)' >> ~/.zshrc   (after compinit)
  fish  tidal completion fish > ~/.config/fish/completions/tidal.fish)";

class CompletionCommand : public Command {
 public:
  CompletionCommand(CLI::App* app, const CLI::App* root) : Command(app), root_(root) {
    SetHeading(app, "Input");
    AddValue<Shell>(app, {"shell", "bash|zsh|fish", "The shell to write for", Presence::kRequired},
                    &shell_, [](const std::string& flag, const std::string& text) -> Result<Shell> {
                      if (text == "bash") return Shell::kBash;
                      if (text == "zsh") return Shell::kZsh;
                      if (text == "fish") return Shell::kFish;
                      return InvalidArgument("{} is \"{}\", expected one of bash, zsh, fish", flag,
                                             text);
                    });
    SetFooter(app, kFooter);
  }

  Result<int> Run(const Console& console) override {
    Output out = Output::ToDescriptor(console.streams().out_fd, "standard output");
    TIDAL_RETURN_IF_ERROR(out.Write(CompletionScript(*root_, shell_)));
    return kExitOk;
  }

 private:
  const CLI::App* root_;
  Shell shell_ = Shell::kBash;
};

}  // namespace

std::unique_ptr<Command> MakeCompletionCommand(CLI::App* root) {
  return std::make_unique<CompletionCommand>(
      AddCommand(root, "completion", "print completion for bash, zsh or fish"), root);
}

}  // namespace tidal
