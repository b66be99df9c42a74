#include "engine/chat/format.hpp"

#include "engine/chat/attributes.hpp"
#include "engine/chat/text.hpp"

#include <algorithm>
#include <cmath>

namespace millrace::jinja
{

namespace
{

struct Field {
  char align = 0; ///< '<', '>', '^', '=' or 0
  std::string fill = " ";
  int64_t width = 0;
};

std::string
pad (const Field &field, const std::string &sign, const std::string &body, char default_align)
{
  const auto length = static_cast<int64_t> (count_characters (body) + sign.size ());
  if (field.width <= length)
    return sign + body;
  check_width (field.width);
  const int64_t missing = field.width - length;
  const char align = field.align ? field.align : default_align;
  const int64_t left = align == '<' ? 0 : align == '^' ? missing / 2 : missing;
  std::string before, after;
  for (int64_t i = 0; i < missing; i++)
    (i < left ? before : after) += field.fill;
  return align == '=' ? sign + before + body + after : before + sign + body + after;
}

/// Reads digits at `position`; a number too large for any field is a limit.
int64_t
read_number (std::string_view text, size_t &position)
{
  int64_t number = 0;
  while (position < text.size () && text[position] >= '0' && text[position] <= '9') {
    number = number * 10 + (text[position++] - '0');
    check_width (number);
  }
  return number;
}

std::string
truncated (const std::string &text, int precision)
{
  return precision < 0 ? text : text.substr (0, byte_offset (text, static_cast<size_t> (precision)));
}

int64_t
to_integer (const Value &value, char type)
{
  if (value.is_integral ())
    return value.as_int ();
  if (value.is (Kind::kFloat) && (type == 'd' || type == 'i' || type == 'u')) {
    if (std::fabs (value.as_float ()) < 9.2e18)
      return static_cast<int64_t> (value.as_float ());
    fail ("cannot convert float to integer");
  }
  if (value.is (Kind::kUndefined))
    fail_undefined (value);
  fail (std::string ("%") + type +
        " format: " + (type == 'd' || type == 'i' || type == 'u' ? "a real number" : "an integer") +
        " is required, not " + type_name (value));
}

/// One % conversion at a time over the format string.
class PercentFormatter
{
public:
  PercentFormatter (const Value &text, const Value &values)
      : format_ (text.text ())
      , markup_ (text.is_markup ())
      , values_ (values)
  {
  }

  Value run ()
  {
    std::string out;
    while (position_ < format_.size ()) {
      const size_t mark = std::min (format_.find ('%', position_), format_.size ());
      out += format_.substr (position_, mark - position_);
      position_ = mark;
      if (position_ < format_.size ()) {
        position_++;
        out += convert ();
        spend (1);
      }
    }
    const bool is_mapping = values_.is (Kind::kDict) || values_.is (Kind::kList) ||
                            values_.is (Kind::kRange) || values_.is (Kind::kUndefined);
    const size_t given = values_.is (Kind::kTuple) ? values_.items ().size () : 1;
    if (used_ < given && !is_mapping)
      fail ("not all arguments converted during string formatting");
    return Value::string (std::move (out), markup_);
  }

private:
  Value next_value ()
  {
    const bool is_tuple = values_.is (Kind::kTuple);
    if (used_ >= (is_tuple ? values_.items ().size () : 1))
      fail ("not enough arguments for format string");
    return is_tuple ? values_.items ()[used_++] : (used_++, values_);
  }

  Value named_value ()
  {
    if (!values_.is (Kind::kDict))
      fail ("format requires a mapping");
    const size_t start = ++position_;
    for (int depth = 1; position_ < format_.size (); position_++) {
      depth += format_[position_] == '(' ? 1 : format_[position_] == ')' ? -1 : 0;
      if (depth == 0)
        break;
    }
    if (position_ >= format_.size ())
      fail ("incomplete format key");
    const std::string_view key = format_.substr (start, position_ - start);
    position_++;
    const Value *value = values_.dict ().find (key);
    if (!value)
      fail (repr (key));
    return *value;
  }

