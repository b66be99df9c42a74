// Typed, range-checked access to the fields of a JSON object.
#include "engine/model/json_fields.hpp"

#include "engine/error.hpp"
#include "engine/tensor/mapped_file.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace dom = simdjson::dom;

namespace millrace
{

namespace
{

constexpr size_t kMaxBytes = 64u << 20; // far above any config.json, far below a harmful parse
constexpr size_t kMaxShown = 80;
constexpr const char *kRemedy = "; correct the file or fetch it again";

/// The shortest decimal that people would write.
std::string
to_text (double value)
{
  char text[32];
  std::snprintf (text, sizeof text, "%.10g", value);
  return text;
}

/// The value as it stands in the file, cut to what fits a message.
std::string
shown (dom::element value)
{
  if (value.is_object ())
    return "an object";
  if (value.is_array ())
    return "an array";
  std::string text = simdjson::minify (value);
  if (text.size () > kMaxShown) {
    size_t length = kMaxShown;
    while (length > 0 && (static_cast<unsigned char> (text[length]) & 0xc0) == 0x80)
      --length; // not in the middle of a UTF-8 character
    text = text.substr (0, length) + "...";
  }
  return text;
}

/// Python writes an infinite number as Infinity, which is not JSON: as the largest one, outside of strings.
std::string
without_infinities (std::string_view text)
{
  constexpr std::string_view kInfinity = "Infinity", kLargest = "1.0e+308";
  static_assert (kInfinity.size () == kLargest.size ());
  std::string result (text);
  bool in_string = false;
  for (size_t i = 0; i < result.size (); ++i) {
    if (in_string && result[i] == '\\')
      ++i;
    else if (result[i] == '"')
      in_string = !in_string;
    else if (!in_string && result.compare (i, kInfinity.size (), kInfinity) == 0)
      result.replace (i, kInfinity.size (), kLargest);
  }
  return result;
}

} // namespace

JsonFile::JsonFile (const std::filesystem::path &file)
    : file_ (file)
{
  const MappedFile mapped (file);
  const auto bytes = mapped.bytes ();
  if (bytes.size () > kMaxBytes)
    throw LoadError (file, "", "has " + std::to_string (bytes.size ()) + " bytes; is it the right file?");
  if (bytes.empty ())
    throw LoadError (file, "", std::string ("is empty, expected a JSON object") + kRemedy);
  dom::element root;
  const std::string_view text (reinterpret_cast<const char *> (bytes.data ()), bytes.size ());
  auto error = parser_.parse (text.data (), text.size ()).get (root);
  if (error && text.find ("Infinity") != std::string_view::npos)
    error = parser_.parse (without_infinities (text)).get (root);
  if (error)
    throw LoadError (file, "",
                     std::string ("is not valid JSON (") + simdjson::error_message (error) +
                         "; NaN is not JSON either)" + kRemedy);
  if (root.get (root_))
    throw LoadError (file, "", std::string ("is not a JSON object") + kRemedy);
}

JsonFields::JsonFields (std::filesystem::path file, std::string prefix, dom::object object,
                        const FieldNames *names)
    : file_ (std::move (file))
    , prefix_ (std::move (prefix))
    , object_ (object)
    , names_ (names)
{
  std::vector<std::string_view> keys;
  for (const auto field : object_)
    keys.push_back (field.key);
  std::sort (keys.begin (), keys.end ());
  const auto twice = std::adjacent_find (keys.begin (), keys.end ());
  if (twice != keys.end ())
    fail (twice->substr (0, kMaxShown), std::string ("is given twice") + kRemedy);
}

void
JsonFields::fail (std::string_view name, const std::string &problem) const
{
  throw LoadError (file_, names_ ? called (name) : prefix_ + std::string (name), problem);
}

std::string
JsonFields::called (std::string_view name) const
{
  if (!names_)
    return std::string (name);
  const auto found = names_->find (prefix_ + std::string (name));
  return found == names_->end () ? prefix_ + std::string (name) : found->second;
}

std::optional<dom::element>
JsonFields::find (std::string_view name) const
{
  dom::element value;
  if (object_.at_key (name).get (value) || value.is_null ())
    return std::nullopt;
  return value;
}

dom::element
JsonFields::require (std::string_view name) const
{
  const auto value = find (name);
  if (!value)
    fail (name, std::string ("is missing") + kRemedy);
  return *value;
}

bool
JsonFields::has (std::string_view name) const
{
  return find (name).has_value ();
}

bool
JsonFields::is_null (std::string_view name) const
{
  dom::element value;
  return !object_.at_key (name).get (value) && value.is_null ();
}

int64_t
JsonFields::checked_integer (std::string_view name, dom::element value, int64_t least, int64_t most) const
{
  int64_t result = 0;
  if (value.get (result) || result < least || result > most)
    fail (name, "is " + shown (value) + ", expected an integer from " + std::to_string (least) + " to " +
                    std::to_string (most) + kRemedy);
  return result;
}

int
JsonFields::integer (std::string_view name, int64_t least, int64_t most) const
{
  return static_cast<int> (checked_integer (name, require (name), least, most));
}

int
JsonFields::integer_or (std::string_view name, int64_t least, int64_t most, int fallback) const
{
  return has (name) ? integer (name, least, most) : fallback;
}

double
JsonFields::checked_number (std::string_view name, dom::element value, double least, double most) const
{
  double result = 0;
  if (value.get (result) || !(result >= least && result <= most))
    fail (name, "is " + shown (value) + ", expected a number from " + to_text (least) + " to " +
                    to_text (most) + kRemedy);
  return result;
}

double
JsonFields::number (std::string_view name, double least, double most) const
{
  return checked_number (name, require (name), least, most);
}

double
JsonFields::number_or (std::string_view name, double least, double most, double fallback) const
{
  return has (name) ? number (name, least, most) : fallback;
}

bool
JsonFields::boolean_or (std::string_view name, bool fallback) const
{
  const auto value = find (name);
  if (!value)
    return fallback;
  bool result = false;
  if (value->get (result))
    fail (name, "is " + shown (*value) + ", expected true or false" + kRemedy);
  return result;
}

std::string
JsonFields::text (std::string_view name) const
{
  const dom::element value = require (name);
  std::string_view result;
  if (value.get (result))
    fail (name, "is " + shown (value) + ", expected a string" + kRemedy);
  return std::string (result);
}

std::string
JsonFields::text_or (std::string_view name, std::string_view fallback) const
{
  return has (name) ? text (name) : std::string (fallback);
}

std::optional<JsonFields>
JsonFields::object (std::string_view name) const
{
  const auto value = find (name);
  if (!value)
    return std::nullopt;
  dom::object result;
  if (value->get (result))
    fail (name, "is " + shown (*value) + ", expected an object" + kRemedy);
  return JsonFields (file_, prefix_ + std::string (name) + ".", result, names_);
}

std::vector<JsonFields::Field>
JsonFields::all () const
{
  std::vector<Field> fields;
  for (const auto [name, value] : object_) {
    if (value.is_null ())
      continue;
    Field field{name, {}, {}};
    dom::object object;
    bool flag = false;
    if (!value.get (object))
      field.object = JsonFields (file_, prefix_ + std::string (name) + ".", object, names_);
    else if (!value.get (flag))
      field.flag = flag;
    fields.push_back (std::move (field));
  }
  return fields;
}

std::vector<std::string>
JsonFields::texts (std::string_view name) const
{
  const auto value = find (name);
  if (!value)
    return {};
  dom::array array;
  if (value->get (array))
    fail (name, "is " + shown (*value) + ", expected an array of strings" + kRemedy);
  std::vector<std::string> result;
  for (const dom::element item : array) {
    std::string_view text;
    if (item.get (text))
      fail (name, "holds " + shown (item) + ", expected strings" + kRemedy);
    result.emplace_back (text);
  }
  return result;
}

std::vector<double>
JsonFields::numbers (std::string_view name, double least, double most) const
{
  const auto value = find (name);
  if (!value)
    return {};
  dom::array array;
  if (value->get (array))
    fail (name, "is " + shown (*value) + ", expected an array of numbers" + kRemedy);
  std::vector<double> result;
  for (dom::element item : array) {
    // As transformers 5 writes an infinite one.
    std::string_view infinity;
    if (std::isinf (most) && !item["__float__"].get (infinity) && infinity == "Infinity")
      result.push_back (most);
    else
      result.push_back (checked_number (name, item, least, most));
  }
  return result;
}

std::vector<int32_t>
JsonFields::token_ids (std::string_view name, int64_t limit) const
{
  const auto value = find (name);
  if (!value)
    return {};
  dom::array array;
  if (value->get (array))
    return {static_cast<int32_t> (checked_integer (name, *value, 0, limit - 1))};
  std::vector<int32_t> ids;
  for (const dom::element item : array)
    ids.push_back (static_cast<int32_t> (checked_integer (name, item, 0, limit - 1)));
  return ids;
}

bool
JsonFields::holds_objects () const
{
  for (const auto field : object_)
    if (field.value.is_object ())
      return true;
  return false;
}

} // namespace millrace
