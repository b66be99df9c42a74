// The global functions of templates.
#include "engine/chat/filters.hpp"
#include "engine/chat/text.hpp"

#include <algorithm>

namespace millrace::jinja
{

namespace
{

/// The sandbox's limit on range ().
constexpr int64_t kMaxRange = 100'000;

int64_t
range_argument (const Value &value)
{
  if (value.is (Kind::kUndefined))
    fail (std::string ("'Undefined' object cannot be interpreted as an integer"));
  if (!value.is_integral ())
    fail (std::string ("'") + type_name (value) + "' object cannot be interpreted as an integer");
  return value.as_int ();
}

Value
range (const Arguments &arguments)
{
  const auto &given = arguments.positional;
  if (!arguments.keywords.empty ())
    fail ("range() takes no keyword arguments");
  if (given.empty ())
    fail ("range expected at least 1 argument, got 0");
  if (given.size () > 3)
    fail ("range expected at most 3 arguments, got " + std::to_string (given.size ()));
  const int64_t start = given.size () > 1 ? range_argument (given[0]) : 0;
  const int64_t stop = range_argument (given[given.size () > 1 ? 1 : 0]);
  const int64_t step = given.size () > 2 ? range_argument (given[2]) : 1;
  if (step == 0)
    fail ("range() arg 3 must not be zero");
  __extension__ using Wide = __int128; // the distance of two int64
  const Wide distance = step > 0 ? Wide (stop) - start : Wide (start) - stop;
  const Wide stride = step > 0 ? Wide (step) : -Wide (step);
  const Wide length = distance <= 0 ? 0 : (distance - 1) / stride + 1;
  if (length > kMaxRange)
    fail_limit ("Range too big. The sandbox blocks ranges larger than MAX_RANGE (" +
                std::to_string (kMaxRange) + ").");
  return make_value<RangePayload> (start, stop, step, static_cast<int64_t> (length));
}

/// dict (mapping or pairs, **more)
std::vector<Pair>
dict_entries (const char *name, const Arguments &arguments)
{
  if (arguments.positional.size () > 1)
    fail (std::string (name) + " expected at most 1 argument, got " +
          std::to_string (arguments.positional.size ()));
  std::vector<Pair> entries;
  if (!arguments.positional.empty ()) {
    const Value &source = arguments.positional[0];
    if (source.is (Kind::kUndefined))
      fail_undefined (source);
    if (source.is (Kind::kDict)) {
      spend (source.dict ().entries.size ());
      entries = source.dict ().entries;
    } else {
      for (const Value &item : to_vector (source)) {
        auto pair = to_vector (item);
        if (pair.size () != 2)
          fail ("dictionary update sequence element #" + std::to_string (entries.size ()) + " has length " +
                std::to_string (pair.size ()) + "; 2 is required");
        check_hashable (pair[0]);
        entries.emplace_back (std::move (pair[0]), std::move (pair[1]));
      }
    }
  }
  for (const auto &[key, value] : arguments.keywords)
    entries.emplace_back (Value::string (key), value);
  return entries;
}

Value
dict (const Arguments &arguments)
{
  return Value::dict (dict_entries ("dict", arguments));
}

Value
namespace_function (const Arguments &arguments)
{
  // through a dict, which keeps one of each name
  return make_namespace (Value::dict (dict_entries ("dict", arguments)).dict ().entries);
}

Value
cycler (const Arguments &arguments)
{
  if (arguments.positional.empty ())
    fail ("at least one item has to be provided");
  const Value items = Value::tuple (arguments.positional); // for its depth
  const Value value = make_value<CyclerPayload> (arguments.positional);
  set_depth (*value.payload (), items.depth ());
  return value;
}

Value
joiner (const Arguments &arguments)
{
  const Parameters parameters ("joiner", arguments, {"sep"});
  const Value separator = parameters.has (0) ? parameters[0] : Value::string (", ");
  const Value value = make_value<JoinerPayload> (separator);
  set_depth (*value.payload (), separator.depth ());
  return value;
}

Value
raise_exception (const Arguments &arguments)
{
  const Parameters parameters ("raise_exception", arguments, {"message"}, 1);
  throw ChatTemplateError (ChatTemplateError::Kind::kRaised, 0, to_text (parameters[0]));
}

Value
strftime_now (const Arguments &arguments)
{
  const Parameters parameters ("strftime_now", arguments, {"format"}, 1);
  return Value::string (format_time (parameters.text (0), active_budget ? active_budget->now_unix : 0));
}

/// A function that lives as long as the program and is shared by all renders.
struct Global {
  Global (const char *name, GlobalFunction function, bool is_class)
      : payload (name, function, is_class)
  {
    payload.frozen = true;
    value = Value (&payload);
  }
  FunctionPayload payload;
  Value value;
};

} // namespace

const Value *
find_global (std::string_view name)
{
  static Global globals[] = {
      {"range", range, false},
      {"dict", dict, true},
      {"namespace", namespace_function, true},
      {"cycler", cycler, true},
      {"joiner", joiner, true},
      {"raise_exception", raise_exception, false},
      {"strftime_now", strftime_now, false},
  };
  for (const auto &global : globals) {
    if (name == global.payload.name)
      return &global.value;
  }
  return nullptr;
}

} // namespace millrace::jinja
