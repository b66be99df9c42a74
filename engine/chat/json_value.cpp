#include "engine/chat/json_value.hpp"

#include "engine/chat/operators.hpp"
#include "engine/chat/string_search.hpp"

#include <simdjson.h>

#include <algorithm>
#include <charconv>

namespace millrace::jinja
{

namespace
{

using simdjson::dom::element;
using simdjson::dom::element_type;

Value
convert (const element &json)
{
  const Nesting nesting;
  spend (1);
  switch (json.type ()) {
  case element_type::NULL_VALUE:
    return Value ();
  case element_type::BOOL:
    return Value::boolean (bool (json));
  case element_type::INT64:
    return Value::integer (int64_t (json));
  case element_type::UINT64:
    return Value::number (static_cast<double> (uint64_t (json)));
  case element_type::DOUBLE:
    return Value::number (double (json));
  case element_type::STRING:
    return Value::string (std::string (std::string_view (json)));
  case element_type::ARRAY: {
    const simdjson::dom::array array = json;
    std::vector<Value> items;
    items.reserve (array.size ());
    for (const element item : array)
      items.push_back (convert (item));
    return Value::list (std::move (items));
  }
  case element_type::OBJECT: {
    const simdjson::dom::object object = json;
    std::vector<Pair> entries;
    entries.reserve (object.size ());
    for (const auto field : object)
      entries.emplace_back (Value::string (std::string (field.key)), convert (field.value));
    return Value::dict (std::move (entries));
  }
  }
  return Value ();
}

/// simdjson refuses integers beyond 64 bits; written with an exponent they are floats.
std::string
widen_integers (std::string_view text)
{
  std::string out;
  out.reserve (text.size () + 64);
  bool in_string = false;
  for (size_t i = 0; i < text.size (); i++) {
    const char c = text[i];
    if (in_string) {
      out += c;
      if (c == '\\' && i + 1 < text.size ())
        out += text[++i];
      else if (c == '"')
        in_string = false;
      continue;
    }
    if (c < '0' || c > '9') {
      in_string = c == '"';
      out += c;
      continue;
    }
    const size_t end = std::min (text.find_first_not_of ("0123456789.eE+-", i), text.size ());
    const std::string_view number = text.substr (i, end - i);
    out += number;
    uint64_t magnitude = 0;
    if (number.find_first_of (".eE") == std::string_view::npos &&
        (std::from_chars (number.data (), number.data () + number.size (), magnitude).ec ==
             std::errc::result_out_of_range ||
         (i > 0 && text[i - 1] == '-' && magnitude > uint64_t (1) << 63)))
      out += "e0";
    i = end - 1;
  }
  return out;
}

} // namespace

Value
parse_json (std::string_view text)
{
  simdjson::dom::parser parser;
  element root;
  auto error = parser.parse (simdjson::padded_string (text)).get (root);
  if (error == simdjson::NUMBER_ERROR)
    error = parser.parse (simdjson::padded_string (widen_integers (text))).get (root);
  if (error)
    fail (std::string ("the variables are not valid JSON: ") + simdjson::error_message (error));
  return convert (root);
}

namespace
{

void
append_string (std::string &out, std::string_view text, bool ensure_ascii)
{
  static const char hex[] = "0123456789abcdef";
  const auto append_escape = [&out] (uint32_t unit) {
    out += "\\u";
    for (int shift = 12; shift >= 0; shift -= 4)
      out += hex[unit >> shift & 15];
  };
  spend_bytes (text.size ());
  out += '"';
  for (size_t position = 0; position < text.size ();) {
    const char c = text[position];
    switch (c) {
    case '"':
      out += "\\\"";
      break;
    case '\\':
      out += "\\\\";
      break;
    case '\n':
      out += "\\n";
      break;
    case '\r':
      out += "\\r";
      break;
    case '\t':
      out += "\\t";
      break;
    case '\f':
      out += "\\f";
      break;
    case '\b':
      out += "\\b";
      break;
    default:
      if (static_cast<uint8_t> (c) < 0x20 || (ensure_ascii && c == 0x7f)) {
        append_escape (static_cast<uint8_t> (c));
      } else if (static_cast<uint8_t> (c) < 0x80 || !ensure_ascii) {
        out += c;
      } else {
        const uint32_t character = decode (text, position);
        if (character >= 0x10000) {
          append_escape (0xd800 + ((character - 0x10000) >> 10));
          append_escape (0xdc00 + ((character - 0x10000) & 0x3ff));
        } else {
          append_escape (character);
        }
        continue; // decode moved on already
      }
    }
    position++;
  }
  out += '"';
}

class Dumper
{
public:
  explicit Dumper (const JsonStyle &style)
      : style_ (style)
  {
  }