  std::string convert ()
  {
    bool named = false;
    Value value;
    if (position_ < format_.size () && format_[position_] == '(') {
      value = named_value ();
      named = true;
    }
    NumberStyle style;
    Field field;
    bool zero = false;
    for (; position_ < format_.size (); position_++) {
      const char c = format_[position_];
      if (c == '-')
        field.align = '<';
      else if (c == '+' || (c == ' ' && style.sign != '+'))
        style.sign = c;
      else if (c == '0')
        zero = true;
      else if (c == '#')
        style.alternate = true;
      else if (c != ' ')
        break;
    }
    field.width = read_star_or_number (field);
    if (position_ < format_.size () && format_[position_] == '.') {
      position_++;
      Field ignored;
      style.precision = static_cast<int> (read_star_or_number (ignored));
    }
    while (position_ < format_.size () &&
           std::string_view ("hlL").find (format_[position_]) != std::string::npos)
      position_++;
    if (position_ >= format_.size ())
      fail ("incomplete format");
    style.type = format_[position_++];
    if (style.type == '%')
      return "%";
    if (!named)
      value = next_value ();
    if (zero && !field.align) {
      field.align = '=';
      field.fill = "0";
    }
    return apply (value, style, field);
  }

  int64_t read_star_or_number (Field &field)
  {
    if (position_ >= format_.size () || format_[position_] != '*')
      return read_number (format_, position_);
    position_++;
    const Value width = next_value ();
    if (!width.is_integral ())
      fail ("* wants int");
    const int64_t value = width.as_int ();
    if (value < 0)
      field.align = '<';
    const int64_t magnitude = value == INT64_MIN ? INT64_MAX : std::abs (value);
    check_width (magnitude);
    return magnitude;
  }

  std::string apply (const Value &value, NumberStyle style, Field field)
  {
    switch (style.type) {
    case 's':
    case 'r':
    case 'a': {
      std::string text = style.type == 's' ? to_text (value) : repr (value);
      if (markup_ && !(style.type == 's' && value.is_markup ()))
        text = escape_html (text);
      if (field.align == '=')
        field.align = '>', field.fill = " ";
      return pad (field, "", truncated (text, style.precision), '>');
    }
    case 'c': {
      std::string text;
      if (value.is (Kind::kString) && length_of (value) == 1)
        text = value.text ();
      else if (value.is_integral () && value.as_int () >= 0 && value.as_int () < 0x110000)
        append_utf8 (text, static_cast<uint32_t> (value.as_int ()));
      else
        fail ("%c requires int or char");
      if (field.align == '=')
        field.align = '>', field.fill = " ";
      return pad (field, "", text, '>');
    }
    case 'd':
    case 'i':
    case 'u':
    case 'x':
    case 'X':
    case 'o': {
      const int64_t number = to_integer (value, style.type);
      if (style.type == 'i' || style.type == 'u')
        style.type = 'd';
      auto text = format_integer (number, style);
      const auto digits = static_cast<size_t> (std::max (0, style.precision));
      if (text.digits.size () < digits)
        text.digits.insert (0, digits - text.digits.size (), '0');
      return pad (field, text.sign, text.digits, '>');
    }
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G': {
      if (value.is (Kind::kUndefined))
        fail_undefined (value);
      if (!value.is_number ())
        fail (std::string ("must be real number, not ") + type_name (value));
      const auto text = format_double (value.as_double (), style);
      return pad (field, text.sign, text.digits, '>');
    }
    default:
      fail (std::string ("unsupported format character '") + style.type + "' at index " +
            std::to_string (position_ - 1));
    }
  }

  std::string_view format_;
  bool markup_;
  const Value &values_;
  size_t position_ = 0;
  size_t used_ = 0;
};

/// str.format (): replacement fields, nested ones in the specification included.
class BraceFormatter
{
public:
  BraceFormatter (const Arguments &arguments, const Value *mapping, bool markup)
      : arguments_ (arguments)
      , mapping_ (mapping)
      , markup_ (markup)
  {
  }

