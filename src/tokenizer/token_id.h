// The number of a token in its vocabulary.
#ifndef TIDAL_TOKENIZER_TOKEN_ID_H_
#define TIDAL_TOKENIZER_TOKEN_ID_H_

#include <cstdint>

namespace tidal {

using TokenId = int32_t;
inline constexpr TokenId kNoToken = -1;

}  // namespace tidal

#endif  // TIDAL_TOKENIZER_TOKEN_ID_H_
