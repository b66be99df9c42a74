// The tests behind `is`.
#include "engine/chat/filters.hpp"
#include "engine/chat/text.hpp"

#include <algorithm>

namespace millrace::jinja
{

namespace
{

void
expect_none (const char *name, const Arguments &arguments)
{
  const Parameters parameters (name, arguments, {});
}

template <Kind kind>
bool
is_kind (const Value &value, const Arguments &arguments)
{
  expect_none ("test", arguments);
  return value.is (kind);
}

bool
defined (const Value &value, const Arguments &arguments)
{
  expect_none ("defined", arguments);
  return !value.is (Kind::kUndefined);
}

bool
is_true_test (const Value &value, const Arguments &arguments)
{
  expect_none ("true", arguments);
  return value.is (Kind::kBool) && value.as_bool ();
}

bool
is_false_test (const Value &value, const Arguments &arguments)
{
  expect_none ("false", arguments);
  return value.is (Kind::kBool) && !value.as_bool ();
}

bool
number (const Value &value, const Arguments &arguments)
{
  expect_none ("number", arguments);
  return value.is_number ();
}

bool
sequence (const Value &value, const Arguments &arguments)
{
  expect_none ("sequence", arguments);
  return has_length (value) && !value.is (Kind::kDictView) && !value.is (Kind::kLoop);
}

bool
iterable (const Value &value, const Arguments &arguments)
{
  expect_none ("iterable", arguments);
  return is_iterable (value);
}

bool
callable (const Value &value, const Arguments &arguments)
{
  expect_none ("callable", arguments);
  switch (value.kind ()) {
  case Kind::kUndefined:
  case Kind::kMethod:
  case Kind::kFunction:
  case Kind::kMacro:
  case Kind::kLoop:
  case Kind::kJoiner:
    return true;
  default:
    return false;
  }
}

bool
lower (const Value &value, const Arguments &arguments)
{
  expect_none ("lower", arguments);
  return is_lower (to_text (value));
}

bool
upper (const Value &value, const Arguments &arguments)
{
  expect_none ("upper", arguments);
  return is_upper (to_text (value));
}

bool
escaped (const Value &value, const Arguments &arguments)
{
  expect_none ("escaped", arguments);
  return value.is_markup ();
}

bool
modulo_is (const Value &value, int64_t divisor, int64_t remainder)
{
  const Value rest = arithmetic (Operator::kModulo, value, Value::integer (divisor));
  return equals (rest, Value::integer (remainder));
}

bool
odd (const Value &value, const Arguments &arguments)
{
  expect_none ("odd", arguments);
  return modulo_is (value, 2, 1);
}

bool
even (const Value &value, const Arguments &arguments)
{
  expect_none ("even", arguments);
  return modulo_is (value, 2, 0);
}

bool
divisible_by (const Value &value, const Arguments &arguments)
{
  const Parameters parameters ("divisibleby", arguments, {"num"}, 1);
  return equals (arithmetic (Operator::kModulo, value, parameters[0]), Value::integer (0));
}

bool
same_as (const Value &value, const Arguments &arguments)
{
  const Parameters parameters ("sameas", arguments, {"other"}, 1);
  return value.same_object (parameters[0]);
}

template <Operator op>
bool
relation (const Value &value, const Arguments &arguments)
{
  const Parameters parameters ("test", arguments, {"other"}, 1, true);
  return compare (op, value, parameters[0]);
}

bool
in (const Value &value, const Arguments &arguments)
{
  const Parameters parameters ("in", arguments, {"seq"}, 1);
  return contains (parameters[0], value);
}

bool
filter (const Value &value, const Arguments &arguments)
{
  expect_none ("filter", arguments);
  return value.is (Kind::kString) && find_filter (value.text ());
}

bool
test (const Value &value, const Arguments &arguments)
{
  expect_none ("test", arguments);
  return value.is (Kind::kString) && find_test (value.text ());
}

struct TestEntry {
  const char *name;
  TestFunction function;
};

constexpr TestEntry kTests[] = {
    {"!=", relation<Operator::kNotEqual>},
    {"<", relation<Operator::kLess>},
    {"<=", relation<Operator::kLessEqual>},
    {"==", relation<Operator::kEqual>},
    {">", relation<Operator::kGreater>},
    {">=", relation<Operator::kGreaterEqual>},
    {"boolean", is_kind<Kind::kBool>},
    {"callable", callable},
    {"defined", defined},
    {"divisibleby", divisible_by},
    {"eq", relation<Operator::kEqual>},
    {"equalto", relation<Operator::kEqual>},
    {"escaped", escaped},
    {"even", even},
    {"false", is_false_test},
    {"filter", filter},
    {"float", is_kind<Kind::kFloat>},
    {"ge", relation<Operator::kGreaterEqual>},
    {"greaterthan", relation<Operator::kGreater>},
    {"gt", relation<Operator::kGreater>},
    {"in", in},
    {"integer", is_kind<Kind::kInt>},
    {"iterable", iterable},
    {"le", relation<Operator::kLessEqual>},
    {"lessthan", relation<Operator::kLess>},
    {"lower", lower},
    {"lt", relation<Operator::kLess>},
    {"mapping", is_kind<Kind::kDict>},
    {"ne", relation<Operator::kNotEqual>},
    {"none", is_kind<Kind::kNone>},
    {"number", number},
    {"odd", odd},
    {"sameas", same_as},
    {"sequence", sequence},
    {"string", is_kind<Kind::kString>},
    {"test", test},
    {"true", is_true_test},
    {"undefined", is_kind<Kind::kUndefined>},
    {"upper", upper},
};

} // namespace

TestFunction
find_test (std::string_view name)
{
  const auto *end = std::end (kTests);
  const auto *entry =
      std::find_if (std::begin (kTests), end, [&] (const TestEntry &e) { return name == e.name; });
  return entry == end ? nullptr : entry->function;
}

} // namespace millrace::jinja
