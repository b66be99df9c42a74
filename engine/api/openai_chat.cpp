// OpenAI POST /v1/chat/completions
#include "engine/api/conversation.hpp"
#include "engine/api/dialects.hpp"
#include "engine/api/generations.hpp"

namespace millrace
{

namespace
{

void
read_logprobs (Fields &body, SharedMembers &shared, ApiRequest &out)
{
  out.logprobs = body.boolean ("logprobs").value_or (false);
  const auto top = body.integer ("top_logprobs", 0, kMaxTopLogprobs);
  if (top && !out.logprobs)
    body.refuse ("top_logprobs", "can only be given together with \"logprobs\": true");
  if (out.logprobs)
    shared.add ("logprobs", top.value_or (0));
}

void
refuse_unavailable (Fields &body)
{
  body.only ("store", false, "is not available: nothing is stored");
  const auto metadata = body.free_object ("metadata");
  if (metadata && metadata->begin () != metadata->end ())
    body.refuse ("metadata", "is not available: nothing is stored");
  if (const auto modalities = body.array ("modalities", 2)) {
    for (const JsonValue entry : *modalities) {
      std::string_view word;
      if (entry.get (word) || word != "text")
        body.refuse ("modalities", "can only be [\"text\"]: the model writes text");
    }
  }
  static constexpr std::string_view kVerbosities[] = {"medium"};
  body.word ("verbosity", kVerbosities);
  body.only ("echo", false, "is not available for a conversation");
  body.only ("add_generation_prompt", true, "cannot be false: the answer is a message of its own");
  body.unavailable ("audio", "is not available: the model writes text");
  body.unavailable ("web_search_options", "is not available: there is no web search");
  body.unavailable ("functions", "is not available; use tools");
  body.unavailable ("function_call", "is not available; use tool_choice");
}

} // namespace

void
read_text_format (Fields &body, const char *name)
{
  auto format = body.object (name);
  if (!format)
    return;
  const std::string_view type = format->required_string ("type");
  if (type == "json_object" || type == "json_schema")
    format->refuse ("type",
                    "\"" + std::string (type) + "\" is refused: constrained decoding is not available yet");
  else if (type != "text")
    format->refuse ("type", "must be \"text\", got \"" + json_values::quoted (type) + "\"");
  format->finish ();
}

/// What the client expects the answer to be: it is drafted, and never changes what the answer is.
void
read_prediction (Fields &body, SharedMembers &shared)
{
  auto prediction = body.object ("prediction");
  if (!prediction)
    return;
  static constexpr std::string_view kTypes[] = {"content"};
  if (!prediction->word ("type", kTypes))
    prediction->refuse ("type", "is needed; it can be \"content\"");
  const auto content = read_content (*prediction);
  if (!content)
    prediction->refuse ("content", "is needed: a string or an array of parts");
  prediction->finish ();
  if (content && !content->empty ())
    shared.add ("prediction", std::string_view (*content));
}

void
read_openai_chat (Fields &body, const ApiLimits &limits, SharedMembers &shared, ApiRequest &out)
{
  static constexpr const char *kMaxNames[] = {"max_completion_tokens", "max_tokens"};
  read_openai_stream (body, out);
  read_model (body, limits, out.model);
  check_chat_template (body, limits, "messages");
  Conversation conversation;
  read_openai_messages (body, conversation.messages);
  read_openai_tools (body, false, conversation.tools);
  conversation.variables.read (body);
  conversation.variables.read_effort (body, "reasoning_effort");
  read_n (body, limits, shared);
  const auto max_tokens = read_max_tokens (body, kMaxNames, shared);
  read_openai_sampling (body, max_tokens, shared);
  read_logprobs (body, shared, out);
  read_text_format (body, "response_format");
  read_prediction (body, shared);
  read_openai_account (body, out);
  refuse_unavailable (body);
  body.finish ();
  out.reads_reasoning = true;
  const std::string prompts[] = {conversation.members ()};
  make_generations (prompts, shared, body, out);
}

} // namespace millrace
