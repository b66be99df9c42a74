#include "engine/conversion/json_members.hpp"

#include <cctype>

namespace millrace
{

namespace
{

/// Behind the string that begins at `at`.
size_t
string_end (std::string_view text, size_t at)
{
  for (++at; at < text.size () && text[at] != '"'; ++at)
    at += text[at] == '\\';
  return at + 1;
}

size_t
skip_space (std::string_view text, size_t at)
{
  while (at < text.size () && std::isspace (static_cast<unsigned char> (text[at])))
    ++at;
  return at;
}

/// The comma or bracket behind the value that begins at `at`.
size_t
value_end (std::string_view text, size_t at)
{
  int depth = 0;
  while (at < text.size ()) {
    const char c = text[at];
    if (c == '"') {
      at = string_end (text, at);
      continue;
    }
    if (depth == 0 && (c == ',' || c == '}' || c == ']'))
      break;
    depth += (c == '{' || c == '[') - (c == '}' || c == ']');
    ++at;
  }
  return at;
}

std::string_view
trimmed (std::string_view text)
{
  while (!text.empty () && std::isspace (static_cast<unsigned char> (text.back ())))
    text.remove_suffix (1);
  return text;
}

} // namespace

std::vector<JsonMember>
json_members (std::string_view object)
{
  std::vector<JsonMember> members;
  size_t at = skip_space (object, 0);
  if (at >= object.size () || object[at] != '{')
    return members;
  for (at = skip_space (object, at + 1); at < object.size () && object[at] == '"';) {
    const size_t name_end = string_end (object, at);
    if (name_end >= object.size ())
      break;
    JsonMember member{std::string (object.substr (at + 1, name_end - at - 2)), {}};
    at = skip_space (object, skip_space (object, name_end) + 1); // behind the colon
    const size_t end = value_end (object, at);
    member.value = trimmed (object.substr (std::min (at, object.size ()), end - std::min (at, end)));
    members.push_back (std::move (member));
    at = skip_space (object, end + 1);
  }
  return members;
}

std::string
json_object (const std::vector<JsonMember> &members)
{
  std::string text = "{";
  for (const JsonMember &member : members)
    text += (text.size () > 1 ? ",\n  \"" : "\n  \"") + member.name + "\": " + member.value;
  return text + "\n}\n";
}

} // namespace millrace
