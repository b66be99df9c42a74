// The methods of lists, tuples, dicts, ranges, views and numbers. Those that would change a list or dict
// are named here because they exist; the sandbox refuses them (attributes.cpp).
#include "engine/chat/attributes.hpp"
#include "engine/chat/operators.hpp"

#include <algorithm>
#include <cmath>

namespace millrace::jinja
{

namespace
{

Value
unsupported (const Value &, const Arguments &)
{
  fail ("this method is not available in chat templates");
}

Value
dict_get (const Value &self, const Arguments &arguments)
{
  const Parameters parameters ("get", arguments, {"key", "default"}, 1, true);
  check_hashable (parameters[0]);
  const Value *value = self.dict ().find (parameters[0]);
  return value ? *value : parameters[1];
}

template <DictViewPayload::Part part>
Value
dict_view (const Value &self, const Arguments &arguments)
{
  const Parameters parameters ("dict view", arguments, {});
  auto owner = std::make_unique<DictViewPayload> (self, part);
  set_depth (*owner, self.depth ());
  owner->charge (sizeof (DictViewPayload));
  return Value (owner.release ());
}

/// Containers never change, so a copy is the object itself.
Value
copy (const Value &self, const Arguments &arguments)
{
  const Parameters parameters ("copy", arguments, {});
  return self;
}

Value
dict_fromkeys (const Value &, const Arguments &arguments)
{
  const Parameters parameters ("fromkeys", arguments, {"iterable", "value"}, 1, true);
  std::vector<Pair> entries;
  for (Value &key : to_vector (parameters[0])) {
    check_hashable (key);
    entries.emplace_back (std::move (key), parameters[1]);
  }
  return Value::dict (std::move (entries));
}

Value
sequence_count (const Value &self, const Arguments &arguments)
{
  const Parameters parameters ("count", arguments, {"value"}, 1, true);
  const auto items = to_vector (self);
  return Value::integer (std::count_if (items.begin (), items.end (),
                                        [&] (const Value &item) { return equals (item, parameters[0]); }));
}

Value
sequence_index (const Value &self, const Arguments &arguments)
{
  const Parameters parameters ("index", arguments, {"value", "start", "stop"}, 1, true);
  const auto items = to_vector (self);
  const auto bounds =
      slice_bounds (parameters[1], parameters[2], Value (), static_cast<int64_t> (items.size ()));
  for (int64_t i = bounds.start; i < bounds.start + bounds.count; i++) {
    if (equals (items[static_cast<size_t> (i)], parameters[0]))
      return Value::integer (i);
  }
  if (self.is (Kind::kTuple))
    fail ("tuple.index(x): x not in tuple");
  fail (repr (parameters[0]) + " is not in " + type_name (self));
}

Value
view_isdisjoint (const Value &self, const Arguments &arguments)
{
  const Parameters parameters ("isdisjoint", arguments, {"other"}, 1, true);
  for (const Value &item : to_vector (parameters[0])) {
    if (contains (self, item))
      return Value::boolean (false);
  }
  return Value::boolean (true);
}

Value
float_is_integer (const Value &self, const Arguments &)
{
  return Value::boolean (std::isfinite (self.as_float ()) &&
                         self.as_float () == std::floor (self.as_float ()));
}

Value
int_bit_length (const Value &self, const Arguments &)
{
  const int64_t value = self.as_int ();
  const uint64_t magnitude = value < 0 ? 0 - static_cast<uint64_t> (value) : static_cast<uint64_t> (value);
  return Value::integer (magnitude ? 64 - __builtin_clzll (magnitude) : 0);
}

Value
int_bit_count (const Value &self, const Arguments &)
{
  const int64_t value = self.as_int ();
  const uint64_t magnitude = value < 0 ? 0 - static_cast<uint64_t> (value) : static_cast<uint64_t> (value);
  return Value::integer (__builtin_popcountll (magnitude));
}

Value
conjugate (const Value &self, const Arguments &)
{
  return positive (self);
}

constexpr MethodEntry kListMethods[] = {
    {"append", unsupported}, {"clear", unsupported},    {"copy", copy},          {"count", sequence_count},
    {"extend", unsupported}, {"index", sequence_index}, {"insert", unsupported}, {"pop", unsupported},
    {"remove", unsupported}, {"reverse", unsupported},  {"sort", unsupported},
};

constexpr MethodEntry kDictMethods[] = {
    {"get", dict_get},
    {"items", dict_view<DictViewPayload::Part::kItems>},
    {"keys", dict_view<DictViewPayload::Part::kKeys>},
    {"values", dict_view<DictViewPayload::Part::kValues>},
    {"copy", copy},
    {"fromkeys", dict_fromkeys},
    {"clear", unsupported},
    {"pop", unsupported},
    {"popitem", unsupported},
    {"setdefault", unsupported},
    {"update", unsupported},
};

constexpr MethodEntry kSequenceMethods[] = {{"count", sequence_count}, {"index", sequence_index}};

constexpr MethodEntry kViewMethods[] = {{"isdisjoint", view_isdisjoint}, {"mapping", unsupported}};

constexpr MethodEntry kIntMethods[] = {
    {"bit_length", int_bit_length},    {"bit_count", int_bit_count}, {"conjugate", conjugate},
    {"as_integer_ratio", unsupported}, {"from_bytes", unsupported},  {"to_bytes", unsupported},
};

constexpr MethodEntry kFloatMethods[] = {
    {"is_integer", float_is_integer}, {"conjugate", conjugate}, {"as_integer_ratio", unsupported},
    {"fromhex", unsupported},         {"hex", unsupported},
};

constexpr MethodEntry kIteratorMethods[] = {
    {"close", unsupported}, {"send", unsupported}, {"throw", unsupported}, {"gi_running", unsupported}};

template <size_t size>
const MethodEntry *
find_in (const MethodEntry (&table)[size], std::string_view name)
{
  for (const auto &entry : table) {
    if (name == entry.name)
      return &entry;
  }
  return nullptr;
}

} // namespace

const MethodEntry *
find_container_method (const Value &object, std::string_view name)
{
  switch (object.kind ()) {
  case Kind::kList:
    return find_in (kListMethods, name);
  case Kind::kDict:
    return find_in (kDictMethods, name);
  case Kind::kTuple:
  case Kind::kRange:
    return find_in (kSequenceMethods, name);
  case Kind::kDictView:
    return find_in (kViewMethods, name);
  case Kind::kBool:
  case Kind::kInt:
    return find_in (kIntMethods, name);
  case Kind::kFloat:
    return find_in (kFloatMethods, name);
  case Kind::kIterator:
    return find_in (kIteratorMethods, name);
  default:
    return nullptr;
  }
}

} // namespace millrace::jinja
