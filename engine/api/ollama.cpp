// Ollama POST /api/chat and /api/generate
#include "engine/api/conversation.hpp"
#include "engine/api/dialects.hpp"
#include "engine/api/json_append.hpp"

#include <climits>

namespace millrace
{

namespace
{

void
refuse_images (Fields &fields)
{
  const auto images = fields.take ("images");
  simdjson::dom::array entries;
  if (!images)
    return;
  if (images->get (entries))
    fields.wrong_type ("images", "an array", *images);
  else if (entries.begin () != entries.end ())
    fields.refuse ("images", "is not available: the model reads text only");
}

void
read_tool_calls (Fields &message, ChatMessage &out)
{
  const auto calls = message.array ("tool_calls", kMaxParts);
  if (!calls)
    return;
  if (out.role != "assistant")
    return message.refuse ("tool_calls", "can only be in a message of the assistant");
  size_t index = 0;
  for (const JsonValue entry : *calls) {
    Fields call (entry, message.path_of ("tool_calls") + "[" + std::to_string (index++) + "]",
                 message.error ());
    static constexpr std::string_view kTypes[] = {"function"};
    const std::string_view id = call.string ("id").value_or ("");
    call.word ("type", kTypes);
    auto function = call.object ("function");
    if (!function)
      return call.refuse ("function", "is required");
    const std::string_view name = function->required_string ("name");
    function->integer ("index", 0, INT_MAX); // what a client got with the call
    const auto arguments = function->take ("arguments");
    if (arguments && !arguments->is_object ())
      function->wrong_type ("arguments", "an object", *arguments);
    function->finish ();
    call.finish ();
    if (message.failed ())
      return;
    append_tool_call (out.tool_calls, id, name, arguments ? json_text (*arguments) : "{}");
  }
}

void
read_message (Fields &message, std::string &out)
{
  static constexpr std::string_view kRoles[] = {"system", "user", "assistant", "tool"};
  ChatMessage read;
  message.required_string ("role");
  read.role = message.word ("role", kRoles).value_or ("user");
  read_tool_calls (message, read);
  const auto content = message.string ("content");
  if (content)
    read.content = *content;
  else if (read.tool_calls.empty ())
    message.refuse ("content", "is required");
  if (read.role != "assistant")
    message.unavailable ("thinking", "can only be in a message of the assistant");
  read.reasoning = message.string ("thinking").value_or ("");
  if (read.role != "tool") {
    message.unavailable ("tool_name", "can only be in a message of a tool");
    message.unavailable ("tool_call_id", "can only be in a message of a tool");
  }
  read.name = message.string ("tool_name").value_or ("");
  read.tool_call_id = message.string ("tool_call_id").value_or ("");
  refuse_images (message);
  message.finish ();
  if (!message.failed ())
    append_message (out, read);
}

void
read_messages (Fields &body, std::string &out)
{
  const auto messages = body.array ("messages", kMaxMessages);
  if (!messages)
    return body.refuse ("messages", "is required");
  size_t index = 0;
  for (const JsonValue entry : *messages) {
    Fields message (entry, "messages[" + std::to_string (index++) + "]", body.error ());
    read_message (message, out);
    if (body.failed ())
      return;
  }
  if (index == 0)
    body.refuse ("messages", "must not be empty; a model needs no loading");
}

/// -1 and -2: as long as the context is.
void
read_num_predict (Fields &options, SharedMembers &shared)
{
  const auto count = options.integer ("num_predict", -2, INT_MAX);
  if (!count)
    return;
  if (*count == 0)
    options.refuse ("num_predict", "must be -1 or at least 1");
  else
    shared.add ("max_tokens", *count < 0 ? int64_t{0} : *count);
}

void
read_repeat_penalty (Fields &options, SharedMembers &shared)
{
  const auto penalty = options.number ("repeat_penalty", 0, 100);
  if (!penalty)
    return;
  if (*penalty > 0)
    shared.add ("repetition_penalty", *penalty);
  else
    options.refuse ("repeat_penalty", "must be greater than 0");
}

void
read_options (Fields &body, SharedMembers &shared)
{
  auto options = body.object ("options");
  if (!options)
    return;
  read_number (*options, "temperature", 0, 100, shared);
  read_top_k (*options, shared);
  read_positive (*options, "top_p", 1, shared);
  read_number (*options, "min_p", 0, 1, shared);
  read_seed (*options, shared);
  read_num_predict (*options, shared);
  read_stop (*options, "stop", shared);
  read_repeat_penalty (*options, shared);
  read_number (*options, "presence_penalty", -2, 2, shared);
  read_number (*options, "frequency_penalty", -2, 2, shared);
  for (const char *const name : {"num_ctx", "num_keep", "num_batch", "num_gpu", "main_gpu", "num_thread",
                                 "use_mmap", "numa", "low_vram", "vocab_only", "use_mlock"})
    options->unavailable (name, "is set where the server is started, not by a request");
  for (const char *const name : {"typical_p", "tfs_z", "repeat_last_n", "penalize_newline", "mirostat",
                                 "mirostat_eta", "mirostat_tau"})
    options->unavailable (name, "is not available");
  options->finish ();
}

void
read_think (Fields &body, TemplateVariables &variables)
{
  const auto think = body.take ("think");
  if (!think)
    return;
  bool enabled = true;
  std::string_view level;
  if (!think->get (level)) {
    if (level != "low" && level != "medium" && level != "high")
      return body.refuse ("think", "must be true, false, \"low\", \"medium\" or \"high\"");
    variables.add (body, "think", "reasoning_effort", "\"" + std::string (level) + "\"");
  } else if (think->get (enabled)) {
    return body.wrong_type ("think", "true, false or a level", *think);
  }
  variables.add (body, "think", "enable_thinking", enabled ? "true" : "false");
}

/// How long the model stays loaded: always, which any duration but none agrees with.
void
read_keep_alive (Fields &body)
{
  const auto value = body.take ("keep_alive");
  if (!value)
    return;
  std::string_view text;
  double number = 0;
  if (!value->get (text)) {
    if (text.empty () || text.find_first_not_of ("-.0123456789hmsuµn") != std::string_view::npos)
      return body.refuse ("keep_alive", "must be a duration such as \"5m\"");
    if (text.find_first_of ("123456789") != std::string_view::npos)
      return;
  } else if (!value->is_number () || value->get (number)) {
    return body.wrong_type ("keep_alive", "a number of seconds or a duration", *value);
  } else if (number != 0) {
    return;
  }
  body.refuse ("keep_alive", "cannot be 0: the model stays loaded as long as the server runs");
}

/// What both routes have besides their prompts.
void
read_common (Fields &body, const ApiLimits &limits, SharedMembers &shared, ApiRequest &out)
{
  out.stream = body.boolean ("stream").value_or (true);
  read_model (body, limits, out.model);
  read_options (body, shared);
  read_keep_alive (body);
  const auto format = body.take ("format");
  std::string_view text;
  if (format && (format->get (text) || !text.empty ()))
    body.refuse ("format", "is refused: constrained decoding is not available yet");
  out.logprobs = body.boolean ("logprobs").value_or (false);
  const auto top = body.integer ("top_logprobs", 0, kMaxTopLogprobs);
  if (top.value_or (0) > 0 && !out.logprobs)
    body.refuse ("top_logprobs", "can only be given together with \"logprobs\": true");
  if (out.logprobs)
    shared.add ("logprobs", top.value_or (0));
}

} // namespace

void
read_ollama_chat (Fields &body, const ApiLimits &limits, SharedMembers &shared, ApiRequest &out)
{
  read_common (body, limits, shared, out);
  check_chat_template (body, limits, "messages");
  Conversation conversation;
  read_messages (body, conversation.messages);
  read_tools (body, false, conversation.tools);
  read_think (body, conversation.variables);
  body.finish ();
  out.reads_reasoning = true;
  const std::string prompts[] = {conversation.members ()};
  make_generations (prompts, shared, body, out);
}

void
read_ollama_generate (Fields &body, const ApiLimits &limits, SharedMembers &shared, ApiRequest &out)
{
  read_common (body, limits, shared, out);
  const std::string_view prompt = body.required_string ("prompt");
  if (prompt.empty ())
    body.refuse ("prompt", "must not be empty; a model needs no loading");
  const bool raw = body.boolean ("raw").value_or (false);
  const std::string_view system = body.string ("system").value_or ("");
  Conversation conversation;
  read_think (body, conversation.variables);
  if (raw && !system.empty ())
    body.refuse ("system", "cannot be given together with \"raw\": true");
  if (raw && !conversation.variables.empty ())
    body.refuse ("think", "cannot be given together with \"raw\": true");
  if (!raw)
    check_chat_template (body, limits, "prompt");
  if (const auto suffix = body.string ("suffix"); suffix && !suffix->empty ())
    body.refuse ("suffix", "is not available: the model has no fill-in-the-middle");
  if (const auto text = body.string ("template"); text && !text->empty ())
    body.refuse ("template", "is not available: the model has its own");
  refuse_images (body);
  body.unavailable ("context", "is not available; /api/chat takes a whole conversation");
  body.finish ();
  out.reads_reasoning = !raw;
  std::string prompts[] = {"\"prompt\":"};
  if (raw) {
    append_json_string (prompts[0], prompt);
  } else {
    if (!system.empty ()) {
      ChatMessage message;
      message.role = "system";
      message.content = system;
      append_message (conversation.messages, message);
    }
    ChatMessage message;
    message.role = "user";
    message.content = prompt;
    append_message (conversation.messages, message);
    prompts[0] = conversation.members ();
  }
  make_generations (prompts, shared, body, out);
}

} // namespace millrace
