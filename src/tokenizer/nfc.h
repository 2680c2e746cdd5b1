// Unicode's normalization form C, which some tokenizers bring texts into first.
#ifndef TIDAL_TOKENIZER_NFC_H_
#define TIDAL_TOKENIZER_NFC_H_

#include <string>
#include <string_view>

namespace tidal {

// Linear in the text, but for the sorting of runs of combining marks. REQUIRES: valid UTF-8.
std::string ToNfc(std::string_view text);

}  // namespace tidal

#endif  // TIDAL_TOKENIZER_NFC_H_
