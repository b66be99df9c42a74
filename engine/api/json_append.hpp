// Pieces of JSON, appended.
#pragma once

#include "engine/json_text.hpp"

#include <charconv>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>

namespace millrace
{

inline void
append_integer (std::string &out, int64_t value)
{
  char digits[24];
  out.append (digits, std::to_chars (digits, digits + sizeof digits, value).ptr);
}

inline void
append_unsigned (std::string &out, uint64_t value)
{
  char digits[24];
  out.append (digits, std::to_chars (digits, digits + sizeof digits, value).ptr);
}

/// The shortest digits that give the value back; null for what JSON has no number for.
template <typename Float>
void
append_float (std::string &out, Float value)
{
  if (!std::isfinite (value)) {
    out += "null";
    return;
  }
  char digits[40];
  out.append (digits, std::to_chars (digits, digits + sizeof digits, value).ptr);
}

/// A JSON string, or null when there is nothing to say.
inline void
append_string_or_null (std::string &out, std::string_view text)
{
  if (text.empty ())
    out += "null";
  else
    append_json_string (out, text);
}

} // namespace millrace
