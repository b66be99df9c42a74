#include "engine/tokenizer/byte_fallback.hpp"

namespace millrace
{

namespace
{

constexpr std::string_view kHexDigits = "0123456789ABCDEF";

} // namespace

std::optional<unsigned char>
byte_of_token (std::string_view content)
{
  if (content.size () != 6 || !content.starts_with ("<0x") || content[5] != '>')
    return std::nullopt;
  const size_t high = kHexDigits.find (content[3]), low = kHexDigits.find (content[4]);
  if (high == std::string_view::npos || low == std::string_view::npos)
    return std::nullopt;
  return static_cast<unsigned char> (high << 4 | low);
}

ByteFallback
find_byte_tokens (const Vocabulary &vocabulary)
{
  ByteFallback fallback;
  fallback.enabled = true;
  std::string name = "<0x00>";
  for (int byte = 0; byte < 256; byte++) {
    name[3] = kHexDigits[byte >> 4];
    name[4] = kHexDigits[byte & 15];
    fallback.ids[byte] = vocabulary.index.find (vocabulary.contents, name);
  }
  return fallback;
}

} // namespace millrace
