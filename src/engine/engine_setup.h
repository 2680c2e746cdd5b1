// What is decided when an engine is made: whether its options can be had, the context's size, the
// model's sidecar.
#ifndef TIDAL_ENGINE_ENGINE_SETUP_H_
#define TIDAL_ENGINE_ENGINE_SETUP_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "attention/built_in_calibrations.h"
#include "attention/sidecar.h"
#include "base/status.h"
#include "engine/engine.h"
#include "engine/key_index_choice.h"
#include "model/model.h"

namespace tidal {

// kInvalidArgument or kUnsupported, naming the flag. REQUIRES: a ctx_size where there are
// cache_tokens.
Status CheckOptions(const EngineOptions& options);

// The RoPE scaling that was asked for in place of the file's, as the command line has it
// ("--rope-scaling yarn --rope-scale 4"); empty where none was.
std::string RopeText(const EngineOptions& options);

// Puts it in place. kInvalidArgument, naming the flags. REQUIRES: options that CheckOptions took.
Status OverrideRope(const EngineOptions& options, Model* model);

// The context to use: what was asked for, checked; or what the model was trained with, cut to what
// fits in memory. kInvalidArgument, kOutOfMemory (with the largest context that fits).
Result<int32_t> ChooseCtxSize(const EngineOptions& options, const Model& model,
                              const KeyIndexChoice& index);

// Pages of the cache: room for max_sequences contexts, or for cache_tokens. kOutOfMemory. REQUIRES:
// options.ctx_size is what ChooseCtxSize gave.
Result<int32_t> ChooseNumPages(const EngineOptions& options, const Model& model,
                               const KeyIndexChoice& index);

// The calibrated plans beside the model's file; where there is no such file those of `built_in` for
// this model, or none. Errors: kIo, those of ModelHash and Sidecar::Parse.
Result<std::optional<Sidecar>> ReadSidecar(
    const std::string& model_path, const Model& model,
    std::span<const EmbeddedText> built_in = BuiltInCalibrations());

}  // namespace tidal

#endif  // TIDAL_ENGINE_ENGINE_SETUP_H_
