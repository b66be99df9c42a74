// OpenAI POST /v1/responses, without a memory: nothing is stored, so nothing can be continued.
#include "engine/api/conversation.hpp"
#include "engine/api/dialects.hpp"
#include "engine/api/json_append.hpp"

namespace millrace
{

namespace
{

constexpr size_t kMaxMetadata = 16;

/// Items become messages: what an assistant thought, said and called is one.
class ItemReader
{
public:
  explicit ItemReader (std::string &messages)
      : messages_ (messages)
  {
  }

  void read (Fields &item);
  void finish ();

private:
  void read_message (Fields &item);
  void read_call (Fields &item);
  void read_output (Fields &item);
  void read_reasoning (Fields &item);

  std::string &messages_;
  ChatMessage assistant_; ///< not written yet
  bool has_assistant_ = false;
};

/// Text parts of these types, put together.
std::string
read_parts (Fields &item, const char *name, std::span<const std::string_view> types)
{
  const auto value = item.take (name);
  if (!value) {
    item.refuse (name, "is required");
    return {};
  }
  std::string_view text;
  if (!value->get (text))
    return std::string (text);
  simdjson::dom::array parts;
  if (value->get (parts)) {
    item.wrong_type (name, "a string or an array of parts", *value);
    return {};
  }
  std::string out;
  size_t index = 0;
  for (const JsonValue entry : parts) {
    if (index == kMaxParts)
      item.refuse (name, "must have at most " + std::to_string (kMaxParts) + " parts");
    Fields part (entry, item.path_of (name) + "[" + std::to_string (index++) + "]", item.error ());
    part.required_string ("type");
    const std::string_view type = part.word ("type", types).value_or ("");
    out += part.required_string (type == "refusal" ? "refusal" : "text");
    // What an answer of ours carries besides its text.
    part.array ("annotations", 0);
    part.array ("logprobs", kMaxParts);
    part.finish ();
    if (item.failed ())
      return {};
  }
  return out;
}

void
ItemReader::finish ()
{
  if (has_assistant_)
    append_message (messages_, assistant_);
  assistant_ = {};
  has_assistant_ = false;
}

void
ItemReader::read_message (Fields &item)
{
  static constexpr std::string_view kRoles[] = {"system", "developer", "user", "assistant"};
  static constexpr std::string_view kInputs[] = {"input_text", "text"};
  static constexpr std::string_view kOutputs[] = {"output_text", "input_text", "refusal"};
  ChatMessage message;
  item.required_string ("role");
  message.role = item.word ("role", kRoles).value_or ("user");
  if (message.role == "developer")
    message.role = "system";
  const bool assistant = message.role == "assistant";
  message.content =
      assistant ? read_parts (item, "content", kOutputs) : read_parts (item, "content", kInputs);
  item.string ("id");
  item.string ("status");
  item.string ("phase");
  if (item.failed ())
    return;
  // Reasoning comes in an item of its own before the message that it led to.
  if (assistant && has_assistant_ && !assistant_.content && assistant_.tool_calls.empty ())
    message.reasoning = std::move (assistant_.reasoning);
  else
    finish ();
  assistant_ = {};
  has_assistant_ = assistant;
  if (assistant)
    assistant_ = std::move (message);
  else
    append_message (messages_, message);
}

void
ItemReader::read_call (Fields &item)
{
  const std::string_view id = item.required_string ("call_id");
  const std::string_view name = item.required_string ("name");
  const std::string_view arguments = item.required_string ("arguments");
  item.string ("id");
  item.string ("status");
  if (item.failed ())
    return;
  assistant_.role = "assistant";
  has_assistant_ = true;
  append_tool_call (assistant_.tool_calls, id, name, arguments_json (arguments));
}

void
ItemReader::read_output (Fields &item)
{
  static constexpr std::string_view kTypes[] = {"input_text", "output_text", "text"};
  finish ();
  ChatMessage message;
  message.role = "tool";
  message.tool_call_id = item.required_string ("call_id");
  message.content = read_parts (item, "output", kTypes);
  item.string ("id");
  item.string ("status");
  if (!item.failed ())
    append_message (messages_, message);
}

void
ItemReader::read_reasoning (Fields &item)
{
  static constexpr std::string_view kTypes[] = {"reasoning_text"};
  if (has_assistant_ && (assistant_.content || !assistant_.tool_calls.empty ()))
    finish ();
  const std::string text = item.has ("content") ? read_parts (item, "content", kTypes) : "";
  // A digest for the eye of what the model does not need to read again.
  item.array ("summary", kMaxParts);
  item.unavailable ("encrypted_content", "is not available: no reasoning was ever encrypted here");
  item.string ("id");
  item.string ("status");
  if (item.failed () || text.empty ())
    return;
  assistant_.role = "assistant";
  assistant_.reasoning += text;
  has_assistant_ = true;
}

void
ItemReader::read (Fields &item)
{
  const std::string_view type = item.string ("type").value_or ("message");
  if (type == "message")
    read_message (item);
  else if (type == "function_call")
    read_call (item);
  else if (type == "function_call_output")
    read_output (item);
  else if (type == "reasoning")
    read_reasoning (item);
  else if (type == "item_reference")
    item.refuse ("type", "\"item_reference\" is not available: nothing is stored");
  else
    item.refuse ("type", "\"" + json_values::quoted (type) + "\" is not available");
  item.finish ();
}

void
read_input (Fields &body, std::string &messages)
{
  if (const auto instructions = body.string ("instructions"); instructions && !instructions->empty ()) {
    ChatMessage message;
    message.role = "system";
    message.content = *instructions;
    append_message (messages, message);
  }
  const auto input = body.take ("input");
  if (!input)
    return body.refuse ("input", "is required");
  std::string_view text;
  simdjson::dom::array items;
  if (!input->get (text)) {
    ChatMessage message;
    message.role = "user";
    message.content = text;
    return append_message (messages, message);
  }
  if (input->get (items))
    return body.wrong_type ("input", "a string or an array of items", *input);
  ItemReader reader (messages);
  size_t index = 0;
  for (const JsonValue entry : items) {
    if (index == kMaxMessages)
      body.refuse ("input", "must have at most " + std::to_string (kMaxMessages) + " items");
    Fields item (entry, "input[" + std::to_string (index++) + "]", body.error ());
    reader.read (item);
    if (body.failed ())
      return;
  }
  reader.finish ();
  if (messages.empty ())
    body.refuse ("input", "must not be empty");
}

void
read_logprobs (Fields &body, SharedMembers &shared, ApiRequest &out)
{
  constexpr std::string_view kLogprobs = "message.output_text.logprobs";
  if (const auto include = body.array ("include", 16)) {
    for (const JsonValue entry : *include) {
      std::string_view word;
      if (entry.get (word) || word != kLogprobs)
        body.refuse ("include", "can only have \"" + std::string (kLogprobs) + "\"");
    }
    out.logprobs = include->begin () != include->end ();
  }
  const auto top = body.integer ("top_logprobs", 0, kMaxTopLogprobs);
  if (top.value_or (0) > 0 && !out.logprobs)
    body.refuse ("top_logprobs", "needs \"include\": [\"" + std::string (kLogprobs) + "\"]");
  if (out.logprobs)
    shared.add ("logprobs", top.value_or (0));
}

/// An object of strings, which comes back with the response.
void
read_metadata (Fields &body)
{
  const auto metadata = body.free_object ("metadata");
  if (!metadata)
    return;
  size_t count = 0;
  for (const auto &[key, value] : *metadata) {
    if (!value.is_string ())
      body.wrong_type ("metadata." + json_values::quoted (key), "a string", value);
    if (++count > kMaxMetadata)
      body.refuse ("metadata", "must have at most " + std::to_string (kMaxMetadata) + " entries");
  }
}

void
refuse_unavailable (Fields &body)
{
  body.only ("store", false, "is not available: nothing is stored");
  body.only ("background", false, "is not available: nothing is stored");
  body.unavailable ("previous_response_id", "is not available: nothing is stored");
  body.unavailable ("conversation", "is not available: nothing is stored");
  body.unavailable ("prompt", "is not available: there are no stored prompts");
  body.unavailable ("max_tool_calls", "is not available: there are no built-in tools");
  static constexpr std::string_view kTruncations[] = {"disabled"};
  body.word ("truncation", kTruncations);
}

/// The fields that a response says again.
std::string
echo_members (Fields &body)
{
  struct Echo {
    const char *name;
    const char *otherwise;
  };
  static constexpr Echo kEchoes[] = {
      {"instructions", "null"},
      {"max_output_tokens", "null"},
      {"metadata", "{}"},
      {"parallel_tool_calls", "true"},
      {"temperature", "null"},
      {"top_p", "null"},
      {"top_logprobs", "0"},
      {"tool_choice", "\"auto\""},
      {"truncation", "\"disabled\""},
      {"previous_response_id", "null"},
      {"user", "null"},
      {"prompt_cache_key", "null"},
      {"safety_identifier", "null"},
      {"max_tool_calls", "null"},
  };
  std::string out;
  for (const Echo &echo : kEchoes) {
    const auto value = body.take (echo.name);
    out += ",\"" + std::string (echo.name) + "\":";
    out += value ? json_text (*value) : echo.otherwise;
  }
  const auto tools = body.take ("tools");
  out += ",\"service_tier\":\"default\",\"tools\":" + (tools ? json_text (*tools) : "[]");
  return out;
}

} // namespace

void
read_openai_responses (Fields &body, const ApiLimits &limits, SharedMembers &shared, ApiRequest &out)
{
  static constexpr const char *kMaxNames[] = {"max_output_tokens"};
  read_openai_stream (body, out);
  if (out.include_usage)
    body.refuse ("stream_options.include_usage", "is not available: a response always says its usage");
  read_model (body, limits, out.model);
  check_chat_template (body, limits, "input");
  Conversation conversation;
  read_input (body, conversation.messages);
  read_openai_tools (body, true, conversation.tools);
  conversation.variables.read (body);
  std::string effort = "null";
  if (auto reasoning = body.object ("reasoning")) {
    conversation.variables.read_effort (*reasoning, "effort");
    if (const auto value = reasoning->take ("effort"))
      effort = json_text (*value);
    reasoning->unavailable ("summary", "is not available: reasoning is given in full");
    reasoning->unavailable ("generate_summary", "is not available: reasoning is given in full");
    reasoning->finish ();
  }
  if (auto text = body.object ("text")) {
    static constexpr std::string_view kVerbosities[] = {"medium"};
    read_text_format (*text, "format");
    text->word ("verbosity", kVerbosities);
    text->finish ();
  }
  read_max_tokens (body, kMaxNames, shared);
  read_number (body, "temperature", 0, 2, shared);
  read_positive (body, "top_p", 1, shared);
  read_seed (body, shared);
  read_service (body, shared);
  read_logprobs (body, shared, out);
  read_openai_account (body, out);
  read_metadata (body);
  refuse_unavailable (body);
  if (body.failed ())
    return;
  out.response_members = echo_members (body);
  out.response_members += ",\"reasoning\":{\"effort\":" + effort + ",\"summary\":null}";
  body.finish ();
  out.reads_reasoning = true;
  const std::string prompts[] = {conversation.members ()};
  make_generations (prompts, shared, body, out);
}

} // namespace millrace
