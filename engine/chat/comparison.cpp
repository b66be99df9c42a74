// Equality, order, membership and sorting of values.
#include "engine/chat/operators.hpp"
#include "engine/chat/string_search.hpp"

#include <algorithm>
#include <cmath>

namespace millrace::jinja
{

namespace
{

/// -1, 0, 1; 2 when a NaN makes them unordered. long double holds every int64 and every double exactly.
int
compare_numbers (const Value &left, const Value &right)
{
  if (left.is_integral () && right.is_integral ())
    return left.as_int () < right.as_int () ? -1 : left.as_int () > right.as_int ();
  const auto wide = [] (const Value &v) {
    return v.is (Kind::kFloat) ? static_cast<long double> (v.as_float ())
                               : static_cast<long double> (v.as_int ());
  };
  const long double a = wide (left), b = wide (right);
  return a < b ? -1 : a > b ? 1 : a == b ? 0 : 2;
}

bool
equal_items (const std::vector<Value> &left, const std::vector<Value> &right)
{
  if (left.size () != right.size ())
    return false;
  for (size_t i = 0; i < left.size (); i++) {
    if (!equals (left[i], right[i]))
      return false;
  }
  return true;
}

bool
equal_dicts (const DictPayload &left, const DictPayload &right)
{
  if (left.entries.size () != right.entries.size ())
    return false;
  for (const auto &[key, value] : left.entries) {
    const Value *other = right.find (key);
    if (!other || !equals (value, *other))
      return false;
  }
  return true;
}

bool
equal_ranges (const RangePayload &left, const RangePayload &right)
{
  if (left.length != right.length)
    return false;
  return left.length == 0 || (left.start == right.start && (left.length == 1 || left.step == right.step));
}

const char *
relation (Operator op)
{
  switch (op) {
  case Operator::kLess:
    return "<";
  case Operator::kLessEqual:
    return "<=";
  case Operator::kGreater:
    return ">";
  default:
    return ">=";
  }
}

bool
holds (Operator op, int order)
{
  switch (op) {
  case Operator::kLess:
    return order == -1;
  case Operator::kLessEqual:
    return order == -1 || order == 0;
  case Operator::kGreater:
    return order == 1;
  default:
    return order == 1 || order == 0;
  }
}

bool
compare_order (Operator op, const Value &left, const Value &right)
{
  spend (1);
  if (left.is_number () && right.is_number ())
    return holds (op, compare_numbers (left, right));
  if (left.is (Kind::kString) && right.is (Kind::kString)) {
    spend_bytes (std::min (left.text ().size (), right.text ().size ()));
    // bytes of UTF-8 order as the code points do
    const int order = left.text ().compare (right.text ());
    return holds (op, order < 0 ? -1 : order > 0);
  }
  if ((left.is (Kind::kList) || left.is (Kind::kTuple)) && left.kind () == right.kind ()) {
    const Nesting nesting;
    const auto &a = left.items (), &b = right.items ();
    for (size_t i = 0; i < a.size () && i < b.size (); i++) {
      if (!equals (a[i], b[i]))
        return compare_order (op, a[i], b[i]);
    }
    return holds (op, a.size () < b.size () ? -1 : a.size () > b.size ());
  }
  if (left.is (Kind::kUndefined))
    fail_undefined (left);
  if (right.is (Kind::kUndefined))
    fail_undefined (right);
  fail (std::string ("'") + relation (op) + "' not supported between instances of '" + type_name (left) +
        "' and '" + type_name (right) + "'");
}

} // namespace

bool
equals (const Value &left, const Value &right)
{
  spend (1);
  if (left.is_number () && right.is_number ())
    return compare_numbers (left, right) == 0;
  if (left.kind () != right.kind ())
    return false;
  switch (left.kind ()) {
  case Kind::kMissing:
  case Kind::kUndefined:
  case Kind::kNone:
    return true;
  case Kind::kString:
    if (left.text ().size () == right.text ().size ())
      spend_bytes (left.text ().size ());
    return left.text () == right.text ();
  case Kind::kList:
  case Kind::kTuple: {
    const Nesting nesting;
    return left.same_object (right) || equal_items (left.items (), right.items ());
  }
  case Kind::kDict: {
    const Nesting nesting;
    return left.same_object (right) || equal_dicts (left.dict (), right.dict ());
  }
  case Kind::kDictView: {
    const auto &a = left.as<DictViewPayload> (), &b = right.as<DictViewPayload> ();
    if (a.part != b.part || a.part == DictViewPayload::Part::kValues)
      return left.same_object (right);
    if (length_of (left) != length_of (right))
      return false;
    for (int64_t i = 0; i < length_of (left); i++) {
      if (!contains (right, a.at (static_cast<size_t> (i))))
        return false;
    }
    return true;
  }
  case Kind::kRange:
    return equal_ranges (left.as<RangePayload> (), right.as<RangePayload> ());
  case Kind::kMethod: {
    const auto &a = left.as<MethodPayload> (), &b = right.as<MethodPayload> ();
    return a.function == b.function && a.self.same_object (b.self);
  }
  default:
    return left.same_object (right);
  }
}

bool
less (const Value &left, const Value &right)
{
  return compare_order (Operator::kLess, left, right);
}

bool
contains (const Value &container, const Value &item)
{
  switch (container.kind ()) {
  case Kind::kString:
    if (!item.is (Kind::kString))
      fail (std::string ("'in <string>' requires string as left operand, not ") + type_name (item));
    spend_bytes (container.text ().size ());
    return find_text (container.text (), item.text (), 0) != std::string_view::npos;
  case Kind::kList:
  case Kind::kTuple:
    for (const Value &member : container.items ()) {
      if (equals (member, item))
        return true;
    }
    return false;
  case Kind::kDict:
    check_hashable (item);
    return container.dict ().find (item) != nullptr;
  case Kind::kDictView: {
    const auto &view = container.as<DictViewPayload> ();
    if (view.part == DictViewPayload::Part::kKeys)
      return contains (view.dict, item);
    if (view.part == DictViewPayload::Part::kItems) {
      if (!item.is (Kind::kTuple) || item.items ().size () != 2)
        return false;
      check_hashable (item.items ()[0]);
      const Value *value = view.dict.dict ().find (item.items ()[0]);
      return value && equals (*value, item.items ()[1]);
    }
    for (const auto &entry : view.dict.dict ().entries) {
      if (equals (entry.second, item))
        return true;
    }
    return false;
  }
  case Kind::kRange: {
    const auto &range = container.as<RangePayload> ();
    if (!item.is_number () || (item.is (Kind::kFloat) && item.as_float () != std::floor (item.as_float ())))
      return false;
    if (range.length == 0 || std::fabs (item.as_double ()) > 1e18)
      return false;
    const int64_t value = item.is (Kind::kFloat) ? static_cast<int64_t> (item.as_float ()) : item.as_int ();
    int64_t distance = 0;
    if (__builtin_sub_overflow (value, range.start, &distance))
      return false;
    return distance % range.step == 0 && distance / range.step >= 0 && distance / range.step < range.length;
  }
  case Kind::kUndefined:
    return false;
  case Kind::kIterator: {
    Value member;
    while (container.as<Iterator> ().next (member)) {
      if (equals (member, item))
        return true;
    }
    return false;
  }
  default:
    fail (std::string ("argument of type '") + type_name (container) + "' is not iterable");
  }
}

bool
compare (Operator op, const Value &left, const Value &right)
{
  switch (op) {
  case Operator::kEqual:
    return equals (left, right);
  case Operator::kNotEqual:
    return !equals (left, right);
  case Operator::kIn:
    return contains (right, left);
  case Operator::kNotIn:
    return !contains (right, left);
  default:
    return compare_order (op, left, right);
  }
}

namespace
{

int
key_class (const Value &key)
{
  switch (key.kind ()) {
  case Kind::kMissing:
  case Kind::kUndefined:
    return 0;
  case Kind::kNone:
    return 1;
  case Kind::kBool:
  case Kind::kInt:
  case Kind::kFloat:
    return 2;
  case Kind::kString:
    return 3;
  case Kind::kTuple:
    return 4;
  default:
    return 5;
  }
}

} // namespace

int
compare_keys (const Value &left, const Value &right)
{
  spend (1);
  const int left_class = key_class (left), right_class = key_class (right);
  if (left_class != right_class)
    return left_class < right_class ? -1 : 1;
  switch (left_class) {
  case 2: {
    // NaNs are equal here and above all others, so that the order is total
    const bool left_nan = left.is (Kind::kFloat) && std::isnan (left.as_float ());
    const bool right_nan = right.is (Kind::kFloat) && std::isnan (right.as_float ());
    if (left_nan || right_nan)
      return left_nan && right_nan ? 0 : left_nan ? 1 : -1;
    return compare_numbers (left, right);
  }
  case 3:
    return compare_key (left, right.text ());
  case 4: {
    const auto &a = left.items (), &b = right.items ();
    for (size_t i = 0; i < a.size () && i < b.size (); i++) {
      if (const int order = compare_keys (a[i], b[i]))
        return order;
    }
    return a.size () < b.size () ? -1 : a.size () > b.size ();
  }
  case 5:
    return std::less<> () (left.payload (), right.payload ()) ? -1 : left.payload () != right.payload ();
  default:
    return 0;
  }
}

int
compare_key (const Value &left, std::string_view right)
{
  if (!left.is (Kind::kString))
    return key_class (left) < 3 ? -1 : 1;
  const int order = std::string_view (left.text ()).compare (right);
  return order < 0 ? -1 : order > 0;
}

namespace
{

/// Merge sort of positions: stable, and in bounds whatever `less` answers.
void
merge_sort (std::vector<uint32_t> &order, std::vector<uint32_t> &spare, const std::vector<Value> &keys)
{
  const size_t size = order.size ();
  for (size_t width = 1; width < size; width *= 2) {
    for (size_t low = 0; low < size; low += 2 * width) {
      const size_t middle = std::min (low + width, size), high = std::min (low + 2 * width, size);
      size_t a = low, b = middle, out = low;
      while (a < middle && b < high)
        spare[out++] = less (keys[order[b]], keys[order[a]]) ? order[b++] : order[a++];
      while (a < middle)
        spare[out++] = order[a++];
      while (b < high)
        spare[out++] = order[b++];
    }
    order.swap (spare);
  }
}

} // namespace

std::vector<Value>
sort_by_keys (std::vector<Value> items, const std::vector<Value> &keys, bool descending)
{
  std::vector<uint32_t> order (items.size ()), spare (items.size ());
  for (size_t i = 0; i < order.size (); i++)
    order[i] = static_cast<uint32_t> (descending ? order.size () - 1 - i : i);
  merge_sort (order, spare, keys);
  std::vector<Value> sorted;
  sorted.reserve (items.size ());
  for (size_t i = 0; i < order.size (); i++)
    sorted.push_back (std::move (items[order[descending ? order.size () - 1 - i : i]]));
  return sorted;
}

} // namespace millrace::jinja
