#include "attention/built_in_calibrations.h"

#include <fmt/format.h>
#include <utility>

namespace tidal {

std::span<const EmbeddedText> BuiltInCalibrations() { return kEmbeddedTexts; }

Result<std::optional<Sidecar>> FindCalibration(std::span<const EmbeddedText> calibrations,
                                               std::string_view model_hash, int32_t num_layers,
                                               int32_t num_kv_heads) {
  for (const EmbeddedText& calibration : calibrations) {
    // A hash is in no other place of a calibration; a table of many is searched without parsing it.
    if (calibration.text.find(model_hash) == std::string_view::npos) continue;
    TIDAL_ASSIGN_OR_RETURN(
        Sidecar sidecar,
        Sidecar::Parse(fmt::format("the built-in calibration of {}", calibration.name),
                       calibration.text, model_hash, num_layers, num_kv_heads));
    return std::optional<Sidecar>(std::move(sidecar));
  }
  return std::optional<Sidecar>();
}

}  // namespace tidal
