#include "engine/model/chat_prompt.hpp"

#include "engine/json_text.hpp"

namespace millrace
{

namespace
{

/// What is between the braces of a JSON object; empty when it has no members.
std::string_view
members_of (std::string_view object)
{
  constexpr const char *kSpace = " \t\r\n";
  const size_t open = object.find ('{'), close = object.rfind ('}');
  if (open == std::string_view::npos || close == std::string_view::npos || close < open)
    return {};
  const std::string_view inside = object.substr (open + 1, close - open - 1);
  return inside.find_first_not_of (kSpace) == std::string_view::npos ? std::string_view () : inside;
}

} // namespace

std::string
render_chat (const Model &model, std::string_view messages_json, std::string_view tools_json,
             int64_t now_unix, std::string_view kwargs_json)
{
  std::string variables = "{\"messages\":";
  variables += messages_json;
  variables += ",\"tools\":";
  variables += tools_json.empty () ? "null" : tools_json;
  variables += ",\"documents\":null,\"add_generation_prompt\":true,\"bos_token\":";
  append_json_string (variables, model.bos_token);
  variables += ",\"eos_token\":";
  append_json_string (variables, model.eos_token);
  if (const std::string_view members = members_of (kwargs_json); !members.empty ()) {
    variables += ",";
    variables += members; // of two with one name the template sees the last
  }
  variables += "}";
  return model.chat_template->render (variables, now_unix);
}

std::string
single_turn_messages (std::string_view system, std::string_view user)
{
  std::string json = "[";
  if (!system.empty ()) {
    json += "{\"role\":\"system\",\"content\":";
    append_json_string (json, system);
    json += "},";
  }
  json += "{\"role\":\"user\",\"content\":";
  append_json_string (json, user);
  json += "}]";
  return json;
}

} // namespace millrace
