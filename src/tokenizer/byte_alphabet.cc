#include "tokenizer/byte_alphabet.h"

#include <array>

namespace tidal {
namespace {

constexpr int kFirstShifted = 0x100;
constexpr int kNumShifted = 68;  // bytes that do not stand for themselves
constexpr int kAlphabetEnd = kFirstShifted + kNumShifted;
constexpr int16_t kNotInAlphabet = -1;

constexpr bool StandsForItself(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

struct Alphabet {
  std::array<uint16_t, 256> character_of_byte;
  std::array<int16_t, kAlphabetEnd> byte_of_character;
};

constexpr Alphabet MakeAlphabet() {
  Alphabet alphabet{};
  for (auto& byte : alphabet.byte_of_character) byte = kNotInAlphabet;
  int next = kFirstShifted;
  for (int byte = 0; byte < 256; ++byte) {
    const int character = StandsForItself(byte) ? byte : next++;
    alphabet.character_of_byte[byte] = static_cast<uint16_t>(character);
    alphabet.byte_of_character[character] = static_cast<int16_t>(byte);
  }
  return alphabet;
}

constexpr Alphabet kAlphabet = MakeAlphabet();
static_assert(kAlphabet.byte_of_character[kAlphabetEnd - 1] == 0xAD);

}  // namespace

std::string ByteAlphabetCharacter(uint8_t byte) {
  const int character = kAlphabet.character_of_byte[byte];
  if (character < 0x80) return std::string(1, static_cast<char>(character));
  return {static_cast<char>(0xC0 | (character >> 6)), static_cast<char>(0x80 | (character & 0x3F))};
}

bool AppendAlphabetBytes(std::string_view text, std::string* bytes) {
  const size_t old_size = bytes->size();
  for (size_t i = 0; i < text.size(); ++i) {
    int character = static_cast<uint8_t>(text[i]);
    if (character >= 0x80 && i + 1 < text.size()) {
      const int second = static_cast<uint8_t>(text[i + 1]);
      // The alphabet ends at U+0143, so no character is longer than 2 bytes.
      const bool two_bytes = character >= 0xC2 && character <= 0xC5 && (second & 0xC0) == 0x80;
      character = two_bytes ? (character & 0x1F) << 6 | (second & 0x3F) : kAlphabetEnd;
      ++i;
    } else if (character >= 0x80) {
      character = kAlphabetEnd;
    }
    if (character >= kAlphabetEnd || kAlphabet.byte_of_character[character] == kNotInAlphabet) {
      bytes->resize(old_size);
      return false;
    }
    bytes->push_back(static_cast<char>(kAlphabet.byte_of_character[character]));
  }
  return true;
}

}  // namespace tidal
