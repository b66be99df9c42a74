// Reading one JSON value as what a request's field wants, and saying what is wrong with it.
//
// For engine/scheduling, and for engine/api, which reads other shapes of the same.
#pragma once

#include "engine/error.hpp"

#include <simdjson.h>

#include <string>
#include <string_view>

namespace millrace::json_values
{

using simdjson::dom::element;
using simdjson::dom::element_type;

/// An error of `field` whose message is its name and the problem.
RequestError refuse (std::string field, const std::string &problem);
/// "must be WANTED, got …".
RequestError wrong_type (const std::string &field, const char *wanted, const element &value);
/// The sender's own text, cut to a length fit for messages, at a character.
std::string quoted (std::string_view text);
/// "an array", "a number", …
const char *type_name (const element &value);

// One reader for each type of value. What they return is empty on success.
RequestError read (const std::string &field, const element &value, double &out);
RequestError read (const std::string &field, const element &value, int &out);
RequestError read (const std::string &field, const element &value, bool &out);
RequestError read (const std::string &field, const element &value, std::string &out);

} // namespace millrace::json_values
