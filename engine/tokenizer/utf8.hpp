// UTF-8 and the few character classes of the Unicode standard that the tokenizer's parts agree on.
//
// The decoding functions want valid UTF-8 (Tokenizer::encode () makes sure of it once); LossyDecoder takes
// any bytes. Pure functions; any thread. White_Space, \w and the number categories come from ICU.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace millrace::utf8
{

constexpr std::string_view kReplacement = "\xEF\xBF\xBD"; ///< U+FFFD

struct Decoded {
  char32_t code_point;
  int size; ///< bytes, 1 … 4
};

/// Bytes of the character that starts with `lead`.
constexpr int
sequence_size (unsigned char lead)
{
  return lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

/// The character at `position`, which must be the start of one.
Decoded decode (std::string_view text, size_t position);
/// The character that ends before `position` (> 0).
Decoded decode_before (std::string_view text, size_t position);
void append (char32_t code_point, std::string &out);

bool is_ascii (std::string_view text);
bool is_white_space (char32_t c); ///< property White_Space
bool is_word (char32_t c);        ///< \w of UTS #18: Alphabetic, M, Nd, Pc and Join_Control
bool is_numeric (char32_t c);     ///< Nd, Nl, No
bool is_decimal (char32_t c);     ///< Nd

/// Turns bytes into well-formed text: maximal subparts of what is not UTF-8 become U+FFFD (Unicode §3.9).
/// Bytes may come in any portions; an unfinished character waits for the next one.
class LossyDecoder
{
public:
  void push (std::string_view bytes, std::string &out);
  void finish (std::string &out); ///< U+FFFD for an unfinished character
  bool pending () const { return size_ > 0; }
  /// Every byte of what is not UTF-8 becomes U+FFFD, as SentencePiece does it.
  void replace_each_byte (bool each) { each_byte_ = each; }

private:
  void replace (std::string &out);

  char bytes_[4] = {};
  int size_ = 0;
  bool each_byte_ = false;
};

/// `text` itself as a copy with everything that is not UTF-8 replaced.
std::string to_valid (std::string_view text);

} // namespace millrace::utf8
