// Stored references of real models (tests/data/oracle): for each prompt the ids, and the 8 best
// next tokens at every position by the official model code, run in float32 on the dequantised
// weights.
#ifndef TIDAL_TESTS_ORACLE_PROMPTS_H_
#define TIDAL_TESTS_ORACLE_PROMPTS_H_

#include <string>
#include <vector>

#include "engine/engine.h"

namespace tidal {

struct Prompt {
  std::string name;
  std::vector<TokenId> ids;
  std::vector<std::vector<TokenLogprob>> top;
};

// Of a model by its file's name; of each prompt the first $TIDAL_ORACLE_TOKENS tokens where that is
// set, which are enough under an emulator.
std::vector<Prompt> ReadOracle(const std::string& model);

}  // namespace tidal

#endif  // TIDAL_TESTS_ORACLE_PROMPTS_H_
