// Attribute and item access with the rules of Jinja's immutable sandbox.
//
// object.name asks for the attribute first (so message.items is the method of a dict), object[key] for the
// item first; what is found under neither is undefined. Names with a leading underscore and methods that
// would change a list or dict are found, but come out as an undefined that says so.
// Source: jinja2.sandbox.ImmutableSandboxedEnvironment.
#pragma once

#include "engine/chat/arguments.hpp"

namespace millrace::jinja
{

Value get_attribute (const Value &object, const Value &name);
Value get_item (const Value &object, const Value &key);
/// The attr filter: the attribute only, never the item.
Value get_attribute_only (const Value &object, const Value &name);

/// The builtin method `name` of an object of this type, or null.
struct MethodEntry {
  const char *name;
  MethodFunction function;
};
const MethodEntry *find_string_method (std::string_view name);
const MethodEntry *find_container_method (const Value &object, std::string_view name);

} // namespace millrace::jinja
