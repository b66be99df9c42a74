#include "engine/tokenizer/utf8.hpp"

#include "engine/tokenizer/tokenizer.hpp"
#include "engine/tokenizer/unicode_additions.hpp"

#include <simdjson.h>
#include <unicode/uchar.h>

#include <cstring>

namespace millrace
{

namespace
{

/// What a prefix of a character can become.
enum class Prefix { kComplete, kUnfinished, kInvalid };

/// Classifies `size` ≥ 1 bytes whose proper prefix is known to be unfinished. Table 3-7 of the Unicode
/// standard: the second byte's range depends on the first.
Prefix
classify (const unsigned char *bytes, int size)
{
  const unsigned char lead = bytes[0];
  if (lead < 0x80)
    return Prefix::kComplete;
  if (lead < 0xC2 || lead > 0xF4)
    return Prefix::kInvalid;
  if (size == 1)
    return Prefix::kUnfinished;

  unsigned char low = 0x80, high = 0xBF;
  if (size == 2) {
    if (lead == 0xE0)
      low = 0xA0;
    else if (lead == 0xED)
      high = 0x9F;
    else if (lead == 0xF0)
      low = 0x90;
    else if (lead == 0xF4)
      high = 0x8F;
  }
  const unsigned char last = bytes[size - 1];
  if (last < low || last > high)
    return Prefix::kInvalid;
  return size == utf8::sequence_size (lead) ? Prefix::kComplete : Prefix::kUnfinished;
}

} // namespace

bool
valid_utf8 (std::string_view text, size_t *offset)
{
  if (simdjson::validate_utf8 (text.data (), text.size ()))
    return true;
  if (!offset)
    return false;

  const auto *bytes = reinterpret_cast<const unsigned char *> (text.data ());
  size_t at = 0;
  while (at < text.size ()) {
    int size = 1;
    Prefix prefix = classify (bytes + at, size);
    while (prefix == Prefix::kUnfinished && at + size < text.size ())
      prefix = classify (bytes + at, ++size);
    if (prefix != Prefix::kComplete)
      break;
    at += size;
  }
  *offset = at;
  return false;
}

} // namespace millrace

namespace millrace::utf8
{

Decoded
decode (std::string_view text, size_t position)
{
  const auto *p = reinterpret_cast<const unsigned char *> (text.data ()) + position;
  if (p[0] < 0x80)
    return {p[0], 1};
  if (p[0] < 0xE0)
    return {static_cast<char32_t> ((p[0] & 0x1F) << 6 | (p[1] & 0x3F)), 2};
  if (p[0] < 0xF0)
    return {static_cast<char32_t> ((p[0] & 0x0F) << 12 | (p[1] & 0x3F) << 6 | (p[2] & 0x3F)), 3};
  return {
      static_cast<char32_t> ((p[0] & 0x07) << 18 | (p[1] & 0x3F) << 12 | (p[2] & 0x3F) << 6 | (p[3] & 0x3F)),
      4};
}

Decoded
decode_before (std::string_view text, size_t position)
{
  size_t start = position - 1;
  while (start > 0 && (static_cast<unsigned char> (text[start]) & 0xC0) == 0x80)
    start--;
  return decode (text, start);
}

void
append (char32_t c, std::string &out)
{
  if (c < 0x80) {
    out += static_cast<char> (c);
  } else if (c < 0x800) {
    out += static_cast<char> (0xC0 | c >> 6);
    out += static_cast<char> (0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    out += static_cast<char> (0xE0 | c >> 12);
    out += static_cast<char> (0x80 | (c >> 6 & 0x3F));
    out += static_cast<char> (0x80 | (c & 0x3F));
  } else {
    out += static_cast<char> (0xF0 | c >> 18);
    out += static_cast<char> (0x80 | (c >> 12 & 0x3F));
    out += static_cast<char> (0x80 | (c >> 6 & 0x3F));
    out += static_cast<char> (0x80 | (c & 0x3F));
  }
}

bool
is_ascii (std::string_view text)
{
  size_t i = 0;
  for (; i + 8 <= text.size (); i += 8) {
    uint64_t word;
    std::memcpy (&word, text.data () + i, 8);
    if (word & 0x8080808080808080)
      return false;
  }
  for (; i < text.size (); i++)
    if (static_cast<unsigned char> (text[i]) >= 0x80)
      return false;
  return true;
}

bool
is_white_space (char32_t c)
{
  if (c < 0x80)
    return c == ' ' || (c >= 9 && c <= 13);
  return u_isUWhiteSpace (static_cast<UChar32> (c));
}

bool
is_word (char32_t c)
{
  constexpr uint32_t kMask = U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK;
  const auto code = static_cast<UChar32> (c);
  return (U_GET_GC_MASK (code) & kMask) || u_isUAlphabetic (code) || c == 0x200C || c == 0x200D ||
         (u_charType (code) == U_UNASSIGNED &&
          (is_unicode_addition (c, "L") || is_unicode_addition (c, "M") || is_unicode_addition (c, "Nd")));
}

bool
is_numeric (char32_t c)
{
  if (c < 0x80)
    return c >= '0' && c <= '9';
  const uint32_t mask = U_GET_GC_MASK (static_cast<UChar32> (c));
  return (mask & U_GC_N_MASK) || ((mask & U_GC_CN_MASK) && is_unicode_addition (c, "N"));
}

bool
is_decimal (char32_t c)
{
  if (c < 0x80)
    return c >= '0' && c <= '9';
  const uint32_t mask = U_GET_GC_MASK (static_cast<UChar32> (c));
  return (mask & U_GC_ND_MASK) || ((mask & U_GC_CN_MASK) && is_unicode_addition (c, "Nd"));
}

void
LossyDecoder::push (std::string_view bytes, std::string &out)
{
  size_t at = 0;
  while (at < bytes.size ()) {
    if (size_ == 0) {
      // The common case: whole characters, copied in one go.
      size_t end = at;
      while (end < bytes.size () && static_cast<unsigned char> (bytes[end]) < 0x80)
        end++;
      out.append (bytes, at, end - at);
      at = end;
      if (at == bytes.size ())
        return;
    }
    bytes_[size_++] = bytes[at];
    switch (classify (reinterpret_cast<const unsigned char *> (bytes_), size_)) {
    case Prefix::kComplete:
      out.append (bytes_, size_);
      size_ = 0;
      at++;
      break;
    case Prefix::kUnfinished:
      at++;
      break;
    case Prefix::kInvalid:
      // The maximal subpart is what came before this byte, which may start a character of its own.
      if (size_ == 1)
        at++;
      else
        size_--;
      replace (out);
      break;
    }
  }
}

void
LossyDecoder::replace (std::string &out)
{
  for (int i = 0; i < (each_byte_ ? size_ : 1); i++)
    out += kReplacement;
  size_ = 0;
}

void
LossyDecoder::finish (std::string &out)
{
  if (size_ > 0)
    replace (out);
}

std::string
to_valid (std::string_view text)
{
  std::string out;
  out.reserve (text.size ());
  LossyDecoder decoder;
  decoder.push (text, out);
  decoder.finish (out);
  return out;
}

} // namespace millrace::utf8
