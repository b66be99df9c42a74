// Expressions, loosest binding first: condition, or, and, not, comparison, sum, ~, product, power, unary,
// then subscripts, calls, filters and tests.
#include "engine/chat/filters.hpp"
#include "engine/chat/parser.hpp"

#include <algorithm>

namespace millrace::jinja
{

Expr *
Parser::binary (ExprType type, int line, Operator op, Expr *left, Expr *right)
{
  return above (above (out_.make<BinaryExpr> (type, line, op, left, right), left), right);
}

Expr *
Parser::parse_expression ()
{
  const Level level (*this);
  Expr *value = parse_or ();
  while (current ().is_name ("if")) {
    auto *node = out_.make<ConditionalExpr> (next ().line);
    node->yes = value;
    node->test = parse_or ();
    if (skip_name ("else"))
      node->no = parse_expression ();
    above (above (above (node, node->yes), node->test), node->no);
    value = node;
  }
  return value;
}

/// An expression, or several with commas as a tuple.
Expr *
Parser::parse_tuple (bool with_condition, const char *end_name, bool explicit_parentheses)
{
  auto *tuple = out_.make<ItemsExpr> (ExprType::kTuple, current ().line);
  bool is_tuple = false;
  for (;;) {
    if (!tuple->items.empty ())
      expect_operator (",");
    const Token &token = current ();
    if (token.type == TokenType::kVariableEnd || token.type == TokenType::kBlockEnd ||
        token.is_operator (")") || (end_name && token.is_name (end_name)))
      break;
    Expr *item = with_condition ? parse_expression () : parse_or ();
    tuple->items.push_back (item);
    above (tuple, item);
    if (!current ().is_operator (","))
      break;
    is_tuple = true;
  }
  if (is_tuple)
    return tuple;
  if (!tuple->items.empty ())
    return tuple->items.front ();
  if (!explicit_parentheses)
    fail_syntax (current ().line,
                 "Expected an expression, got " + repr (std::string_view (describe (current ()))));
  return tuple;
}

Expr *
Parser::parse_or ()
{
  Expr *left = parse_and ();
  while (current ().is_name ("or")) {
    const int line = next ().line;
    left = binary (ExprType::kOr, line, Operator::kAdd, left, parse_and ());
  }
  return left;
}

Expr *
Parser::parse_and ()
{
  Expr *left = parse_not ();
  while (current ().is_name ("and")) {
    const int line = next ().line;
    left = binary (ExprType::kAnd, line, Operator::kAdd, left, parse_not ());
  }
  return left;
}

Expr *
Parser::parse_not ()
{
  if (!current ().is_name ("not"))
    return parse_compare ();
  const Level level (*this);
  const int line = next ().line;
  Expr *operand = parse_not ();
  return above (out_.make<UnaryExpr> (ExprType::kNot, line, Operator::kNegate, operand), operand);
}

namespace
{

bool
relational_operator (const Token &token, Operator &op)
{
  static constexpr std::pair<const char *, Operator> kOperators[] = {
      {"==", Operator::kEqual},     {"!=", Operator::kNotEqual}, {"<", Operator::kLess},
      {"<=", Operator::kLessEqual}, {">", Operator::kGreater},   {">=", Operator::kGreaterEqual},
  };
  for (const auto &[symbol, meaning] : kOperators) {
    if (token.is_operator (symbol)) {
      op = meaning;
      return true;
    }
  }
  return false;
}

} // namespace

Expr *
Parser::parse_compare ()
{
  Expr *first = parse_sum ();
  CompareExpr *chain = nullptr;
  for (;;) {
    Operator op = Operator::kEqual;
    const int line = current ().line;
    if (relational_operator (current (), op)) {
      next ();
    } else if (current ().is_name ("in")) {
      next ();
      op = Operator::kIn;
    } else if (current ().is_name ("not") && ahead ().is_name ("in")) {
      next ();
      next ();
      op = Operator::kNotIn;
    } else {
      return chain ? static_cast<Expr *> (chain) : first;
    }
    if (!chain)
      chain = above (out_.make<CompareExpr> (line, first), first);
    Expr *operand = parse_sum ();
    chain->rest.emplace_back (op, operand);
    above (chain, operand);
  }
}

Expr *
Parser::parse_sum ()
{
  Expr *left = parse_concat ();
  for (;;) {
    const bool is_sum = current ().is_operator ("+");
    if (!is_sum && !current ().is_operator ("-"))
      return left;
    const int line = next ().line;
    left = binary (ExprType::kBinary, line, is_sum ? Operator::kAdd : Operator::kSubtract, left,
                   parse_concat ());
  }
}

Expr *
Parser::parse_concat ()
{
  Expr *first = parse_product ();
  if (!current ().is_operator ("~"))
    return first;
  auto *node = above (out_.make<ItemsExpr> (ExprType::kConcat, current ().line), first);
  node->items.push_back (first);
  while (skip_operator ("~")) {
    node->items.push_back (parse_product ());
    above (node, node->items.back ());
  }
  return node;
}

Expr *
Parser::parse_product ()
{
  Expr *left = parse_power ();
  for (;;) {
    Operator op = Operator::kMultiply;
    if (current ().is_operator ("/"))
      op = Operator::kDivide;
    else if (current ().is_operator ("//"))
      op = Operator::kFloorDivide;
    else if (current ().is_operator ("%"))
      op = Operator::kModulo;
    else if (!current ().is_operator ("*"))
      return left;
    const int line = next ().line;
    left = binary (ExprType::kBinary, line, op, left, parse_power ());
  }
}

Expr *
Parser::parse_power ()
{
  Expr *left = parse_unary (true);
  while (current ().is_operator ("**")) {
    const int line = next ().line;
    left = binary (ExprType::kBinary, line, Operator::kPower, left, parse_unary (true));
  }
  return left;
}

Expr *
Parser::parse_unary (bool with_filter)
{
  Expr *node = nullptr;
  const bool is_negation = current ().is_operator ("-");
  if (is_negation || current ().is_operator ("+")) {
    const Level level (*this);
    const int line = next ().line;
    Expr *operand = parse_unary (false);
    const Operator op = is_negation ? Operator::kNegate : Operator::kPositive;
    node = above (out_.make<UnaryExpr> (ExprType::kUnary, line, op, operand), operand);
  } else {
    node = parse_primary ();
  }
  node = parse_postfix (node);
  return with_filter ? parse_filter_expr (node) : node;
}

Expr *
Parser::parse_primary ()
{
  const Token &token = current ();
  switch (token.type) {
  case TokenType::kName:
    next ();
    if (token.text == "true" || token.text == "True")
      return out_.make<ConstantExpr> (token.line, Value::boolean (true));
    if (token.text == "false" || token.text == "False")
      return out_.make<ConstantExpr> (token.line, Value::boolean (false));
    if (token.text == "none" || token.text == "None")
      return out_.make<ConstantExpr> (token.line, Value ());
    return out_.make<NameExpr> (token.line, constant (token.text));
  case TokenType::kString: {
    std::string text;
    while (current ().type == TokenType::kString)
      text += next ().text;
    return out_.make<ConstantExpr> (token.line, constant (text));
  }
  case TokenType::kInteger:
    next ();
    return out_.make<ConstantExpr> (token.line, Value::integer (token.integer));
  case TokenType::kFloat:
    next ();
    return out_.make<ConstantExpr> (token.line, Value::number (token.number));
  default:
    break;
  }
  if (skip_operator ("(")) {
    Expr *inside = parse_tuple (true, nullptr, true);
    expect_operator (")");
    return inside;
  }
  if (token.is_operator ("["))
    return parse_list ();
  if (token.is_operator ("{"))
    return parse_dict ();
  fail_syntax (token.line, "unexpected " + repr (std::string_view (describe (token))));
}

Expr *
Parser::parse_list ()
{
  auto *node = out_.make<ItemsExpr> (ExprType::kList, next ().line);
  while (!current ().is_operator ("]")) {
    if (!node->items.empty ()) {
      expect_operator (",");
      if (current ().is_operator ("]"))
        break;
    }
    node->items.push_back (parse_expression ());
    above (node, node->items.back ());
  }
  expect_operator ("]");
  return node;
}

Expr *
Parser::parse_dict ()
{
  auto *node = out_.make<DictExpr> (next ().line);
  while (!current ().is_operator ("}")) {
    if (!node->entries.empty ()) {
      expect_operator (",");
      if (current ().is_operator ("}"))
        break;
    }
    Expr *key = parse_expression ();
    expect_operator (":");
    Expr *value = parse_expression ();
    node->entries.emplace_back (key, value);
    above (above (node, key), value);
  }
  expect_operator ("}");
  return node;
}

Expr *
Parser::parse_postfix (Expr *expr)
{
  for (;;) {
    if (current ().is_operator (".") || current ().is_operator ("["))
      expr = parse_subscript (expr);
    else if (current ().is_operator ("("))
      expr = parse_call (expr);
    else
      return expr;
  }
}

Expr *
Parser::parse_filter_expr (Expr *expr)
{
  for (;;) {
    if (current ().is_operator ("|"))
      expr = parse_filters (expr, false);
    else if (current ().is_name ("is"))
      expr = parse_test (expr);
    else if (current ().is_operator ("("))
      expr = parse_call (expr);
    else
      return expr;
  }
}

Expr *
Parser::parse_subscript (Expr *expr)
{
  const Token &token = next ();
  if (token.text == ".") {
    const Token &name = next ();
    if (name.type == TokenType::kName)
      return above (out_.make<AttributeExpr> (token.line, expr, constant (name.text)), expr);
    if (name.type != TokenType::kInteger)
      fail_syntax (name.line, "expected name or number");
    Expr *key = out_.make<ConstantExpr> (name.line, Value::integer (name.integer));
    return above (out_.make<ItemExpr> (token.line, expr, key), expr);
  }
  if (skip_operator ("]")) // x[]: an empty tuple as key
    return above (out_.make<ItemExpr> (token.line, expr, out_.make<ItemsExpr> (ExprType::kTuple, token.line)),
                  expr);
  bool is_slice = false;
  Expr *first = parse_slice_or_key (expr, is_slice);
  if (current ().is_operator ("]")) {
    next ();
    if (is_slice)
      return above (first, expr);
    return above (above (out_.make<ItemExpr> (token.line, expr, first), expr), first);
  }
  // x[a, b]: a tuple as key
  auto *keys = out_.make<ItemsExpr> (ExprType::kTuple, token.line);
  keys->items.push_back (first);
  while (!is_slice && skip_operator (",")) {
    keys->items.push_back (parse_slice_or_key (expr, is_slice));
    above (keys, keys->items.back ());
  }
  if (is_slice)
    fail_syntax (token.line, "a slice cannot be part of a tuple");
  expect_operator ("]");
  above (keys, first);
  return above (above (out_.make<ItemExpr> (token.line, expr, keys), expr), keys);
}

/// The inside of brackets: a key, or start:stop:step of `object`.
Expr *
Parser::parse_slice_or_key (Expr *object, bool &is_slice)
{
  const int line = current ().line;
  Expr *start = nullptr;
  if (!current ().is_operator (":")) {
    start = parse_expression ();
    if (!current ().is_operator (":"))
      return start;
  }
  next ();
  is_slice = true;
  auto *node = out_.make<SliceExpr> (line);
  const auto ends = [this] { return current ().is_operator ("]") || current ().is_operator (","); };
  node->object = object;
  node->start = start;
  if (!current ().is_operator (":") && !ends ())
    node->stop = parse_expression ();
  if (skip_operator (":") && !ends ())
    node->step = parse_expression ();
  return above (above (above (node, node->start), node->stop), node->step);
}

CallExpr *
Parser::parse_call (Expr *callee)
{
  auto *node = above (out_.make<CallExpr> (current ().line, callee), callee);
  parse_arguments (node->arguments, node);
  return node;
}

void
Parser::parse_arguments (CallArguments &arguments, Expr *owner)
{
  const int line = current ().line;
  const auto ensure = [line] (bool holds) {
    if (!holds)
      fail_syntax (line, "invalid syntax for function call expression");
  };
  expect_operator ("(");
  for (bool first = true; !current ().is_operator (")"); first = false) {
    if (!first) {
      expect_operator (",");
      if (current ().is_operator (")"))
        break;
    }
    if (skip_operator ("*")) {
      ensure (!arguments.more_positional && !arguments.more_keywords);
      arguments.more_positional = parse_expression ();
      above (owner, arguments.more_positional);
    } else if (skip_operator ("**")) {
      ensure (!arguments.more_keywords);
      arguments.more_keywords = parse_expression ();
      above (owner, arguments.more_keywords);
    } else if (current ().type == TokenType::kName && ahead ().is_operator ("=")) {
      ensure (!arguments.more_keywords);
      const std::string name = next ().text;
      next ();
      for (const auto &[given, value] : arguments.keywords) {
        if (given == name)
          fail_syntax (line, "keyword argument repeated: " + name);
      }
      arguments.keywords.emplace_back (name, parse_expression ());
      above (owner, arguments.keywords.back ().second);
      if (arguments.keywords.size () > 255)
        fail_syntax (line, "more than 255 keyword arguments");
    } else {
      ensure (!arguments.more_positional && !arguments.more_keywords && arguments.keywords.empty ());
      arguments.positional.push_back (parse_expression ());
      above (owner, arguments.positional.back ());
    }
  }
  expect_operator (")");
}

namespace
{

/// A filter's or test's name, which may contain dots.
template <typename ExpectName, typename SkipDot>
std::string
dotted_name (ExpectName expect_name, SkipDot skip_dot)
{
  std::string name = expect_name ();
  while (skip_dot ())
    name += "." + expect_name ();
  return name;
}

} // namespace

Expr *
Parser::parse_filters (Expr *input, bool start_inline)
{
  while (start_inline || skip_operator ("|")) {
    start_inline = false;
    const int line = current ().line;
    const std::string name =
        dotted_name ([this] { return expect_name ().text; }, [this] { return skip_operator ("."); });
    auto *node = above (out_.make<FilterExpr> (line, input, name), input);
    node->function = find_filter (name);
    if (current ().is_operator ("("))
      parse_arguments (node->arguments, node);
    input = node;
  }
  return input;
}

Expr *
Parser::parse_test (Expr *input)
{
  const int line = next ().line;
  const bool negated = skip_name ("not");
  const std::string name =
      dotted_name ([this] { return expect_name ().text; }, [this] { return skip_operator ("."); });
  auto *node = above (out_.make<TestExpr> (line, input, name), input);
  node->function = find_test (name);
  const Token &token = current ();
  const bool starts_value = token.type == TokenType::kName || token.type == TokenType::kString ||
                            token.type == TokenType::kInteger || token.type == TokenType::kFloat ||
                            token.is_operator ("[") || token.is_operator ("{");
  if (token.is_operator ("(")) {
    parse_arguments (node->arguments, node);
  } else if (starts_value && !token.is_name ("else") && !token.is_name ("or") && !token.is_name ("and")) {
    if (token.is_name ("is"))
      fail_syntax (token.line, "You cannot chain multiple tests with is");
    Expr *argument = parse_postfix (parse_primary ());
    node->arguments.positional.push_back (argument);
    above (node, argument);
  }
  if (!negated)
    return node;
  return above (out_.make<UnaryExpr> (ExprType::kNot, line, Operator::kNegate, node), node);
}

} // namespace millrace::jinja
