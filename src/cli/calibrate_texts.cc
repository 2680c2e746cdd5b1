#include "cli/calibrate_texts.h"

#include <algorithm>
#include <filesystem>

#include "cli/model_options.h"
#include "cli/prompt_options.h"

namespace tidal {
namespace {

namespace fs = std::filesystem;

// Enough to tell plans apart; each costs a prefill.
constexpr size_t kShippedTexts = 6;

std::vector<fs::path> PlacesOfTexts() {
  std::error_code error;
  std::vector<fs::path> places = {fs::path("data") / "eval"};
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  if (error) return places;
  for (fs::path folder = program.parent_path(); folder.has_relative_path();
       folder = folder.parent_path()) {
    places.push_back(folder / "data" / "eval");
    places.push_back(folder / "share" / "tidal" / "eval");
  }
  return places;
}

}  // namespace

std::vector<std::string> ShippedTexts(const std::string& kind) {
  std::error_code error;
  std::vector<std::string> paths;
  for (const fs::path& place : PlacesOfTexts()) {
    for (fs::directory_iterator entry(place / kind, error), end; !error && entry != end;
         entry.increment(error))
      if (entry->path().extension() == ".txt") paths.push_back(entry->path().string());
    if (!paths.empty()) break;
  }
  std::sort(paths.begin(), paths.end());
  std::vector<std::string> some;
  const size_t count = std::min(paths.size(), kShippedTexts);
  for (size_t i = 0; i < count; ++i) some.push_back(paths[i * paths.size() / count]);
  return some;
}

Result<std::vector<EvalDocument>> ReadTexts(const Console& console, const Tokenizer& tokenizer,
                                            const std::vector<std::string>& paths) {
  std::vector<EvalDocument> texts;
  for (const std::string& path : paths) {
    TIDAL_ASSIGN_OR_RETURN(const std::string text, ReadFile(console, path));
    texts.push_back({path == "-" ? "standard input" : BaseName(path), tokenizer.Tokenize(text)});
  }
  return texts;
}

Status CheckHeldOutTexts(const std::vector<EvalDocument>& texts,
                         const std::vector<EvalDocument>& held_out) {
  for (const EvalDocument& checked : held_out)
    for (const EvalDocument& text : texts)
      if (text.tokens == checked.tokens)
        return InvalidArgument(
            "{} is a text to calibrate on and, as {}, a held-out one: give other --held-out texts",
            text.name, checked.name);
  return OkStatus();
}

}  // namespace tidal
