#include "engine/chat/operators.hpp"

#include "engine/chat/format.hpp"
#include "engine/chat/text.hpp"

#include <algorithm>
#include <cmath>

namespace millrace::jinja
{

namespace
{

const char *
symbol (Operator op)
{
  switch (op) {
  case Operator::kAdd:
    return "+";
  case Operator::kSubtract:
    return "-";
  case Operator::kMultiply:
    return "*";
  case Operator::kDivide:
    return "/";
  case Operator::kFloorDivide:
    return "//";
  case Operator::kModulo:
    return "%";
  case Operator::kPower:
    return "** or pow()";
  default:
    return "?";
  }
}

[[noreturn]] void
fail_operands (Operator op, const Value &left, const Value &right)
{
  fail (std::string ("unsupported operand type(s) for ") + symbol (op) + ": '" + type_name (left) +
        "' and '" + type_name (right) + "'");
}

[[noreturn]] void
fail_overflow ()
{
  fail ("an integer does not fit into 64 bits; templates compute with smaller ones");
}

void
check_defined (const Value &left, const Value &right)
{
  if (left.is (Kind::kUndefined))
    fail_undefined (left);
  if (right.is (Kind::kUndefined))
    fail_undefined (right);
}

int64_t
floor_divide (int64_t a, int64_t b)
{
  const int64_t quotient = a / b;
  return a % b != 0 && (a % b < 0) != (b < 0) ? quotient - 1 : quotient;
}

double
floor_modulo (double a, double b)
{
  double remainder = std::fmod (a, b);
  if (remainder != 0) {
    if ((b < 0) != (remainder < 0))
      remainder += b;
  } else {
    remainder = std::copysign (0.0, b);
  }
  return remainder;
}

double
floor_divide (double a, double b)
{
  const double remainder = floor_modulo (a, b);
  const double quotient = (a - remainder) / b;
  if (quotient == 0)
    return std::copysign (0.0, a / b);
  const double floored = std::floor (quotient);
  return quotient - floored > 0.5 ? floored + 1 : floored;
}

Value
integer_power (int64_t base, int64_t exponent)
{
  if (exponent < 0) {
    if (base == 0)
      fail ("0.0 cannot be raised to a negative power");
    return Value::number (std::pow (static_cast<double> (base), static_cast<double> (exponent)));
  }
  int64_t result = 1;
  while (exponent > 0) {
    if ((exponent & 1) && __builtin_mul_overflow (result, base, &result))
      fail_overflow ();
    exponent >>= 1;
    if (exponent > 0 && __builtin_mul_overflow (base, base, &base))
      fail_overflow ();
  }
  return Value::integer (result);
}

Value
integer_arithmetic (Operator op, int64_t a, int64_t b)
{
  int64_t result = 0;
  switch (op) {
  case Operator::kAdd:
    if (__builtin_add_overflow (a, b, &result))
      fail_overflow ();
    return Value::integer (result);
  case Operator::kSubtract:
    if (__builtin_sub_overflow (a, b, &result))
      fail_overflow ();
    return Value::integer (result);
  case Operator::kMultiply:
    if (__builtin_mul_overflow (a, b, &result))
      fail_overflow ();
    return Value::integer (result);
  case Operator::kDivide:
    if (b == 0)
      fail ("division by zero");
    return Value::number (static_cast<double> (a) / static_cast<double> (b));
  case Operator::kFloorDivide:
  case Operator::kModulo:
    if (b == 0)
      fail (op == Operator::kModulo ? "integer modulo by zero" : "integer division or modulo by zero");
    if (b == -1) // INT64_MIN / -1 traps
      return op == Operator::kModulo ? Value::integer (0) : integer_arithmetic (Operator::kSubtract, 0, a);
    if (op == Operator::kFloorDivide)
      return Value::integer (floor_divide (a, b));
    return Value::integer (a - floor_divide (a, b) * b);
  case Operator::kPower:
    return integer_power (a, b);
  default:
    return Value ();
  }
}

Value
float_arithmetic (Operator op, double a, double b)
{
  switch (op) {
  case Operator::kAdd:
    return Value::number (a + b);
  case Operator::kSubtract:
    return Value::number (a - b);
  case Operator::kMultiply:
    return Value::number (a * b);
  case Operator::kDivide:
    if (b == 0)
      fail ("float division by zero");
    return Value::number (a / b);
  case Operator::kFloorDivide:
    if (b == 0)
      fail ("float floor division by zero");
    return Value::number (floor_divide (a, b));
  case Operator::kModulo:
    if (b == 0)
      fail ("float modulo");
    return Value::number (floor_modulo (a, b));
  case Operator::kPower: {
    if (a == 0 && b < 0)
      fail ("0.0 cannot be raised to a negative power");
    const double result = std::pow (a, b);
    if (std::isnan (result) && !std::isnan (a) && !std::isnan (b))
      fail ("complex numbers are not supported");
    if (std::isinf (result) && !std::isinf (a) && !std::isinf (b))
      fail ("(34, 'Numerical result out of range')");
    return Value::number (result);
  }
  default:
    return Value ();
  }
}

bool
is_sequence (const Value &value)
{
  return value.is (Kind::kString) || value.is (Kind::kList) || value.is (Kind::kTuple);
}

Value
repeat (const Value &sequence, const Value &count)
{
  if (!count.is_integral ())
    fail (std::string ("can't multiply sequence by non-int of type '") + type_name (count) + "'");
  const auto times = static_cast<size_t> (std::max<int64_t> (0, count.as_int ()));
  const bool is_text = sequence.is (Kind::kString);
  const size_t size = is_text ? sequence.text ().size () : sequence.items ().size ();
  size_t total = 0;
  if (__builtin_mul_overflow (size, times, &total) || total > (size_t (1) << 40))
    fail_limit ("a repeated sequence is too long");
  if (is_text) {
    spend_bytes (total);
    charge_memory (total); // before the memory is asked for
    release_memory (total);
    std::string text;
    text.reserve (total);
    for (size_t i = 0; size > 0 && i < times; i++)
      text += sequence.text ();
    return Value::string (std::move (text), sequence.is_markup ());
  }
  spend (total);
  charge_memory (total * sizeof (Value));
  release_memory (total * sizeof (Value));
  std::vector<Value> items;
  items.reserve (total);
  for (size_t i = 0; size > 0 && i < times; i++)
    items.insert (items.end (), sequence.items ().begin (), sequence.items ().end ());
  return sequence.is (Kind::kList) ? Value::list (std::move (items)) : Value::tuple (std::move (items));
}

Value
add (const Value &left, const Value &right)
{
  if (left.is (Kind::kString) && right.is (Kind::kString)) {
    const bool markup = left.is_markup () || right.is_markup ();
    spend_bytes (left.text ().size () + right.text ().size ());
    std::string text = markup && !left.is_markup () ? escape_html (left.text ()) : left.text ();
    text += markup && !right.is_markup () ? escape_html (right.text ()) : right.text ();
    return Value::string (std::move (text), markup);
  }
  if ((left.is (Kind::kList) || left.is (Kind::kTuple)) && left.kind () == right.kind ()) {
    std::vector<Value> items;
    spend (left.items ().size () + right.items ().size ());
    items.reserve (left.items ().size () + right.items ().size ());
    items.insert (items.end (), left.items ().begin (), left.items ().end ());
    items.insert (items.end (), right.items ().begin (), right.items ().end ());
    return left.is (Kind::kList) ? Value::list (std::move (items)) : Value::tuple (std::move (items));
  }
  if (is_sequence (left)) {
    const std::string name = left.is (Kind::kString) ? "str" : type_name (left);
    fail ("can only concatenate " + name + " (not \"" + type_name (right) + "\") to " + name);
  }
  fail_operands (Operator::kAdd, left, right);
}

} // namespace

Value
arithmetic (Operator op, const Value &left, const Value &right)
{
  if (left.is (Kind::kInt) && right.is (Kind::kInt))
    return integer_arithmetic (op, left.as_int (), right.as_int ());
  if (op == Operator::kModulo && left.is (Kind::kString))
    return format_percent (left, right);
  check_defined (left, right);
  if (left.is_number () && right.is_number ()) {
    if (left.is_integral () && right.is_integral ())
      return integer_arithmetic (op, left.as_int (), right.as_int ());
    return float_arithmetic (op, left.as_double (), right.as_double ());
  }
  if (op == Operator::kAdd)
    return add (left, right);
  if (op == Operator::kMultiply && is_sequence (left))
    return repeat (left, right);
  if (op == Operator::kMultiply && is_sequence (right))
    return repeat (right, left);
  fail_operands (op, left, right);
}

Value
negate (const Value &operand)
{
  if (operand.is (Kind::kFloat))
    return Value::number (-operand.as_float ());
  if (operand.is_integral ())
    return integer_arithmetic (Operator::kSubtract, 0, operand.as_int ());
  if (operand.is (Kind::kUndefined))
    fail_undefined (operand);
  fail (std::string ("bad operand type for unary -: '") + type_name (operand) + "'");
}

Value
positive (const Value &operand)
{
  if (operand.is (Kind::kFloat))
    return operand;
  if (operand.is_integral ())
    return Value::integer (operand.as_int ());
  if (operand.is (Kind::kUndefined))
    fail_undefined (operand);
  fail (std::string ("bad operand type for unary +: '") + type_name (operand) + "'");
}

SliceBounds
slice_bounds (const Value &start, const Value &stop, const Value &step, int64_t length)
{
  const auto index = [] (const Value &value, int64_t otherwise) {
    if (value.is (Kind::kNone))
      return otherwise;
    if (!value.is_integral ())
      fail ("slice indices must be integers or None or have an __index__ method");
    return value.as_int ();
  };
  // the most negative step would overflow when negated, and walks no further than one less does
  const int64_t stride = std::max (index (step, 1), -INT64_MAX);
  if (stride == 0)
    fail ("slice step cannot be zero");
  const int64_t low = stride > 0 ? 0 : -1;
  const int64_t high = stride > 0 ? length : length - 1;
  const auto clamp = [&] (int64_t value) {
    if (value < 0)
      return value < -length ? low : std::max (low, value + length);
    return std::min (value, high);
  };
  const int64_t first = start.is (Kind::kNone) ? (stride > 0 ? low : high) : clamp (index (start, 0));
  const int64_t last = stop.is (Kind::kNone) ? (stride > 0 ? high : low) : clamp (index (stop, 0));
  int64_t count = 0;
  if (stride > 0 && first < last)
    count = (last - first - 1) / stride + 1;
  else if (stride < 0 && last < first)
    count = (first - last - 1) / -stride + 1;
  return {first, stride, count};
}

namespace
{

Value
slice_text (const Value &container, const Value &start, const Value &stop, const Value &step)
{
  auto &payload = container.as<StringPayload> ();
  const std::string_view text = payload.text;
  spend_bytes (text.size ());
  const auto bounds = slice_bounds (start, stop, step, static_cast<int64_t> (payload.length ()));
  if (bounds.count == 0)
    return Value::string ("", payload.markup);
  const auto count = static_cast<size_t> (bounds.count);
  if (bounds.step == 1) {
    const size_t first = payload.is_ascii () ? static_cast<size_t> (bounds.start)
                                             : byte_offset (text, static_cast<size_t> (bounds.start));
    const size_t size = payload.is_ascii () ? count : byte_offset (text.substr (first), count);
    return Value::string (std::string (text.substr (first, size)), payload.markup);
  }
  std::vector<uint32_t> characters;
  spend (payload.length ());
  for (size_t position = 0; position < text.size ();)
    characters.push_back (decode (text, position));
  std::string out;
  for (size_t i = 0; i < count; i++)
    append_utf8 (out,
                 characters[static_cast<size_t> (bounds.start + static_cast<int64_t> (i) * bounds.step)]);
  return Value::string (std::move (out), payload.markup);
}

} // namespace

Value
slice (const Value &container, const Value &start, const Value &stop, const Value &step)
{
  switch (container.kind ()) {
  case Kind::kString:
    return slice_text (container, start, stop, step);
  case Kind::kList:
  case Kind::kTuple: {
    const auto &items = container.items ();
    const auto bounds = slice_bounds (start, stop, step, static_cast<int64_t> (items.size ()));
    std::vector<Value> out;
    spend (static_cast<uint64_t> (bounds.count));
    out.reserve (static_cast<size_t> (bounds.count));
    for (int64_t i = 0; i < bounds.count; i++)
      out.push_back (items[static_cast<size_t> (bounds.start + i * bounds.step)]);
    return container.is (Kind::kList) ? Value::list (std::move (out)) : Value::tuple (std::move (out));
  }
  case Kind::kRange: {
    const auto &range = container.as<RangePayload> ();
    const auto bounds = slice_bounds (start, stop, step, range.length);
    if (bounds.count == 0)
      return make_value<RangePayload> (range.start, range.start, range.step, 0);
    const int64_t stride = bounds.count > 1 ? range.step * bounds.step : range.step;
    const int64_t last = range.at (bounds.start + (bounds.count - 1) * bounds.step);
    return make_value<RangePayload> (range.at (bounds.start), last + (stride > 0 ? 1 : -1), stride,
                                     bounds.count);
  }
  case Kind::kUndefined:
    fail_undefined (container);
  case Kind::kDict:
    fail ("unhashable type: 'slice'");
  default:
    fail (std::string ("'") + type_name (container) + "' object is not subscriptable");
  }
}

} // namespace millrace::jinja
