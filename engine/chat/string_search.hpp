// Searching, splitting and replacing in strings, for both filters and methods of str.
//
// Everything here is charged by the text that it reads and writes, and searching is linear whatever the
// needle looks like.
#pragma once

#include "engine/chat/text.hpp"
#include "engine/chat/value.hpp"

namespace millrace::jinja
{

/// Like string_view::find, in time linear in both.
size_t find_text (std::string_view text, std::string_view needle, size_t from);
/// Like string_view::rfind, in time linear in both.
size_t find_last_text (std::string_view text, std::string_view needle);
/// str.replace (); `count` below zero replaces all.
std::string replace_text (std::string_view text, std::string_view old, std::string_view replacement,
                          int64_t count);
/// str.split () and str.rsplit (); none as separator means runs of whitespace.
std::vector<Value> split_text (const Value &text, const Value &separator, int64_t most);
std::vector<Value> split_text_right (const Value &text, const Value &separator, int64_t most);
/// str.strip (); none as set means whitespace.
Value strip_characters (const Value &text, const Value &set, Side side);
/// Appends, charging the bytes and failing when `out` outgrows the render's memory.
void append_bounded (std::string &out, std::string_view text);

} // namespace millrace::jinja
