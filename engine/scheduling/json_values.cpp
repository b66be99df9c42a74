#include "engine/scheduling/json_values.hpp"

#include <climits>

namespace millrace::json_values
{

namespace
{

constexpr size_t kMaxQuotedBytes = 64; ///< of the sender's own text in a message

} // namespace

RequestError
refuse (std::string field, const std::string &problem)
{
  std::string message = field.empty () ? problem : field + " " + problem;
  return {"invalid_request", std::move (field), std::move (message)};
}

std::string
quoted (std::string_view text)
{
  if (text.size () <= kMaxQuotedBytes)
    return std::string (text);
  size_t end = kMaxQuotedBytes;
  while (end > 0 && (text[end] & 0xC0) == 0x80)
    --end;
  return std::string (text.substr (0, end)) + "…";
}

const char *
type_name (const element &value)
{
  switch (value.type ()) {
  case element_type::ARRAY:
    return "an array";
  case element_type::OBJECT:
    return "an object";
  case element_type::INT64:
  case element_type::UINT64:
  case element_type::DOUBLE:
    return "a number";
  case element_type::STRING:
    return "a string";
  case element_type::BOOL:
    return "a boolean";
  case element_type::NULL_VALUE:
    return "null";
  }
  return "something else";
}

RequestError
wrong_type (const std::string &field, const char *wanted, const element &value)
{
  return refuse (field, std::string ("must be ") + wanted + ", got " + type_name (value));
}

RequestError
read (const std::string &field, const element &value, double &out)
{
  if (!value.is_number ())
    return wrong_type (field, "a number", value);
  double number = 0;
  if (value.get (number))
    return wrong_type (field, "a number", value);
  out = number;
  return {};
}

RequestError
read (const std::string &field, const element &value, int &out)
{
  int64_t number = 0;
  if (value.type () == element_type::DOUBLE)
    return refuse (field, "must be an integer, got a number with a fraction or an exponent");
  if (!value.is_number ())
    return wrong_type (field, "an integer", value);
  if (value.get (number) || number < INT_MIN || number > INT_MAX)
    return refuse (field, "must be an integer of at most 32 bits");
  out = static_cast<int> (number);
  return {};
}

RequestError
read (const std::string &field, const element &value, bool &out)
{
  return value.get (out) ? wrong_type (field, "true or false", value) : RequestError{};
}

RequestError
read (const std::string &field, const element &value, std::string &out)
{
  std::string_view text;
  if (value.get (text))
    return wrong_type (field, "a string", value);
  out = text;
  return {};
}

} // namespace millrace::json_values
