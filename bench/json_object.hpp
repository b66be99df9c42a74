// JSON of benchmark results: numbers, lists of numbers, objects with their fields in order.
#pragma once

#include "engine/json_text.hpp"

#include <cmath>
#include <cstdio>
#include <span>
#include <string>
#include <string_view>

namespace millrace::bench
{

/// As printf () does it; what is not finite has no figure in JSON and is null.
inline std::string
number (double value, const char *format = "%.6g")
{
  if (!std::isfinite (value))
    return "null";
  char text[64];
  std::snprintf (text, sizeof text, format, value);
  return text;
}

template <typename T>
std::string
json_list (std::span<const T> values)
{
  std::string text = "[";
  for (const T value : values)
    text += (text.size () > 1 ? ", " : "") + number (static_cast<double> (value), "%.9g");
  return text + "]";
}

/// Appends fields to an object, in order.
class JsonObject
{
public:
  void text (const char *key, std::string_view value)
  {
    begin (key);
    append_json_string (json_, value);
  }
  void raw (const char *key, const std::string &value)
  {
    begin (key);
    json_ += value;
  }
  void truth (const char *key, bool value) { raw (key, value ? "true" : "false"); }
  void figure (const char *key, double value) { raw (key, number (value, "%.9g")); }
  std::string end () const { return json_ + "}"; }

private:
  void begin (const char *key)
  {
    json_ += json_.size () > 1 ? ", \"" : "\"";
    json_ += key;
    json_ += "\": ";
  }
  std::string json_ = "{";
};

} // namespace millrace::bench
