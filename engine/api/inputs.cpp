// Prompts and inputs: a string, strings, token ids, or arrays of token ids.
#include "engine/api/dialects.hpp"
#include "engine/api/json_append.hpp"

#include <climits>

namespace millrace
{

namespace
{

constexpr size_t kMaxTokensOfInput = 1u << 24; ///< as docs/requests.md has it

void
append_text_input (std::string_view text, std::vector<std::string> &inputs, std::vector<std::string> &texts)
{
  std::string &input = inputs.emplace_back ("\"prompt\":");
  append_json_string (input, text);
  texts.emplace_back (text);
}

/// Token ids, from `tokens` on.
void
append_token_input (const simdjson::dom::array &tokens, const std::string &path, Fields &body,
                    std::vector<std::string> &inputs)
{
  std::string input = "\"tokens\":[";
  size_t count = 0;
  for (const JsonValue entry : tokens) {
    int64_t token = 0;
    if (entry.get (token) || token < 0 || token > INT_MAX)
      return body.refuse (path + "[" + std::to_string (count) + "]", "must be a token id");
    if (count == kMaxTokensOfInput)
      return body.refuse (path, "must have at most " + std::to_string (kMaxTokensOfInput) + " token ids");
    input += count++ ? "," : "";
    append_integer (input, token);
  }
  if (count == 0)
    return body.refuse (path, "must not be empty");
  inputs.push_back (input + "]");
}

} // namespace

std::vector<std::string>
read_inputs (Fields &body, const char *name, size_t most, std::vector<std::string> &texts)
{
  std::vector<std::string> inputs;
  const auto value = body.take (name);
  if (!value) {
    body.refuse (name, "is required");
    return inputs;
  }
  std::string_view text;
  simdjson::dom::array entries;
  if (!value->get (text)) {
    append_text_input (text, inputs, texts);
    return inputs;
  }
  if (value->get (entries)) {
    body.wrong_type (name, "a string, an array of strings, or token ids", *value);
    return inputs;
  }
  if (entries.begin () == entries.end ()) {
    body.refuse (name, "must not be empty");
    return inputs;
  }
  if ((*entries.begin ()).is_number ()) {
    append_token_input (entries, name, body, inputs);
    return inputs;
  }
  const bool of_texts = (*entries.begin ()).is_string ();
  for (const JsonValue entry : entries) {
    const std::string path = std::string (name) + "[" + std::to_string (inputs.size ()) + "]";
    simdjson::dom::array tokens;
    if (inputs.size () == most)
      body.refuse (name, "must have at most " + std::to_string (most) + " entries");
    else if (of_texts && !entry.get (text))
      append_text_input (text, inputs, texts);
    else if (!of_texts && !entry.get (tokens))
      append_token_input (tokens, path, body, inputs);
    else
      body.wrong_type (path, of_texts ? "a string" : "an array of token ids", entry);
    if (body.failed ())
      return inputs;
  }
  return inputs;
}

} // namespace millrace
