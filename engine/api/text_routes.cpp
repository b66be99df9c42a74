// Routes that only look at text: tokenize, detokenize, apply-template.
#include "engine/api/conversation.hpp"
#include "engine/api/generations.hpp"
#include "engine/api/parse.hpp"

#include <climits>

namespace millrace
{

namespace
{

constexpr size_t kMaxTokens = 1u << 24;

void
read_tokenize (Fields &body, TextRequest &out)
{
  // As llama-server has it: text is tokenized as it stands.
  out.add_special = body.boolean ("add_special").value_or (false);
  out.parse_special = body.boolean ("parse_special").value_or (true);
  out.with_pieces = body.boolean ("with_pieces").value_or (false);
  const char *given = nullptr;
  for (const char *const name : {"content", "text", "prompt"}) {
    const auto text = body.string (name);
    if (!text)
      continue;
    if (given)
      body.refuse (name, std::string ("cannot be given together with ") + given);
    given = name;
    out.text = *text;
  }
  if (!given)
    body.refuse ("content", "is required");
}

void
read_detokenize (Fields &body, TextRequest &out)
{
  const auto tokens = body.array ("tokens", kMaxTokens);
  if (!tokens)
    return body.refuse ("tokens", "is required");
  for (const JsonValue entry : *tokens) {
    int64_t token = 0;
    if (entry.get (token) || token < 0 || token > INT_MAX)
      return body.refuse ("tokens[" + std::to_string (out.tokens.size ()) + "]", "must be a token id");
    out.tokens.push_back (static_cast<TokenId> (token));
  }
}

void
read_apply_template (Fields &body, const ApiLimits &limits, TextRequest &out)
{
  check_chat_template (body, limits, "messages");
  Conversation conversation;
  read_openai_messages (body, conversation.messages);
  read_tools (body, false, conversation.tools);
  conversation.variables.read (body);
  body.only ("add_generation_prompt", true,
             "cannot be false: what is shown is what a chat request continues");
  out.chat_json = "{" + conversation.members () + "}";
}

} // namespace

ApiError
parse_text_request (TextRoute route, std::string_view body, const ApiLimits &limits, TextRequest &out)
{
  out = {};
  JsonDocument document;
  if (ApiError error = document.parse (body, kMaxApiNesting))
    return error;
  ApiError error;
  Fields fields (document.root (), "", error);
  std::string model;
  read_model (fields, limits, model);
  switch (route) {
  case TextRoute::kTokenize:
    read_tokenize (fields, out);
    break;
  case TextRoute::kDetokenize:
    read_detokenize (fields, out);
    break;
  case TextRoute::kApplyTemplate:
    read_apply_template (fields, limits, out);
    break;
  }
  fields.finish ();
  return error;
}

} // namespace millrace
