#include "engine/chat/arguments.hpp"

namespace millrace::jinja
{

Parameters::Parameters (const char *function, const Arguments &arguments,
                        std::initializer_list<const char *> names, size_t required, bool positional_only)
    : function_ (function)
{
  const std::string call = std::string (function) + "()";
  if (arguments.positional.size () > names.size ())
    fail (call + " takes at most " + std::to_string (names.size ()) + " argument" +
          (names.size () == 1 ? "" : "s") + " (" + std::to_string (arguments.positional.size ()) + " given)");
  for (size_t i = 0; i < arguments.positional.size (); i++)
    values_[i] = &arguments.positional[i];
  if (positional_only && !arguments.keywords.empty ())
    fail (call + " takes no keyword arguments");
  for (const auto &[name, value] : arguments.keywords) {
    size_t index = 0;
    for (const char *parameter : names) {
      if (name == parameter)
        break;
      index++;
    }
    if (index == names.size ())
      fail (call + " got an unexpected keyword argument '" + name + "'");
    if (values_[index])
      fail (call + " got multiple values for argument '" + name + "'");
    values_[index] = &value;
  }
  for (size_t i = 0; i < required; i++) {
    if (!values_[i])
      fail (call + " missing required argument: '" + names.begin ()[i] + "'");
  }
}

int64_t
Parameters::integer (size_t index, int64_t otherwise) const
{
  if (!has (index))
    return otherwise;
  const Value &value = *values_[index];
  if (value.is (Kind::kUndefined))
    fail_undefined (value);
  if (!value.is_integral ())
    fail (std::string ("'") + type_name (value) + "' object cannot be interpreted as an integer");
  return value.as_int ();
}

const std::string &
Parameters::text (size_t index) const
{
  const Value &value = (*this)[index];
  if (!value.is (Kind::kString))
    fail (std::string (function_) + "() argument must be str, not " + type_name (value));
  return value.text ();
}

} // namespace millrace::jinja
