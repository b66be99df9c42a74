#include "engine/tokenizer/chars_map.hpp"

#include "engine/tokenizer/tokenizer.hpp"

#include <cstring>
#include <stdexcept>
#include <string>

namespace millrace
{

namespace
{

// A unit: bit 8 says that the node's first child is a leaf, bits 10 to 30 (shifted by 8 more with bit 9) lead to the
// children, bits 0 to 7 and 31 are the byte on the way here. A leaf has bit 31 and its value below.
constexpr uint32_t kLeafBit = 1u << 31;
constexpr size_t kLongestReplacement = 1024; // so that a text cannot become thousands of times as long

bool
has_leaf (uint32_t unit)
{
  return unit >> 8 & 1;
}

uint32_t
value_of (uint32_t leaf)
{
  return leaf & ~kLeafBit;
}

uint32_t
label_of (uint32_t unit)
{
  return unit & (kLeafBit | 0xFF);
}

uint32_t
offset_of (uint32_t unit)
{
  return (unit >> 10) << ((unit & 1u << 9) >> 6);
}

} // namespace

CharsMap::CharsMap (std::string_view blob)
{
  if (blob.empty ())
    return;
  uint32_t size = 0;
  if (blob.size () < sizeof size)
    throw std::invalid_argument ("is cut short");
  for (int i = 3; i >= 0; i--) // little-endian, on any machine
    size = size << 8 | static_cast<unsigned char> (blob[i]);
  blob.remove_prefix (sizeof size);
  if (size > blob.size () || size % sizeof (uint32_t) != 0 || size == 0)
    throw std::invalid_argument ("has a table of " + std::to_string (size) + " bytes in " +
                                 std::to_string (blob.size ()));
  units_.resize (size / sizeof (uint32_t));
  for (size_t i = 0; i < units_.size (); i++)
    for (int byte = 3; byte >= 0; byte--)
      units_[i] = units_[i] << 8 | static_cast<unsigned char> (blob[i * 4 + byte]);
  replacements_ = blob.substr (size);
  if (!valid_utf8 (replacements_))
    throw std::invalid_argument ("has replacements that are not valid UTF-8");
  replacements_ += '\0';
  for (size_t begin = 0, end = 0; begin < replacements_.size (); begin = end + 1) {
    end = replacements_.find ('\0', begin);
    if (end - begin > kLongestReplacement)
      throw std::invalid_argument ("has a replacement of " + std::to_string (end - begin) + " bytes");
  }
}

CharsMap::Match
CharsMap::find (std::string_view text, bool longest) const
{
  Match match;
  if (units_.empty ())
    return match;
  uint64_t at = offset_of (units_[0]);
  for (size_t i = 0; i < text.size (); i++) {
    const auto byte = static_cast<unsigned char> (text[i]);
    at ^= byte;
    if (byte == 0 || at >= units_.size () || label_of (units_[at]) != byte)
      break;
    const uint32_t unit = units_[at];
    at ^= offset_of (unit);
    if (!has_leaf (unit))
      continue;
    if (at >= units_.size ())
      break;
    const uint32_t value = value_of (units_[at]);
    if (value >= replacements_.size ())
      continue; // no such text: the rule is broken
    const bool whole = i + 1 == text.size () || (static_cast<unsigned char> (text[i + 1]) & 0xC0) != 0x80;
    if (!whole || (static_cast<unsigned char> (replacements_[value]) & 0xC0) == 0x80)
      continue; // ends or begins within a character
    match = {i + 1, std::string_view (replacements_.data () + value)};
    if (!longest)
      break;
  }
  return match;
}

} // namespace millrace
