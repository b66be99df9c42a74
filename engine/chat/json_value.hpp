// JSON text to values and back.
#pragma once

#include "engine/chat/value.hpp"

namespace millrace::jinja
{

/// Parses a JSON document, keeping the order of members and whether a number was written as an integer.
/// Integers beyond 64 bits become floats. Throws ChatTemplateError.
Value parse_json (std::string_view text);

struct JsonStyle {
  bool ensure_ascii = false;
  bool sort_keys = false;
  bool indented = false;
  std::string indent; ///< one level, when indented
  std::string item_separator = ", ";
  std::string key_separator = ": ";
};

/// json.dumps ()
std::string dump_json (const Value &value, const JsonStyle &style);

} // namespace millrace::jinja
