// The calibrations that ship with the program, for models that have no sidecar beside them.
#ifndef TIDAL_ATTENTION_BUILT_IN_CALIBRATIONS_H_
#define TIDAL_ATTENTION_BUILT_IN_CALIBRATIONS_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "attention/embedded_texts.h"
#include "attention/sidecar.h"
#include "base/status.h"

namespace tidal {

// The files of calibrations/.
std::span<const EmbeddedText> BuiltInCalibrations();

// The first of `calibrations` that was made for the model with this hash, as a sidecar whose name
// is "the built-in calibration of NAME"; none where there is none. Errors: those of Sidecar::Parse.
Result<std::optional<Sidecar>> FindCalibration(std::span<const EmbeddedText> calibrations,
                                               std::string_view model_hash, int32_t num_layers,
                                               int32_t num_kv_heads);

}  // namespace tidal

#endif  // TIDAL_ATTENTION_BUILT_IN_CALIBRATIONS_H_
