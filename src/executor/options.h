// What a backend can be asked for, independent of which backend it is.
#ifndef TIDAL_EXECUTOR_OPTIONS_H_
#define TIDAL_EXECUTOR_OPTIONS_H_

#include <cstdint>
#include <string_view>

#include "base/status.h"
#include "executor/option_enums.h"

namespace tidal {

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

// The tokens of the longest sequence: `max_context` (0: any number), at most what a KV pool of
// `num_pages` pages holds.
int32_t MaxSequenceTokens(int32_t max_context, int32_t num_pages);

}  // namespace tidal

#endif  // TIDAL_EXECUTOR_OPTIONS_H_
