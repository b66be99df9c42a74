#include "engine/tokenizer/json_field.hpp"

#include "engine/tokenizer/tokenizer.hpp"

namespace millrace
{

simdjson::dom::object
JsonField::object () const
{
  simdjson::dom::object value;
  if (element_.get (value))
    fail ("must be an object");
  return value;
}

simdjson::dom::array
JsonField::array () const
{
  simdjson::dom::array value;
  if (element_.get (value))
    fail ("must be an array");
  return value;
}

std::string_view
JsonField::string () const
{
  std::string_view value;
  if (element_.get (value))
    fail ("must be a string");
  // Escapes can spell lone surrogates, which are no text.
  if (!valid_utf8 (value))
    fail ("is not valid Unicode");
  return value;
}

bool
JsonField::boolean () const
{
  bool value = false;
  if (element_.get (value))
    fail ("must be true or false");
  return value;
}

int64_t
JsonField::integer (int64_t least, int64_t most) const
{
  int64_t value = 0;
  if (element_.get (value) || value < least || value > most)
    fail ("must be a whole number from " + std::to_string (least) + " to " + std::to_string (most));
  return value;
}

std::optional<JsonField>
JsonField::find (std::string_view key) const
{
  simdjson::dom::element member;
  const auto error = object ().at_key (key).get (member);
  if (error || member.is_null ())
    return std::nullopt;
  const std::string path = path_.empty () ? std::string (key) : path_ + "." + std::string (key);
  return JsonField (*file_, path, member);
}

JsonField
JsonField::at (std::string_view key) const
{
  auto member = find (key);
  if (!member)
    throw LoadError (*file_, path_.empty () ? std::string (key) : path_ + "." + std::string (key),
                     "is missing");
  return *member;
}

bool
JsonField::boolean_or (std::string_view key, bool otherwise) const
{
  const auto member = find (key);
  return member ? member->boolean () : otherwise;
}

JsonField
JsonField::item (size_t index, simdjson::dom::element element) const
{
  return JsonField (*file_, path_ + "[" + std::to_string (index) + "]", element);
}

} // namespace millrace
