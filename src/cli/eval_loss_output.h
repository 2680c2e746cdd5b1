// What tidal eval loss prints.
#ifndef TIDAL_CLI_EVAL_LOSS_OUTPUT_H_
#define TIDAL_CLI_EVAL_LOSS_OUTPUT_H_

#include <string>

#include <nlohmann/json.hpp>

#include "eval/free_run.h"
#include "eval/loss.h"

namespace tidal {

// A table for people. Ends with a newline.
std::string LossTable(const std::string& model, const LossRequest& request,
                      const LossResult& result);

std::string FreeRunTable(const std::string& model, const FreeRunRequest& request,
                         const FreeRunResult& result);

// Without the single tokens.
nlohmann::ordered_json LossJson(const std::string& model, const LossRequest& request,
                                const LossResult& result);
nlohmann::ordered_json FreeRunJson(const std::string& model, const FreeRunRequest& request,
                                   const FreeRunResult& result);

}  // namespace tidal

#endif  // TIDAL_CLI_EVAL_LOSS_OUTPUT_H_
