// Python's two ways of formatting: text % values and text.format (values).
// Source: Python 3.11 library reference, "printf-style String Formatting" and "Format Specification
// Mini-Language". Widths and precisions are bounded by the render's limits.
#pragma once

#include "engine/chat/arguments.hpp"

namespace millrace::jinja
{

/// text % values: a tuple gives several, anything else one; a dict serves %(name)s.
Value format_percent (const Value &text, const Value &values);
/// str.format (), with the sandbox's attribute access.
Value format_method (const Value &self, const Arguments &arguments);
/// str.format_map ()
Value format_map_method (const Value &self, const Arguments &arguments);
/// format (value, spec)
std::string format_value (const Value &value, std::string_view spec);

struct NumberStyle {
  char type = 0; ///< d b o x X c e E f F g G %, or 0
  int precision = -1;
  bool alternate = false;
  char sign = '-';      ///< '-', '+' or ' '
  char grouping = '\0'; ///< ',' or '_'
};

/// Digits of an integer with sign and prefix apart, so that zeros may go between.
struct NumberText {
  std::string sign, digits;
};
NumberText format_integer (int64_t value, const NumberStyle &style);
NumberText format_double (double value, const NumberStyle &style);
/// Fails when a template asks for a wider field than a render may produce.
void check_width (int64_t width);

} // namespace millrace::jinja
