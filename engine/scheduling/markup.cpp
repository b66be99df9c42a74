#include "engine/scheduling/markup.hpp"

#include <charconv>
#include <cstdint>
#include <utility>

namespace millrace
{

// The length of the tag that `text` begins with; 0: it begins with none. Longer ones are none, so that a text full of
// beginnings takes no quadratic time.
static size_t
tag_length (std::string_view text)
{
  static constexpr size_t kLongest = 1024;
  text = text.substr (0, kLongest);
  size_t at = 1;
  if (at < text.size () && text[at] == '/')
    at++;
  const auto is_letter = [] (char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  if (at >= text.size () || !is_letter (text[at]))
    return 0;
  // An attribute's value may hold a '>'.
  char quote = 0;
  for (; at < text.size (); at++) {
    const char c = text[at];
    if (quote)
      quote = c == quote ? 0 : quote;
    else if (c == '"' || c == '\'')
      quote = c;
    else if (c == '>')
      return at + 1;
    else if (c == '<')
      return 0;
  }
  return 0;
}

static void
append_utf8 (std::string &out, uint32_t c)
{
  if (c < 0x80) {
    out += static_cast<char> (c);
    return;
  }
  const int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
  static constexpr unsigned char kLead[] = {0, 0xc0, 0xe0, 0xf0};
  out += static_cast<char> (kLead[more] | (c >> (6 * more)));
  for (int i = more - 1; i >= 0; i--)
    out += static_cast<char> (0x80 | ((c >> (6 * i)) & 0x3f));
}

// Appends what the reference at the start of `text` stands for; its length, 0 when it is none.
static size_t
append_reference (std::string &out, std::string_view text)
{
  static constexpr size_t kLongest = 10; // &#1114111;
  const size_t end = text.substr (0, kLongest).find (';');
  if (end == text.npos)
    return 0;
  std::string_view name = text.substr (1, end - 1);
  static constexpr std::pair<std::string_view, char> kNames[] = {
      {"amp", '&'}, {"lt", '<'}, {"gt", '>'}, {"quot", '"'}, {"apos", '\''}};
  for (const auto &[known, c] : kNames) {
    if (name == known) {
      out += c;
      return end + 1;
    }
  }
  if (!name.starts_with ('#'))
    return 0;
  name.remove_prefix (1);
  const bool hex = name.starts_with ('x') || name.starts_with ('X');
  if (hex)
    name.remove_prefix (1);
  uint32_t c = 0;
  const auto [rest, error] = std::from_chars (name.data (), name.data () + name.size (), c, hex ? 16 : 10);
  const bool character = c > 0 && c <= 0x10ffff && (c < 0xd800 || c > 0xdfff);
  if (error != std::errc () || rest != name.data () + name.size () || !character)
    return 0;
  append_utf8 (out, c);
  return end + 1;
}

std::string
text_of_markup (std::string_view markup)
{
  std::string text;
  text.reserve (markup.size ());
  for (size_t at = 0; at < markup.size ();) {
    size_t skipped = 0;
    if (markup[at] == '<')
      skipped = tag_length (markup.substr (at));
    else if (markup[at] == '&')
      skipped = append_reference (text, markup.substr (at));
    if (skipped == 0)
      text += markup[at++];
    at += skipped;
  }
  return text;
}

} // namespace millrace
