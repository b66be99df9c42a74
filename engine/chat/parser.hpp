// Tokens to the compiled template.
//
// Accepts what Jinja 3.1 with the loop controls and transformers' generation tag accepts. Include, import
// and extends parse and are refused when reached. Throws ChatTemplateError (kSyntax).
#pragma once

#include "engine/chat/ast.hpp"
#include "engine/chat/lexer.hpp"

namespace millrace::jinja
{

/// Parses and resolves a template.
std::unique_ptr<const Template> compile_template (std::string_view source);

class Parser
{
public:
  Parser (std::vector<Token> tokens, Template &out)
      : tokens_ (std::move (tokens))
      , out_ (out)
  {
  }
  void run ();

private:
  using EndTags = std::initializer_list<const char *>;

  // parser.cpp: statements
  Body parse_body (EndTags end_tags);
  Body parse_block_body (EndTags end_tags, bool skip_end);
  Stmt *parse_statement ();
  Stmt *parse_if ();
  Stmt *parse_for ();
  Stmt *parse_set ();
  Stmt *parse_macro ();
  Stmt *parse_call_block ();
  Stmt *parse_generation ();
  Stmt *parse_filter_block ();
  Stmt *parse_with ();
  Stmt *parse_block ();
  Stmt *parse_autoescape ();
  Stmt *parse_loop_control ();
  Stmt *parse_refused ();
  void parse_print (Body &body);
  void parse_signature (Macro &macro);
  Target parse_target (bool with_namespace, const char *end_name);
  Target parse_single_target (bool with_namespace);
  [[noreturn]] void fail_tag (const Token *tag);

  // parse_expression.cpp
  Expr *parse_expression ();
  Expr *parse_tuple (bool with_condition, const char *end_name, bool explicit_parentheses);
  Expr *parse_or ();
  Expr *parse_and ();
  Expr *parse_not ();
  Expr *parse_compare ();
  Expr *parse_sum ();
  Expr *parse_concat ();
  Expr *parse_product ();
  Expr *parse_power ();
  Expr *parse_unary (bool with_filter);
  Expr *parse_primary ();
  Expr *parse_list ();
  Expr *parse_dict ();
  Expr *parse_postfix (Expr *expr);
  Expr *parse_filter_expr (Expr *expr);
  Expr *parse_subscript (Expr *expr);
  Expr *parse_slice_or_key (Expr *object, bool &is_slice);
  CallExpr *parse_call (Expr *callee);
  void parse_arguments (CallArguments &arguments, Expr *owner);
  /// One or more filters on `input`, the first without its | when `start_inline`.
  Expr *parse_filters (Expr *input, bool start_inline);
  Expr *parse_test (Expr *input);
  Expr *binary (ExprType type, int line, Operator op, Expr *left, Expr *right);

  /// Gives `expr` a height above `below`; fails when the tree gets too high.
  template <typename T>
  T *above (T *expr, const Expr *below)
  {
    if (below && below->height >= expr->height)
      set_height (expr, below->height + 1);
    return expr;
  }
  void set_height (Expr *expr, int height);

  // tokens
  const Token &current () const { return tokens_[at_]; }
  const Token &ahead () const { return tokens_[std::min (at_ + 1, tokens_.size () - 1)]; }
  const Token &next ();
  bool skip_operator (const char *symbol);
  bool skip_name (const char *name);
  void expect_operator (const char *symbol);
  void expect (TokenType type);
  const Token &expect_name ();
  void expect_name (const char *name);
  Value constant (const std::string &text) { return out_.constant (text); }

  /// One level of nesting, of blocks or of expressions.
  class Level
  {
  public:
    explicit Level (Parser &parser);
    ~Level () { parser_.levels_--; }

  private:
    Parser &parser_;
  };

  std::vector<Token> tokens_;
  Template &out_;
  size_t at_ = 0;
  int levels_ = 0;
  int loops_ = 0;                        ///< for statements around, within the same function
  std::vector<std::string> open_tags_;   ///< for messages
  std::vector<std::string> wanted_tags_; ///< what the innermost body may end with
  std::vector<std::string> block_names_;
};

} // namespace millrace::jinja
