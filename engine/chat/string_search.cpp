#include "engine/chat/string_search.hpp"

#include <algorithm>
#include <cstring>

namespace millrace::jinja
{

/// Up to this length the plain search costs at most as many comparisons for each byte.
constexpr size_t kShortNeedle = 16;

size_t
find_text (std::string_view text, std::string_view needle, size_t from)
{
  if (needle.size () <= kShortNeedle)
    return text.find (needle, from);
  // memmem in the C library is linear (two-way search); string_view::find is not for needles like "aaab"
  if (from > text.size ())
    return std::string_view::npos;
  const void *at = memmem (text.data () + from, text.size () - from, needle.data (), needle.size ());
  return at ? static_cast<size_t> (static_cast<const char *> (at) - text.data ()) : std::string_view::npos;
}

size_t
find_last_text (std::string_view text, std::string_view needle)
{
  if (needle.size () <= kShortNeedle)
    return text.rfind (needle);
  const std::string reversed (text.rbegin (), text.rend ());
  const std::string needle_reversed (needle.rbegin (), needle.rend ());
  const size_t at = find_text (reversed, needle_reversed, 0);
  return at == std::string_view::npos ? at : text.size () - at - needle.size ();
}

void
append_bounded (std::string &out, std::string_view text)
{
  spend_bytes (text.size ());
  if (active_budget && out.size () + text.size () > active_budget->limits.memory_bytes)
    fail_limit ("a text is longer than the memory that a render may use");
  out += text;
}

std::string
replace_text (std::string_view text, std::string_view old, std::string_view replacement, int64_t count)
{
  spend_bytes (text.size ());
  std::string out;
  int64_t left = count < 0 ? INT64_MAX : count;
  if (old.empty ()) {
    // between all characters, and at both ends
    for (size_t position = 0; left > 0; left--) {
      append_bounded (out, replacement);
      if (position >= text.size ())
        return out;
      const size_t start = position;
      decode (text, position);
      out += text.substr (start, position - start);
      if (left == 1)
        out += text.substr (position);
    }
    return count == 0 ? std::string (text) : out;
  }
  size_t position = 0;
  while (left-- > 0) {
    const size_t at = find_text (text, old, position);
    if (at == std::string_view::npos)
      break;
    append_bounded (out, text.substr (position, at - position));
    append_bounded (out, replacement);
    position = at + old.size ();
  }
  append_bounded (out, text.substr (position));
  return out;
}

namespace
{

const std::string &
checked_separator (const Value &separator)
{
  if (!separator.is (Kind::kString))
    fail (std::string ("must be str or None, not ") + type_name (separator));
  if (separator.text ().empty ())
    fail ("empty separator");
  return separator.text ();
}

} // namespace

std::vector<Value>
split_text (const Value &text, const Value &separator, int64_t most)
{
  const std::string_view rest = text.text ();
  spend_bytes (rest.size ());
  int64_t left = most < 0 ? INT64_MAX : most;
  std::vector<Value> parts;
  const auto add = [&] (std::string_view part) {
    spend (2);
    parts.push_back (Value::string (std::string (part), text.is_markup ()));
  };
  if (separator.is (Kind::kNone)) {
    std::string_view remaining = strip (rest, Side::kLeft);
    while (!remaining.empty ()) {
      if (left-- == 0) {
        add (remaining);
        break;
      }
      size_t end = 0;
      for (size_t next = 0; next < remaining.size (); end = next) {
        if (is_space (decode (remaining, next)))
          break;
      }
      add (remaining.substr (0, end));
      remaining = strip (remaining.substr (end), Side::kLeft);
    }
    return parts;
  }
  const std::string &mark = checked_separator (separator);
  size_t position = 0;
  while (left-- > 0) {
    const size_t at = find_text (rest, mark, position);
    if (at == std::string_view::npos)
      break;
    add (rest.substr (position, at - position));
    position = at + mark.size ();
  }
  add (rest.substr (position));
  return parts;
}

std::vector<Value>
split_text_right (const Value &text, const Value &separator, int64_t most)
{
  if (most < 0 && separator.is (Kind::kNone))
    return split_text (text, separator, most);
  std::string_view rest = text.text ();
  spend_bytes (rest.size ());
  int64_t left = most < 0 ? INT64_MAX : most;
  std::vector<Value> parts;
  const auto add = [&] (std::string_view part) {
    spend (2);
    parts.push_back (Value::string (std::string (part), text.is_markup ()));
  };
  if (separator.is (Kind::kNone)) {
    rest = strip (rest, Side::kRight);
    while (!rest.empty ()) {
      if (left-- == 0) {
        add (rest);
        break;
      }
      size_t start = rest.size ();
      while (start > 0) {
        size_t previous = start - 1;
        while (previous > 0 && (static_cast<uint8_t> (rest[previous]) & 0xc0) == 0x80)
          previous--;
        size_t end = previous;
        if (is_space (decode (rest, end)))
          break;
        start = previous;
      }
      add (rest.substr (start));
      rest = strip (rest.substr (0, start), Side::kRight);
    }
  } else {
    // forwards through the reversed text, which keeps the search linear
    const std::string &mark = checked_separator (separator);
    const std::string reversed (rest.rbegin (), rest.rend ()), mark_reversed (mark.rbegin (), mark.rend ());
    size_t position = 0;
    while (left-- > 0) {
      const size_t at = find_text (reversed, mark_reversed, position);
      if (at == std::string_view::npos)
        break;
      add (rest.substr (rest.size () - at, at - position));
      position = at + mark.size ();
    }
    add (rest.substr (0, rest.size () - position));
  }
  std::reverse (parts.begin (), parts.end ());
  return parts;
}

Value
strip_characters (const Value &text, const Value &set, Side side)
{
  if (!set.is (Kind::kNone) && !set.is (Kind::kString))
    fail (std::string ("strip arg must be None or str, not ") + type_name (set));
  spend_bytes (text.text ().size ());
  const std::string_view kept =
      set.is (Kind::kNone) ? strip (text.text (), side) : strip (text.text (), set.text (), side);
  if (kept.size () == text.text ().size ())
    return text;
  return Value::string (std::string (kept), text.is_markup ());
}

} // namespace millrace::jinja
