// Template text to tokens, with trim_blocks and lstrip_blocks as transformers sets them.
//
// Source: Jinja 3.1 "Template Designer Documentation" (whitespace control) and the observed behaviour of its
// lexer. Throws ChatTemplateError (kSyntax); linear in the source.
#pragma once

#include "engine/chat/budget.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace millrace::jinja
{

enum class TokenType : uint8_t {
  kData,
  kBlockBegin,
  kBlockEnd,
  kVariableBegin,
  kVariableEnd,
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,
  kEnd
};

struct Token {
  TokenType type;
  int line;
  std::string text; ///< of names, strings (unescaped), operators and data
  int64_t integer = 0;
  double number = 0;

  bool is_operator (std::string_view symbol) const { return type == TokenType::kOperator && text == symbol; }
  bool is_name (std::string_view name) const { return type == TokenType::kName && text == name; }
};

/// Ends with a kEnd token.
std::vector<Token> tokenize (std::string_view source);

/// What a message calls a token.
std::string describe (const Token &token);

[[noreturn]] void fail_syntax (int line, const std::string &message);

} // namespace millrace::jinja
