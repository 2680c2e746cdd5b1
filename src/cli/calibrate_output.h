// What tidal calibrate prints and writes.
#ifndef TIDAL_CLI_CALIBRATE_OUTPUT_H_
#define TIDAL_CLI_CALIBRATE_OUTPUT_H_

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "attention/sidecar.h"
#include "eval/calibration.h"

namespace tidal {

// A table for people, with the front of loss against bytes and the plans that were chosen. Ends
// with a newline.
std::string CalibrationTable(const std::string& model, const CalibrationRequest& request,
                             const CalibrationResult& result);
nlohmann::ordered_json CalibrationJson(const std::string& model, const CalibrationRequest& request,
                                       const CalibrationResult& result);

// The plans as entries of a sidecar. The losses that these name are those on held-out texts, where
// there are any.
std::vector<MeasuredEntry> SidecarEntries(const CalibrationRequest& request,
                                          const CalibrationResult& result);

}  // namespace tidal

#endif  // TIDAL_CLI_CALIBRATE_OUTPUT_H_
