#include "engine/chat/value.hpp"

#include "engine/chat/operators.hpp"
#include "engine/chat/text.hpp"

#include <algorithm>
#include <numeric>

namespace millrace::jinja
{

namespace
{

/// Dicts with more entries than this are searched through a sorted index.
constexpr size_t kIndexedFrom = 12;

} // namespace

Value
Value::missing ()
{
  Value value;
  value.kind_ = Kind::kMissing;
  return value;
}

Value
Value::boolean (bool b)
{
  Value value;
  value.kind_ = Kind::kBool;
  value.bits_.integer = b;
  return value;
}

Value
Value::integer (int64_t i)
{
  Value value;
  value.kind_ = Kind::kInt;
  value.bits_.integer = i;
  return value;
}

Value
Value::number (double d)
{
  Value value;
  value.kind_ = Kind::kFloat;
  value.bits_.number = d;
  return value;
}

Value
Value::string (std::string text, bool markup)
{
  spend_bytes (text.size ());
  auto owner = std::make_unique<StringPayload> (std::move (text), markup);
  owner->charge (sizeof (StringPayload) + owner->text.size ());
  return Value (owner.release ());
}

void
set_depth (Payload &container, int below)
{
  const int limit = active_budget ? active_budget->limits.depth : kMaxNesting;
  if (below >= limit)
    fail_limit ("values nest more than " + std::to_string (limit) + " deep");
  container.depth = static_cast<uint16_t> (below + 1);
}

namespace
{

int
deepest (const std::vector<Value> &items)
{
  int depth = 0;
  for (const Value &item : items)
    depth = std::max (depth, item.depth ());
  return depth;
}

Value
make_sequence (Kind kind, std::vector<Value> items)
{
  spend (1 + items.size ());
  auto owner = std::make_unique<ListPayload> (kind, std::move (items));
  set_depth (*owner, deepest (owner->items));
  owner->charge (sizeof (ListPayload) + owner->items.size () * sizeof (Value));
  return Value (owner.release ());
}

} // namespace

Value
Value::list (std::vector<Value> items)
{
  return make_sequence (Kind::kList, std::move (items));
}

Value
Value::tuple (std::vector<Value> items)
{
  return make_sequence (Kind::kTuple, std::move (items));
}

Value
Value::dict (std::vector<Pair> entries)
{
  spend (1 + 2 * entries.size ());
  auto owner = std::make_unique<DictPayload> (std::move (entries));
  auto &kept = owner->entries;
  auto &order = owner->order;
  order.resize (kept.size ());
  std::iota (order.begin (), order.end (), 0);
  std::stable_sort (order.begin (), order.end (),
                    [&] (uint32_t a, uint32_t b) { return compare_keys (kept[a].first, kept[b].first) < 0; });
  bool duplicates = false;
  for (size_t i = 1; i < order.size (); i++) {
    // Equal keys are neighbours in the order of the source: the last value wins, in the first one's place,
    // which the next of them finds in order[i].
    if (compare_keys (kept[order[i - 1]].first, kept[order[i]].first) != 0)
      continue;
    kept[order[i - 1]].second = std::move (kept[order[i]].second);
    kept[order[i]].first = Value::missing ();
    order[i] = order[i - 1];
    duplicates = true;
  }
  if (duplicates) {
    std::erase_if (kept, [] (const Pair &entry) { return entry.first.is (Kind::kMissing); });
    order.resize (kept.size ());
    std::iota (order.begin (), order.end (), 0);
    std::stable_sort (order.begin (), order.end (), [&] (uint32_t a, uint32_t b) {
      return compare_keys (kept[a].first, kept[b].first) < 0;
    });
  }
  if (kept.size () < kIndexedFrom)
    order = {};
  int below = 0;
  for (const auto &[key, value] : kept)
    below = std::max ({below, key.depth (), value.depth ()});
  set_depth (*owner, below);
  owner->charge (sizeof (DictPayload) + kept.size () * sizeof (Pair) + order.size () * sizeof (uint32_t));
  return Value (owner.release ());
}

Value
Value::undefined (const Value &name)
{
  Value value = make_value<UndefinedPayload> ();
  value.as<UndefinedPayload> ().name = name;
  return value;
}

Value
Value::undefined_member (const Value &object, const Value &name)
{
  Value value = make_value<UndefinedPayload> ();
  auto &undefined = value.as<UndefinedPayload> ();
  undefined.object = object_type_name (object);
  // only strings are kept: an undefined that held any value could be chained without bound
  if (name.is (Kind::kString)) {
    undefined.name = name;
  } else {
    undefined.name = Value::missing ();
    undefined.element = repr (name);
  }
  return value;
}

Value
Value::undefined_hint (const std::string &hint)
{
  Value value = make_value<UndefinedPayload> ();
  value.as<UndefinedPayload> ().hint = hint;
  return value;
}

const std::string &
Value::text () const
{
  return as<StringPayload> ().text;
}

bool
Value::is_markup () const
{
  return kind_ == Kind::kString && as<StringPayload> ().markup;
}

const std::vector<Value> &
Value::items () const
{
  return as<ListPayload> ().items;
}

const DictPayload &
Value::dict () const
{
  return as<DictPayload> ();
}

size_t
StringPayload::length ()
{
  if (characters < 0)
    characters = static_cast<int64_t> (count_characters (text));
  return static_cast<size_t> (characters);
}

const Value *
DictPayload::find (std::string_view key) const
{
  if (order.empty ()) {
    for (const auto &[name, value] : entries) {
      if (name.is (Kind::kString) && name.text () == key)
        return &value;
    }
    return nullptr;
  }
  const auto at = std::partition_point (order.begin (), order.end (),
                                        [&] (uint32_t i) { return compare_key (entries[i].first, key) < 0; });
  return at != order.end () && compare_key (entries[*at].first, key) == 0 ? &entries[*at].second : nullptr;
}

const Value *
DictPayload::find (const Value &key) const
{
  if (key.is (Kind::kString))
    return find (std::string_view (key.text ()));
  if (order.empty ()) {
    for (const auto &[name, value] : entries) {
      if (compare_keys (name, key) == 0)
        return &value;
    }
    return nullptr;
  }
  const auto at = std::partition_point (
      order.begin (), order.end (), [&] (uint32_t i) { return compare_keys (entries[i].first, key) < 0; });
  return at != order.end () && compare_keys (entries[*at].first, key) == 0 ? &entries[*at].second : nullptr;
}

Value
DictViewPayload::at (size_t index) const
{
  const auto &[key, value] = dict.dict ().entries[index];
  switch (part) {
  case Part::kKeys:
    return key;
  case Part::kValues:
    return value;
  case Part::kItems:
    break;
  }
  return Value::tuple ({key, value});
}

Generator::Generator (const Value &source, Step step)
    : source_ (source)
    , step_ (std::move (step))
{
  set_depth (*this, source.depth ());
}

bool
Generator::next (Value &out)
{
  const Nesting nesting;
  spend (1);
  return step_ && step_ (out);
}

const Value *
NamespacePayload::find (std::string_view name) const
{
  spend (entries.size () / 8);
  for (const auto &[key, value] : entries) {
    if (key.is (Kind::kString) && key.text () == name)
      return &value;
  }
  return nullptr;
}

void
NamespacePayload::set (const Value &name, Value value)
{
  if (const Value *held = find (name.text ())) {
    const_cast<Value &> (*held) = std::move (value);
    return;
  }
  charge_memory (sizeof (Pair));
  charged += sizeof (Pair);
  entries.emplace_back (name, std::move (value));
}

Value
make_namespace (std::vector<Pair> entries)
{
  Value value = make_value<NamespacePayload> ();
  const size_t bytes = entries.size () * sizeof (Pair);
  charge_memory (bytes);
  auto &space = value.as<NamespacePayload> ();
  space.charged += bytes;
  space.entries = std::move (entries);
  if (active_budget)
    active_budget->namespaces.push_back (value);
  return value;
}

const char *
type_name (const Value &value)
{
  switch (value.kind ()) {
  case Kind::kMissing:
  case Kind::kUndefined:
    return "Undefined";
  case Kind::kNone:
    return "NoneType";
  case Kind::kBool:
    return "bool";
  case Kind::kInt:
    return "int";
  case Kind::kFloat:
    return "float";
  case Kind::kString:
    return value.is_markup () ? "Markup" : "str";
  case Kind::kList:
    return "list";
  case Kind::kTuple:
    return value.as<ListPayload> ().is_group ? "_GroupTuple" : "tuple";
  case Kind::kDict:
    return "dict";
  case Kind::kDictView: {
    const auto part = value.as<DictViewPayload> ().part;
    return part == DictViewPayload::Part::kKeys     ? "dict_keys"
           : part == DictViewPayload::Part::kValues ? "dict_values"
                                                    : "dict_items";
  }
  case Kind::kRange:
    return "range";
  case Kind::kIterator:
    return value.as<Iterator> ().type_name;
  case Kind::kNamespace:
    return "Namespace";
  case Kind::kMethod:
    return "builtin_function_or_method";
  case Kind::kFunction:
    return value.as<FunctionPayload> ().is_class ? "type" : "function";
  case Kind::kMacro:
    return "Macro";
  case Kind::kLoop:
    return "LoopContext";
  case Kind::kCycler:
    return "Cycler";
  case Kind::kJoiner:
    return "Joiner";
  }
  return "object";
}

std::string
object_type_name (const Value &value)
{
  switch (value.kind ()) {
  case Kind::kNone:
    return "None";
  case Kind::kNamespace:
  case Kind::kCycler:
  case Kind::kJoiner:
    return std::string ("jinja2.utils.") + type_name (value) + " object";
  case Kind::kMacro:
  case Kind::kLoop:
    return std::string ("jinja2.runtime.") + type_name (value) + " object";
  case Kind::kString:
    return value.is_markup () ? "markupsafe.Markup object" : "str object";
  case Kind::kTuple:
    return value.as<ListPayload> ().is_group ? "jinja2.filters._GroupTuple object" : "tuple object";
  default:
    return std::string (type_name (value)) + " object";
  }
}

std::string
UndefinedPayload::message () const
{
  if (!hint.empty ())
    return hint;
  const std::string shown = name.is (Kind::kMissing) ? element : repr (name);
  if (object.empty ())
    return shown + " is undefined";
  if (name.is (Kind::kMissing))
    return object + " has no element " + shown;
  return repr (std::string_view (object)) + " has no attribute " + shown;
}

void
fail_undefined (const Value &undefined)
{
  fail (undefined.as<UndefinedPayload> ().message ());
}

void
check_hashable (const Value &value)
{
  spend (1); // a tuple may hold another many times over
  switch (value.kind ()) {
  case Kind::kList:
  case Kind::kDict:
    fail (std::string ("unhashable type: '") + type_name (value) + "'");
  case Kind::kDictView:
    if (value.as<DictViewPayload> ().part != DictViewPayload::Part::kValues)
      fail (std::string ("unhashable type: '") + type_name (value) + "'");
    return;
  case Kind::kTuple:
    for (const Value &item : value.items ())
      check_hashable (item);
    return;
  default:
    return;
  }
}

} // namespace millrace::jinja
