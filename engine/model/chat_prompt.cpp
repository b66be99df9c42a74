#include "engine/model/chat_prompt.hpp"

#include "engine/json_text.hpp"

namespace millrace
{

std::string
render_chat (const Model &model, std::string_view messages_json, std::string_view tools_json,
             int64_t now_unix)
{
  std::string variables = "{\"messages\":";
  variables += messages_json;
  variables += ",\"tools\":";
  variables += tools_json.empty () ? "null" : tools_json;
  variables += ",\"documents\":null,\"add_generation_prompt\":true,\"bos_token\":";
  append_json_string (variables, model.bos_token);
  variables += ",\"eos_token\":";
  append_json_string (variables, model.eos_token);
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
