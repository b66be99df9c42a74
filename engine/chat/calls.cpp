// Calls of macros, callers, recursive loops and functions.
#include "engine/chat/arguments.hpp"
#include "engine/chat/frame_holder.hpp"
#include "engine/chat/render.hpp"

#include <algorithm>

namespace millrace::jinja
{

Value
Renderer::make_macro (const Macro &node, Frame &frame)
{
  return make_value<MacroPayload> (node, &frame);
}

Value
Renderer::call (const Value &callee, const Arguments &arguments)
{
  spend (1);
  switch (callee.kind ()) {
  case Kind::kMethod: {
    const auto &method = callee.as<MethodPayload> ();
    return method.function (method.self, arguments);
  }
  case Kind::kFunction:
    return callee.as<FunctionPayload> ().function (arguments);
  case Kind::kMacro:
    return call_macro (callee.as<MacroPayload> (), arguments);
  case Kind::kLoop:
    return call_loop (callee, arguments);
  case Kind::kJoiner: {
    auto &joiner = callee.as<JoinerPayload> ();
    return std::exchange (joiner.used, true) ? joiner.separator : Value::string ("");
  }
  case Kind::kUndefined:
    fail_undefined (callee);
  default:
    fail (std::string ("'") + type_name (callee) + "' object is not callable");
  }
}

Value
Renderer::call_loop (const Value &value, const Arguments &arguments)
{
  const Parameters parameters ("loop", arguments, {"iterable"}, 1);
  const auto &loop = value.as<LoopPayload> ();
  if (!loop.statement)
    fail ("The loop must have the 'recursive' marker to be called recursively.");
  const For &node = *loop.statement;
  return render_recursive (node, parameters[0], loop.closure, loop.depth0 + 1);
}

Value
Renderer::call_macro (const MacroPayload &payload, const Arguments &arguments)
{
  const Nesting nesting;
  const Macro &macro = payload.macro;
  const int line = line_;
  const std::string shown = macro.name.is (Kind::kNone) ? "None" : repr (macro.name);
  FrameHolder holder (macro.function, payload.closure, frames_);
  Frame &frame = holder.frame ();
  auto keywords = arguments.keywords;
  const auto take = [&] (std::string_view name, Value &out) {
    const auto given =
        std::find_if (keywords.begin (), keywords.end (), [&] (const auto &k) { return k.first == name; });
    if (given == keywords.end ())
      return false;
    out = std::move (given->second);
    keywords.erase (given);
    return true;
  };
  const size_t count = macro.parameters.size ();
  std::vector<Value> values (count, Value::missing ());
  for (size_t i = 0; i < count; i++) {
    if (i < arguments.positional.size ())
      values[i] = arguments.positional[i];
    else
      take (macro.parameters[i].name.text (), values[i]);
  }
  Value caller;
  if (macro.uses_caller && !macro.names_caller && (!take ("caller", caller) || caller.is (Kind::kNone)))
    caller = Value::undefined_hint ("No caller defined");
  if (!macro.uses_kwargs && !keywords.empty ()) {
    const bool has_caller =
        std::any_of (keywords.begin (), keywords.end (), [] (const auto &k) { return k.first == "caller"; });
    if (has_caller)
      fail ("macro " + shown +
            " was invoked with two values for the special caller argument. This is most likely "
            "a bug.");
    fail ("macro " + shown + " takes no keyword argument " +
          repr (std::string_view (keywords.front ().first)));
  }
  if (!macro.uses_varargs && arguments.positional.size () > count)
    fail ("macro " + shown + " takes not more than " + std::to_string (count) + " argument(s)");

  for (size_t i = 0; i < count; i++)
    frame.slots[macro.parameters[i].index] = values[i];
  if (macro.uses_caller && !macro.names_caller)
    frame.slots[macro.caller_index] = caller;
  if (macro.uses_kwargs) {
    std::vector<Pair> entries;
    for (const auto &[name, value] : keywords)
      entries.emplace_back (Value::string (name), value);
    frame.slots[macro.kwargs_index] = Value::dict (std::move (entries));
  }
  if (macro.uses_varargs) {
    const auto first = std::min (count, arguments.positional.size ());
    frame.slots[macro.varargs_index] = Value::tuple (
        {arguments.positional.begin () + static_cast<ptrdiff_t> (first), arguments.positional.end ()});
  }

  OutputBuffer buffer;
  struct Restore {
    OutputBuffer *&slot, *outer;
    ~Restore () { slot = outer; }
  } restore{out_, std::exchange (out_, &buffer)};
  enter (macro.scope, frame);
  for (const auto &parameter : macro.parameters) {
    if (!frame.slots[parameter.index].is (Kind::kMissing))
      continue;
    frame.slots[parameter.index] =
        parameter.otherwise
            ? evaluate (*parameter.otherwise, frame)
            : Value::undefined_hint ("parameter " + repr (parameter.name) + " was not provided");
  }
  execute (macro.body, frame);
  line_ = line;
  return Value::string (buffer.take (), autoescape_);
}

std::string
describe_macro (const Value &value)
{
  const Macro &macro = value.as<MacroPayload> ().macro;
  return "<Macro " + (macro.name.is (Kind::kNone) ? "anonymous" : repr (macro.name)) + ">";
}

Value
macro_attribute (const Value &value, std::string_view name)
{
  const Macro &macro = value.as<MacroPayload> ().macro;
  if (name == "name")
    return macro.name;
  if (name == "arguments") {
    std::vector<Value> names;
    for (const auto &parameter : macro.parameters)
      names.push_back (parameter.name);
    return Value::tuple (std::move (names));
  }
  if (name == "catch_kwargs")
    return Value::boolean (macro.uses_kwargs);
  if (name == "catch_varargs")
    return Value::boolean (macro.uses_varargs);
  if (name == "caller")
    return Value::boolean (macro.uses_caller);
  return Value::missing ();
}

} // namespace millrace::jinja
