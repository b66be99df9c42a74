// Filters that make numbers.
#include "engine/chat/filters.hpp"
#include "engine/chat/format.hpp"
#include "engine/chat/text.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

namespace millrace::jinja
{

namespace
{

/// Without surrounding whitespace and with single underscores between digits taken out; nothing when they are
/// elsewhere.
std::optional<std::string>
digits_of (std::string_view text)
{
  text = strip (text, Side::kBoth);
  std::string out;
  for (size_t i = 0; i < text.size (); i++) {
    if (text[i] != '_') {
      out += text[i];
      continue;
    }
    const auto is_digit = [] (char c) { return std::isalnum (static_cast<unsigned char> (c)) != 0; };
    if (i == 0 || i + 1 >= text.size () || !is_digit (text[i - 1]) || !is_digit (text[i + 1]))
      return std::nullopt;
  }
  return out;
}

/// int (text, base); nothing where Python raises ValueError.
std::optional<int64_t>
parse_integer (std::string_view text, int64_t base)
{
  if (base != 0 && (base < 2 || base > 36))
    fail ("int() base must be >= 2 and <= 36, or 0");
  const auto digits = digits_of (text);
  if (!digits || digits->empty ())
    return std::nullopt;
  std::string_view rest = *digits;
  const bool negative = rest[0] == '-';
  if (rest[0] == '-' || rest[0] == '+')
    rest.remove_prefix (1);
  if (rest.size () > 1 && rest[0] == '0') {
    const char kind = static_cast<char> (rest[1] | 0x20);
    const int64_t named = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 0;
    if (named && (base == named || base == 0)) {
      rest.remove_prefix (2);
      base = named;
    } else if (base == 0 && rest.find_first_not_of ('0') != std::string_view::npos) {
      return std::nullopt;
    }
  }
  uint64_t magnitude = 0;
  const auto result = std::from_chars (rest.data (), rest.data () + rest.size (), magnitude,
                                       base == 0 ? 10 : static_cast<int> (base));
  if (rest.empty () || result.ptr != rest.data () + rest.size ())
    return std::nullopt;
  if (result.ec != std::errc () || magnitude > static_cast<uint64_t> (INT64_MAX))
    fail ("an integer does not fit into 64 bits; templates compute with smaller ones");
  return negative ? -static_cast<int64_t> (magnitude) : static_cast<int64_t> (magnitude);
}

/// float (text); nothing where Python raises ValueError.
std::optional<double>
parse_float (std::string_view text)
{
  const auto digits = digits_of (text);
  if (!digits || digits->empty ())
    return std::nullopt;
  std::string_view rest = *digits;
  const bool negative = rest[0] == '-';
  if (rest[0] == '-' || rest[0] == '+')
    rest.remove_prefix (1);
  if (rest.empty () || rest[0] == '-' || rest[0] == '+')
    return std::nullopt;
  double value = 0;
  const auto result = std::from_chars (rest.data (), rest.data () + rest.size (), value);
  if (result.ptr != rest.data () + rest.size ())
    return std::nullopt;
  if (result.ec == std::errc::result_out_of_range) {
    const size_t mark = rest.find_first_of ("eE");
    const bool tiny =
        mark != std::string_view::npos ? rest.substr (mark + 1).starts_with ('-') : rest[0] == '0';
    value = tiny ? 0 : HUGE_VAL;
  }
  return negative ? -value : value;
}

std::optional<double>
to_float (const Value &input)
{
  if (input.is (Kind::kUndefined))
    fail_undefined (input);
  if (input.is_number ())
    return input.as_double ();
  if (input.is (Kind::kString))
    return parse_float (input.text ());
  return std::nullopt;
}

std::optional<int64_t>
truncated (double value)
{
  if (!(std::fabs (value) < 9.2e18))
    return std::nullopt;
  return static_cast<int64_t> (value);
}

Value
to_int (const Value &input, const Arguments &arguments)
{
  const Parameters parameters ("int", arguments, {"default", "base"});
  if (input.is_integral ())
    return Value::integer (input.as_int ());
  if (input.is (Kind::kString)) {
    if (const auto number = parse_integer (input.text (), parameters.integer (1, 10)))
      return Value::integer (*number);
  } else if (input.is (Kind::kFloat) && std::isinf (input.as_float ())) {
    fail ("cannot convert float infinity to integer");
  }
  // so that "42.23"|int gives 42
  if (const auto number = to_float (input)) {
    if (const auto whole = truncated (*number))
      return Value::integer (*whole);
  }
  return parameters.has (0) ? parameters[0] : Value::integer (0);
}

Value
float_filter (const Value &input, const Arguments &arguments)
{
  const Parameters parameters ("float", arguments, {"default"});
  if (const auto number = to_float (input))
    return Value::number (*number);
  return parameters.has (0) ? parameters[0] : Value::number (0);
}

Value
absolute (const Value &input, const Arguments &arguments)
{
  const Parameters parameters ("abs", arguments, {});
  if (input.is (Kind::kUndefined))
    fail_undefined (input);
  if (!input.is_number ())
    fail (std::string ("bad operand type for abs(): '") + type_name (input) + "'");
  if (input.is (Kind::kFloat))
    return Value::number (std::fabs (input.as_float ()));
  return input.as_int () < 0 ? negate (input) : Value::integer (input.as_int ());
}

/// round (float, digits): half to even of the exact value.
double
round_float (double value, int64_t digits)
{
  if (!std::isfinite (value) || digits > 320)
    return value;
  if (digits < -310)
    return std::copysign (0.0, value);
  if (digits < 0) {
    const double unit = std::pow (10.0, static_cast<double> (-digits));
    return std::nearbyint (value / unit) * unit;
  }
  NumberStyle style;
  style.type = 'f';
  style.precision = static_cast<int> (digits);
  const auto text = format_double (value, style);
  double rounded = 0;
  std::from_chars (text.digits.data (), text.digits.data () + text.digits.size (), rounded);
  return std::copysign (rounded, value);
}

int64_t
round_integer (int64_t value, int64_t digits)
{
  if (digits >= 0)
    return value;
  if (digits < -18)
    return 0;
  int64_t unit = 1;
  for (int64_t i = digits; i < 0; i++)
    unit *= 10;
  const int64_t remainder = ((value % unit) + unit) % unit;
  const int64_t below = value - remainder;
  const bool up = remainder > unit / 2 || (remainder == unit / 2 && (below / unit) % 2 != 0);
  return arithmetic (Operator::kAdd, Value::integer (below), Value::integer (up ? unit : 0)).as_int ();
}

Value
round (const Value &input, const Arguments &arguments)
{
  const Parameters parameters ("round", arguments, {"precision", "method"});
  const int64_t precision = parameters.integer (0, 0);
  const std::string method = parameters.has (1) ? to_text (parameters[1]) : "common";
  if (method != "common" && method != "ceil" && method != "floor")
    fail ("method must be common, ceil or floor");
  if (input.is (Kind::kUndefined))
    fail_undefined (input);
  if (!input.is_number ())
    fail (std::string ("type ") + type_name (input) + " doesn't define __round__ method");
  if (method == "common") {
    if (input.is_integral ())
      return Value::integer (round_integer (input.as_int (), precision));
    return Value::number (round_float (input.as_float (), precision));
  }
  const double scale = std::pow (10.0, static_cast<double> (std::clamp<int64_t> (precision, -308, 308)));
  const double scaled = input.as_double () * scale;
  if (!std::isfinite (scaled))
    fail ("cannot convert float infinity to integer");
  return Value::number ((method == "ceil" ? std::ceil (scaled) : std::floor (scaled)) / scale + 0.0);
}

constexpr FilterEntry kFilters[] = {
    {"abs", absolute},
    {"float", float_filter},
    {"int", to_int},
    {"round", round},
};

} // namespace

const FilterEntry *
find_number_filter (std::string_view name)
{
  const auto *end = std::end (kFilters);
  const auto *entry =
      std::find_if (std::begin (kFilters), end, [&] (const FilterEntry &e) { return name == e.name; });
  return entry == end ? nullptr : entry;
}

} // namespace millrace::jinja
