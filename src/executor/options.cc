#include "executor/options.h"

#include <algorithm>
#include <array>
#include <span>
#include <string>

#include "base/check.h"
#include "kv/page_pool.h"

namespace tidal {
namespace {

template <typename T>
struct Named {
  T value;
  const char* name;
};

constexpr std::array<Named<Isa>, 4> kIsas = {{{Isa::kAuto, "auto"},
                                              {Isa::kPortable, "portable"},
                                              {Isa::kAvx2, "avx2"},
                                              {Isa::kAvx512, "avx512"}}};
constexpr std::array<Named<Precision>, 2> kPrecisions = {
    {{Precision::kFast, "fast"}, {Precision::kF32, "f32"}}};
constexpr std::array<Named<CacheType>, 5> kCacheTypes = {{{CacheType::kF32, "f32"},
                                                          {CacheType::kF16, "f16"},
                                                          {CacheType::kBF16, "bf16"},
                                                          {CacheType::kQ8_0, "q8_0"},
                                                          {CacheType::kF8e4m3, "f8e4m3"}}};
constexpr std::array<Named<IndexLayers>, 3> kIndexLayers = {
    {{IndexLayers::kAuto, "auto"}, {IndexLayers::kAll, "all"}, {IndexLayers::kNone, "none"}}};
constexpr std::array<Named<int32_t>, 3> kIndexBits = {{{0, "auto"}, {4, "4"}, {2, "2"}}};

template <typename T>
const char* FindName(std::span<const Named<T>> names, T value) {
  for (const Named<T>& entry : names)
    if (entry.value == value) return entry.name;
  TIDAL_CHECK(false, "value {} has no name", static_cast<int>(value));
  return "";
}

template <typename T>
Result<T> FindValue(std::span<const Named<T>> names, std::string_view flag, std::string_view text) {
  std::string allowed;
  for (const Named<T>& entry : names) {
    if (entry.name == text) return entry.value;
    if (!allowed.empty()) allowed += ", ";
    allowed += entry.name;
  }
  return InvalidArgument("{} is \"{}\", expected one of {}", flag, text, allowed);
}

}  // namespace

const char* NameOf(Isa isa) { return FindName<Isa>(kIsas, isa); }
const char* NameOf(Precision precision) { return FindName<Precision>(kPrecisions, precision); }
const char* NameOf(CacheType type) { return FindName<CacheType>(kCacheTypes, type); }
const char* NameOf(IndexLayers layers) { return FindName<IndexLayers>(kIndexLayers, layers); }

Result<Isa> ParseIsa(std::string_view flag, std::string_view text) {
  return FindValue<Isa>(kIsas, flag, text);
}
Result<Precision> ParsePrecision(std::string_view flag, std::string_view text) {
  return FindValue<Precision>(kPrecisions, flag, text);
}
Result<CacheType> ParseCacheType(std::string_view flag, std::string_view text) {
  return FindValue<CacheType>(kCacheTypes, flag, text);
}
Result<IndexLayers> ParseIndexLayers(std::string_view flag, std::string_view text) {
  return FindValue<IndexLayers>(kIndexLayers, flag, text);
}
Result<int32_t> ParseIndexBits(std::string_view flag, std::string_view text) {
  return FindValue<int32_t>(kIndexBits, flag, text);
}

int32_t MaxSequenceTokens(int32_t max_context, int32_t num_pages) {
  const int32_t pool_tokens = num_pages * kPageSize;
  return max_context == 0 ? pool_tokens : std::min(max_context, pool_tokens);
}

}  // namespace tidal
