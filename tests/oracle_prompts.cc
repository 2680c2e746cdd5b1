#include "oracle_prompts.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <fstream>

#include <nlohmann/json.hpp>

namespace tidal {
namespace {

size_t MaxPromptTokens() {
  const char* tokens = std::getenv("TIDAL_ORACLE_TOKENS");
  return tokens != nullptr ? std::max(std::strtoul(tokens, nullptr, 10), 1ul) : SIZE_MAX;
}

}  // namespace

std::vector<Prompt> ReadOracle(const std::string& model) {
  std::ifstream file(TIDAL_SOURCE_DIR "/tests/data/oracle/" + model + ".logits.json");
  std::vector<Prompt> prompts;
  const nlohmann::json oracle = nlohmann::json::parse(file);
  for (const auto& entry : oracle["prompts"]) {
    Prompt prompt{entry["name"], entry["ids"], {}};
    for (const auto& position : entry["top"]) {
      prompt.top.emplace_back();
      for (const auto& pair : position) prompt.top.back().push_back({pair[0], pair[1]});
    }
    const size_t num_tokens = std::min(prompt.ids.size(), MaxPromptTokens());
    prompt.ids.resize(num_tokens);
    prompt.top.resize(num_tokens);
    prompts.push_back(std::move(prompt));
  }
  return prompts;
}

}  // namespace tidal
