// tidal inspect: what a model file holds and what memory it takes.
#include <filesystem>
#include <fmt/format.h>
#include <string>
#include <system_error>

#include <nlohmann/json.hpp>

#include "base/math.h"
#include "base/system_memory.h"
#include "cli/arguments.h"
#include "cli/command.h"
#include "cli/log.h"
#include "cli/output.h"
#include "cli/report.h"
#include "cpu/cpu_executor.h"
#include "engine/engine_setup.h"
#include "hf/hf_folder.h"
#include "kv/page_pool.h"
#include "model/describe.h"
#include "model/model.h"

namespace tidal {
namespace {

using Json = nlohmann::ordered_json;

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
  Result<std::string> DescribeAnyway() const;  // a model that this program cannot run

  std::string path_;
  int32_t ctx_size_ = 0;
  bool json_ = false;
};

InspectCommand::InspectCommand(CLI::App* app) : Command(app) {
  SetHeading(app, "Input");
  AddText(app,
          {"model", "FILE", "The model, a GGUF file or a Hugging Face folder", Presence::kRequired},
          &path_);
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

// Bits of the key index that a cache may have, and what it takes if every layer has one.
constexpr int32_t kIndexBits[] = {4, 2};

int64_t IndexBytes(const ModelConfig& config, int64_t num_tokens, int32_t bits) {
  return CeilDiv(num_tokens, kPageSize) * CpuIndexPageBytes(config, config.num_layers, bits);
}

std::string AddIndex(const ModelConfig& config, int64_t num_tokens, std::string text) {
  text +=
      fmt::format("\nkey index for a context of {} tokens, if every layer has one:\n", num_tokens);
  for (const int32_t bits : kIndexBits)
    text +=
        fmt::format("  {} bits   {}\n", bits, FormatBytes(IndexBytes(config, num_tokens, bits)));
  return text;
}

// The largest context that fits here and now, with what --cache-type-k and -v are by default and
// without a key index; 0: none.
int32_t LargestContext(const Model& model) {
  EngineOptions options;
  options.model_path = model.path();
  const Result<int32_t> fitting = ChooseCtxSize(options, model, KeyIndexChoice());
  return fitting.ok() ? *fitting : 0;
}

std::string AddFit(const Model& model, std::string text) {
  return text + fmt::format("\nmemory available: {}, for a context of {} tokens (f16 cache)\n",
                            FormatBytes(AvailableMemoryBytes()), LargestContext(model));
}

// The key index, and what fits, as AddIndex and AddFit say it.
Result<std::string> AddMemoryJson(const Model& model, int64_t num_tokens, const std::string& text) {
  Json json = Json::parse(text, nullptr, false);
  TIDAL_CHECK(json.is_object(), "the description is no JSON object");
  Json& index = json["index"] = Json::array();
  for (const int32_t bits : kIndexBits)
    index.push_back(
        {{"bits", bits}, {"total_bytes", IndexBytes(model.config(), num_tokens, bits)}});
  json["available_bytes"] = AvailableMemoryBytes();
  json["largest_context_tokens"] = LargestContext(model);
  return DumpLine(json);
}

Result<std::string> InspectCommand::DescribeAnyway() const {
  std::error_code error;
  if (std::filesystem::is_directory(path_, error)) {
    TIDAL_ASSIGN_OR_RETURN(const HfFolder folder, HfFolder::Open(path_));
    return json_ ? DescribeFolderJson(folder) : DescribeFolder(folder);
  }
  TIDAL_ASSIGN_OR_RETURN(const GgufFile file, GgufFile::Open(path_));
  return json_ ? DescribeFileJson(file) : DescribeFile(file);
}

Result<std::string> InspectCommand::Describe(const Console& console) const {
  const Result<Model> model = Model::Load(path_);
  if (model.ok()) {
    const ModelConfig& config = model->config();
    const int64_t num_tokens = ctx_size_ == 0 ? config.trained_seq_len : ctx_size_;
    TIDAL_ASSIGN_OR_RETURN(std::string text, json_ ? DescribeModelJson(*model, ctx_size_)
                                                   : DescribeModel(*model, ctx_size_));
    if (json_) return AddMemoryJson(*model, num_tokens, text);
    return AddFit(*model, AddIndex(config, num_tokens, std::move(text)));
  }
  if (model.status().code() != StatusCode::kUnsupported) return model.status();
  // A file or a folder can be looked at whether or not this program can run it.
  const Result<std::string> text = DescribeAnyway();
  if (!text.ok()) return model.status();
  console.Tell("tidal inspect: metadata and tensors only: " + model.status().message() + "\n");
  return text;
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