  void append (const Value &value)
  {
    const Nesting nesting;
    spend (1);
    switch (value.kind ()) {
    case Kind::kNone:
      out += "null";
      break;
    case Kind::kBool:
      out += value.as_bool () ? "true" : "false";
      break;
    case Kind::kInt:
      out += std::to_string (value.as_int ());
      break;
    case Kind::kFloat:
      out += number (value.as_float ());
      break;
    case Kind::kString:
      append_string (out, value.text (), style_.ensure_ascii);
      break;
    case Kind::kList:
    case Kind::kTuple:
      append_list (value.items ());
      break;
    case Kind::kDict:
      append_dict (value.dict ().entries);
      break;
    default:
      fail (std::string ("Object of type ") + type_name (value) + " is not JSON serializable");
    }
    if (active_budget && out.size () > active_budget->limits.memory_bytes)
      fail_limit ("a value is too long to write as JSON");
  }

  std::string out;

private:
  static std::string number (double value)
  {
    if (value != value)
      return "NaN";
    if (value - value != 0)
      return value < 0 ? "-Infinity" : "Infinity";
    return format_float (value);
  }

  static std::string key_text (const Value &key)
  {
    switch (key.kind ()) {
    case Kind::kString:
      return key.text ();
    case Kind::kNone:
      return "null";
    case Kind::kBool:
      return key.as_bool () ? "true" : "false";
    case Kind::kInt:
      return std::to_string (key.as_int ());
    case Kind::kFloat:
      return number (key.as_float ());
    default:
      fail (std::string ("keys must be str, int, float, bool or None, not ") + type_name (key));
    }
  }

  void new_line ()
  {
    if (!style_.indented)
      return;
    out += '\n';
    for (int i = 0; i < level_; i++)
      append_bounded (out, style_.indent);
  }

  void append_list (const std::vector<Value> &items)
  {
    if (items.empty ()) {
      out += "[]";
      return;
    }
    out += '[';
    level_++;
    for (size_t i = 0; i < items.size (); i++) {
      if (i)
        append_bounded (out, style_.item_separator);
      new_line ();
      append (items[i]);
    }
    level_--;
    new_line ();
    out += ']';
  }

  void append_dict (const std::vector<Pair> &entries)
  {
    if (entries.empty ()) {
      out += "{}";
      return;
    }
    std::vector<Value> order;
    if (style_.sort_keys) {
      std::vector<Value> keys;
      for (size_t i = 0; i < entries.size (); i++) {
        keys.push_back (entries[i].first);
        order.push_back (Value::integer (static_cast<int64_t> (i)));
      }
      order = sort_by_keys (std::move (order), keys, false);
    }
    out += '{';
    level_++;
    for (size_t i = 0; i < entries.size (); i++) {
      const auto &[key, value] = entries[order.empty () ? i : static_cast<size_t> (order[i].as_int ())];
      if (i)
        append_bounded (out, style_.item_separator);
      new_line ();
      append_string (out, key_text (key), style_.ensure_ascii);
      append_bounded (out, style_.key_separator);
      append (value);
    }
    level_--;
    new_line ();
    out += '}';
  }

  const JsonStyle &style_;
  int level_ = 0;
};

} // namespace

std::string
dump_json (const Value &value, const JsonStyle &style)
{
  Dumper dumper (style);
  dumper.append (value);
  return std::move (dumper.out);
}

} // namespace millrace::jinja