  std::string run (std::string_view format, int levels)
  {
    if (levels == 0)
      fail ("Max string recursion exceeded");
    std::string out;
    for (size_t position = 0; position < format.size ();) {
      const char c = format[position];
      spend (1);
      if (c != '{' && c != '}') {
        const size_t next = std::min (format.find_first_of ("{}", position), format.size ());
        out += format.substr (position, next - position);
        position = next;
      } else if (position + 1 < format.size () && format[position + 1] == c) {
        out += c;
        position += 2;
      } else if (c == '}') {
        fail ("Single '}' encountered in format string");
      } else {
        position++;
        out += replace (format, position, levels);
      }
    }
    return out;
  }

private:
  std::string replace (std::string_view format, size_t &position, int levels)
  {
    const size_t start = position;
    for (int depth = 1; position < format.size (); position++) {
      depth += format[position] == '{' ? 1 : format[position] == '}' ? -1 : 0;
      if (depth == 0)
        break;
    }
    if (position >= format.size ())
      fail (start == format.size () ? "Single '{' encountered in format string"
                                    : "expected '}' before end of string");
    const std::string_view inside = format.substr (start, position++ - start);
    size_t name_end = 0;
    bool in_brackets = false;
    for (; name_end < inside.size (); name_end++) {
      const char c = inside[name_end];
      if (c == '[')
        in_brackets = true;
      else if (c == ']')
        in_brackets = false;
      else if (!in_brackets && (c == '!' || c == ':'))
        break;
    }
    Value value = lookup (inside.substr (0, name_end));
    std::string_view rest = inside.substr (name_end);
    if (!rest.empty () && rest[0] == '!') {
      if (rest.size () < 2 || (rest.size () > 2 && rest[2] != ':'))
        fail ("expected ':' after conversion specifier");
      if (rest[1] == 'r' || rest[1] == 'a')
        value = Value::string (repr (value));
      else if (rest[1] == 's')
        value = Value::string (to_text (value));
      else
        fail (std::string ("Unknown conversion specifier ") + rest[1]);
      rest.remove_prefix (2);
    }
    const std::string spec = rest.empty () ? "" : run (rest.substr (1), levels - 1);
    const std::string text = format_value (value, spec);
    return markup_ && !value.is_markup () ? escape_html (text) : text;
  }

  Value lookup (std::string_view field)
  {
    size_t position = std::min (field.find_first_of (".["), field.size ());
    Value value = first_value (field.substr (0, position));
    while (position < field.size ()) {
      spend (1);
      if (field[position] == '.') {
        const size_t end = std::min (field.find_first_of (".[", position + 1), field.size ());
        value = get_attribute (value,
                               Value::string (std::string (field.substr (position + 1, end - position - 1))));
        position = end;
        continue;
      }
      const size_t end = field.find (']', position);
      if (field[position] != '[' || end == std::string_view::npos)
        fail ("Missing ']' in format string");
      const std::string_view key = field.substr (position + 1, end - position - 1);
      size_t digits = 0;
      const int64_t index = read_number (key, digits);
      value = get_item (value, !key.empty () && digits == key.size () ? Value::integer (index)
                                                                      : Value::string (std::string (key)));
      position = end + 1;
    }
    return value;
  }

  Value first_value (std::string_view name)
  {
    size_t digits = 0;
    size_t index = 0;
    if (name.empty ()) {
      if (manual_)
        fail ("cannot switch from manual field specification to automatic field numbering");
      automatic_ = true;
      index = next_++;
    } else {
      index = static_cast<size_t> (read_number (name, digits));
      if (digits != name.size ())
        return named_value (name);
      if (automatic_)
        fail ("cannot switch from manual field specification to automatic field numbering");
      manual_ = true;
    }
    if (index >= arguments_.positional.size ())
      fail ("tuple index out of range");
    return arguments_.positional[index];
  }

