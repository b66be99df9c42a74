#include "engine/api/conversation.hpp"

#include "engine/api/json_append.hpp"

#include <algorithm>

namespace millrace
{

namespace
{

/// Levels of a generation around a tool call's arguments: itself, messages, message, tool_calls, call, function.
constexpr size_t kLevelsAroundArguments = 6;

/// Variables that are set for every conversation.
constexpr std::string_view kReserved[] = {"messages", "tools", "bos_token", "eos_token"};
constexpr size_t kMaxVariables = 64; ///< as docs/requests.md has it

void
append_member (std::string &out, std::string_view name, std::string_view text)
{
  if (text.empty ())
    return;
  out += ",\"";
  out += name;
  out += "\":";
  append_json_string (out, text);
}

} // namespace

void
append_message (std::string &out, const ChatMessage &message)
{
  out += out.empty () ? "{\"role\":" : ",{\"role\":";
  append_json_string (out, message.role);
  out += ",\"content\":";
  if (message.content)
    append_json_string (out, *message.content);
  else
    out += "null";
  append_member (out, "reasoning_content", message.reasoning);
  append_member (out, "name", message.name);
  if (!message.tool_calls.empty ())
    out += ",\"tool_calls\":[" + message.tool_calls + "]";
  append_member (out, "tool_call_id", message.tool_call_id);
  append_member (out, "refusal", message.refusal);
  out += message.is_error ? ",\"is_error\":true}" : "}";
}

void
append_tool_call (std::string &out, std::string_view id, std::string_view name, std::string_view arguments)
{
  out += out.empty () ? "{" : ",{";
  if (!id.empty ()) {
    out += "\"id\":";
    append_json_string (out, id);
    out += ",";
  }
  out += "\"type\":\"function\",\"function\":{\"name\":";
  append_json_string (out, name);
  out += ",\"arguments\":";
  out += arguments;
  out += "}}";
}

std::string
arguments_json (std::string_view text)
{
  if (text.empty ())
    return "{}";
  JsonDocument document;
  if (!document.parse (text, kMaxApiNesting - kLevelsAroundArguments) && document.root ().is_object ())
    return json_text (document.root ());
  std::string out;
  append_json_string (out, text);
  return out;
}

void
append_tool (std::string &out, std::string_view name, std::string_view description,
             std::string_view parameters)
{
  out += out.empty () ? "" : ",";
  out += "{\"type\":\"function\",\"function\":{\"name\":";
  append_json_string (out, name);
  append_member (out, "description", description);
  if (!parameters.empty ()) {
    out += ",\"parameters\":";
    out += parameters;
  }
  out += "}}";
}

void
TemplateVariables::read (Fields &body)
{
  const auto variables = body.free_object ("chat_template_kwargs");
  if (!variables)
    return;
  for (const auto &[key, value] : *variables) {
    if (std::find (std::begin (kReserved), std::end (kReserved), key) != std::end (kReserved))
      return body.refuse ("chat_template_kwargs." + std::string (key), "is set by the server");
    if (names_.size () == kMaxVariables - 2) // of which reasoning_effort and enable_thinking may come yet
      return body.refuse ("chat_template_kwargs", "has too many members");
    names_.emplace_back (key);
    members_ += members_.empty () ? "" : ",";
    append_json_string (members_, key);
    members_ += ":";
    members_ += json_text (value);
  }
}

void
TemplateVariables::add (Fields &body, std::string_view cause, std::string_view name, std::string_view json)
{
  if (std::find (names_.begin (), names_.end (), name) != names_.end ())
    return body.refuse (cause, "cannot be given together with chat_template_kwargs." + std::string (name));
  names_.emplace_back (name);
  members_ += members_.empty () ? "" : ",";
  append_json_string (members_, name);
  members_ += ":";
  members_ += json;
}

void
TemplateVariables::read_effort (Fields &fields, std::string_view field)
{
  static constexpr std::string_view kEfforts[] = {"none", "minimal", "low", "medium", "high", "xhigh"};
  const auto effort = fields.word (field, kEfforts);
  if (!effort)
    return;
  add (fields, field, "reasoning_effort", "\"" + std::string (*effort) + "\"");
  if (*effort == "none")
    add (fields, field, "enable_thinking", "false");
}

std::string
Conversation::members () const
{
  std::string out = "\"messages\":[" + messages + "]";
  if (!tools.empty ())
    out += ",\"tools\":[" + tools + "]";
  if (!variables.empty ())
    out += ",\"chat_template_kwargs\":{" + variables.members () + "}";
  return out;
}

std::optional<std::string>
read_content (Fields &message)
{
  const auto value = message.take ("content");
  if (!value)
    return std::nullopt;
  std::string_view text;
  if (!value->get (text))
    return std::string (text);
  simdjson::dom::array parts;
  if (value->get (parts)) {
    message.wrong_type ("content", "a string or an array of parts", *value);
    return std::nullopt;
  }
  std::string out;
  size_t index = 0;
  for (const JsonValue entry : parts) {
    if (index == kMaxParts)
      message.refuse ("content", "must have at most " + std::to_string (kMaxParts) + " parts");
    Fields part (entry, message.path_of ("content") + "[" + std::to_string (index++) + "]", message.error ());
    const std::string_view type = part.required_string ("type");
    if (type == "text" || type == "refusal")
      out += part.required_string (type);
    else
      part.refuse ("type",
                   "\"" + json_values::quoted (type) + "\" is not available: the model reads text only");
    part.finish ();
    if (message.failed ())
      return std::nullopt;
  }
  return out;
}

namespace
{

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
    call.take ("index"); // what a client got with a stream's delta
    auto function = call.object ("function");
    if (!function)
      return call.refuse ("function", "is required");
    const std::string_view name = function->required_string ("name");
    std::string arguments = "{}";
    if (const auto value = function->take ("arguments")) {
      std::string_view text;
      if (value->is_object ())
        arguments = json_text (*value);
      else if (!value->get (text))
        arguments = arguments_json (text);
      else
        function->wrong_type ("arguments", "a string or an object", *value);
    }
    function->finish ();
    call.finish ();
    if (message.failed ())
      return;
    append_tool_call (out.tool_calls, id, name, arguments);
  }
}

