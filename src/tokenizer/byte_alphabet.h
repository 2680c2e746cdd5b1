// The alphabet in which byte-level BPE vocabularies are written: each of the 256 bytes is shown as
// one printable character, so that tokens are valid text. Printable ASCII and most of Latin-1 stand
// for themselves; the other bytes, in order, are U+0100, U+0101, ... (a space is U+0120, a newline
// U+010A). Source: the encoder of GPT-2.
#ifndef TIDAL_TOKENIZER_BYTE_ALPHABET_H_
#define TIDAL_TOKENIZER_BYTE_ALPHABET_H_

#include <cstdint>
#include <string>
#include <string_view>

namespace tidal {

// The character for a byte, in UTF-8 (1 or 2 bytes).
std::string ByteAlphabetCharacter(uint8_t byte);

// Appends the bytes that `text` stands for. False, and *bytes untouched, where a character is not
// in the alphabet.
bool AppendAlphabetBytes(std::string_view text, std::string* bytes);

}  // namespace tidal

#endif  // TIDAL_TOKENIZER_BYTE_ALPHABET_H_
