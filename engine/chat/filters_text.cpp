// Filters that make text.
#include "engine/chat/filters.hpp"
#include "engine/chat/format.hpp"
#include "engine/chat/json_value.hpp"
#include "engine/chat/string_search.hpp"

#include <algorithm>

namespace millrace::jinja
{

Value
soft_text (const Value &value)
{
  return value.is (Kind::kString) ? value : Value::string (to_text (value));
}

namespace
{

Value
like (const Value &text, std::string changed)
{
  return Value::string (std::move (changed), text.is_markup ());
}

template <std::string (*convert) (std::string_view)>
Value
converted (const Value &input, const Arguments &arguments)
{
  const Parameters parameters ("filter", arguments, {});
  const Value text = soft_text (input);
  spend_bytes (8 * text.text ().size ());
  return like (text, convert (text.text ()));
}

/// Words begin behind spaces and any of -({[<, unlike in str.title ().
std::string
title_words (std::string_view text)
{
  std::string out;
  const auto is_break = [] (uint32_t c) {
    return is_space (c) ||
           (c < 0x80 && std::string_view ("-({[<").find (static_cast<char> (c)) != std::string_view::npos);
  };
  size_t position = 0;
  while (position < text.size ()) {
    const size_t start = position;
    const bool breaks = is_break (decode (text, position));
    const size_t first = position;
    size_t end = position;
    while (end < text.size () && is_break (decode (text, position)) == breaks)
      end = position;
    position = end;
    // a run of breaks is an item of its own, whose first character has no case either
    out += to_upper (text.substr (start, first - start)) + to_lower (text.substr (first, end - first));
  }
  return out;
}

Value
trim (const Value &input, const Arguments &arguments)
{
  const Parameters parameters ("trim", arguments, {"chars"});
  return strip_characters (soft_text (input), parameters[0], Side::kBoth);
}

Value
string (const Value &input, const Arguments &arguments)
{
  const Parameters parameters ("string", arguments, {});
  return soft_text (input);
}

Value
safe (const Value &input, const Arguments &arguments)
{
  const Parameters parameters ("safe", arguments, {});
  return Value::string (to_text (input), true);
}

Value
escape (const Value &input, const Arguments &arguments)
{
  const Parameters parameters ("escape", arguments, {});
  if (input.is_markup ())
    return input;
  return Value::string (escape_html (to_text (input)), true);
}

Value
force_escape (const Value &input, const Arguments &arguments)
{
  const Parameters parameters ("forceescape", arguments, {});
  return Value::string (escape_html (to_text (input)), true);
}

Value
replace (const Value &input, const Arguments &arguments)
{
  const Parameters parameters ("replace", arguments, {"old", "new", "count"}, 2);
  return Value::string (replace_text (to_text (input), to_text (parameters[0]), to_text (parameters[1]),
                                      parameters[2].is (Kind::kNone) ? -1 : parameters.integer (2, -1)));
}

Value
format (const Value &input, const Arguments &arguments)
{
  if (!arguments.positional.empty () && !arguments.keywords.empty ())
    fail ("can't handle positional and keyword arguments at the same time");
  if (arguments.keywords.empty ())
    return format_percent (soft_text (input), Value::tuple (arguments.positional));
  std::vector<Pair> entries;
  for (const auto &[name, value] : arguments.keywords)
    entries.emplace_back (Value::string (name), value);
  return format_percent (soft_text (input), Value::dict (std::move (entries)));
}

Value
indent (const Value &input, const Arguments &arguments)
{
  const Parameters parameters ("indent", arguments, {"width", "first", "blank"});
  if (!input.is (Kind::kString)) {
    // the reference adds a newline to it, which fails for what is not text
    arithmetic (Operator::kAdd, input, Value::string ("\n"));
    fail (std::string ("'") + type_name (input) + "' object has no attribute 'splitlines'");
  }
  std::string indention;
  if (parameters[0].is (Kind::kString)) {
    indention = parameters[0].text ();
  } else {
    const int64_t width = parameters.integer (0, 4);
    check_width (width);
    indention.assign (static_cast<size_t> (std::max<int64_t> (0, width)), ' ');
  }
  const bool blank = parameters.flag (2, false);
  const std::string text = input.text () + "\n";
  spend_bytes (text.size ());
  std::string out;
  if (parameters.flag (1, false))
    out += indention;
  const auto lines = split_lines (text, false);
  for (size_t i = 0; i < lines.size (); i++) {
    if (i > 0) {
      out += '\n';
      if (blank || !lines[i].empty ())
        append_bounded (out, indention);
    }
    append_bounded (out, lines[i]);
  }
  return like (input, std::move (out));
}

Value
truncate (const Value &input, const Arguments &arguments)
{
  const Parameters parameters ("truncate", arguments, {"length", "killwords", "end", "leeway"});
  const int64_t length = parameters.integer (0, 255);
  const bool killwords = parameters.flag (1, false);
  const std::string end = parameters.has (2) ? parameters.text (2) : "...";
  const int64_t leeway = parameters[3].is (Kind::kNone) ? 5 : parameters.integer (3, 5);
  const auto end_length = static_cast<int64_t> (count_characters (end));
  if (length < end_length)
    fail ("expected length >= " + std::to_string (end_length) + ", got " + std::to_string (length));
  if (leeway < 0)
    fail ("expected leeway >= 0, got " + std::to_string (leeway));
  const int64_t have = length_of (input);
  if (have <= length || have - length <= leeway)
    return input;
  if (!input.is (Kind::kString))
    fail (std::string ("truncate() needs a string, not ") + type_name (input));
  const std::string &text = input.text ();
  std::string cut = text.substr (0, byte_offset (text, static_cast<size_t> (length - end_length)));
  if (!killwords) {
    if (const size_t space = cut.rfind (' '); space != std::string::npos)
      cut.resize (space);
  }
  return like (input, cut + end);
}

Value
center (const Value &input, const Arguments &arguments)
{
  const Parameters parameters ("center", arguments, {"width"});
  const Value text = soft_text (input);
  const int64_t width = parameters.integer (0, 80), length = length_of (text);
  if (width <= length)
    return text;
  check_width (width);
  const int64_t missing = width - length, left = missing / 2 + (missing & width & 1);
  return like (text, std::string (static_cast<size_t> (left), ' ') + text.text () +
                         std::string (static_cast<size_t> (missing - left), ' '));
}

Value
word_count (const Value &input, const Arguments &arguments)
{
  const Parameters parameters ("wordcount", arguments, {});
  const Value text = soft_text (input);
  spend_bytes (8 * text.text ().size ());
  int64_t words = 0;
  bool inside = false;
  for (size_t position = 0; position < text.text ().size ();) {
    const uint32_t c = decode (text.text (), position);
    const bool is_word = c == '_' || (character_flags (c) & (kAlpha | kDecimal | kDigit | kNumeric));
    words += is_word && !inside;
    inside = is_word;
  }
  return Value::integer (words);
}

/// Without tags and comments, each run of whitespace as one space, the common entities resolved.
Value
strip_tags (const Value &input, const Arguments &arguments)
{
  const Parameters parameters ("striptags", arguments, {});
  const std::string text = to_text (input);
  std::string plain;
  size_t position = 0;
  for (size_t start; (start = text.find ('<', position)) != std::string::npos;) {
    const bool is_comment = text.compare (start, 4, "<!--") == 0;
    const size_t end = is_comment ? text.find ("-->", start + 4) : text.find ('>', start);
    if (end == std::string::npos)
      break;
    plain += text.substr (position, start - position);
    position = end + (is_comment ? 3 : 1);
  }
  plain += text.substr (position);
  std::string out;
  for (const Value &word : split_text (Value::string (plain), Value (), -1))
    out += (out.empty () ? "" : " ") + word.text ();
  static constexpr std::pair<const char *, const char *> kEntities[] = {
      {"&lt;", "<"}, {"&gt;", ">"}, {"&#39;", "'"}, {"&#34;", "\""}, {"&quot;", "\""}, {"&amp;", "&"},
  };
  for (const auto &[entity, character] : kEntities)
    out = replace_text (out, entity, character, -1);
  return Value::string (std::move (out));
}

std::string
quote_url (const std::string &text, bool in_query)
{
  static const char hex[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<uint8_t> (c);
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       std::string_view ("_.-~").find (c) != std::string_view::npos ||
                       (c == '/' && !in_query);
    if (plain) {
      out += c;
    } else if (c == ' ' && in_query) {
      out += '+';
    } else {
      out += '%';
      out += hex[byte >> 4];
      out += hex[byte & 15];
    }
  }
  return out;
}

Value
url_encode (const Value &input, const Arguments &arguments)
{
  const Parameters parameters ("urlencode", arguments, {});
  if (input.is (Kind::kString) || !is_iterable (input))
    return Value::string (quote_url (to_text (input), false));
  std::string out;
  const auto add = [&out] (const Value &key, const Value &value) {
    append_bounded (out, out.empty () ? "" : "&");
    append_bounded (out, quote_url (to_text (key), true) + "=" + quote_url (to_text (value), true));
  };
  if (input.is (Kind::kDict)) {
    for (const auto &[key, value] : input.dict ().entries)
      add (key, value);
    return Value::string (std::move (out));
  }
  for (const Value &item : to_vector (input)) {
    const auto pair = to_vector (item);
    if (pair.size () != 2)
      fail ("urlencode needs pairs");
    add (pair[0], pair[1]);
  }
  return Value::string (std::move (out));
}

Value
xml_attributes (const Value &input, const Arguments &arguments)
{
  const Parameters parameters ("xmlattr", arguments, {"autospace"});
  if (input.is (Kind::kUndefined))
    fail_undefined (input);
  if (!input.is (Kind::kDict))
    fail (std::string ("'") + type_name (input) + "' object has no attribute 'items'");
  std::string out;
  for (const auto &[key, value] : input.dict ().entries) {
    if (value.is (Kind::kNone) || value.is (Kind::kUndefined))
      continue;
    const std::string name = to_text (key);
    if (name.find_first_of (" \t\n\r\f\v/>=") != std::string::npos)
      fail ("Invalid character in attribute name: " + repr (key));
    const std::string text = value.is_markup () ? value.text () : escape_html (to_text (value));
    append_bounded (out, (out.empty () ? "" : " ") + escape_html (name) + "=\"" + text + "\"");
  }
  return Value::string (!out.empty () && parameters.flag (0, true) ? " " + out : out);
}

Value
file_size (const Value &input, const Arguments &arguments)
{
  const Parameters parameters ("filesizeformat", arguments, {"binary"});
  Arguments otherwise;
  otherwise.positional.emplace_back ();
  const Value number = find_filter ("float") (input, otherwise);
  if (number.is (Kind::kNone) && input.is (Kind::kString))
    fail ("could not convert string to float: " + repr (input));
  if (number.is (Kind::kNone))
    fail (std::string ("float() argument must be a string or a real number, not '") + type_name (input) +
          "'");
  const double bytes = number.as_double ();
  const bool binary = parameters.flag (0, false);
  const double base = binary ? 1024 : 1000;
  if (bytes == 1)
    return Value::string ("1 Byte");
  if (bytes < base)
    return Value::string (std::to_string (static_cast<int64_t> (std::max (bytes, -9e18))) + " Bytes");
  double unit = base * base;
  static constexpr char kPrefixes[] = "kMGTPEZY";
  int at = 0;
  for (; at < 7 && !(bytes < unit); at++)
    unit *= base;
  NumberStyle style;
  style.type = 'f';
  style.precision = 1;
  const char letter = binary && at == 0 ? 'K' : kPrefixes[at];
  return Value::string (format_double (base * bytes / unit, style).digits + " " + letter +
                        (binary ? "iB" : "B"));
}

Value
to_json (const Value &input, const Arguments &arguments)
{
  const Parameters parameters ("tojson", arguments, {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ensure_ascii = parameters.flag (0, false);
  style.sort_keys = parameters.flag (3, false);
  if (!parameters[1].is (Kind::kNone)) {
    style.indented = true;
    style.item_separator = ",";
    if (parameters[1].is (Kind::kString)) {
      style.indent = parameters[1].text ();
    } else {
      const int64_t width = parameters.integer (1, 0);
      check_width (width);
      style.indent.assign (static_cast<size_t> (std::max<int64_t> (0, width)), ' ');
    }
  }
  if (!parameters[2].is (Kind::kNone)) {
    const auto separators = to_vector (parameters[2]);
    if (separators.size () != 2 || !separators[0].is (Kind::kString) || !separators[1].is (Kind::kString))
      fail ("tojson needs two strings as separators");
    style.item_separator = separators[0].text ();
    style.key_separator = separators[1].text ();
  }
  return Value::string (dump_json (input, style));
}

constexpr FilterEntry kFilters[] = {
    {"capitalize", converted<capitalize>},
    {"center", center},
    {"e", escape},
    {"escape", escape},
    {"filesizeformat", file_size},
    {"forceescape", force_escape},
    {"format", format},
    {"indent", indent},
    {"lower", converted<to_lower>},
    {"replace", replace},
    {"safe", safe},
    {"string", string},
    {"striptags", strip_tags},
    {"title", converted<title_words>},
    {"tojson", to_json},
    {"trim", trim},
    {"truncate", truncate},
    {"upper", converted<to_upper>},
    {"urlencode", url_encode},
    {"wordcount", word_count},
    {"xmlattr", xml_attributes},
};

} // namespace

const FilterEntry *
find_text_filter (std::string_view name)
{
  const auto *end = std::end (kFilters);
  const auto *entry =
      std::find_if (std::begin (kFilters), end, [&] (const FilterEntry &e) { return name == e.name; });
  return entry == end ? nullptr : entry;
}

} // namespace millrace::jinja
