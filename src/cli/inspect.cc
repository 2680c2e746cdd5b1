// tidal inspect: what a model file holds and what memory it takes.
#include <string>

#include "cli/arguments.h"
#include "cli/command.h"
#include "cli/log.h"
#include "cli/output.h"
#include "model/describe.h"
#include "model/model.h"

namespace tidal {
namespace {

constexpr int32_t kMaxCtxSize = 1 << 27;

constexpr const char* kFooter = R"(Examples:
  tidal inspect model.gguf
  tidal inspect model.gguf -c 32768
  tidal inspect model.gguf --json

Exit codes: 0 fine, 1 failed, 2 wrong usage.)";

class InspectCommand : public Command {
 public:
  explicit InspectCommand(CLI::App* app);
  Result<int> Run(const Console& console) override;

 private:
  Result<std::string> Describe(const Console& console) const;

  std::string path_;
  int32_t ctx_size_ = 0;
  bool json_ = false;
};

InspectCommand::InspectCommand(CLI::App* app) : Command(app) {
  SetHeading(app, "Input");
  AddText(app, {"model", "FILE", "The model, a GGUF file", Presence::kRequired}, &path_);
  SetHeading(app, "Output");
  AddInt(app,
         {"-c,--ctx-size", "N",
          "Show the cache memory of a context of N tokens (default: 0, what the model was trained "
          "with)"},
         &ctx_size_, {0, kMaxCtxSize});
  AddFlag(app, "--json", &json_, "Print one JSON object");
  AddLogOption(app);
  SetFooter(app, kFooter);
}

Result<std::string> InspectCommand::Describe(const Console& console) const {
  const Result<Model> model = Model::Load(path_);
  if (model.ok())
    return json_ ? DescribeModelJson(*model, ctx_size_) : DescribeModel(*model, ctx_size_);
  if (model.status().code() != StatusCode::kUnsupported) return model.status();
  // A file can be looked at whether or not this program can run it.
  Result<GgufFile> file = GgufFile::Open(path_);
  if (!file.ok()) return model.status();
  console.Tell("tidal inspect: metadata and tensors only: " + model.status().message() + "\n");
  return json_ ? DescribeFileJson(*file) : DescribeFile(*file);
}

Result<int> InspectCommand::Run(const Console& console) {
  TIDAL_ASSIGN_OR_RETURN(std::string text, Describe(console));
  if (!text.ends_with('\n')) text += '\n';
  Output out = Output::ToDescriptor(console.streams().out_fd, "standard output");
  TIDAL_RETURN_IF_ERROR(out.Write(text));
  return kExitOk;
}

}  // namespace

std::unique_ptr<Command> MakeInspectCommand(CLI::App* root) {
  return std::make_unique<InspectCommand>(
      AddCommand(root, "inspect", "show a model's metadata, tensors and memory"));
}

}  // namespace tidal
