// Means and intervals of measured losses.
#ifndef TIDAL_EVAL_LOSS_SUMMARY_H_
#define TIDAL_EVAL_LOSS_SUMMARY_H_

#include <cstdint>

#include "eval/loss.h"

namespace tidal {

// Fills in what LossResult has of summaries, estimates and guards, from its windows. Units of the
// bootstrap are documents where there are at least two with a window, windows otherwise. REQUIRES:
// at least one window.
void Summarize(uint64_t seed, LossResult* result);

}  // namespace tidal

#endif  // TIDAL_EVAL_LOSS_SUMMARY_H_
