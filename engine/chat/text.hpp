// UTF-8 text with the meaning of Python's str: code points, classification, case, whitespace.
//
// Everything takes valid UTF-8 (templates and variables are validated where they enter) and stays inside
// the given view in any case. Pure functions, any thread.
// Source: Python 3.11 library reference, str; Unicode 14.0 tables in unicode_tables.hpp.
#pragma once

#include "engine/chat/unicode_tables.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace millrace::jinja
{

/// The code point at `position`, which advances past it. Malformed bytes come out as they are, one by one.
uint32_t decode (std::string_view text, size_t &position);
void append_utf8 (std::string &out, uint32_t character);
size_t count_characters (std::string_view text);
/// Byte offset of the `index`-th character, text.size () when there are fewer.
size_t byte_offset (std::string_view text, size_t index);
bool is_valid_utf8 (std::string_view text);

/// CharacterFlag bits of a code point.
uint32_t character_flags (uint32_t character);
bool is_space (uint32_t character);
/// True when text is not empty and every character has one of the flags.
bool all_have (std::string_view text, uint32_t flags);

std::string to_lower (std::string_view text);
std::string to_upper (std::string_view text);
std::string casefold (std::string_view text);
/// First character in title case, the rest in lower case.
std::string capitalize (std::string_view text);
/// str.title(): a word starts after a character without case.
std::string title (std::string_view text);
std::string swap_case (std::string_view text);
bool is_lower (std::string_view text);
bool is_upper (std::string_view text);
bool is_title (std::string_view text);
bool is_identifier (std::string_view text);

enum class Side : uint8_t { kLeft = 1, kRight = 2, kBoth = 3 };
std::string_view strip (std::string_view text, Side side);
/// Strips any of the characters in `set`.
std::string_view strip (std::string_view text, std::string_view set, Side side);

/// Lines as str.splitlines() cuts them.
std::vector<std::string_view> split_lines (std::string_view text, bool keep_ends);

/// &, <, >, ' and " as HTML entities.
std::string escape_html (std::string_view text);

} // namespace millrace::jinja
