// The texts that a calibration runs on.
#ifndef TIDAL_CLI_CALIBRATE_TEXTS_H_
#define TIDAL_CLI_CALIBRATE_TEXTS_H_

#include <string>
#include <vector>

#include "base/status.h"
#include "cli/console.h"
#include "eval/loss.h"
#include "tokenizer/tokenizer.h"

namespace tidal {

// Some of the texts of data/eval/KIND ("calibration" or "test"), evenly over their names, so that
// prose and code are among them; empty where that folder is not found: in the working directory, in
// those that the program lies in, and in share/tidal beside its own.
std::vector<std::string> ShippedTexts(const std::string& kind);

// Reads and tokenizes. Errors: those of ReadFile.
Result<std::vector<EvalDocument>> ReadTexts(const Console& console, const Tokenizer& tokenizer,
                                            const std::vector<std::string>& paths);

// kInvalidArgument where a text is in both: what is chosen by a text is not checked by it.
Status CheckHeldOutTexts(const std::vector<EvalDocument>& texts,
                         const std::vector<EvalDocument>& held_out);

}  // namespace tidal

#endif  // TIDAL_CLI_CALIBRATE_TEXTS_H_
