#include "engine/chat/attributes.hpp"

#include "engine/chat/format.hpp"
#include "engine/chat/loop.hpp"
#include "engine/chat/macro.hpp"
#include "engine/chat/operators.hpp"
#include "engine/chat/text.hpp"

#include <algorithm>
#include <optional>

namespace millrace::jinja
{

namespace
{

bool
is_one_of (std::string_view name, std::initializer_list<const char *> names)
{
  return std::any_of (names.begin (), names.end (), [&] (const char *n) { return name == n; });
}

bool
changes_its_object (const Value &object, std::string_view name)
{
  if (object.is (Kind::kList))
    return is_one_of (name, {"append", "clear", "pop", "reverse", "insert", "sort", "extend", "remove"});
  if (object.is (Kind::kDict))
    return is_one_of (name, {"clear", "pop", "popitem", "setdefault", "update"});
  return false;
}

Value
method_of (const Value &self, const char *name, MethodFunction function)
{
  auto owner = std::make_unique<MethodPayload> (self, name, function);
  set_depth (*owner, self.depth ());
  owner->charge (sizeof (MethodPayload));
  return Value (owner.release ());
}

Value
loop_cycle (const Value &self, const Arguments &arguments)
{
  if (arguments.positional.empty ())
    fail ("no items for cycling given");
  const auto index = static_cast<size_t> (std::max<int64_t> (0, self.as<LoopPayload> ().index0));
  return arguments.positional[index % arguments.positional.size ()];
}

Value
loop_changed (const Value &self, const Arguments &arguments)
{
  auto &loop = self.as<LoopPayload> ();
  const auto &now = arguments.positional;
  const bool same = loop.has_changed && std::equal (now.begin (), now.end (), loop.last_changed.begin (),
                                                    loop.last_changed.end (), equals);
  if (same)
    return Value::boolean (false);
  loop.last_changed = now;
  loop.has_changed = true;
  return Value::boolean (true);
}

std::optional<Value>
loop_attribute (const Value &object, std::string_view name)
{
  auto &loop = object.as<LoopPayload> ();
  if (name == "index")
    return Value::integer (loop.index0 + 1);
  if (name == "index0")
    return Value::integer (loop.index0);
  if (name == "first")
    return Value::boolean (loop.index0 == 0);
  if (name == "last")
    return Value::boolean (loop.peek ().is (Kind::kMissing));
  if (name == "length")
    return Value::integer (loop.total ());
  if (name == "revindex")
    return Value::integer (loop.total () - loop.index0);
  if (name == "revindex0")
    return Value::integer (loop.total () - loop.index0 - 1);
  if (name == "depth")
    return Value::integer (loop.depth0 + 1);
  if (name == "depth0")
    return Value::integer (loop.depth0);
  if (name == "previtem")
    return loop.index0 == 0 ? Value::undefined_hint ("there is no previous item") : loop.before;
  if (name == "nextitem") {
    const Value &next = loop.peek ();
    return next.is (Kind::kMissing) ? Value::undefined_hint ("there is no next item") : next;
  }
  if (name == "cycle")
    return method_of (object, "cycle", loop_cycle);
  if (name == "changed")
    return method_of (object, "changed", loop_changed);
  return std::nullopt;
}

Value
cycler_next (const Value &self, const Arguments &)
{
  auto &cycler = self.as<CyclerPayload> ();
  const size_t at = cycler.position;
  cycler.position = (at + 1) % cycler.items.size ();
  return cycler.items[at];
}

Value
cycler_reset (const Value &self, const Arguments &)
{
  self.as<CyclerPayload> ().position = 0;
  return Value ();
}

std::optional<Value>
cycler_attribute (const Value &object, std::string_view name)
{
  const auto &cycler = object.as<CyclerPayload> ();
  if (name == "current")
    return cycler.items[cycler.position];
  if (name == "next")
    return method_of (object, "next", cycler_next);
  if (name == "reset")
    return method_of (object, "reset", cycler_reset);
  if (name == "items")
    return Value::tuple (cycler.items);
  if (name == "pos")
    return Value::integer (static_cast<int64_t> (cycler.position));
  return std::nullopt;
}

Value
refuse_internal (const Value &, const Arguments &)
{
  fail ("attributes with a leading underscore are not available in templates");
}

/// getattr (object, name), before the sandbox judges it.
std::optional<Value>
find_attribute (const Value &object, std::string_view name)
{
  switch (object.kind ()) {
  case Kind::kUndefined:
    if (!(name.starts_with ("__") && name.ends_with ("__")))
      fail_undefined (object);
    return std::nullopt;
  case Kind::kNamespace: {
    const Value *value = object.as<NamespacePayload> ().find (name);
    return value ? std::optional<Value> (*value) : std::nullopt;
  }
  case Kind::kString:
    if (const auto *method = find_string_method (name))
      return method_of (object, method->name, method->function);
    break;
  case Kind::kBool:
  case Kind::kInt:
  case Kind::kFloat:
    if (name == "real" || (name == "numerator" && !object.is (Kind::kFloat)))
      return object.is (Kind::kBool) ? Value::integer (object.as_int ()) : object;
    if (name == "imag")
      return object.is (Kind::kFloat) ? Value::number (0) : Value::integer (0);
    if (name == "denominator" && !object.is (Kind::kFloat))
      return Value::integer (1);
    break;
  case Kind::kLoop:
    if (auto value = loop_attribute (object, name))
      return value;
    break;
  case Kind::kCycler:
    if (auto value = cycler_attribute (object, name))
      return value;
    break;
  case Kind::kJoiner:
    if (name == "sep")
      return object.as<JoinerPayload> ().separator;
    if (name == "used")
      return Value::boolean (object.as<JoinerPayload> ().used);
    break;
  case Kind::kMacro:
    if (auto value = macro_attribute (object, name); !value.is (Kind::kMissing))
      return value;
    break;
  case Kind::kRange:
    if (name == "start")
      return Value::integer (object.as<RangePayload> ().start);
    if (name == "stop")
      return Value::integer (object.as<RangePayload> ().stop);
    if (name == "step")
      return Value::integer (object.as<RangePayload> ().step);
    break;
  case Kind::kTuple:
    if (object.as<ListPayload> ().is_group && (name == "grouper" || name == "list"))
      return object.items ()[name == "list"];
    break;
  default:
    break;
  }
  if (const auto *method = find_container_method (object, name))
    return method_of (object, method->name, method->function);
  // every object has these; what they hold is never reached
  if (is_one_of (name, {"__class__", "__init__", "__doc__", "__dict__", "__module__", "__subclasshook__",
                        "__getattribute__", "__eq__", "__ne__", "__hash__", "__str__", "__repr__",
                        "__reduce__", "__reduce_ex__", "__new__", "__sizeof__", "__dir__", "__format__"}) &&
      !(name == "__dict__" && object.kind () < Kind::kNamespace))
    return method_of (object, "internal", refuse_internal);
  return std::nullopt;
}

/// An attribute that was found, unless the sandbox refuses it.
Value
judged (const Value &object, const Value &name, Value found)
{
  const std::string &text = name.text ();
  if (!text.starts_with ('_') && !changes_its_object (object, text))
    return found;
  return Value::undefined_hint ("access to attribute " + repr (std::string_view (text)) + " of '" +
                                type_name (object) + "' object is unsafe.");
}

/// object[key] as Python's subscription; nothing for TypeError and LookupError.
std::optional<Value>
subscribe (const Value &object, const Value &key)
{
  switch (object.kind ()) {
  case Kind::kUndefined:
    fail_undefined (object);
  case Kind::kDict: {
    if (key.is (Kind::kList) || key.is (Kind::kDict))
      return std::nullopt;
    const Value *value = object.dict ().find (key);
    return value ? std::optional<Value> (*value) : std::nullopt;
  }
  case Kind::kString:
  case Kind::kList:
  case Kind::kTuple:
  case Kind::kRange: {
    if (!key.is_integral ())
      return std::nullopt;
    const int64_t length = length_of (object);
    int64_t index = key.as_int ();
    if (index < 0)
      index += length;
    if (index < 0 || index >= length)
      return std::nullopt;
    if (object.is (Kind::kRange))
      return Value::integer (object.as<RangePayload> ().at (index));
    if (object.is (Kind::kString))
      return slice (object, Value::integer (index), Value::integer (index + 1), Value ());
    return object.items ()[static_cast<size_t> (index)];
  }
  default:
    return std::nullopt;
  }
}

} // namespace

Value
get_attribute (const Value &object, const Value &name)
{
  if (auto found = find_attribute (object, name.text ()))
    return judged (object, name, std::move (*found));
  if (auto found = subscribe (object, name))
    return std::move (*found);
  return Value::undefined_member (object, name);
}

Value
get_item (const Value &object, const Value &key)
{
  if (auto found = subscribe (object, key))
    return std::move (*found);
  if (key.is (Kind::kString)) {
    if (auto found = find_attribute (object, key.text ()))
      return judged (object, key, std::move (*found));
  }
  return Value::undefined_member (object, key);
}

Value
get_attribute_only (const Value &object, const Value &name)
{
  if (!name.is (Kind::kString))
    fail ("attribute name must be string, not '" + std::string (type_name (name)) + "'");
  if (auto found = find_attribute (object, name.text ()))
    return judged (object, name, std::move (*found));
  return Value::undefined_member (object, name);
}

} // namespace millrace::jinja
