// One JSON object → a request. Every field is honoured or refused by name, none is ignored.
#pragma once

#include "engine/error.hpp"
#include "engine/json_text.hpp" // append_json_string, for whoever answers in JSON
#include "engine/scheduling/request.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace millrace
{

/// What the model is asked to continue; exactly one of them is given.
struct PromptInput {
  enum class Kind : uint8_t { kText, kMessages, kTokens } kind = Kind::kText;
  std::string text;          ///< kText
  std::string messages_json; ///< kMessages: the `messages` array, verbatim JSON
  std::string tools_json;    ///< kMessages: the `tools` array, or empty
  std::string kwargs_json;   ///< kMessages: `chat_template_kwargs`, an object of further variables, or empty
  std::vector<TokenId> tokens; ///< kTokens
};

constexpr size_t kMaxRequestBytes = 64u << 20;

/// Overlays the fields of `json` on `request` (which holds the defaults) and fills `prompt`. Fields: id,
/// prompt | messages (+ tools, chat_template_kwargs) | tokens, every member of SamplingParams under its own name
/// (stop: string or array; logit_bias: object of id → number; logprobs: false, true or a count), embed, an
/// object with pooling, normalize and dimensions, and prediction, a text for drafters. On error `request` keeps
/// its id if that could be read. Nesting is bounded; duplicate fields are an error.
RequestError parse_request (std::string_view json, Request &request, PromptInput &prompt);

} // namespace millrace
