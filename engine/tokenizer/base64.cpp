#include "engine/tokenizer/base64.hpp"

#include <cstdint>

namespace millrace
{

namespace
{

int
value_of (char c)
{
  if (c >= 'A' && c <= 'Z')
    return c - 'A';
  if (c >= 'a' && c <= 'z')
    return c - 'a' + 26;
  if (c >= '0' && c <= '9')
    return c - '0' + 52;
  return c == '+' ? 62 : c == '/' ? 63 : -1;
}

} // namespace

std::optional<std::string>
decode_base64 (std::string_view text)
{
  if (text.size () % 4 != 0)
    return std::nullopt;
  size_t padding = 0;
  while (padding < 2 && text.ends_with ('=')) {
    text.remove_suffix (1);
    padding++;
  }
  std::string out;
  out.reserve (text.size () * 3 / 4);
  uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    const int value = value_of (c);
    if (value < 0)
      return std::nullopt;
    bits = bits << 6 | static_cast<uint32_t> (value);
    count += 6;
    if (count < 8)
      continue;
    count -= 8;
    out += static_cast<char> (bits >> count);
  }
  return out;
}

} // namespace millrace
