// Walks a compiled template with a render's variables.
//
// One Renderer per render, on one thread, under that thread's Budget. Frames of functions that something may
// refer to after their call (macros, callers, loop variables) live until the renderer goes; before that it
// cuts every cycle, so that nothing is destroyed recursively deeper than values nest.
#pragma once

#include "engine/chat/ast.hpp"
#include "engine/chat/loop.hpp"
#include "engine/chat/macro.hpp"

#include <deque>
#include <unordered_map>

namespace millrace::jinja
{

/// The variables of one call of a function.
struct Frame {
  Frame (Frame *parent, uint32_t slots)
      : parent (parent)
      , slots (slots, Value::missing ())
  {
  }
  Frame *parent; ///< of the function around, as the source nests them
  std::vector<Value> slots;
};

/// Text being written, within the render's output and memory limits.
class OutputBuffer
{
public:
  ~OutputBuffer () { release_memory (charged_); }
  void write (std::string_view text);
  std::string take () { return std::move (text_); }

private:
  std::string text_;
  size_t charged_ = 0;
};

class Renderer
{
public:
  Renderer (const Template &compiled, Value variables)
      : template_ (compiled)
      , variables_ (std::move (variables))
  {
  }
  ~Renderer ();

  std::string run ();
  /// The line that was being rendered, for messages.
  int line () const { return line_; }

  // for the lazy parts of loops
  void enter (const Scope &scope, Frame &frame);
  void assign (const Target &target, const Value &value, Frame &frame);
  Value evaluate (const Expr &expr, Frame &frame);

private:
  enum class Flow : uint8_t { kNormal, kBreak, kContinue };

  // render.cpp: statements
  Flow execute (const Body &body, Frame &frame);
  Flow execute (const Stmt &statement, Frame &frame);
  Flow execute_for (const For &node, Frame &frame);
  Flow run_loop (const For &node, const Value &items, Frame &frame, Frame *outer, int depth0);
  Flow execute_set_block (const SetBlock &node, Frame &frame);
  Flow execute_filter_block (const FilterBlock &node, Frame &frame);
  Flow execute_with (const With &node, Frame &frame);
  Flow execute_block (const Block &node, Frame &frame);
  Flow execute_autoescape (const Autoescape &node, Frame &frame);
  void execute_set (const Set &node, Frame &frame);
  void execute_call_block (const CallBlock &node, Frame &frame);
  void write (const Value &value);
  void export_target (const Target &target, Frame &frame);
  void check_namespaces (const Target &target, Frame &frame);
  Value &slot (const Slot &slot, Frame &frame);
  Value resolve (const Value &name);
  template <typename Run>
  std::string capture (Run run);

  // evaluate.cpp: expressions
  Value evaluate_call (const CallExpr &expr, Frame &frame, const Value *caller);
  Value evaluate_filter (const FilterExpr &expr, Frame &frame, const Value *block_text);
  Value evaluate_compare (const CompareExpr &expr, Frame &frame);
  Value evaluate_concat (const ItemsExpr &expr, Frame &frame);
  Value evaluate_dict (const DictExpr &expr, Frame &frame);
  Value evaluate_slice (const SliceExpr &expr, Frame &frame);
  std::vector<Value> evaluate_all (const std::vector<Expr *> &items, Frame &frame);
  void evaluate_arguments (const CallArguments &arguments, Frame &frame, Arguments &out);

  // calls.cpp
  Value call (const Value &callee, const Arguments &arguments);
  Value call_macro (const MacroPayload &macro, const Arguments &arguments);
  Value call_loop (const Value &loop, const Arguments &arguments);
  Value render_recursive (const For &node, const Value &iterable, Frame *closure, int depth0);
  Value make_macro (const Macro &node, Frame &frame);
  /// A frame that lives as long as it has to.
  class FrameHolder;

  const Template &template_;
  Value variables_;
  std::unordered_map<std::string, Value> exports_; ///< what blocks see of the template's assignments
  std::deque<Frame> frames_;                       ///< captured ones
  OutputBuffer *out_ = nullptr;
  bool autoescape_ = false;
  int line_ = 0;
};

/// Renders with the limits of the thread's budget; throws ChatTemplateError with a line.
std::string render_template (const Template &compiled, std::string_view variables_json);

} // namespace millrace::jinja
