// Calibrated plans of one model, as NAME.tidal.json beside NAME.gguf holds them. Format and rules:
// docs/attention_plans.md.
#ifndef TIDAL_ATTENTION_SIDECAR_H_
#define TIDAL_ATTENTION_SIDECAR_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "attention/attention_plan.h"
#include "base/status.h"

namespace tidal {

// One calibrated plan.
struct SidecarEntry {
  std::string preset;  // which preset it serves
  int32_t budget = 0;  // tokens
  std::optional<int32_t> below;
  std::vector<int32_t> select;
  std::vector<int32_t> full;
  std::optional<SetScope> scope;
  std::optional<Scorer> scorer;
  std::vector<std::vector<int32_t>> headmap;  // kascade: per reuse layer, the set of each KV head
};

class Sidecar {
 public:
  // Reads the JSON text of a sidecar. `name` is the file's, for messages. `model_hash` is the
  // model's: a file for another model is refused by name. Errors: kCorrupt (what is wrong where;
  // layer numbers outside 0 .. num_layers - 1, unsorted or repeated, absurd counts included),
  // kInvalidArgument (another model's).
  static Result<Sidecar> Parse(std::string_view name, std::string_view json,
                               std::string_view model_hash, int32_t num_layers,
                               int32_t num_kv_heads);

  const std::string& name() const { return name_; }
  const std::vector<SidecarEntry>& entries() const { return entries_; }
  // Of the preset's entries the one with the largest budget not above `budget`, the smallest where
  // all are larger; null where there is none.
  const SidecarEntry* Find(std::string_view preset, int64_t budget) const;

 private:
  std::string name_;
  std::vector<SidecarEntry> entries_;  // by preset and ascending budget
};

// What a calibration says of an entry, for people: it is not read.
struct SidecarMeasurement {
  double scan_share = 0;  // of all K and V that a step scans to choose by
  double kl = 0;          // to full attention, nats
  double extra_nats = 0;
  std::string calibrated_on;
};
struct MeasuredEntry {
  SidecarEntry entry;
  SidecarMeasurement measurement;
};

// The text of a sidecar with these entries, all of one preset. `existing` is the text of the file
// that it takes the place of (may be empty): where that is of the same model, its plans for other
// presets stay. REQUIRES: entries.
std::string SidecarText(std::string_view model_hash, std::span<const MeasuredEntry> entries,
                        std::string_view existing);

// NAME.tidal.json for NAME.gguf, model.tidal.json in a folder; whether or not it is there.
std::string SidecarPath(const std::string& model_path);

}  // namespace tidal

#endif  // TIDAL_ATTENTION_SIDECAR_H_
