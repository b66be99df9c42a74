// A number as the shortest text that reads back as it.
#pragma once

#include <charconv>
#include <string>

namespace millrace
{

template <typename Number>
std::string
number_text (Number value)
{
  char digits[40]; // more than any number takes
  return std::string (digits, std::to_chars (digits, digits + sizeof digits, value).ptr);
}

} // namespace millrace
