// Text of hostile files in messages.
#include "engine/weights/tensor_entry.hpp"

#include <algorithm>

namespace millrace
{

namespace
{

constexpr size_t kMaxPrintable = 160;

} // namespace

std::string
printable (std::string_view text)
{
  size_t length = std::min (text.size (), kMaxPrintable);
  while (length < text.size () && length > 0 && (static_cast<unsigned char> (text[length]) & 0xc0) == 0x80)
    --length; // not in the middle of a UTF-8 character
  std::string result;
  for (const char c : text.substr (0, length))
    result += static_cast<unsigned char> (c) < 0x20 || c == 0x7f ? '?' : c;
  return length < text.size () ? result + "..." : result;
}

} // namespace millrace
