#include "engine/chat/render.hpp"

#include "engine/chat/filters.hpp"
#include "engine/chat/frame_holder.hpp"
#include "engine/chat/json_value.hpp"
#include "engine/chat/text.hpp"

namespace millrace::jinja
{

void
OutputBuffer::write (std::string_view text)
{
  spend_bytes (text.size ());
  if (active_budget && text.size () > active_budget->limits.output_bytes - text_.size ())
    fail_limit ("the rendered text is longer than " + std::to_string (active_budget->limits.output_bytes) +
                " bytes");
  charge_memory (text.size ());
  charged_ += text.size ();
  text_ += text;
}

/// Cuts every cycle: what frames and namespaces hold is moved aside and let go one by one.
Renderer::~Renderer ()
{
  std::vector<Value> held;
  for (auto &frame : frames_) {
    for (Value &value : frame.slots)
      held.push_back (std::move (value));
  }
  if (active_budget) {
    for (const Value &space : active_budget->namespaces) {
      for (auto &entry : space.as<NamespacePayload> ().entries)
        held.push_back (std::move (entry.second));
    }
  }
  held.clear ();
  exports_.clear ();
  if (active_budget)
    active_budget->namespaces.clear ();
}

std::string
Renderer::run ()
{
  FrameHolder holder (template_.function, nullptr, frames_);
  OutputBuffer buffer;
  out_ = &buffer;
  enter (template_.scope, holder.frame ());
  execute (template_.body, holder.frame ());
  return buffer.take ();
}

/// Gives the scope's variables the values that they start with.
void
Renderer::enter (const Scope &scope, Frame &frame)
{
  spend (scope.loads.size ());
  for (const Load &load : scope.loads) {
    switch (load.type) {
    case Load::Type::kResolve:
      frame.slots[load.index] = resolve (load.name);
      break;
    case Load::Type::kAlias:
      frame.slots[load.index] = slot (load.source, frame);
      break;
    case Load::Type::kMissing:
      frame.slots[load.index] = Value::missing ();
      break;
    }
  }
}

Value
Renderer::resolve (const Value &name)
{
  if (!exports_.empty ()) {
    if (const auto exported = exports_.find (name.text ()); exported != exports_.end ())
      return exported->second;
  }
  if (const Value *variable = variables_.dict ().find (std::string_view (name.text ())))
    return *variable;
  if (const Value *global = find_global (name.text ()))
    return *global;
  return Value::missing ();
}

Value &
Renderer::slot (const Slot &slot, Frame &frame)
{
  Frame *at = &frame;
  for (uint32_t i = 0; i < slot.hops; i++)
    at = at->parent;
  return at->slots[slot.index];
}

void
Renderer::assign (const Target &target, const Value &value, Frame &frame)
{
  switch (target.type) {
  case Target::Type::kName:
    slot (target.slot, frame) = value;
    return;
  case Target::Type::kAttribute: {
    const Value &space = slot (target.slot, frame);
    if (!space.is (Kind::kNamespace))
      fail ("cannot assign attribute on non-namespace object");
    space.as<NamespacePayload> ().set (target.attribute, value);
    return;
  }
  case Target::Type::kTuple:
    break;
  }
  if (!is_iterable (value))
    fail (std::string ("cannot unpack non-iterable ") + type_name (value) + " object");
  const size_t wanted = target.items.size ();
  std::vector<Value> items;
  const Value iterator = iterate (value);
  Value item;
  while (items.size () <= wanted && iterator.as<Iterator> ().next (item))
    items.push_back (std::move (item));
  if (items.size () > wanted)
    fail ("too many values to unpack (expected " + std::to_string (wanted) + ")");
  if (items.size () < wanted)
    fail ("not enough values to unpack (expected " + std::to_string (wanted) + ", got " +
          std::to_string (items.size ()) + ")");
  for (size_t i = 0; i < wanted; i++)
    assign (target.items[i], items[i], frame);
}

/// Fails before the value is computed, as the reference does.
void
Renderer::check_namespaces (const Target &target, Frame &frame)
{
  if (target.type == Target::Type::kAttribute && !slot (target.slot, frame).is (Kind::kNamespace))
    fail ("cannot assign attribute on non-namespace object");
  for (const Target &item : target.items)
    check_namespaces (item, frame);
}

void
Renderer::export_target (const Target &target, Frame &frame)
{
  if (target.type == Target::Type::kName)
    exports_[target.name.text ()] = slot (target.slot, frame);
  for (const Target &item : target.items)
    export_target (item, frame);
}

void
Renderer::write (const Value &value)
{
  if (value.is (Kind::kString) && (!autoescape_ || value.is_markup ())) {
    out_->write (value.text ());
  } else if (!value.is (Kind::kUndefined)) {
    const std::string text = to_text (value);
    out_->write (autoescape_ ? escape_html (text) : text);
  }
}

/// Runs with a buffer of its own and gives what was written into it.
template <typename Run>
std::string
Renderer::capture (Run run)
{
  OutputBuffer buffer;
  OutputBuffer *outer = std::exchange (out_, &buffer);
  struct Restore {
    OutputBuffer *&slot, *outer;
    ~Restore () { slot = outer; }
  } restore{out_, outer};
  run ();
  return buffer.take ();
}

Renderer::Flow
Renderer::execute (const Body &body, Frame &frame)
{
  check_stack ();
  for (const Stmt *statement : body) {
    if (const Flow flow = execute (*statement, frame); flow != Flow::kNormal)
      return flow;
  }
  return Flow::kNormal;
}

Renderer::Flow
Renderer::execute (const Stmt &statement, Frame &frame)
{
  spend (1);
  line_ = statement.line;
  switch (statement.type) {
  case StmtType::kText:
    out_->write (static_cast<const Text &> (statement).text);
    break;
  case StmtType::kPrint:
    write (evaluate (*static_cast<const Print &> (statement).value, frame));
    break;
  case StmtType::kIf: {
    const auto &node = static_cast<const If &> (statement);
    for (const auto &branch : node.branches) {
      if (is_true (evaluate (*branch.test, frame)))
        return execute (branch.body, frame);
    }
    return execute (node.otherwise, frame);
  }
  case StmtType::kFor:
    return execute_for (static_cast<const For &> (statement), frame);
  case StmtType::kSet:
    execute_set (static_cast<const Set &> (statement), frame);
    break;
  case StmtType::kSetBlock:
    return execute_set_block (static_cast<const SetBlock &> (statement), frame);
  case StmtType::kMacro: {
    const auto &node = static_cast<const Macro &> (statement);
    slot (node.slot, frame) = make_macro (node, frame);
    if (node.is_exported)
      exports_[node.name.text ()] = slot (node.slot, frame);
    break;
  }
  case StmtType::kCallBlock:
    execute_call_block (static_cast<const CallBlock &> (statement), frame);
    break;
  case StmtType::kFilterBlock:
    return execute_filter_block (static_cast<const FilterBlock &> (statement), frame);
  case StmtType::kWith:
    return execute_with (static_cast<const With &> (statement), frame);
  case StmtType::kBlock:
    return execute_block (static_cast<const Block &> (statement), frame);
  case StmtType::kAutoescape:
    return execute_autoescape (static_cast<const Autoescape &> (statement), frame);
  case StmtType::kBreak:
    return Flow::kBreak;
  case StmtType::kContinue:
    return Flow::kContinue;
  case StmtType::kRefused:
    fail ("the tag '" + static_cast<const Refused &> (statement).tag +
          "' is not available in chat templates: there are no other templates to load");
  }
  return Flow::kNormal;
}

void
Renderer::execute_set (const Set &node, Frame &frame)
{
  check_namespaces (node.target, frame);
  assign (node.target, evaluate (*node.value, frame), frame);
  if (node.is_exported)
    export_target (node.target, frame);
}

Renderer::Flow
Renderer::execute_set_block (const SetBlock &node, Frame &frame)
{
  enter (node.scope, frame);
  Flow flow = Flow::kNormal;
  Value value = Value::string (capture ([&] { flow = execute (node.body, frame); }), autoescape_);
  if (flow != Flow::kNormal)
    return flow;
  if (node.filter)
    value = evaluate_filter (static_cast<const FilterExpr &> (*node.filter), frame, &value);
  assign (node.target, value, frame);
  if (node.is_exported)
    export_target (node.target, frame);
  return flow;
}

Renderer::Flow
Renderer::execute_filter_block (const FilterBlock &node, Frame &frame)
{
  enter (node.scope, frame);
  Flow flow = Flow::kNormal;
  const Value text = Value::string (capture ([&] { flow = execute (node.body, frame); }), autoescape_);
  if (flow == Flow::kNormal)
    write (evaluate_filter (static_cast<const FilterExpr &> (*node.filter), frame, &text));
  return flow;
}

Renderer::Flow
Renderer::execute_with (const With &node, Frame &frame)
{
  enter (node.scope, frame);
  for (size_t i = 0; i < node.targets.size (); i++)
    assign (node.targets[i], evaluate (*node.values[i], frame), frame);
  return execute (node.body, frame);
}

Renderer::Flow
Renderer::execute_block (const Block &node, Frame &frame)
{
  if (node.is_scoped) {
    enter (node.scope, frame);
    execute (node.body, frame);
    return Flow::kNormal;
  }
  const Nesting nesting;
  FrameHolder holder (node.function, nullptr, frames_);
  enter (node.scope, holder.frame ());
  execute (node.body, holder.frame ());
  return Flow::kNormal;
}

Renderer::Flow
Renderer::execute_autoescape (const Autoescape &node, Frame &frame)
{
  struct Restore {
    bool &slot, outer;
    ~Restore () { slot = outer; }
  } restore{autoescape_, autoescape_};
  autoescape_ = is_true (evaluate (*node.enabled, frame));
  enter (node.scope, frame);
  return execute (node.body, frame);
}

void
Renderer::execute_call_block (const CallBlock &node, Frame &frame)
{
  const Value caller = make_macro (*node.caller, frame);
  if (node.call)
    write (evaluate_call (*node.call, frame, &caller));
  else
    write (call (caller, {}));
}

namespace
{

/// The items of a loop that pass its test, judged one at a time as the loop asks for them.
class FilteredIterator : public Iterator
{
public:
  FilteredIterator (Renderer &renderer, const For &node, Frame &frame, const Value &items)
      : renderer_ (renderer)
      , node_ (node)
      , frame_ (frame)
      , source_ (iterate (items))
  {
    set_depth (*this, items.depth ());
  }

