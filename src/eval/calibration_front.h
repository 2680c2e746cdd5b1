// Plans that a calibration compares, what they read, and which of them meets a target.
#ifndef TIDAL_EVAL_CALIBRATION_FRONT_H_
#define TIDAL_EVAL_CALIBRATION_FRONT_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "attention/plan_enums.h"
#include "engine/engine.h"
#include "eval/calibration_search.h"

namespace tidal {

// The plan `tidal` with what a calibration chooses.
struct CalibrationPoint {
  int32_t budget = 0;  // tokens of a set
  SetScope scope = SetScope::kShared;
  int32_t index_bits = 4;
  LayerSet select;
  double kl = 0;  // to full attention on the texts of the calibration
  double extra_nats = 0;
  double scan_bytes = 0;  // of a step at the calibration's context, read to choose by
  double gather_bytes = 0;

  double bytes() const { return scan_bytes + gather_bytes; }
};

// Its text, which tells it from all others: "tidal:budget=512:select=0+3:...:below=0".
std::string PlanText(const CalibrationPoint& point);

// What a step reads of a cache with so many tokens.
struct CacheCosts {
  CacheCosts() = default;
  // Of an engine whose layers all have an index.
  CacheCosts(const Engine& engine, int32_t num_tokens);

  int32_t num_layers = 0;
  double layer_bytes = 0;        // K and V of one layer
  double layer_index_bytes = 0;  // its index
  double token_bytes = 0;        // K and V of one token in one layer
  int32_t gqa_ratio = 1;

  double all_bytes() const { return num_layers * layer_bytes; }
  // Of all K and V, what so many layers scan.
  double ScanShare(size_t num_selection_layers) const;
  // The most selection layers that scan no more than this share.
  int32_t MostLayers(double scan_share) const;
  void Fill(CalibrationPoint* point) const;
};

// What a calibration is to reach: a loss, with the fewest bytes; or a scan, with the least loss.
struct CalibrationTarget {
  double max_kl = 0;          // 0: none
  double max_scan_share = 0;  // of all K and V; 0: none
};

// The point of this budget and these bits that serves best: within the target, the one with the
// fewest bytes (of equal ones with the least loss), or under a limit of scanning with the least
// loss. Null where none is within the target.
const CalibrationPoint* BestPoint(std::span<const CalibrationPoint> points, int32_t budget,
                                  int32_t index_bits, const CalibrationTarget& target,
                                  double all_bytes);

// Those that no other beats in bytes and loss, by ascending bytes.
std::vector<CalibrationPoint> FrontOf(std::vector<CalibrationPoint> points);

}  // namespace tidal

#endif  // TIDAL_EVAL_CALIBRATION_FRONT_H_
