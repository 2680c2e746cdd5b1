// What a backend can be asked for, independent of which backend it is.
#ifndef TIDAL_EXECUTOR_OPTIONS_H_
#define TIDAL_EXECUTOR_OPTIONS_H_

#include <cstdint>
#include <string_view>

#include "base/status.h"

namespace tidal {

// --isa. kAuto is the best that the machine has.
enum class Isa : uint8_t { kAuto, kPortable, kAvx2, kAvx512 };
// --precision. kFast may quantise activations to 8 bits; kF32 is plain float32 throughout, for
// comparisons.
enum class Precision : uint8_t { kFast, kF32 };
// -ctk, -ctv: what keys and values are stored as.
enum class CacheType : uint8_t { kF32, kF16, kBF16, kQ8_0 };
// --index-layers: which layers have a key index to choose tokens from. kAuto: those in which the
// plans that are known at load select by one, every layer where no plan is known.
enum class IndexLayers : uint8_t { kAuto, kAll, kNone };

const char* NameOf(Isa isa);
const char* NameOf(Precision precision);
const char* NameOf(CacheType type);
const char* NameOf(IndexLayers layers);
// kInvalidArgument, naming the flag `flag`, the text and what is allowed.
Result<Isa> ParseIsa(std::string_view flag, std::string_view text);
Result<Precision> ParsePrecision(std::string_view flag, std::string_view text);
Result<CacheType> ParseCacheType(std::string_view flag, std::string_view text);
Result<IndexLayers> ParseIndexLayers(std::string_view flag, std::string_view text);
// --index-bits: "auto" (0: what the plans that are known at load ask for), "4" or "2" bits of a
// code.
Result<int32_t> ParseIndexBits(std::string_view flag, std::string_view text);

}  // namespace tidal

#endif  // TIDAL_EXECUTOR_OPTIONS_H_
