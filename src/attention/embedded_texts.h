// The files of calibrations/, compiled in (cmake/TidalEmbed.cmake).
#ifndef TIDAL_ATTENTION_EMBEDDED_TEXTS_H_
#define TIDAL_ATTENTION_EMBEDDED_TEXTS_H_

#include <span>
#include <string_view>

namespace tidal {

struct EmbeddedText {
  std::string_view name;  // of the file, without .tidal.json
  std::string_view text;
};

extern const std::span<const EmbeddedText> kEmbeddedTexts;

}  // namespace tidal

#endif  // TIDAL_ATTENTION_EMBEDDED_TEXTS_H_
