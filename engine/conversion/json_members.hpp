// The members of a JSON object as text, so that a file can be written again with some of them changed and the others, number for
// number, as they were.
//
// Only brackets and strings are looked at; that the text is valid JSON has been checked before (a parser has taken it).
// No recursion. Pure; any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace millrace
{

struct JsonMember {
  std::string name;  ///< as it is between the quotes
  std::string value; ///< JSON
};

/// Of a valid object, in its order; nothing when the text is no object.
std::vector<JsonMember> json_members (std::string_view object);

/// The other way, a member a line.
std::string json_object (const std::vector<JsonMember> &members);

} // namespace millrace
