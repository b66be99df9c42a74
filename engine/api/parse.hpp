// Request bodies of all dialects → ApiRequest.
#pragma once

#include "engine/api/api_types.hpp"

namespace millrace
{

/// Reads `body`. Every field that the dialect documents is honoured or refused by name; an unknown field, one given
/// twice, of a wrong type or out of range is refused too. `seed` is used when the body has none; generation j of
/// a prompt (of n) gets the seed plus j. `out` is meaningless after an error, except for `stream`.
ApiError parse_api_request (Dialect dialect, std::string_view body, const ApiLimits &limits, uint64_t seed,
                            ApiRequest &out);

/// Bodies of the routes that only look at text.
struct TextRequest {
  std::string text;            ///< tokenize
  std::vector<TokenId> tokens; ///< detokenize
  std::string chat_json;       ///< apply-template: an object with messages, and tools, chat_template_kwargs
  bool add_special = true;     ///< tokenize: false when not given, as llama-server has it
  bool parse_special = true;   ///< tokenize
  bool with_pieces = false;
};
enum class TextRoute : uint8_t { kTokenize, kDetokenize, kApplyTemplate };
ApiError parse_text_request (TextRoute route, std::string_view body, const ApiLimits &limits,
                             TextRequest &out);

} // namespace millrace