void
read_message (Fields &message, std::string &out)
{
  static constexpr std::string_view kRoles[] = {"system",    "developer", "user",
                                                "assistant", "tool",      "function"};
  ChatMessage read;
  message.required_string ("role");
  read.role = message.word ("role", kRoles).value_or ("user");
  if (read.role == "developer")
    read.role = "system";
  const bool assistant = read.role == "assistant";
  read.content = read_content (message);
  read.name = message.string ("name").value_or ("");
  read_tool_calls (message, read);
  read.tool_call_id = message.string ("tool_call_id").value_or ("");
  for (const char *const name : {"reasoning_content", "refusal"}) {
    if (!assistant)
      message.unavailable (name, "can only be in a message of the assistant");
  }
  read.reasoning = message.string ("reasoning_content").value_or ("");
  read.refusal = message.string ("refusal").value_or ("");
  // A client that sends an answer back as it got it.
  message.array ("annotations", 0);
  message.unavailable ("audio", "is not available: the model reads text only");
  message.unavailable ("function_call", "is not available; use tool_calls");
  if (read.role == "tool" && read.tool_call_id.empty ())
    message.refuse ("tool_call_id", "is required in a message of a tool");
  if (read.role == "function" && read.name.empty ())
    message.refuse ("name", "is required in a message of a function");
  if (!read.content && !read.refusal.empty () && read.tool_calls.empty ())
    read.content = read.refusal;
  if (!read.content && (!assistant || read.tool_calls.empty ()))
    message.refuse ("content", "is required");
  message.finish ();
  if (!message.failed ())
    append_message (out, read);
}

} // namespace

void
read_openai_messages (Fields &body, std::string &out)
{
  const auto messages = body.array ("messages", kMaxMessages);
  if (!messages)
    return body.refuse ("messages", "is required");
  size_t index = 0;
  for (const JsonValue entry : *messages) {
    Fields message (entry, body.path_of ("messages") + "[" + std::to_string (index++) + "]", body.error ());
    read_message (message, out);
    if (body.failed ())
      return;
  }
  if (index == 0)
    body.refuse ("messages", "must not be empty");
}

namespace
{

void
read_function (Fields &function, std::string &out)
{
  const std::string_view name = function.required_string ("name");
  const std::string_view description = function.string ("description").value_or ("");
  const auto parameters = function.take ("parameters");
  if (parameters && !parameters->is_object ())
    function.wrong_type ("parameters", "an object", *parameters);
  function.only ("strict", false, "is not available: constrained decoding is not available yet");
  if (!function.failed ())
    append_tool (out, name, description, parameters ? json_text (*parameters) : "");
}

void
read_tool (Fields &tool, bool flat, std::string &out)
{
  const std::string_view type = tool.required_string ("type");
  if (type != "function")
    return tool.refuse ("type", "must be \"function\", got \"" + json_values::quoted (type) + "\"");
  if (flat) {
    read_function (tool, out);
  } else {
    auto function = tool.object ("function");
    if (!function)
      return tool.refuse ("function", "is required");
    read_function (*function, out);
    function->finish ();
  }
  tool.finish ();
}

/// Whether the model hears of its tools.
bool
read_tool_choice (Fields &body)
{
  const auto choice = body.take ("tool_choice");
  if (!choice)
    return true;
  std::string_view text;
  if (!choice->get (text) && (text == "none" || text == "auto"))
    return text == "auto";
  if (text == "required" || choice->is_object ())
    body.refuse ("tool_choice", "can be \"none\" or \"auto\": constrained decoding is not available yet");
  else
    body.refuse ("tool_choice", "must be \"none\" or \"auto\"");
  return true;
}

} // namespace

void
read_tools (Fields &body, bool flat, std::string &out)
{
  const auto tools = body.array ("tools", kMaxTools);
  if (!tools)
    return;
  size_t index = 0;
  for (const JsonValue entry : *tools) {
    Fields tool (entry, "tools[" + std::to_string (index++) + "]", body.error ());
    read_tool (tool, flat, out);
    if (body.failed ())
      return;
  }
}

void
read_openai_tools (Fields &body, bool flat, std::string &out)
{
  read_tools (body, flat, out);
  if (!read_tool_choice (body))
    out.clear ();
  const bool parallel = body.boolean ("parallel_tool_calls").value_or (true);
  if (!parallel && !out.empty ())
    body.refuse ("parallel_tool_calls", "cannot be false: how many tools an answer calls is up to the model");
}

void
check_chat_template (Fields &body, const ApiLimits &limits, std::string_view field)
{
  if (!limits.has_chat_template)
    body.refuse (field, "needs a chat template, which the model does not have");
}

} // namespace millrace
