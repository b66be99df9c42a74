// Filters on sequences and mappings. Those that are generators in the reference are generators here: they run
// when iterated, once.
#include "engine/chat/attributes.hpp"
#include "engine/chat/filters.hpp"
#include "engine/chat/string_search.hpp"

#include <algorithm>
#include <optional>
#include <set>

namespace millrace::jinja
{

namespace
{

/// An attribute as filters take it: "a.b.0", an index, or none for the item itself.
class AttributeGetter
{
public:
  explicit AttributeGetter (const Value &attribute, const Value &otherwise = {})
      : otherwise_ (otherwise)
  {
    if (attribute.is (Kind::kNone))
      return;
    if (!attribute.is (Kind::kString)) {
      parts_.push_back (attribute);
      return;
    }
    for (const Value &part : split_text (attribute, Value::string ("."), -1)) {
      const std::string &text = part.text ();
      const bool is_index =
          !text.empty () && text.size () < 18 && text.find_first_not_of ("0123456789") == std::string::npos;
      parts_.push_back (is_index ? Value::integer (std::stoll (text)) : part);
    }
  }

  Value operator() (Value item) const
  {
    for (const Value &part : parts_) {
      item = get_item (item, part);
      if (!otherwise_.is (Kind::kNone) && item.is (Kind::kUndefined))
        item = otherwise_;
    }
    return item;
  }

private:
  std::vector<Value> parts_;
  Value otherwise_;
};

Value
ignore_case (const Value &value)
{
  return value.is (Kind::kString) ? Value::string (to_lower (value.text ())) : value;
}

/// A generator over a vector that is made when it is first asked.
Value
lazy (const Value &source, std::function<std::vector<Value> ()> make)
{
  struct State {
    std::function<std::vector<Value> ()> make;
    std::vector<Value> items;
    size_t position = 0;
  };
  auto state = std::make_shared<State> ();
  state->make = std::move (make);
  return make_value<Generator> (source, [state] (Value &out) {
    if (state->make) {
      state->items = std::exchange (state->make, nullptr) ();
    }
    if (state->position >= state->items.size ())
      return false;
    out = std::move (state->items[state->position++]);
    return true;
  });
}

Value
length (const Value &input, const Arguments &arguments)
{
  const Parameters parameters ("length", arguments, {});
  return Value::integer (length_of (input));
}

Value
default_filter (const Value &input, const Arguments &arguments)
{
  const Parameters parameters ("default", arguments, {"default_value", "boolean"});
  if (input.is (Kind::kUndefined) || (parameters.flag (1, false) && !is_true (input)))
    return parameters.has (0) ? parameters[0] : Value::string ("");
  return input;
}

Value
attr (const Value &input, const Arguments &arguments)
{
  const Parameters parameters ("attr", arguments, {"name"}, 1);
  return get_attribute_only (input, parameters[0]);
}

Value
first (const Value &input, const Arguments &arguments)
{
  const Parameters parameters ("first", arguments, {});
  Value item;
  if (iterate (input).as<Iterator> ().next (item))
    return item;
  return Value::undefined_hint ("No first item, sequence was empty.");
}

Value
last (const Value &input, const Arguments &arguments)
{
  const Parameters parameters ("last", arguments, {});
  if (!has_length (input))
    fail (std::string ("'") + type_name (input) + "' object is not reversible");
  if (length_of (input) == 0)
    return Value::undefined_hint ("No last item, sequence was empty.");
  if (input.is (Kind::kString) || input.is (Kind::kList) || input.is (Kind::kTuple) ||
      input.is (Kind::kRange))
    return get_item (input, Value::integer (-1));
  return to_vector (input).back ();
}

Value
list (const Value &input, const Arguments &arguments)
{
  const Parameters parameters ("list", arguments, {});
  return Value::list (to_vector (input));
}

Value
items (const Value &input, const Arguments &arguments)
{
  const Parameters parameters ("items", arguments, {});
  return lazy (input, [input] {
    std::vector<Value> pairs;
    if (input.is (Kind::kUndefined))
      return pairs;
    if (!input.is (Kind::kDict))
      fail ("Can only get item pairs from a mapping.");
    for (const auto &[key, value] : input.dict ().entries)
      pairs.push_back (Value::tuple ({key, value}));
    return pairs;
  });
}

Value
join (const Value &input, const Arguments &arguments)
{
  const Parameters parameters ("join", arguments, {"d", "attribute"});
  const std::string separator = parameters.has (0) ? to_text (parameters[0]) : "";
  const AttributeGetter getter (parameters[1]);
  const Value iterator = iterate (input);
  std::string out;
  Value item;
  for (bool is_first = true; iterator.as<Iterator> ().next (item); is_first = false) {
    if (!is_first)
      append_bounded (out, separator);
    append_bounded (out, to_text (getter (item)));
  }
  return Value::string (std::move (out));
}

Value
reverse (const Value &input, const Arguments &arguments)
{
  const Parameters parameters ("reverse", arguments, {});
  if (input.is (Kind::kString))
    return slice (input, Value (), Value (), Value::integer (-1));
  if (!is_iterable (input))
    fail ("argument must be iterable");
  auto reversed = to_vector (input);
  std::reverse (reversed.begin (), reversed.end ());
  const Value as_list = Value::list (std::move (reversed));
  return input.is (Kind::kIterator) ? as_list : iterate (as_list);
}

/// The items with the keys that they are compared by.
struct Keyed {
  std::vector<Value> items, keys;
};

Keyed
keyed (const Value &input, const AttributeGetter &getter, bool case_sensitive)
{
  Keyed result;
  result.items = to_vector (input);
  for (const Value &item : result.items) {
    const Value key = getter (item);
    result.keys.push_back (case_sensitive ? key : ignore_case (key));
  }
  return result;
}

Value
sort (const Value &input, const Arguments &arguments)
{
  const Parameters parameters ("sort", arguments, {"reverse", "case_sensitive", "attribute"});
  const bool case_sensitive = parameters.flag (1, false);
  std::vector<AttributeGetter> getters;
  if (parameters[2].is (Kind::kString)) {
    for (const Value &part : split_text (parameters[2], Value::string (","), -1))
      getters.emplace_back (part);
  } else {
    getters.emplace_back (parameters[2]);
  }
  auto sorted = to_vector (input);
  std::vector<Value> keys;
  for (const Value &item : sorted) {
    std::vector<Value> parts;
    for (const auto &getter : getters) {
      const Value key = getter (item);
      parts.push_back (case_sensitive ? key : ignore_case (key));
    }
    keys.push_back (Value::list (std::move (parts)));
  }
  return Value::list (sort_by_keys (std::move (sorted), keys, parameters.flag (0, false)));
}

Value
dictsort (const Value &input, const Arguments &arguments)
{
  const Parameters parameters ("dictsort", arguments, {"case_sensitive", "by", "reverse"});
  const std::string by = parameters.has (1) ? to_text (parameters[1]) : "key";
  if (by != "key" && by != "value")
    fail ("You can only sort by either \"key\" or \"value\"");
  if (input.is (Kind::kUndefined))
    fail_undefined (input);
  if (!input.is (Kind::kDict))
    fail (std::string ("'") + type_name (input) + "' object has no attribute 'items'");
  std::vector<Value> pairs, keys;
  for (const auto &[key, value] : input.dict ().entries) {
    pairs.push_back (Value::tuple ({key, value}));
    const Value &compared = by == "key" ? key : value;
    keys.push_back (parameters.flag (0, false) ? compared : ignore_case (compared));
  }
  return Value::list (sort_by_keys (std::move (pairs), keys, parameters.flag (2, false)));
}

Value
extreme (const char *name, const Value &input, const Arguments &arguments, bool want_less)
{
  const Parameters parameters (name, arguments, {"case_sensitive", "attribute"});
  const auto all = keyed (input, AttributeGetter (parameters[1]), parameters.flag (0, false));
  if (all.items.empty ())
    return Value::undefined_hint ("No aggregated item, sequence was empty.");
  size_t best = 0;
  for (size_t i = 1; i < all.items.size (); i++) {
    if (want_less ? less (all.keys[i], all.keys[best])
                  : compare (Operator::kGreater, all.keys[i], all.keys[best]))
      best = i;
  }
  return all.items[best];
}

Value
minimum (const Value &input, const Arguments &arguments)
{
  return extreme ("min", input, arguments, true);
}

Value
maximum (const Value &input, const Arguments &arguments)
{
  return extreme ("max", input, arguments, false);
}

Value
sum (const Value &input, const Arguments &arguments)
{
  const Parameters parameters ("sum", arguments, {"attribute", "start"});
  const AttributeGetter getter (parameters[0]);
  Value total = parameters.has (1) ? parameters[1] : Value::integer (0);
  if (total.is (Kind::kString))
    fail ("sum() can't sum strings [use ''.join(seq) instead]");
  const Value iterator = iterate (input);
  Value item;
  while (iterator.as<Iterator> ().next (item))
    total = arithmetic (Operator::kAdd, total, getter (item));
  return total;
}

Value
unique (const Value &input, const Arguments &arguments)
{
  const Parameters parameters ("unique", arguments, {"case_sensitive", "attribute"});
  const bool case_sensitive = parameters.flag (0, false);
  const AttributeGetter getter (parameters[1]);
  return lazy (input, [=] {
    const auto order = [] (const Value &a, const Value &b) { return compare_keys (a, b) < 0; };
    std::set<Value, decltype (order)> seen (order);
    std::vector<Value> kept;
    auto all = keyed (input, getter, case_sensitive);
    for (size_t i = 0; i < all.items.size (); i++) {
      check_hashable (all.keys[i]);
      if (seen.insert (all.keys[i]).second)
        kept.push_back (all.items[i]);
    }
    return kept;
  });
}

Value
batch (const Value &input, const Arguments &arguments)
{
  const Parameters parameters ("batch", arguments, {"linecount", "fill_with"}, 1);
  const int64_t count = parameters.integer (0, 0);
  const Value fill = parameters[1];
  return lazy (Value::tuple ({input, fill}), [=] {
    std::vector<Value> rows, row;
    for (const Value &item : to_vector (input)) {
      if (static_cast<int64_t> (row.size ()) == count) {
        rows.push_back (Value::list (std::move (row)));
        row = {};
      }
      row.push_back (item);
    }
    if (!row.empty ()) {
      while (!fill.is (Kind::kNone) && static_cast<int64_t> (row.size ()) < count) {
        spend (4); // each is sixteen bytes that are not charged yet
        row.push_back (fill);
      }
      rows.push_back (Value::list (std::move (row)));
    }
    return rows;
  });
}

Value
slice_filter (const Value &input, const Arguments &arguments)
{
  const Parameters parameters ("slice", arguments, {"slices", "fill_with"}, 1);
  const int64_t slices = parameters.integer (0, 0);
  const Value fill = parameters[1];
  return lazy (Value::tuple ({input, fill}), [=] {
    const auto all = to_vector (input);
    if (slices == 0)
      fail ("integer division or modulo by zero");
    std::vector<Value> columns;
    if (slices < 0)
      return columns;
    const auto total = static_cast<int64_t> (all.size ());
    const int64_t each = total / slices, extra = total % slices;
    int64_t start = 0;
    for (int64_t i = 0; i < slices; i++) {
      const int64_t size = each + (i < extra ? 1 : 0);
      std::vector<Value> column (all.begin () + start, all.begin () + start + size);
      start += size;
      if (!fill.is (Kind::kNone) && i >= extra)
        column.push_back (fill);
      columns.push_back (Value::list (std::move (column)));
    }
    return columns;
  });
}

Value
groupby (const Value &input, const Arguments &arguments)
{
  const Parameters parameters ("groupby", arguments, {"attribute", "default", "case_sensitive"}, 1);
  const bool case_sensitive = parameters.flag (2, false);
  const AttributeGetter getter (parameters[0], parameters[1]);
  auto all = keyed (input, getter, case_sensitive);
  const auto sorted = sort_by_keys (std::move (all.items), all.keys, false);
  std::vector<Value> groups;
  for (size_t i = 0; i < sorted.size ();) {
    const Value real_key = getter (sorted[i]);
    const Value key = case_sensitive ? real_key : ignore_case (real_key);
    std::vector<Value> members;
    for (; i < sorted.size (); i++) {
      const Value other = getter (sorted[i]);
      if (!equals (case_sensitive ? other : ignore_case (other), key))
        break;
      members.push_back (sorted[i]);
    }
    const Value group = Value::tuple ({real_key, Value::list (std::move (members))});
    group.as<ListPayload> ().is_group = true;
    groups.push_back (group);
    if (groups.back ().items ()[1].items ().empty ())
      i++; // a key that is not equal to itself
  }
  return Value::list (std::move (groups));
}

/// Everything a lazy filter holds on to, so that its depth counts.
Value
held (const Value &input, const Arguments &arguments)
{
  std::vector<Value> all{input};
  all.insert (all.end (), arguments.positional.begin (), arguments.positional.end ());
  for (const auto &keyword : arguments.keywords)
    all.push_back (keyword.second);
  return Value::tuple (std::move (all));
}

using Transform = std::function<Value (const Value &item)>;

Transform
prepare_map (const Arguments &arguments)
{
  const auto &keywords = arguments.keywords;
  const auto named = [&] (const char *name) {
    return std::find_if (keywords.begin (), keywords.end (), [&] (const auto &k) { return k.first == name; });
  };
  if (arguments.positional.empty () && named ("attribute") != keywords.end ()) {
    for (const auto &[name, value] : keywords) {
      if (name != "attribute" && name != "default")
        fail ("Unexpected keyword argument " + repr (std::string_view (name)));
    }
    const Value otherwise = named ("default") != keywords.end () ? named ("default")->second : Value ();
    return AttributeGetter (named ("attribute")->second, otherwise);
  }
  if (arguments.positional.empty ())
    fail ("map requires a filter argument");
  const Value &name = arguments.positional.front ();
  const auto filter = name.is (Kind::kString) ? find_filter (name.text ()) : nullptr;
  if (!filter)
    fail ("No filter named " + repr (name) + ".");
  Arguments rest = arguments;
  rest.positional.erase (rest.positional.begin ());
  return [filter, rest] (const Value &item) { return filter (item, rest); };
}

Value
map (const Value &input, const Arguments &arguments)
{
  struct State {
    Transform transform;
    Value iterator;
  };
  auto state = std::make_shared<State> ();
  return make_value<Generator> (held (input, arguments), [=] (Value &out) {
    if (!state->transform) {
      if (!is_true (input))
        return false;
      state->transform = prepare_map (arguments);
      state->iterator = iterate (input);
    }
    Value item;
    if (!state->iterator.is (Kind::kIterator) || !state->iterator.as<Iterator> ().next (item))
      return false;
    out = state->transform (item);
    return true;
  });
}

using Predicate = std::function<bool (const Value &item)>;

Predicate
prepare_select (const Arguments &arguments, bool by_attribute)
{
  const auto &given = arguments.positional;
  size_t name_at = 0;
  AttributeGetter getter{Value ()};
  if (by_attribute) {
    if (given.empty ())
      fail ("Missing parameter for attribute name");
    getter = AttributeGetter (given[0]);
    name_at = 1;
  }
  if (given.size () <= name_at)
    return [getter] (const Value &item) { return is_true (getter (item)); };
  const Value &name = given[name_at];
  const auto test = name.is (Kind::kString) ? find_test (name.text ()) : nullptr;
  if (!test)
    fail ("No test named " + repr (name) + ".");
  Arguments rest;
  rest.positional.assign (given.begin () + static_cast<ptrdiff_t> (name_at) + 1, given.end ());
  rest.keywords = arguments.keywords;
  return [getter, test, rest] (const Value &item) { return test (getter (item), rest); };
}

struct SelectState {
  Predicate predicate;
  Value iterator;
};

template <bool keep, bool by_attribute>
Value
select (const Value &input, const Arguments &arguments)
{
  auto state = std::make_shared<SelectState> ();
  return make_value<Generator> (held (input, arguments), [=] (Value &out) {
    if (!state->predicate) {
      if (!is_true (input))
        return false;
      state->predicate = prepare_select (arguments, by_attribute);
      state->iterator = iterate (input);
    }
    while (state->iterator.is (Kind::kIterator) && state->iterator.as<Iterator> ().next (out)) {
      if (state->predicate (out) == keep)
        return true;
    }
    return false;
  });
}

constexpr FilterEntry kFilters[] = {
    {"attr", attr},
    {"batch", batch},
    {"count", length},
    {"d", default_filter},
    {"default", default_filter},
    {"dictsort", dictsort},
    {"first", first},
    {"groupby", groupby},
    {"items", items},
    {"join", join},
    {"last", last},
    {"length", length},
    {"list", list},
    {"map", map},
    {"max", maximum},
    {"min", minimum},
    {"reject", select<false, false>},
    {"rejectattr", select<false, true>},
    {"reverse", reverse},
    {"select", select<true, false>},
    {"selectattr", select<true, true>},
    {"slice", slice_filter},
    {"sort", sort},
    {"sum", sum},
    {"unique", unique},
};

} // namespace

const FilterEntry *
find_sequence_filter (std::string_view name)
{
  const auto *end = std::end (kFilters);
  const auto *entry =
      std::find_if (std::begin (kFilters), end, [&] (const FilterEntry &e) { return name == e.name; });
  return entry == end ? nullptr : entry;
}

FilterFunction
find_filter (std::string_view name)
{
  for (auto *find : {find_text_filter, find_number_filter, find_sequence_filter}) {
    if (const auto *entry = find (name))
      return entry->function;
  }
  return nullptr;
}

} // namespace millrace::jinja
