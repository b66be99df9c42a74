// Writing JSON strings.
#pragma once

#include <string>
#include <string_view>

namespace millrace
{

/// Appends `text` as a JSON string with quotes: quotes, backslash and control characters escaped, everything
/// else as it is. `text` must be valid UTF-8.
inline void
append_json_string (std::string &out, std::string_view text)
{
  static constexpr char kHex[] = "0123456789abcdef";
  out += '"';
  size_t plain = 0; // start of the run of characters that need no escape
  for (size_t i = 0; i < text.size (); i++) {
    const auto byte = static_cast<unsigned char> (text[i]);
    if (byte >= 0x20 && byte != '"' && byte != '\\')
      continue;
    out.append (text, plain, i - plain);
    plain = i + 1;
    switch (byte) {
    case '"':
      out += "\\\"";
      break;
    case '\\':
      out += "\\\\";
      break;
    case '\n':
      out += "\\n";
      break;
    case '\r':
      out += "\\r";
      break;
    case '\t':
      out += "\\t";
      break;
    case '\b':
      out += "\\b";
      break;
    case '\f':
      out += "\\f";
      break;
    default:
      out += "\\u00";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    }
  }
  out.append (text, plain, text.size () - plain);
  out += '"';
}

} // namespace millrace
