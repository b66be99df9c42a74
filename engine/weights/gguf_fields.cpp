// Typed, range-checked access to the metadata of a GGUF file.
#include "engine/weights/gguf_fields.hpp"

#include "engine/error.hpp"

#include <bit>
#include <cstdio>
#include <limits>

namespace millrace
{

namespace
{

constexpr const char *kRemedy = "; correct the file or fetch it again";

uint64_t
bits_of (std::span<const std::byte> bytes)
{
  uint64_t bits = 0;
  for (size_t i = 0; i < bytes.size (); ++i)
    bits |= static_cast<uint64_t> (bytes[i]) << (8 * i);
  return bits;
}

std::string
to_text (double value)
{
  char text[32];
  std::snprintf (text, sizeof text, "%.10g", value);
  return text;
}

} // namespace

bool
gguf_integer (GgufType type, std::span<const std::byte> bytes, int64_t &value)
{
  const uint64_t bits = bits_of (bytes);
  switch (type) {
  case GgufType::kInt8:
    value = static_cast<int8_t> (bits);
    return true;
  case GgufType::kInt16:
    value = static_cast<int16_t> (bits);
    return true;
  case GgufType::kInt32:
    value = static_cast<int32_t> (bits);
    return true;
  case GgufType::kUint8:
  case GgufType::kUint16:
  case GgufType::kUint32:
  case GgufType::kUint64:
  case GgufType::kInt64:
    value = static_cast<int64_t> (bits);
    return type == GgufType::kInt64 || value >= 0;
  default:
    return false;
  }
}

bool
gguf_number (GgufType type, std::span<const std::byte> bytes, double &value)
{
  if (type == GgufType::kFloat32) {
    value = std::bit_cast<float> (static_cast<uint32_t> (bits_of (bytes)));
    return true;
  }
  if (type == GgufType::kFloat64) {
    value = std::bit_cast<double> (bits_of (bytes));
    return true;
  }
  int64_t integer = 0;
  if (!gguf_integer (type, bytes, integer))
    return false;
  value = static_cast<double> (integer);
  return true;
}

void
GgufFields::fail (std::string_view key, const std::string &problem) const
{
  throw LoadError (file_, printable (key), problem);
}

const GgufValue *
GgufFields::find (std::string_view key) const
{
  const auto found = metadata_->find (key);
  return found == metadata_->end () ? nullptr : &found->second;
}

const GgufValue &
GgufFields::require (std::string_view key) const
{
  const GgufValue *value = find (key);
  if (!value)
    fail (key, std::string ("is missing") + kRemedy);
  return *value;
}

std::string
GgufFields::shown (const GgufValue &value)
{
  int64_t integer = 0;
  double number = 0;
  if (value.type == GgufType::kArray)
    return "an array";
  if (value.type == GgufType::kString)
    return "\"" + printable (value.text) + "\"";
  if (value.type == GgufType::kBool)
    return bits_of (value.bytes) ? "true" : "false";
  if (gguf_integer (value.type, value.bytes, integer))
    return std::to_string (integer);
  return gguf_number (value.type, value.bytes, number) ? to_text (number)
                                                       : std::to_string (bits_of (value.bytes));
}

int64_t
GgufFields::integer (std::string_view key, int64_t least, int64_t most) const
{
  const GgufValue &value = require (key);
  int64_t result = 0;
  if (!gguf_integer (value.type, value.bytes, result) || result < least || result > most)
    fail (key, "is " + shown (value) + ", expected an integer from " + std::to_string (least) + " to " +
                   std::to_string (most) + kRemedy);
  return result;
}

int64_t
GgufFields::integer_or (std::string_view key, int64_t least, int64_t most, int64_t fallback) const
{
  return has (key) ? integer (key, least, most) : fallback;
}

double
GgufFields::number (std::string_view key, double least, double most) const
{
  const GgufValue &value = require (key);
  double result = 0;
  if (!gguf_number (value.type, value.bytes, result) || !(result >= least && result <= most))
    fail (key, "is " + shown (value) + ", expected a number from " + to_text (least) + " to " +
                   to_text (most) + kRemedy);
  return result;
}

double
GgufFields::number_or (std::string_view key, double least, double most, double fallback) const
{
  return has (key) ? number (key, least, most) : fallback;
}

bool
GgufFields::boolean_or (std::string_view key, bool fallback) const
{
  const GgufValue *value = find (key);
  if (!value)
    return fallback;
  if (value->type != GgufType::kBool)
    fail (key, "is " + shown (*value) + ", expected true or false" + kRemedy);
  return bits_of (value->bytes) != 0;
}

std::string_view
GgufFields::text (std::string_view key) const
{
  const GgufValue &value = require (key);
  if (value.type != GgufType::kString)
    fail (key, "is " + shown (value) + ", expected a string" + kRemedy);
  return value.text;
}

std::string_view
GgufFields::text_or (std::string_view key, std::string_view fallback) const
{
  return has (key) ? text (key) : fallback;
}

const std::vector<std::string_view> &
GgufFields::texts (std::string_view key) const
{
  const GgufValue &value = require (key);
  if (value.type != GgufType::kArray || value.element != GgufType::kString)
    fail (key, "is " + shown (value) + ", expected an array of strings" + kRemedy);
  return value.texts;
}

std::vector<int32_t>
GgufFields::integers (std::string_view key) const
{
  std::vector<int32_t> result;
  const GgufValue *value = find (key);
  if (!value)
    return result;
  if (value->type != GgufType::kArray || value->element == GgufType::kString)
    fail (key, "is " + shown (*value) + ", expected an array of integers" + kRemedy);
  const size_t width = gguf_type_bytes (value->element);
  result.reserve (static_cast<size_t> (value->count));
  for (size_t i = 0; i < value->count; ++i) {
    int64_t integer = 0;
    const auto bytes = value->bytes.subspan (i * width, width);
    if (value->element == GgufType::kBool)
      integer = bits_of (bytes) != 0;
    else if (!gguf_integer (value->element, bytes, integer) ||
             integer < std::numeric_limits<int32_t>::min () || integer > std::numeric_limits<int32_t>::max ())
      fail (key, "entry " + std::to_string (i) + " is not an integer of 32 bits" + kRemedy);
    result.push_back (static_cast<int32_t> (integer));
  }
  return result;
}

std::vector<float>
GgufFields::numbers (std::string_view key) const
{
  std::vector<float> result;
  const GgufValue *value = find (key);
  if (!value)
    return result;
  const size_t width = value->type == GgufType::kArray ? gguf_type_bytes (value->element) : 0;
  if (width == 0)
    fail (key, "is " + shown (*value) + ", expected an array of numbers" + kRemedy);
  result.reserve (static_cast<size_t> (value->count));
  for (size_t i = 0; i < value->count; ++i) {
    double number = 0;
    if (!gguf_number (value->element, value->bytes.subspan (i * width, width), number))
      fail (key, "entry " + std::to_string (i) + " is not a number" + kRemedy);
    result.push_back (static_cast<float> (number));
  }
  return result;
}

} // namespace millrace
