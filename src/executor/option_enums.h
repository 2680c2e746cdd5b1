// The kinds that a backend's options choose among: a header light enough for device code.
#ifndef TIDAL_EXECUTOR_OPTION_ENUMS_H_
#define TIDAL_EXECUTOR_OPTION_ENUMS_H_

#include <cstdint>

namespace tidal {

// --isa. kAuto is the best that the machine has.
enum class Isa : uint8_t { kAuto, kPortable, kAvx2, kAvx512 };
// --precision. kFast may quantise activations to 8 bits; kF32 is plain float32 throughout, for
// comparisons.
enum class Precision : uint8_t { kFast, kF32 };
// -ctk, -ctv: what keys and values are stored as. kQ8_0 is the CPU's, kF8e4m3 CUDA's.
enum class CacheType : uint8_t { kF32, kF16, kBF16, kQ8_0, kF8e4m3 };
// --index-layers: which layers have a key index to choose tokens from. kAuto: those in which the
// plans that are known at load select by one, every layer where no plan is known.
enum class IndexLayers : uint8_t { kAuto, kAll, kNone };

}  // namespace tidal

#endif  // TIDAL_EXECUTOR_OPTION_ENUMS_H_
