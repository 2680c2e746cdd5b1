// Stored references of real models (tests/data/oracle): for each prompt the ids, and the 8 best
// next tokens at every position by the official model code, run in float32 on the dequantised
// weights.
#ifndef TIDAL_TESTS_ORACLE_PROMPTS_H_
#define TIDAL_TESTS_ORACLE_PROMPTS_H_

#include <cstddef>
#include <string>
#include <vector>

#include "engine/engine.h"

namespace tidal {

struct Prompt {
  std::string name;
  std::vector<TokenId> ids;
  std::vector<std::vector<TokenLogprob>> top;
};

// $TIDAL_ORACLE_TOKENS, for emulators: so many tokens of each prompt are enough.
size_t MaxPromptTokens();

// Of a model by its file's name, without what lies behind MaxPromptTokens().
std::vector<Prompt> ReadOracle(const std::string& model);

}  // namespace tidal

#endif  // TIDAL_TESTS_ORACLE_PROMPTS_H_
