// Expressions of the renderer.
#include "engine/chat/attributes.hpp"
#include "engine/chat/filters.hpp"
#include "engine/chat/render.hpp"
#include "engine/chat/text.hpp"

#include <algorithm>

namespace millrace::jinja
{

Value
Renderer::evaluate (const Expr &expr, Frame &frame)
{
  spend (1);
  switch (expr.type) {
  case ExprType::kConstant:
    return static_cast<const ConstantExpr &> (expr).value;
  case ExprType::kName: {
    const auto &name = static_cast<const NameExpr &> (expr);
    const Value &value = slot (name.slot, frame);
    line_ = expr.line;
    return value.is (Kind::kMissing) ? Value::undefined (name.name) : value;
  }
  case ExprType::kList:
    return Value::list (evaluate_all (static_cast<const ItemsExpr &> (expr).items, frame));
  case ExprType::kTuple:
    return Value::tuple (evaluate_all (static_cast<const ItemsExpr &> (expr).items, frame));
  case ExprType::kDict:
    return evaluate_dict (static_cast<const DictExpr &> (expr), frame);
  case ExprType::kUnary: {
    const auto &unary = static_cast<const UnaryExpr &> (expr);
    const Value operand = evaluate (*unary.operand, frame);
    line_ = expr.line;
    return unary.op == Operator::kNegate ? negate (operand) : positive (operand);
  }
  case ExprType::kNot:
    return Value::boolean (!is_true (evaluate (*static_cast<const UnaryExpr &> (expr).operand, frame)));
  case ExprType::kBinary: {
    const auto &binary = static_cast<const BinaryExpr &> (expr);
    const Value left = evaluate (*binary.left, frame);
    const Value right = evaluate (*binary.right, frame);
    line_ = expr.line;
    return arithmetic (binary.op, left, right);
  }
  case ExprType::kAnd:
  case ExprType::kOr: {
    const auto &binary = static_cast<const BinaryExpr &> (expr);
    Value left = evaluate (*binary.left, frame);
    if (is_true (left) != (expr.type == ExprType::kAnd))
      return left;
    return evaluate (*binary.right, frame);
  }
  case ExprType::kConcat:
    return evaluate_concat (static_cast<const ItemsExpr &> (expr), frame);
  case ExprType::kCompare:
    return evaluate_compare (static_cast<const CompareExpr &> (expr), frame);
  case ExprType::kConditional: {
    const auto &conditional = static_cast<const ConditionalExpr &> (expr);
    if (is_true (evaluate (*conditional.test, frame)))
      return evaluate (*conditional.yes, frame);
    if (conditional.no)
      return evaluate (*conditional.no, frame);
    return Value::undefined_hint ("the inline if-expression on line " + std::to_string (expr.line) +
                                  " evaluated to false and no else section was defined.");
  }
  case ExprType::kAttribute: {
    const auto &attribute = static_cast<const AttributeExpr &> (expr);
    const Value object = evaluate (*attribute.object, frame);
    line_ = expr.line;
    return get_attribute (object, attribute.name);
  }
  case ExprType::kItem: {
    const auto &item = static_cast<const ItemExpr &> (expr);
    const Value object = evaluate (*item.object, frame);
    const Value key = evaluate (*item.key, frame);
    line_ = expr.line;
    return get_item (object, key);
  }
  case ExprType::kSlice:
    return evaluate_slice (static_cast<const SliceExpr &> (expr), frame);
  case ExprType::kCall:
    return evaluate_call (static_cast<const CallExpr &> (expr), frame, nullptr);
  case ExprType::kFilter:
    return evaluate_filter (static_cast<const FilterExpr &> (expr), frame, nullptr);
  case ExprType::kTest: {
    const auto &test = static_cast<const TestExpr &> (expr);
    const Value input = evaluate (*test.input, frame);
    Arguments arguments;
    evaluate_arguments (test.arguments, frame, arguments);
    line_ = expr.line;
    if (!test.function)
      fail ("No test named " + repr (std::string_view (test.name)) + " found.");
    return Value::boolean (test.function (input, arguments));
  }
  }
  return Value ();
}

std::vector<Value>
Renderer::evaluate_all (const std::vector<Expr *> &items, Frame &frame)
{
  std::vector<Value> values;
  values.reserve (items.size ());
  for (const Expr *item : items)
    values.push_back (evaluate (*item, frame));
  return values;
}

Value
Renderer::evaluate_dict (const DictExpr &expr, Frame &frame)
{
  std::vector<Pair> entries;
  entries.reserve (expr.entries.size ());
  for (const auto &[key_expr, value_expr] : expr.entries) {
    Value key = evaluate (*key_expr, frame);
    Value value = evaluate (*value_expr, frame);
    line_ = expr.line;
    check_hashable (key);
    entries.emplace_back (std::move (key), std::move (value));
  }
  return Value::dict (std::move (entries));
}

Value
Renderer::evaluate_concat (const ItemsExpr &expr, Frame &frame)
{
  const auto parts = evaluate_all (expr.items, frame);
  line_ = expr.line;
  // with autoescaping, one safe part makes the result safe and the others escaped
  const bool markup = autoescape_ && std::any_of (parts.begin (), parts.end (),
                                                  [] (const Value &v) { return v.is_markup (); });
  std::string text;
  for (const Value &part : parts) {
    if (markup && !part.is_markup ())
      text += escape_html (to_text (part));
    else
      append_text (text, part);
  }
  return Value::string (std::move (text), markup);
}

Value
Renderer::evaluate_compare (const CompareExpr &expr, Frame &frame)
{
  Value left = evaluate (*expr.first, frame);
  for (const auto &[op, operand] : expr.rest) {
    Value right = evaluate (*operand, frame);
    line_ = expr.line;
    if (!compare (op, left, right))
      return Value::boolean (false);
    left = std::move (right);
  }
  return Value::boolean (true);
}

Value
Renderer::evaluate_slice (const SliceExpr &expr, Frame &frame)
{
  const Value object = evaluate (*expr.object, frame);
  const auto bound = [&] (const Expr *e) { return e ? evaluate (*e, frame) : Value (); };
  const Value start = bound (expr.start), stop = bound (expr.stop), step = bound (expr.step);
  line_ = expr.line;
  return slice (object, start, stop, step);
}

void
Renderer::evaluate_arguments (const CallArguments &arguments, Frame &frame, Arguments &out)
{
  out.positional = evaluate_all (arguments.positional, frame);
  for (const auto &[name, value] : arguments.keywords)
    out.keywords.emplace_back (name, evaluate (*value, frame));
  if (arguments.more_positional) {
    const Value more = evaluate (*arguments.more_positional, frame);
    if (!is_iterable (more))
      fail (std::string ("Value after * must be an iterable, not ") + type_name (more));
    auto values = to_vector (more);
    std::move (values.begin (), values.end (), std::back_inserter (out.positional));
  }
  if (!arguments.more_keywords)
    return;
  const Value more = evaluate (*arguments.more_keywords, frame);
  if (!more.is (Kind::kDict))
    fail (std::string ("argument after ** must be a mapping, not ") + type_name (more));
  const size_t written = out.keywords.size ();
  for (const auto &[name, value] : more.dict ().entries) {
    if (!name.is (Kind::kString))
      fail ("keywords must be strings");
    for (size_t i = 0; i < written; i++) {
      if (out.keywords[i].first == name.text ())
        fail ("got multiple values for keyword argument " + repr (name));
    }
    spend (1);
    out.keywords.emplace_back (name.text (), value);
  }
}

Value
Renderer::evaluate_call (const CallExpr &expr, Frame &frame, const Value *caller)
{
  const Value callee = evaluate (*expr.callee, frame);
  Arguments arguments;
  evaluate_arguments (expr.arguments, frame, arguments);
  if (caller)
    arguments.keywords.emplace_back ("caller", *caller);
  line_ = expr.line;
  return call (callee, arguments);
}

Value
Renderer::evaluate_filter (const FilterExpr &expr, Frame &frame, const Value *block_text)
{
  // a chain of filters of a block ends in one without an input, which takes the block's text
  Value input;
  if (!expr.input)
    input = block_text ? *block_text : Value::string ("");
  else if (block_text)
    input = evaluate_filter (static_cast<const FilterExpr &> (*expr.input), frame, block_text);
  else
    input = evaluate (*expr.input, frame);
  Arguments arguments;
  evaluate_arguments (expr.arguments, frame, arguments);
  line_ = expr.line;
  if (!expr.function)
    fail ("No filter named " + repr (std::string_view (expr.name)) + " found.");
  return expr.function (input, arguments);
}

} // namespace millrace::jinja