  bool next (Value &out) override
  {
    if (!entered_)
      renderer_.enter (node_.test_scope, frame_);
    entered_ = true;
    while (source_.as<Iterator> ().next (out)) {
      renderer_.assign (node_.test_target, out, frame_);
      if (is_true (renderer_.evaluate (*node_.test, frame_)))
        return true;
    }
    return false;
  }

private:
  Renderer &renderer_;
  const For &node_;
  Frame &frame_;
  Value source_;
  bool entered_ = false;
};

} // namespace

Renderer::Flow
Renderer::execute_for (const For &node, Frame &frame)
{
  const Value items = evaluate (*node.iterable, frame);
  if (node.is_recursive) {
    write (render_recursive (node, items, &frame, 0));
    return Flow::kNormal;
  }
  return run_loop (node, items, frame, &frame, 0);
}

/// `outer` is where the test's variables are: the frame around a recursive loop.
Renderer::Flow
Renderer::run_loop (const For &node, const Value &iterable, Frame &frame, Frame *outer, int depth0)
{
  const Value items = node.test ? make_value<FilteredIterator> (*this, node, *outer, iterable) : iterable;
  Value loop_value;
  LoopPayload *loop = nullptr;
  Value iterator;
  if (node.uses_loop) {
    loop_value = make_value<LoopPayload> (items, depth0);
    loop = &loop_value.as<LoopPayload> ();
    if (node.is_recursive) {
      loop->statement = &node;
      loop->closure = outer;
    }
    frame.slots[node.loop_index] = loop_value;
  } else {
    iterator = iterate (items);
  }
  // a body that ends early (break, continue) does not count: the reference notes it at the body's end
  bool completed = false;
  Flow flow = Flow::kNormal;
  Value item;
  while (loop ? loop->advance (item) : iterator.as<Iterator> ().next (item)) {
    spend (1);
    assign (node.target, item, frame);
    if (loop)
      frame.slots[node.loop_index] = loop_value;
    enter (node.scope, frame);
    flow = execute (node.body, frame);
    if (flow == Flow::kBreak)
      break;
    completed = completed || flow == Flow::kNormal;
  }
  if (loop)
    loop->finish ();
  if (!completed && !node.otherwise.empty ()) {
    enter (node.otherwise_scope, frame);
    return execute (node.otherwise, frame);
  }
  return Flow::kNormal;
}

Value
Renderer::render_recursive (const For &node, const Value &iterable, Frame *closure, int depth0)
{
  const Nesting nesting;
  FrameHolder holder (node.function, closure, frames_);
  return Value::string (capture ([&] { run_loop (node, iterable, holder.frame (), closure, depth0); }),
                        autoescape_);
}

std::string
render_template (const Template &compiled, std::string_view variables_json)
{
  const Value variables = parse_json (variables_json);
  if (!variables.is (Kind::kDict))
    fail ("the variables are not a JSON object");
  Renderer renderer (compiled, variables);
  const auto with_line = [&] (const ChatTemplateError &error) {
    return ChatTemplateError (error.kind, error.line ? error.line : renderer.line (), error.what ());
  };
  try {
    return renderer.run ();
  } catch (const ChatTemplateError &error) {
    throw with_line (error);
  }
}

} // namespace millrace::jinja
