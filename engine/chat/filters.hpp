// The filters, tests and globals that templates may use, by name.
//
// Jinja 3.1's, with tojson as transformers replaces it; without random, urlize, wordwrap, pprint and lipsum,
// which are for web pages or not deterministic.
// Source: Jinja 3.1 "List of Builtin Filters", "List of Builtin Tests", "List of Global Functions".
#pragma once

#include "engine/chat/arguments.hpp"
#include "engine/chat/ast.hpp"

namespace millrace::jinja
{

/// Null when there is none of that name.
FilterFunction find_filter (std::string_view name);
TestFunction find_test (std::string_view name);
/// range, dict, namespace, cycler, joiner, raise_exception, strftime_now; null for others.
const Value *find_global (std::string_view name);

struct FilterEntry {
  const char *name;
  FilterFunction function;
};
/// The tables, each in its file: text, numbers, sequences.
const FilterEntry *find_text_filter (std::string_view name);
const FilterEntry *find_number_filter (std::string_view name);
const FilterEntry *find_sequence_filter (std::string_view name);

/// jinja2.utils.soft_str: a string stays what it is, anything else becomes str (value).
Value soft_text (const Value &value);

/// datetime.strftime () of the render's time, in the C locale. Source: strftime (3), glibc.
std::string format_time (std::string_view format, int64_t unix_seconds);

} // namespace millrace::jinja
