// The printable alphabet of byte-level BPE: one character for each byte.
//
// Printable Latin-1 bytes stand for themselves, the others for U+0100, U+0101, … in byte order, so that a
// vocabulary of byte strings can be written as JSON text. Source: `bytes_to_unicode` of GPT-2's encoder.
#pragma once

#include <array>
#include <cstdint>

namespace millrace
{

struct ByteAlphabet {
  std::array<char16_t, 256> character; ///< byte → character, all < U+0144
  std::array<int16_t, 0x144> byte;     ///< character → byte, -1 for characters outside the alphabet
};

constexpr ByteAlphabet
make_byte_alphabet ()
{
  ByteAlphabet alphabet{};
  alphabet.byte.fill (-1);
  char16_t next = 0x100;
  for (int byte = 0; byte < 256; byte++) {
    const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    alphabet.character[byte] = printable ? static_cast<char16_t> (byte) : next++;
    alphabet.byte[alphabet.character[byte]] = static_cast<int16_t> (byte);
  }
  return alphabet;
}

inline constexpr ByteAlphabet kByteAlphabet = make_byte_alphabet ();

} // namespace millrace
