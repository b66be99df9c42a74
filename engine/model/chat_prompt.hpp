// A conversation in the model's own template.
#pragma once

#include "engine/model/model.hpp"

#include <cstdint>
#include <string>
#include <string_view>

namespace millrace
{

/// Renders `messages_json` (a JSON array) with generation prompt, `tools_json` null when empty, and the
/// model's bos_token and eos_token. The members of `kwargs_json` (a JSON object, or empty) are variables too and win
/// over those. Throws ChatTemplateError; the model must have a template.
std::string render_chat (const Model &model, std::string_view messages_json, std::string_view tools_json,
                         int64_t now_unix, std::string_view kwargs_json = {});

/// The messages array of one user message, after a system message unless `system` is empty. Valid UTF-8 only.
std::string single_turn_messages (std::string_view system, std::string_view user);

} // namespace millrace
