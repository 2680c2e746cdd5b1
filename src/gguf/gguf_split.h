// The names of the files of a split model: PREFIX-00001-of-00003.gguf and so on.
#ifndef TIDAL_GGUF_GGUF_SPLIT_H_
#define TIDAL_GGUF_GGUF_SPLIT_H_

#include <cstdint>
#include <optional>
#include <string>

namespace tidal {

struct SplitName {
  std::string prefix;   // with the folder
  uint64_t number = 0;  // from 1
  uint64_t count = 0;

  // The path of another file of the same model, numbered from 1.
  std::string PathOf(uint64_t other) const;
};

// Nothing where `path` does not end like that.
std::optional<SplitName> ParseSplitName(const std::string& path);

}  // namespace tidal

#endif  // TIDAL_GGUF_GGUF_SPLIT_H_
