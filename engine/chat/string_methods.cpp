// The methods of str. A Markup string gives Markup and escapes what it takes in, as markupsafe does.
// Source: Python 3.11 library reference, "String Methods".
#include "engine/chat/attributes.hpp"
#include "engine/chat/format.hpp"
#include "engine/chat/operators.hpp"
#include "engine/chat/string_search.hpp"
#include "engine/chat/text.hpp"

#include <algorithm>

namespace millrace::jinja
{

namespace
{

Value
like (const Value &self, std::string text)
{
  return Value::string (std::move (text), self.is_markup ());
}

template <std::string (*convert) (std::string_view)>
Value
converted (const Value &self, const Arguments &arguments)
{
  const Parameters parameters ("str method", arguments, {});
  spend_bytes (8 * self.text ().size ());
  return like (self, convert (self.text ()));
}

template <bool (*test) (std::string_view)>
Value
tested (const Value &self, const Arguments &arguments)
{
  const Parameters parameters ("str method", arguments, {});
  spend_bytes (8 * self.text ().size ());
  return Value::boolean (test (self.text ()));
}

template <uint32_t flags>
Value
all_are (const Value &self, const Arguments &arguments)
{
  const Parameters parameters ("str method", arguments, {});
  spend_bytes (8 * self.text ().size ());
  return Value::boolean (all_have (self.text (), flags));
}

Value
is_ascii (const Value &self, const Arguments &)
{
  return Value::boolean (self.as<StringPayload> ().is_ascii ());
}

Value
is_printable (const Value &self, const Arguments &)
{
  spend_bytes (8 * self.text ().size ());
  return Value::boolean (self.text ().empty () || all_have (self.text (), kPrintable));
}

template <Side side>
Value
stripped (const Value &self, const Arguments &arguments)
{
  const Parameters parameters ("strip", arguments, {"chars"}, 0, true);
  return strip_characters (self, parameters[0], side);
}

Value
split (const Value &self, const Arguments &arguments)
{
  const Parameters parameters ("split", arguments, {"sep", "maxsplit"});
  return Value::list (split_text (self, parameters[0], parameters.integer (1, -1)));
}

Value
rsplit (const Value &self, const Arguments &arguments)
{
  const Parameters parameters ("rsplit", arguments, {"sep", "maxsplit"});
  return Value::list (split_text_right (self, parameters[0], parameters.integer (1, -1)));
}

Value
splitlines (const Value &self, const Arguments &arguments)
{
  const Parameters parameters ("splitlines", arguments, {"keepends"});
  std::vector<Value> lines;
  spend_bytes (self.text ().size ());
  for (const auto line : split_lines (self.text (), parameters.flag (0, false)))
    lines.push_back (like (self, std::string (line)));
  return Value::list (std::move (lines));
}

/// The part of self that start and end arguments select, as bytes; `first` is its index in characters.
std::string_view
selected (const Value &self, const Parameters &parameters, int64_t &first)
{
  const int64_t length = length_of (self);
  // a missing end is the string's; a start beyond it finds nothing, not even the empty string
  const auto bounds = slice_bounds (parameters[1], parameters[2], Value (), length);
  first = bounds.start;
  if (parameters.has (1) && parameters[1].is_integral () && parameters[1].as_int () > length)
    first = -1;
  const std::string_view text = self.text ();
  spend_bytes (text.size ());
  if (self.as<StringPayload> ().is_ascii ())
    return text.substr (static_cast<size_t> (bounds.start), static_cast<size_t> (bounds.count));
  const size_t begin = byte_offset (text, static_cast<size_t> (bounds.start));
  return text.substr (begin, byte_offset (text.substr (begin), static_cast<size_t> (bounds.count)));
}

template <bool at_end>
Value
starts_or_ends (const Value &self, const Arguments &arguments)
{
  const char *name = at_end ? "endswith" : "startswith";
  const Parameters parameters (name, arguments, {"prefix", "start", "end"}, 1, true);
  int64_t first = 0;
  const std::string_view text = selected (self, parameters, first);
  const auto matches = [&] (const Value &affix) {
    if (!affix.is (Kind::kString))
      fail (std::string ("tuple for ") + name + " must only contain str, not " + type_name (affix));
    return first >= 0 && (at_end ? text.ends_with (affix.text ()) : text.starts_with (affix.text ()));
  };
  if (parameters[0].is (Kind::kTuple)) {
    for (const Value &affix : parameters[0].items ()) {
      if (matches (affix))
        return Value::boolean (true);
    }
    return Value::boolean (false);
  }
  if (!parameters[0].is (Kind::kString))
    fail (std::string (name) + " first arg must be str or a tuple of str, not " + type_name (parameters[0]));
  return Value::boolean (matches (parameters[0]));
}

int64_t
find_index (const char *name, const Value &self, const Arguments &arguments, bool from_right)
{
  const Parameters parameters (name, arguments, {"sub", "start", "end"}, 1, true);
  const std::string &needle = parameters.text (0);
  int64_t first = 0;
  const std::string_view text = selected (self, parameters, first);
  if (first < 0)
    return -1;
  const size_t at = from_right ? find_last_text (text, needle) : find_text (text, needle, 0);
  if (at == std::string_view::npos)
    return -1;
  return first + static_cast<int64_t> (count_characters (text.substr (0, at)));
}

template <bool from_right, bool must_be_there>
Value
find (const Value &self, const Arguments &arguments)
{
  const int64_t index = find_index (must_be_there ? "index" : "find", self, arguments, from_right);
  if (must_be_there && index < 0)
    fail ("substring not found");
  return Value::integer (index);
}

Value
count (const Value &self, const Arguments &arguments)
{
  const Parameters parameters ("count", arguments, {"sub", "start", "end"}, 1, true);
  const std::string &needle = parameters.text (0);
  int64_t first = 0;
  const std::string_view text = selected (self, parameters, first);
  if (first < 0)
    return Value::integer (0);
  if (needle.empty ())
    return Value::integer (static_cast<int64_t> (count_characters (text)) + 1);
  int64_t found = 0;
  for (size_t at = find_text (text, needle, 0); at != std::string_view::npos;
       at = find_text (text, needle, at + needle.size ()))
    found++;
  return Value::integer (found);
}

Value
replace (const Value &self, const Arguments &arguments)
{
  const Parameters parameters ("replace", arguments, {"old", "new", "count"}, 2, true);
  const std::string replacement =
      self.is_markup () && parameters[1].is (Kind::kString) && !parameters[1].is_markup ()
          ? escape_html (parameters.text (1))
          : parameters.text (1);
  return like (self,
               replace_text (self.text (), parameters.text (0), replacement, parameters.integer (2, -1)));
}

Value
join (const Value &self, const Arguments &arguments)
{
  const Parameters parameters ("join", arguments, {"iterable"}, 1, true);
  std::string out;
  const Value iterator = iterate (parameters[0]);
  Value item;
  for (size_t i = 0; iterator.as<Iterator> ().next (item); i++) {
    if (!self.is_markup () && !item.is (Kind::kString))
      fail ("sequence item " + std::to_string (i) + ": expected str instance, " + type_name (item) +
            " found");
    if (i)
      append_bounded (out, self.text ());
    append_bounded (out,
                    self.is_markup () && !item.is_markup () ? escape_html (to_text (item)) : to_text (item));
  }
  return like (self, std::move (out));
}

template <bool from_right>
Value
partition (const Value &self, const Arguments &arguments)
{
  const Parameters parameters ("partition", arguments, {"sep"}, 1, true);
  const std::string &separator = parameters.text (0);
  if (separator.empty ())
    fail ("empty separator");
  const std::string &text = self.text ();
  spend_bytes (text.size ());
  const size_t at = from_right ? find_last_text (text, separator) : find_text (text, separator, 0);
  if (at == std::string::npos) {
    if (from_right)
      return Value::tuple ({like (self, ""), like (self, ""), self});
    return Value::tuple ({self, like (self, ""), like (self, "")});
  }
  return Value::tuple ({like (self, text.substr (0, at)), like (self, separator),
                        like (self, text.substr (at + separator.size ()))});
}

Value
remove_prefix (const Value &self, const Arguments &arguments)
{
  const Parameters parameters ("removeprefix", arguments, {"prefix"}, 1, true);
  const std::string &prefix = parameters.text (0);
  return self.text ().starts_with (prefix) ? like (self, self.text ().substr (prefix.size ())) : self;
}

Value
remove_suffix (const Value &self, const Arguments &arguments)
{
  const Parameters parameters ("removesuffix", arguments, {"suffix"}, 1, true);
  const std::string &suffix = parameters.text (0);
  if (!self.text ().ends_with (suffix))
    return self;
  return like (self, self.text ().substr (0, self.text ().size () - suffix.size ()));
}

enum class Justify : uint8_t { kLeft, kRight, kCenter };

template <Justify justify>
Value
justified (const Value &self, const Arguments &arguments)
{
  const Parameters parameters ("justify", arguments, {"width", "fillchar"}, 1, true);
  const std::string fill = parameters.has (1) ? parameters.text (1) : " ";
  if (count_characters (fill) != 1)
    fail ("The fill character must be exactly one character long");
  const int64_t length = length_of (self), width = parameters.integer (0, 0);
  if (width <= length)
    return self;
  check_width (width);
  const int64_t missing = width - length;
  // str.center puts the odd one out on the left when the width is odd
  const int64_t left = justify == Justify::kLeft    ? 0
                       : justify == Justify::kRight ? missing
                                                    : missing / 2 + (missing & width & 1);
  std::string out;
  for (int64_t i = 0; i < left; i++)
    out += fill;
  out += self.text ();
  for (int64_t i = left; i < missing; i++)
    out += fill;
  return like (self, std::move (out));
}

Value
zfill (const Value &self, const Arguments &arguments)
{
  const Parameters parameters ("zfill", arguments, {"width"}, 1, true);
  const int64_t length = length_of (self), width = parameters.integer (0, 0);
  if (width <= length)
    return self;
  check_width (width);
  const bool has_sign = self.text ().starts_with ('+') || self.text ().starts_with ('-');
  std::string out = self.text ();
  out.insert (has_sign ? 1 : 0, static_cast<size_t> (width - length), '0');
  return like (self, std::move (out));
}

Value
expand_tabs (const Value &self, const Arguments &arguments)
{
  const Parameters parameters ("expandtabs", arguments, {"tabsize"});
  const int64_t size = parameters.integer (0, 8);
  std::string out;
  int64_t column = 0;
  for (const char c : self.text ()) {
    if (c == '\t') {
      const int64_t spaces = size > 0 ? size - column % size : 0;
      check_width (spaces);
      append_bounded (out, std::string (static_cast<size_t> (spaces), ' '));
      column += spaces;
    } else {
      out += c;
      if (c == '\n' || c == '\r')
        column = 0;
      else if ((static_cast<uint8_t> (c) & 0xc0) != 0x80)
        column++;
    }
  }
  return like (self, std::move (out));
}

Value
unsupported (const Value &, const Arguments &)
{
  fail ("this str method is not available in chat templates");
}

constexpr MethodEntry kStringMethods[] = {
    {"capitalize", converted<capitalize>},
    {"casefold", converted<casefold>},
    {"center", justified<Justify::kCenter>},
    {"count", count},
    {"encode", unsupported},
    {"endswith", starts_or_ends<true>},
    {"expandtabs", expand_tabs},
    {"find", find<false, false>},
    {"format", format_method},
    {"format_map", format_map_method},
    {"index", find<false, true>},
    {"isalnum", all_are<kAlpha | kDecimal | kDigit | kNumeric>},
    {"isalpha", all_are<kAlpha>},
    {"isascii", is_ascii},
    {"isdecimal", all_are<kDecimal>},
    {"isdigit", all_are<kDigit>},
    {"isidentifier", tested<is_identifier>},
    {"islower", tested<is_lower>},
    {"isnumeric", all_are<kNumeric>},
    {"isprintable", is_printable},
    {"isspace", all_are<kSpace>},
    {"istitle", tested<is_title>},
    {"isupper", tested<is_upper>},
    {"join", join},
    {"ljust", justified<Justify::kLeft>},
    {"lower", converted<to_lower>},
    {"lstrip", stripped<Side::kLeft>},
    {"maketrans", unsupported},
    {"partition", partition<false>},
    {"removeprefix", remove_prefix},
    {"removesuffix", remove_suffix},
    {"replace", replace},
    {"rfind", find<true, false>},
    {"rindex", find<true, true>},
    {"rjust", justified<Justify::kRight>},
    {"rpartition", partition<true>},
    {"rsplit", rsplit},
    {"rstrip", stripped<Side::kRight>},
    {"split", split},
    {"splitlines", splitlines},
    {"startswith", starts_or_ends<false>},
    {"strip", stripped<Side::kBoth>},
    {"swapcase", converted<swap_case>},
    {"title", converted<title>},
    {"translate", unsupported},
    {"upper", converted<to_upper>},
    {"zfill", zfill},
};

} // namespace

const MethodEntry *
find_string_method (std::string_view name)
{
  const auto *end = std::end (kStringMethods);
  const auto *entry = std::lower_bound (std::begin (kStringMethods), end, name,
                                        [] (const MethodEntry &e, std::string_view n) { return e.name < n; });
  return entry != end && name == entry->name ? entry : nullptr;
}

} // namespace millrace::jinja
