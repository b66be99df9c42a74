// str () and repr () of values, as Python prints them.
#include "engine/chat/loop.hpp"
#include "engine/chat/text.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace millrace::jinja
{

/// Shortest digits that read back as the same number, in Python's choice of notation: exponents below -4 and
/// from 16 on are written as such.
std::string
format_float (double value)
{
  if (std::isnan (value))
    return "nan";
  if (std::isinf (value))
    return value < 0 ? "-inf" : "inf";
  char buffer[40];
  const auto end = std::to_chars (buffer, buffer + sizeof buffer, value, std::chars_format::scientific).ptr;
  std::string_view text (buffer, static_cast<size_t> (end - buffer));
  std::string out;
  if (text.front () == '-') {
    out = "-";
    text.remove_prefix (1);
  }
  const size_t mark = text.find ('e');
  std::string digits (1, text[0]);
  if (mark > 2)
    digits += text.substr (2, mark - 2);
  int exponent = 0;
  const size_t sign = text[mark + 1] == '+' ? 1 : 0;
  std::from_chars (text.data () + mark + 1 + sign, text.data () + text.size (), exponent);
  const int count = static_cast<int> (digits.size ());
  if (exponent < -4 || exponent >= 16) {
    out += digits[0];
    if (count > 1)
      out += "." + digits.substr (1);
    const std::string shown = std::to_string (std::abs (exponent));
    return out + (exponent < 0 ? "e-" : "e+") + (shown.size () < 2 ? "0" : "") + shown;
  }
  if (exponent < 0)
    return out + "0." + std::string (static_cast<size_t> (-exponent - 1), '0') + digits;
  if (count <= exponent + 1)
    return out + digits + std::string (static_cast<size_t> (exponent + 1 - count), '0') + ".0";
  const auto whole = static_cast<size_t> (exponent + 1);
  return out + digits.substr (0, whole) + "." + digits.substr (whole);
}

std::string
repr (std::string_view text)
{
  const bool has_single = text.find ('\'') != std::string_view::npos;
  const bool has_double = text.find ('"') != std::string_view::npos;
  const char quote = has_single && !has_double ? '"' : '\'';
  std::string out (1, quote);
  out.reserve (text.size () + 2);
  const auto append_hex = [&out] (char kind, int digits, uint32_t character) {
    static const char hex[] = "0123456789abcdef";
    out += '\\';
    out += kind;
    for (int shift = 4 * (digits - 1); shift >= 0; shift -= 4)
      out += hex[character >> shift & 15];
  };
  for (size_t position = 0; position < text.size ();) {
    const size_t start = position;
    const uint32_t c = decode (text, position);
    if (c == static_cast<uint32_t> (quote) || c == '\\') {
      out += '\\';
      out += static_cast<char> (c);
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (c >= ' ' && c < 0x7f) {
      out += static_cast<char> (c);
    } else if (c >= 0x80 && (character_flags (c) & kPrintable)) {
      out += text.substr (start, position - start);
    } else if (c < 0x100) {
      append_hex ('x', 2, c);
    } else if (c < 0x10000) {
      append_hex ('u', 4, c);
    } else {
      append_hex ('U', 8, c);
    }
  }
  out += quote;
  return out;
}

namespace
{

void
append_items (std::string &out, const std::vector<Value> &items)
{
  for (size_t i = 0; i < items.size (); i++) {
    if (i)
      out += ", ";
    append_repr (out, items[i]);
  }
}

void
append_entries (std::string &out, const std::vector<Pair> &entries)
{
  out += '{';
  for (size_t i = 0; i < entries.size (); i++) {
    if (i)
      out += ", ";
    append_repr (out, entries[i].first);
    out += ": ";
    append_repr (out, entries[i].second);
  }
  out += '}';
}

void
append_view (std::string &out, const Value &value)
{
  const auto &view = value.as<DictViewPayload> ();
  out += type_name (value);
  out += "([";
  for (int64_t i = 0; i < length_of (value); i++) {
    if (i)
      out += ", ";
    append_repr (out, view.at (static_cast<size_t> (i)));
  }
  out += "])";
}

/// Keeps the text being built within the render's memory, whatever it is made of.
void
check_size (const std::string &out)
{
  if (active_budget && out.size () > active_budget->limits.memory_bytes)
    fail_limit ("a value is too long to print");
}

} // namespace

void
append_repr (std::string &out, const Value &value)
{
  const size_t before = out.size ();
  switch (value.kind ()) {
  case Kind::kMissing:
  case Kind::kUndefined:
    out += "Undefined";
    break;
  case Kind::kNone:
    out += "None";
    break;
  case Kind::kBool:
    out += value.as_bool () ? "True" : "False";
    break;
  case Kind::kInt:
    out += std::to_string (value.as_int ());
    break;
  case Kind::kFloat:
    out += format_float (value.as_float ());
    break;
  case Kind::kString:
    out += value.is_markup () ? "Markup(" + repr (std::string_view (value.text ())) + ")"
                              : repr (std::string_view (value.text ()));
    break;
  case Kind::kList: {
    const Nesting nesting;
    out += '[';
    append_items (out, value.items ());
    out += ']';
    break;
  }
  case Kind::kTuple: {
    const Nesting nesting;
    out += '(';
    append_items (out, value.items ());
    out += value.items ().size () == 1 ? ",)" : ")";
    break;
  }
  case Kind::kDict: {
    const Nesting nesting;
    append_entries (out, value.dict ().entries);
    break;
  }
  case Kind::kDictView: {
    const Nesting nesting;
    append_view (out, value);
    break;
  }
  case Kind::kRange: {
    const auto &range = value.as<RangePayload> ();
    out += "range(" + std::to_string (range.start) + ", " + std::to_string (range.stop);
    if (range.step != 1)
      out += ", " + std::to_string (range.step);
    out += ')';
    break;
  }
  case Kind::kNamespace: {
    const Nesting nesting;
    out += "<Namespace ";
    append_entries (out, value.as<NamespacePayload> ().entries);
    out += '>';
    break;
  }
  case Kind::kMethod:
    out += std::string ("<built-in method ") + value.as<MethodPayload> ().name + " of " +
           type_name (value.as<MethodPayload> ().self) + " object>";
    break;
  case Kind::kFunction:
    out += std::string (value.as<FunctionPayload> ().is_class ? "<class '" : "<function ") +
           value.as<FunctionPayload> ().name + (value.as<FunctionPayload> ().is_class ? "'>" : ">");
    break;
  case Kind::kMacro:
    out += describe_macro (value);
    break;
  case Kind::kLoop:
    out += "<LoopContext " + std::to_string (value.as<LoopPayload> ().index0 + 1) + "/" +
           std::to_string (value.as<LoopPayload> ().total ()) + ">";
    break;
  case Kind::kIterator:
  case Kind::kCycler:
  case Kind::kJoiner:
    out += "<" + object_type_name (value) + ">";
    break;
  }
  spend_bytes (out.size () - std::min (before, out.size ()));
  check_size (out);
}

std::string
repr (const Value &value)
{
  std::string out;
  append_repr (out, value);
  return out;
}

void
append_text (std::string &out, const Value &value)
{
  if (value.is (Kind::kString)) {
    spend_bytes (value.text ().size ());
    out += value.text ();
  } else if (!value.is (Kind::kUndefined) && !value.is (Kind::kMissing)) {
    append_repr (out, value);
  }
}

std::string
to_text (const Value &value)
{
  std::string out;
  append_text (out, value);
  return out;
}

} // namespace millrace::jinja
