// The numbers of the saved prompt's format, which docs/prompt_cache.md explains.
#ifndef TIDAL_ENGINE_SAVED_PROMPT_FORMAT_H_
#define TIDAL_ENGINE_SAVED_PROMPT_FORMAT_H_

#include <cstdint>
#include <string_view>

namespace tidal {

inline constexpr std::string_view kSavedPromptMagic = "TidalKV\n";
inline constexpr uint32_t kSavedPromptVersion = 1;
inline constexpr int64_t kChecksumBytes = 8;
// Magic, version, length of the head: what tells the rest of the head.
inline constexpr int64_t kSavedPromptPreambleBytes = 16;
// Bounds of what a head may say, far above what any engine writes.
inline constexpr int64_t kMaxSavedPromptHeadBytes = int64_t{1} << 16;
inline constexpr int64_t kMaxSavedPromptTokens = int64_t{1} << 27;
inline constexpr int64_t kMaxSavedPageBytes = int64_t{1} << 40;

}  // namespace tidal

#endif  // TIDAL_ENGINE_SAVED_PROMPT_FORMAT_H_
