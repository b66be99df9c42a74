#include "engine/chat/parser.hpp"

#include "engine/chat/filters.hpp"
#include "engine/chat/scopes.hpp"

#include <algorithm>

namespace millrace::jinja
{

Value
Template::constant (std::string text)
{
  auto payload = std::make_unique<StringPayload> (std::move (text), false);
  payload->frozen = true;
  payload->length (); // counted now: renders on other threads only read it
  Value value (payload.get ());
  constants.push_back (std::move (payload));
  return value;
}

std::unique_ptr<const Template>
compile_template (std::string_view source)
{
  auto compiled = std::make_unique<Template> ();
  Parser (tokenize (source), *compiled).run ();
  resolve_scopes (*compiled);
  return compiled;
}

Parser::Level::Level (Parser &parser)
    : parser_ (parser)
{
  if (++parser.levels_ > kMaxNesting) {
    parser.levels_--;
    fail_syntax (parser.current ().line,
                 "blocks or expressions nest more than " + std::to_string (kMaxNesting) + " deep");
  }
}

void
Parser::set_height (Expr *expr, int height)
{
  if (height > kMaxNesting)
    fail_syntax (expr->line, "an expression nests more than " + std::to_string (kMaxNesting) + " deep");
  expr->height = static_cast<uint16_t> (height);
}

const Token &
Parser::next ()
{
  const Token &token = current ();
  if (token.type != TokenType::kEnd)
    at_++;
  return token;
}

bool
Parser::skip_operator (const char *symbol)
{
  if (!current ().is_operator (symbol))
    return false;
  next ();
  return true;
}

bool
Parser::skip_name (const char *name)
{
  if (!current ().is_name (name))
    return false;
  next ();
  return true;
}

namespace
{

[[noreturn]] void
fail_expected (const Token &token, const std::string &wanted)
{
  if (token.type == TokenType::kEnd)
    fail_syntax (token.line, "unexpected end of template, expected '" + wanted + "'.");
  fail_syntax (token.line,
               "expected token '" + wanted + "', got " + repr (std::string_view (describe (token))));
}

} // namespace

void
Parser::expect_operator (const char *symbol)
{
  if (!current ().is_operator (symbol))
    fail_expected (current (), symbol);
  next ();
}

void
Parser::expect (TokenType type)
{
  if (current ().type != type)
    fail_expected (current (), describe (Token{type, 0, type == TokenType::kName ? "name" : ""}));
  next ();
}

const Token &
Parser::expect_name ()
{
  if (current ().type != TokenType::kName)
    fail_expected (current (), "name");
  return next ();
}

void
Parser::expect_name (const char *name)
{
  if (!current ().is_name (name))
    fail_expected (current (), name);
  next ();
}

void
Parser::run ()
{
  out_.body = parse_body ({});
}

/// Statements up to an end tag, whose name is then current; without end tags up to the end of the template.
Body
Parser::parse_body (EndTags end_tags)
{
  const Level level (*this);
  Body body;
  for (;;) {
    const Token &token = current ();
    switch (token.type) {
    case TokenType::kData:
      body.push_back (out_.make<Text> (token.line, token.text));
      next ();
      break;
    case TokenType::kVariableBegin: {
      next ();
      Expr *value = parse_tuple (true, nullptr, false);
      expect (TokenType::kVariableEnd);
      body.push_back (out_.make<Print> (token.line, value));
      break;
    }
    case TokenType::kBlockBegin: {
      next ();
      const bool ends = std::any_of (end_tags.begin (), end_tags.end (),
                                     [&] (const char *tag) { return current ().is_name (tag); });
      if (ends)
        return body;
      wanted_tags_.assign (end_tags.begin (), end_tags.end ());
      if (current ().is_name ("print"))
        parse_print (body);
      else
        body.push_back (parse_statement ());
      expect (TokenType::kBlockEnd);
      break;
    }
    default:
      if (end_tags.size () > 0) {
        wanted_tags_.assign (end_tags.begin (), end_tags.end ());
        fail_tag (nullptr);
      }
      return body;
    }
  }
}

/// The body of a tag whose own arguments have been read.
Body
Parser::parse_block_body (EndTags end_tags, bool skip_end)
{
  skip_operator (":");
  expect (TokenType::kBlockEnd);
  Body body = parse_body (end_tags);
  if (skip_end)
    next ();
  return body;
}

/// An unknown tag, or the end of the template inside a block.
void
Parser::fail_tag (const Token *tag)
{
  std::string wanted;
  bool is_misplaced = false;
  for (const auto &name : wanted_tags_) {
    wanted += (wanted.empty () ? "'" : " or '") + name + "'";
    is_misplaced = is_misplaced || (tag && tag->text == name);
  }
  std::string message = tag ? "Encountered unknown tag " + repr (std::string_view (tag->text)) + "."
                            : "Unexpected end of template.";
  if (!wanted.empty ())
    message += " Jinja was looking for the following tags: " + wanted + ".";
  if (!open_tags_.empty ())
    message += " The innermost block that needs to be closed is '" + open_tags_.back () + "'.";
  fail_syntax (tag ? tag->line : current ().line, message);
}

Stmt *
Parser::parse_statement ()
{
  struct Tag {
    const char *name;
    Stmt *(Parser::*parse) ();
  };
  static constexpr Tag kTags[] = {
      {"if", &Parser::parse_if},
      {"for", &Parser::parse_for},
      {"set", &Parser::parse_set},
      {"macro", &Parser::parse_macro},
      {"call", &Parser::parse_call_block},
      {"generation", &Parser::parse_generation},
      {"filter", &Parser::parse_filter_block},
      {"with", &Parser::parse_with},
      {"block", &Parser::parse_block},
      {"autoescape", &Parser::parse_autoescape},
      {"break", &Parser::parse_loop_control},
      {"continue", &Parser::parse_loop_control},
      {"include", &Parser::parse_refused},
      {"import", &Parser::parse_refused},
      {"from", &Parser::parse_refused},
      {"extends", &Parser::parse_refused},
  };
  const Token &token = current ();
  if (token.type != TokenType::kName)
    fail_syntax (token.line, "tag name expected");
  for (const auto &tag : kTags) {
    if (token.text != tag.name)
      continue;
    open_tags_.push_back (token.text);
    Stmt *statement = (this->*tag.parse) ();
    open_tags_.pop_back ();
    return statement;
  }
  fail_tag (&token);
}

Stmt *
Parser::parse_if ()
{
  auto *node = out_.make<If> (next ().line);
  for (;;) {
    Expr *test = parse_tuple (false, nullptr, false);
    Body body = parse_block_body ({"elif", "else", "endif"}, false);
    node->branches.push_back ({test, std::move (body)});
    const Token &tag = next ();
    if (tag.is_name ("elif"))
      continue;
    if (tag.is_name ("else"))
      node->otherwise = parse_block_body ({"endif"}, true);
    return node;
  }
}

Stmt *
Parser::parse_for ()
{
  auto *node = out_.make<For> (next ().line);
  const size_t target_at = at_;
  node->target = parse_target (false, "in");
  expect_name ("in");
  node->iterable = parse_tuple (false, "recursive", false);
  if (skip_name ("if")) {
    node->test = parse_expression ();
    const size_t resume = at_;
    at_ = target_at;
    node->test_target = parse_target (false, "in");
    at_ = resume;
  }
  node->is_recursive = skip_name ("recursive");
  loops_++;
  node->body = parse_block_body ({"endfor", "else"}, false);
  loops_--;
  if (next ().is_name ("else"))
    node->otherwise = parse_block_body ({"endfor"}, true);
  return node;
}

Stmt *
Parser::parse_set ()
{
  const int line = next ().line;
  Target target = parse_target (true, nullptr);
  if (skip_operator ("=")) {
    auto *node = out_.make<Set> (line);
    node->target = std::move (target);
    node->value = parse_tuple (true, nullptr, false);
    return node;
  }
  auto *node = out_.make<SetBlock> (line);
  node->target = std::move (target);
  if (current ().is_operator ("|"))
    node->filter = parse_filters (nullptr, false);
  node->body = parse_block_body ({"endset"}, true);
  return node;
}

/// The function parts that a macro and a call block share; break and continue do not reach out of them.
Stmt *
Parser::parse_macro ()
{
  auto *node = out_.make<Macro> (next ().line);
  node->name = constant (expect_name ().text);
  parse_signature (*node);
  const int outer_loops = std::exchange (loops_, 0);
  node->body = parse_block_body ({"endmacro"}, true);
  loops_ = outer_loops;
  return node;
}

Stmt *
Parser::parse_call_block ()
{
  const int line = next ().line;
  auto *node = out_.make<CallBlock> (line);
  node->caller = out_.make<Macro> (line);
  if (current ().is_operator ("("))
    parse_signature (*node->caller);
  Expr *call = parse_expression ();
  if (call->type != ExprType::kCall)
    fail_syntax (line, "expected call");
  node->call = static_cast<CallExpr *> (call);
  const int outer_loops = std::exchange (loops_, 0);
  node->caller->body = parse_block_body ({"endcall"}, true);
  loops_ = outer_loops;
  return node;
}

Stmt *
Parser::parse_generation ()
{
  const int line = next ().line;
  auto *node = out_.make<CallBlock> (line);
  node->caller = out_.make<Macro> (line);
  const int outer_loops = std::exchange (loops_, 0);
  node->caller->body = parse_block_body ({"endgeneration"}, true);
  loops_ = outer_loops;
  return node;
}

void
Parser::parse_signature (Macro &macro)
{
  expect_operator ("(");
  bool has_default = false;
  while (!current ().is_operator (")")) {
    if (!macro.parameters.empty ())
      expect_operator (",");
    Macro::Parameter parameter;
    parameter.name = constant (expect_name ().text);
    macro.names_caller = macro.names_caller || parameter.name.text () == "caller";
    if (skip_operator ("=")) {
      parameter.otherwise = parse_expression ();
      has_default = true;
    } else if (has_default) {
      fail_syntax (current ().line, "non-default argument follows default argument");
    }
    macro.parameters.push_back (std::move (parameter));
  }
  next ();
}

Stmt *
Parser::parse_filter_block ()
{
  auto *node = out_.make<FilterBlock> (next ().line);
  node->filter = parse_filters (nullptr, true);
  node->body = parse_block_body ({"endfilter"}, true);
  return node;
}

Stmt *
Parser::parse_with ()
{
  auto *node = out_.make<With> (next ().line);
  while (current ().type != TokenType::kBlockEnd) {
    if (!node->targets.empty ())
      expect_operator (",");
    node->targets.push_back (parse_target (false, nullptr));
    expect_operator ("=");
    node->values.push_back (parse_expression ());
  }
  node->body = parse_block_body ({"endwith"}, true);
  return node;
}

Stmt *
Parser::parse_block ()
{
  auto *node = out_.make<Block> (next ().line);
  node->name = expect_name ().text;
  node->is_scoped = skip_name ("scoped");
  if (skip_name ("required"))
    fail_syntax (node->line, "required blocks are not available in chat templates");
  if (std::find (block_names_.begin (), block_names_.end (), node->name) != block_names_.end ())
    fail_syntax (node->line, "block " + repr (std::string_view (node->name)) + " defined twice");
  block_names_.push_back (node->name);
  out_.has_blocks = true;
  const int outer_loops = std::exchange (loops_, 0);
  node->body = parse_block_body ({"endblock"}, true);
  loops_ = outer_loops;
  skip_name (node->name.c_str ());
  return node;
}

Stmt *
Parser::parse_autoescape ()
{
  auto *node = out_.make<Autoescape> (next ().line);
  node->enabled = parse_expression ();
  node->body = parse_block_body ({"endautoescape"}, true);
  return node;
}

Stmt *
Parser::parse_loop_control ()
{
  const Token &token = next ();
  if (loops_ == 0)
    fail_syntax (token.line, "'" + token.text + "' outside loop");
  return out_.make<Plain> (token.text == "break" ? StmtType::kBreak : StmtType::kContinue, token.line);
}

Stmt *
Parser::parse_refused ()
{
  const Token &token = next ();
  while (current ().type != TokenType::kBlockEnd && current ().type != TokenType::kEnd)
    next ();
  return out_.make<Refused> (token.line, token.text);
}

void
Parser::parse_print (Body &body)
{
  const int line = next ().line;
  for (bool first = true; current ().type != TokenType::kBlockEnd; first = false) {
    if (!first)
      expect_operator (",");
    body.push_back (out_.make<Print> (line, parse_expression ()));
  }
}

/// Names, optionally several with commas; `end_name` ends the list after a comma.
Target
Parser::parse_target (bool with_namespace, const char *end_name)
{
  const int line = current ().line;
  Target tuple;
  tuple.type = Target::Type::kTuple;
  bool is_tuple = false;
  for (;;) {
    if (!tuple.items.empty ())
      expect_operator (",");
    const Token &token = current ();
    if (token.type == TokenType::kVariableEnd || token.type == TokenType::kBlockEnd ||
        token.is_operator (")") || (end_name && token.is_name (end_name)))
      break;
    tuple.items.push_back (parse_single_target (with_namespace));
    if (!current ().is_operator (","))
      break;
    is_tuple = true;
  }
  if (is_tuple)
    return tuple;
  if (tuple.items.empty ())
    fail_syntax (line, "Expected an expression, got " + repr (std::string_view (describe (current ()))));
  Target single = std::move (tuple.items.front ());
  return single;
}

Target
Parser::parse_single_target (bool with_namespace)
{
  const Level level (*this);
  const Token &token = current ();
  if (skip_operator ("(")) {
    Target inner = parse_target (with_namespace, nullptr);
    expect_operator (")");
    return inner;
  }
  static constexpr const char *kConstants[] = {"true", "false", "none", "True", "False", "None"};
  const bool is_constant = std::any_of (std::begin (kConstants), std::end (kConstants),
                                        [&] (const char *name) { return token.is_name (name); });
  if (token.type != TokenType::kName || is_constant)
    fail_syntax (token.line, token.type == TokenType::kName || token.type == TokenType::kString ||
                                     token.type == TokenType::kInteger || token.type == TokenType::kFloat
                                 ? "can't assign to 'const'"
                                 : "unexpected " + repr (std::string_view (describe (token))));
  next ();
  Target target;
  target.name = constant (token.text);
  if (with_namespace && skip_operator (".")) {
    target.type = Target::Type::kAttribute;
    target.attribute = constant (expect_name ().text);
  }
  return target;
}

} // namespace millrace::jinja
