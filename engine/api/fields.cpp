#include "engine/api/fields.hpp"

#include "engine/api/json_append.hpp"
#include "engine/scheduling/request_json.hpp"

#include <algorithm>

namespace millrace
{

namespace
{

constexpr size_t kMaxMembers = 128; ///< of an object with known names, of which no dialect has as many

std::string
number_text (double value)
{
  std::string text;
  append_float (text, value);
  return text;
}

} // namespace

JsonDocument::JsonDocument ()
    : parser_ (kMaxRequestBytes)
{
}

ApiError
JsonDocument::parse (std::string_view text, size_t max_nesting)
{
  if (text.empty ())
    return invalid_request ("", "the body is empty");
  if (text.size () > kMaxRequestBytes) {
    ApiError error = invalid_request ("", "the body has " + std::to_string (text.size ()) +
                                              " bytes; the limit is " + std::to_string (kMaxRequestBytes));
    error.status = 413;
    return error;
  }
  if (!simdjson::validate_utf8 (text)) {
    ApiError error = invalid_request ("", "the body is not valid UTF-8");
    error.code = "invalid_utf8";
    return error;
  }
  // The parser refuses to enter a level with the number it is given, so that one more than the limit is it.
  auto failure = parser_.allocate (text.size (), max_nesting + 1);
  if (!failure)
    failure = parser_.parse (text.data (), text.size ()).get (root_);
  if (failure == simdjson::MEMALLOC)
    return api_error ({"internal", "", "there is not enough memory to read the body"}, 0);
  if (failure == simdjson::DEPTH_ERROR)
    return invalid_request ("",
                            "the body is nested more than " + std::to_string (max_nesting) + " levels deep");
  if (failure)
    return invalid_request ("", std::string ("the body is not valid JSON: ") + error_message (failure));
  return {};
}

std::string
json_text (const JsonValue &value)
{
  simdjson::internal::string_builder<> builder;
  builder.append (value);
  return std::string (builder.str ());
}

std::optional<std::string_view>
duplicate_key (const simdjson::dom::object &object)
{
  std::vector<std::string_view> keys;
  for (const auto &[key, value] : object)
    keys.push_back (key);
  std::sort (keys.begin (), keys.end ());
  const auto twice = std::adjacent_find (keys.begin (), keys.end ());
  return twice == keys.end () ? std::nullopt : std::optional (*twice);
}

Fields::Fields (const JsonValue &value, std::string path, ApiError &error)
    : path_ (std::move (path))
    , error_ (&error)
{
  if (failed ())
    return;
  simdjson::dom::object object;
  if (value.get (object)) {
    const std::string problem = std::string (" must be an object, got ") + json_values::type_name (value);
    error = invalid_request (path_, (path_.empty () ? "the body" : path_) + problem);
    return;
  }
  for (const auto &[key, member] : object) {
    if (members_.size () == kMaxMembers) {
      refuse (json_values::quoted (key), "is one field too many");
      return;
    }
    const auto same = [&name = key] (const Member &before) { return before.name == name; };
    if (std::any_of (members_.begin (), members_.end (), same)) {
      refuse (json_values::quoted (key), "is given twice");
      return;
    }
    members_.push_back ({key, member});
  }
}

std::string
Fields::path_of (std::string_view name) const
{
  return path_.empty () ? std::string (name) : path_ + "." + std::string (name);
}

void
Fields::refuse (std::string_view name, std::string_view problem) const
{
  if (failed ())
    return;
  const std::string field = path_of (name);
  *error_ = invalid_request (field, field + " " + std::string (problem));
}

void
Fields::finish ()
{
  if (failed ())
    return;
  const auto left = [] (const Member &member) { return !member.taken; };
  const auto unknown = std::find_if (members_.begin (), members_.end (), left);
  if (unknown == members_.end ())
    return;
  const std::string field = path_of (json_values::quoted (unknown->name));
  *error_ = invalid_request (field, "unknown field " + field);
}

bool
Fields::has (std::string_view name) const
{
  const auto named = [name] (const Member &member) {
    return member.name == name && !member.value.is_null ();
  };
  return !failed () && std::any_of (members_.begin (), members_.end (), named);
}

std::optional<JsonValue>
Fields::take (std::string_view name)
{
  if (failed ())
    return std::nullopt;
  const auto named = [name] (const Member &member) { return member.name == name; };
  const auto member = std::find_if (members_.begin (), members_.end (), named);
  if (member == members_.end ())
    return std::nullopt;
  member->taken = true;
  return member->value.is_null () ? std::nullopt : std::optional (member->value);
}

void
Fields::wrong_type (std::string_view name, std::string_view wanted, const JsonValue &value) const
{
  refuse (name, "must be " + std::string (wanted) + ", got " + json_values::type_name (value));
}

std::optional<bool>
Fields::boolean (std::string_view name)
{
  const auto value = take (name);
  if (!value)
    return std::nullopt;
  bool out = false;
  if (!value->get (out))
    return out;
  wrong_type (name, "true or false", *value);
  return std::nullopt;
}

std::optional<int64_t>
Fields::integer (std::string_view name, int64_t low, int64_t high)
{
  const auto value = take (name);
  if (!value)
    return std::nullopt;
  if (!value->is_number ()) {
    wrong_type (name, "an integer", *value);
    return std::nullopt;
  }
  if (value->type () == simdjson::dom::element_type::DOUBLE) {
    refuse (name, "must be an integer, got a number with a fraction or an exponent");
    return std::nullopt;
  }
  int64_t out = 0;
  if (!value->get (out) && out >= low && out <= high)
    return out;
  refuse (name, "must be between " + std::to_string (low) + " and " + std::to_string (high) + ", got " +
                    json_text (*value));
  return std::nullopt;
}

std::optional<double>
Fields::number (std::string_view name, double low, double high)
{
  const auto value = take (name);
  if (!value)
    return std::nullopt;
  double out = 0;
  if (!value->is_number () || value->get (out)) {
    wrong_type (name, "a number", *value);
    return std::nullopt;
  }
  if (out >= low && out <= high)
    return out;
  refuse (name, "must be between " + number_text (low) + " and " + number_text (high) + ", got " +
                    number_text (out));
  return std::nullopt;
}

std::optional<std::string_view>
Fields::string (std::string_view name)
{
  const auto value = take (name);
  if (!value)
    return std::nullopt;
  std::string_view out;
  if (!value->get (out))
    return out;
  wrong_type (name, "a string", *value);
  return std::nullopt;
}

std::optional<simdjson::dom::array>
Fields::array (std::string_view name, size_t most)
{
  const auto value = take (name);
  if (!value)
    return std::nullopt;
  simdjson::dom::array out;
  if (value->get (out)) {
    wrong_type (name, "an array", *value);
    return std::nullopt;
  }
  size_t entries = 0;
  for (auto entry = out.begin (); entry != out.end () && entries <= most; ++entry)
    ++entries;
  if (entries <= most)
    return out;
  refuse (name, "must have at most " + std::to_string (most) + " entries");
  return std::nullopt;
}

std::optional<simdjson::dom::object>
Fields::free_object (std::string_view name)
{
  const auto value = take (name);
  if (!value)
    return std::nullopt;
  simdjson::dom::object out;
  if (value->get (out)) {
    wrong_type (name, "an object", *value);
    return std::nullopt;
  }
  if (const auto twice = duplicate_key (out)) {
    refuse (std::string (name) + "." + json_values::quoted (*twice), "is given twice");
    return std::nullopt;
  }
  return out;
}

std::optional<Fields>
Fields::object (std::string_view name)
{
  const auto value = take (name);
  if (!value)
    return std::nullopt;
  Fields out (*value, path_of (name), *error_);
  return failed () ? std::nullopt : std::optional (std::move (out));
}

std::optional<std::string_view>
Fields::word (std::string_view name, std::span<const std::string_view> words)
{
  const auto text = string (name);
  if (!text || std::find (words.begin (), words.end (), *text) != words.end ())
    return text;
  std::string known;
  for (size_t i = 0; i < words.size (); i++) {
    known += i == 0 ? "" : i + 1 == words.size () ? " or " : ", ";
    known += "\"" + std::string (words[i]) + "\"";
  }
  refuse (name, "must be " + known + ", got \"" + json_values::quoted (*text) + "\"");
  return std::nullopt;
}

std::string_view
Fields::required_string (std::string_view name)
{
  const auto text = string (name);
  if (!text)
    refuse (name, "is required");
  return text.value_or (std::string_view ());
}

void
Fields::unavailable (std::string_view name, std::string_view problem)
{
  if (take (name))
    refuse (name, problem);
}

void
Fields::only (std::string_view name, bool value, std::string_view problem)
{
  const auto given = boolean (name);
  if (given && *given != value)
    refuse (name, problem);
}

} // namespace millrace
