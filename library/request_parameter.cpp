// One parameter of a MillraceRequest from whatever number or text a language binding makes of it.

#include "library/error.hpp"
#include "library/sampling_properties.hpp"

#include <millrace/millrace-request.h>

#include <algorithm>
#include <climits>
#include <cmath>
#include <optional>
#include <string>

// A number as the 64-bit integer that it is; none when it is none.
static std::optional<gint64>
integer_of (const GValue *value)
{
  if (G_VALUE_HOLDS_DOUBLE (value) || G_VALUE_HOLDS_FLOAT (value)) {
    const double number =
        G_VALUE_HOLDS_DOUBLE (value) ? g_value_get_double (value) : double{g_value_get_float (value)};
    return std::floor (number) == number && std::abs (number) < 9e15
               ? std::optional (static_cast<gint64> (number))
               : std::nullopt;
  }
  if (G_VALUE_HOLDS_UINT64 (value) && g_value_get_uint64 (value) > G_MAXINT64)
    return std::nullopt;
  GValue converted = G_VALUE_INIT;
  g_value_init (&converted, G_TYPE_INT64);
  return G_VALUE_TYPE (value) != G_TYPE_STRING && g_value_transform (value, &converted)
             ? std::optional (g_value_get_int64 (&converted))
             : std::nullopt;
}

// Converts to the property's type, but never to another number. False: it cannot be done; `wanted` says what would.
static bool
convert (const GValue *value, GValue *converted, const char **wanted)
{
  if (g_type_is_a (G_VALUE_TYPE (value), G_VALUE_TYPE (converted))) {
    g_value_copy (value, converted);
    return true;
  }
  if (G_VALUE_HOLDS_INT (converted)) {
    *wanted = "an integer between -2147483648 and 2147483647";
    const auto number = integer_of (value);
    if (!number || *number < INT_MIN || *number > INT_MAX)
      return false;
    g_value_set_int (converted, static_cast<int> (*number));
    return true;
  }
  if (G_VALUE_HOLDS_UINT64 (converted) || G_VALUE_HOLDS_UINT (converted)) {
    const bool small = G_VALUE_HOLDS_UINT (converted);
    *wanted = small ? "an integer between 0 and 4294967295" : "an integer of at most 64 bits, not negative";
    const auto number = integer_of (value);
    if (!number || *number < 0 || (small && *number > G_MAXUINT))
      return false;
    if (small)
      g_value_set_uint (converted, static_cast<guint> (*number));
    else
      g_value_set_uint64 (converted, static_cast<guint64> (*number));
    return true;
  }
  *wanted = G_VALUE_HOLDS_DOUBLE (converted)         ? "a number"
            : G_VALUE_HOLDS_BOOLEAN (converted)      ? "true or false"
            : G_VALUE_HOLDS (converted, G_TYPE_STRV) ? "a list of strings"
            : G_VALUE_HOLDS_ENUM (converted)         ? "one of the values of its enumeration"
                                                     : "a string";
  const bool number_wanted = G_VALUE_HOLDS_DOUBLE (converted);
  return number_wanted && !G_VALUE_HOLDS_STRING (value) && !G_VALUE_HOLDS_BOOLEAN (value) &&
         g_value_transform (value, converted);
}

// Of sampling_properties (); its size when it is none of them.
static guint
sampling_index (const std::string &name)
{
  const auto all = millrace::sampling_properties ();
  return static_cast<guint> (
      std::ranges::find_if (all, [&] (const auto &property) { return name == property.name; }) -
      all.begin ());
}

/**
 * millrace_request_set_parameter:
 * @name: a property's name, with dashes or underscores
 * @value: its value; a number of any type is converted if it stays the same number
 * @error: return location for a #GError of %MILLRACE_ERROR
 *
 * Sets a property, and says at once what is wrong with the value. (With g_object_set() it is said when the request is
 * sent, or by millrace_request_validate().)
 *
 * Returns: whether @value was valid; if not, @error names the parameter and what it may be
 */
gboolean
millrace_request_set_parameter (MillraceRequest *self, const char *name, const GValue *value, GError **error)
{
  g_return_val_if_fail (MILLRACE_IS_REQUEST (self), FALSE);
  g_return_val_if_fail (name && G_IS_VALUE (value), FALSE);
  const auto refuse = [&] (const std::string &problem) {
    millrace::set_gerror (error, {"invalid_request", name, problem});
    return FALSE;
  };
  std::string property = name;
  for (char &c : property)
    c = c == '_' ? '-' : c;
  GParamSpec *spec = g_object_class_find_property (G_OBJECT_GET_CLASS (self), property.c_str ());
  if (!spec)
    return refuse ("is not a known field");
  GValue converted = G_VALUE_INIT;
  g_value_init (&converted, spec->value_type);
  const char *wanted = nullptr;
  millrace::RequestError problem;
  if (!convert (value, &converted, &wanted)) {
    g_autofree char *got = g_strdup_value_contents (value);
    problem = {"invalid_request", name, std::string ("must be ") + wanted + ", got " + got};
  } else if (const guint index = sampling_index (property);
             index < millrace::sampling_properties ().size ()) {
    millrace::SamplingParams alone;
    alone.max_tokens = 0; // min_tokens is measured against it when both are known
    millrace::set_sampling_property (alone, 0, index, &converted);
    problem = millrace::validate (alone, INT_MAX);
  } else if (property == "timeout-ms" && g_value_get_int (&converted) < 0) {
    problem = {"invalid_request", name,
               "must be at least 0, got " + std::to_string (g_value_get_int (&converted))};
  }
  if (problem)
    millrace::set_gerror (error, problem);
  else
    g_object_set_property (G_OBJECT (self), property.c_str (), &converted);
  g_value_unset (&converted);
  return !problem;
}
