#include "engine/chat/format.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace millrace::jinja
{

namespace
{

void
group_digits (std::string &digits, char separator, size_t every)
{
  const size_t end = std::min (digits.find_first_not_of ("0123456789abcdefABCDEF"), digits.size ());
  for (size_t left = end; left > every;) {
    left -= every;
    digits.insert (left, 1, separator);
  }
}

std::string
sign_of (bool negative, const NumberStyle &style)
{
  if (negative)
    return "-";
  return style.sign == '-' ? "" : std::string (1, style.sign);
}

} // namespace

void
check_width (int64_t width)
{
  if (width > (1 << 24))
    fail_limit ("a format asks for a field of " + std::to_string (width) + " characters");
  if (width > 0)
    spend_bytes (static_cast<size_t> (width));
}

NumberText
format_integer (int64_t value, const NumberStyle &style)
{
  int base = 10;
  const char *prefix = "";
  switch (style.type) {
  case 'b':
    base = 2;
    prefix = "0b";
    break;
  case 'o':
    base = 8;
    prefix = "0o";
    break;
  case 'x':
    base = 16;
    prefix = "0x";
    break;
  case 'X':
    base = 16;
    prefix = "0X";
    break;
  default:
    break;
  }
  const uint64_t magnitude = value < 0 ? 0 - static_cast<uint64_t> (value) : static_cast<uint64_t> (value);
  char buffer[72];
  const auto end = std::to_chars (buffer, buffer + sizeof buffer, magnitude, base).ptr;
  NumberText text{sign_of (value < 0, style), std::string (buffer, end)};
  if (style.type == 'X')
    std::transform (text.digits.begin (), text.digits.end (), text.digits.begin (),
                    [] (char c) { return c >= 'a' && c <= 'f' ? static_cast<char> (c - 32) : c; });
  if (style.grouping)
    group_digits (text.digits, style.grouping, base == 10 ? 3 : 4);
  if (style.alternate)
    text.sign += prefix;
  return text;
}

NumberText
format_double (double value, const NumberStyle &style)
{
  const bool negative = std::signbit (value) && !std::isnan (value);
  const bool upper = style.type == 'E' || style.type == 'F' || style.type == 'G';
  NumberText text{sign_of (negative, style), ""};
  if (std::isnan (value) || std::isinf (value)) {
    text.digits = std::isnan (value) ? "nan" : "inf";
    if (upper)
      text.digits = std::isnan (value) ? "NAN" : "INF";
    if (style.type == '%')
      text.digits += '%';
    return text;
  }
  double magnitude = std::fabs (value);
  if (style.type == 0 && style.precision < 0) {
    text.digits = format_float (magnitude);
  } else {
    const char kind = style.type == 0 ? 'g' : upper ? static_cast<char> (style.type + 32) : style.type;
    int precision = style.precision < 0 ? 6 : style.precision;
    check_width (precision);
    if (kind == '%')
      magnitude *= 100;
    auto notation = std::chars_format::fixed;
    if (kind == 'e')
      notation = std::chars_format::scientific;
    else if (kind == 'g' || kind == 'n') {
      notation = std::chars_format::general;
      precision = std::max (precision, 1);
    }
    std::string buffer (static_cast<size_t> (precision) + 400, '\0');
    const auto end =
        std::to_chars (buffer.data (), buffer.data () + buffer.size (), magnitude, notation, precision).ptr;
    buffer.resize (static_cast<size_t> (end - buffer.data ()));
    text.digits = std::move (buffer);
    if (style.type == 0 && text.digits.find_first_of (".en") == std::string::npos)
      text.digits += ".0";
    if (style.alternate && text.digits.find ('.') == std::string::npos)
      text.digits.insert (std::min (text.digits.find ('e'), text.digits.size ()), ".");
    if (kind == '%')
      text.digits += '%';
    if (upper)
      std::transform (text.digits.begin (), text.digits.end (), text.digits.begin (),
                      [] (char c) { return c == 'e' ? 'E' : c; });
  }
  if (style.grouping) {
    const size_t end = std::min (text.digits.find_first_not_of ("0123456789"), text.digits.size ());
    std::string whole = text.digits.substr (0, end);
    group_digits (whole, style.grouping, 3);
    text.digits = whole + text.digits.substr (end);
  }
  return text;
}

} // namespace millrace::jinja
