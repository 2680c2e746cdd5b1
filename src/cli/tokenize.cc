// tidal tokenize: text to token ids and back.
#include <fmt/format.h>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "cli/arguments.h"
#include "cli/command.h"
#include "cli/log.h"
#include "cli/model_options.h"
#include "cli/output.h"
#include "cli/prompt_options.h"
#include "cli/report.h"
#include "cli/token_list.h"
#include "gguf/gguf_file.h"
#include "tokenizer/tokenizer.h"

namespace tidal {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kFooter =
    R"(Without --json there is one line per token: its id and its text in quotes.

Examples:
  tidal tokenize -m model.gguf -p "Hello, world"
  tidal tokenize -m model.gguf -f document.txt --json
  tidal tokenize -m model.gguf --decode -p "9906 11 1917"

Exit codes: 0 fine, 1 failed, 2 wrong usage.)";

class TokenizeCommand : public Command {
 public:
  explicit TokenizeCommand(CLI::App* app);
  Status Check() override { return CheckPromptOptions(prompt_); }
  Result<int> Run(const Console& console) override;

 private:
  Result<std::string> Encoded(const Tokenizer& tokenizer, const std::string& text) const;
  Result<std::string> Decoded(const Tokenizer& tokenizer, const std::string& text) const;

  std::string model_path_;
  PromptOptions prompt_;
  bool decode_ = false;
  bool no_bos_ = false;
  bool no_special_ = false;
  bool json_ = false;
};

TokenizeCommand::TokenizeCommand(CLI::App* app) : Command(app) {
  AddModelPath(app, &model_path_);
  AddPromptOptions(app, &prompt_);
  SetHeading(app, "Input");
  AddFlag(
      app, "--decode", &decode_,
      "The other way: the input is token ids, as numbers or as JSON, and the output their text");
  AddFlag(app, "--no-bos", &no_bos_,
          "Leave out the beginning-of-text token even where the model asks for it");
  AddFlag(app, "--no-special", &no_special_,
          "Take the names of special tokens in the text, such as <|im_end|>, as plain text; with "
          "--decode leave them out");
  SetHeading(app, "Output");
  AddFlag(app, "--json", &json_, "Print {\"tokens\":[...]}, with --decode {\"text\":...}");
  AddLogOption(app);
  SetFooter(app, kFooter);
}

// A token's bytes as one line of text.
std::string Quoted(std::string_view bytes) {
  std::string quoted = Json(bytes).dump(-1, ' ', false, Json::error_handler_t::replace);
  return quoted;
}

Result<std::string> TokenizeCommand::Encoded(const Tokenizer& tokenizer,
                                             const std::string& text) const {
  const std::vector<TokenId> ids =
      tokenizer.Tokenize(text, no_special_ ? SpecialTokens::kAsText : SpecialTokens::kParse,
                         no_bos_ ? AddBos::kNever : AddBos::kModelDefault);
  if (json_) return DumpLine({{"tokens", ids}});
  std::string lines;
  for (const TokenId id : ids)
    lines += fmt::format("{:>7}  {}\n", id, Quoted(tokenizer.TokenBytes(id, true)));
  return lines;
}

Result<std::string> TokenizeCommand::Decoded(const Tokenizer& tokenizer,
                                             const std::string& text) const {
  TIDAL_ASSIGN_OR_RETURN(const std::vector<TokenId> ids,
                         ParseTokenList(prompt_.file.value_or("-p"), text));
  TIDAL_RETURN_IF_ERROR(CheckTokens(prompt_.file.value_or("-p"), ids, tokenizer.vocab_size()));
  const std::string bytes = tokenizer.Detokenize(ids, !no_special_);
  if (json_) return DumpLine({{"text", bytes}});
  return bytes;
}

Result<int> TokenizeCommand::Run(const Console& console) {
  TIDAL_ASSIGN_OR_RETURN(const std::string text, ReadPrompt(console, prompt_));
  TIDAL_ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer, Tokenizer::Open(model_path_));
  TIDAL_ASSIGN_OR_RETURN(const std::string result,
                         decode_ ? Decoded(*tokenizer, text) : Encoded(*tokenizer, text));
  Output out = Output::ToDescriptor(console.streams().out_fd, "standard output");
  TIDAL_RETURN_IF_ERROR(out.Write(result));
  if (decode_ && console.out_is_terminal() && !out.at_line_start())
    TIDAL_RETURN_IF_ERROR(out.Write("\n"));
  return kExitOk;
}

}  // namespace

std::unique_ptr<Command> MakeTokenizeCommand(CLI::App* root) {
  return std::make_unique<TokenizeCommand>(
      AddCommand(root, "tokenize", "turn text into token ids, or back with --decode"));
}

}  // namespace tidal