  Value named_value (std::string_view name)
  {
    if (mapping_) {
      const Value *value = mapping_->is (Kind::kDict) ? mapping_->dict ().find (name) : nullptr;
      if (value)
        return *value;
    }
    for (const auto &[key, value] : arguments_.keywords) {
      if (key == name)
        return value;
    }
    fail (repr (name));
  }

  const Arguments &arguments_;
  const Value *mapping_;
  bool markup_;
  bool automatic_ = false;
  bool manual_ = false;
  size_t next_ = 0;
};

} // namespace

Value
format_percent (const Value &text, const Value &values)
{
  return PercentFormatter (text, values).run ();
}

Value
format_method (const Value &self, const Arguments &arguments)
{
  BraceFormatter formatter (arguments, nullptr, self.is_markup ());
  return Value::string (formatter.run (self.text (), 2), self.is_markup ());
}

Value
format_map_method (const Value &self, const Arguments &arguments)
{
  const Parameters parameters ("format_map", arguments, {"mapping"}, 1, true);
  const Arguments nothing;
  BraceFormatter formatter (nothing, &parameters[0], self.is_markup ());
  return Value::string (formatter.run (self.text (), 2), self.is_markup ());
}

std::string
format_value (const Value &value, std::string_view spec)
{
  if (spec.empty ())
    return to_text (value);
  if (!value.is_number () && !value.is (Kind::kString))
    fail (std::string ("unsupported format string passed to ") + type_name (value) + ".__format__");
  const auto is_align = [] (char c) { return c == '<' || c == '>' || c == '^' || c == '='; };
  Field field;
  NumberStyle style;
  size_t at = 0;
  const size_t fill_end = byte_offset (spec, 1);
  if (fill_end < spec.size () && is_align (spec[fill_end])) {
    field.fill = spec.substr (0, fill_end);
    field.align = spec[fill_end];
    at = fill_end + 1;
  } else if (is_align (spec[0])) {
    field.align = spec[0];
    at = 1;
  }
  const auto accept = [&] (std::string_view set) {
    return at < spec.size () && set.find (spec[at]) != std::string_view::npos ? spec[at++] : '\0';
  };
  if (const char sign = accept ("+- "))
    style.sign = sign;
  style.alternate = accept ("#");
  if (accept ("0") && !field.align) {
    field.fill = "0";
    field.align = value.is (Kind::kString) ? '<' : '=';
  }
  field.width = read_number (spec, at);
  style.grouping = accept (",_");
  if (accept ("."))
    style.precision = static_cast<int> (read_number (spec, at));
  style.type = at < spec.size () ? spec[at++] : '\0';
  if (at < spec.size ())
    fail ("Invalid format specifier");
  const auto unknown = [&] {
    fail (std::string ("Unknown format code '") + style.type + "' for object of type '" + type_name (value) +
          "'");
  };
  if (value.is (Kind::kString)) {
    if (style.type && style.type != 's')
      unknown ();
    if (field.align == '=')
      fail ("'=' alignment not allowed in string format specifier");
    return pad (field, "", truncated (value.text (), style.precision), '<');
  }
  if (std::string_view ("eEfFgG%").find (style.type) != std::string_view::npos ||
      (value.is (Kind::kFloat) && (style.type == 0 || style.type == 'n'))) {
    if (style.type == 'n')
      style.type = 'g';
    const auto text = format_double (value.as_double (), style);
    return pad (field, text.sign, text.digits, '>');
  }
  if (value.is (Kind::kFloat) ||
      std::string_view ("dboxXcn\0", 8).find (style.type) == std::string_view::npos)
    unknown ();
  if (style.precision >= 0)
    fail ("Precision not allowed in integer format specifier");
  if (style.type == 'c') {
    std::string text;
    append_utf8 (text, static_cast<uint32_t> (std::clamp<int64_t> (value.as_int (), 0, 0x110000)));
    return pad (field, "", text, '<');
  }
  const auto text = format_integer (value.as_int (), style);
  return pad (field, text.sign, text.digits, '>');
}

} // namespace millrace::jinja
