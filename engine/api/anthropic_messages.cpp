// Anthropic POST /v1/messages
#include "engine/api/conversation.hpp"
#include "engine/api/dialects.hpp"

namespace millrace
{

namespace
{

/// Prompts are cached by their content, so that a mark of what to cache is heeded already.
void
read_cache_control (Fields &fields)
{
  auto control = fields.object ("cache_control");
  if (!control)
    return;
  static constexpr std::string_view kTypes[] = {"ephemeral"};
  static constexpr std::string_view kLives[] = {"5m", "1h"};
  control->required_string ("type");
  control->word ("type", kTypes);
  control->word ("ttl", kLives);
  control->finish ();
}

std::string
block_path (const Fields &fields, const char *name, size_t index)
{
  return fields.path_of (name) + "[" + std::to_string (index) + "]";
}

void
read_text_block (Fields &block, std::string &out)
{
  out += block.required_string ("text");
  block.array ("citations", 0);
  read_cache_control (block);
}

/// A string or text blocks, put together.
std::string
read_text (Fields &fields, const char *name)
{
  const auto value = fields.take (name);
  std::string_view text;
  simdjson::dom::array blocks;
  if (!value)
    return {};
  if (!value->get (text))
    return std::string (text);
  if (value->get (blocks)) {
    fields.wrong_type (name, "a string or an array of text blocks", *value);
    return {};
  }
  std::string out;
  size_t index = 0;
  for (const JsonValue entry : blocks) {
    if (index == kMaxParts)
      fields.refuse (name, "must have at most " + std::to_string (kMaxParts) + " blocks");
    Fields block (entry, block_path (fields, name, index++), fields.error ());
    const std::string_view type = block.required_string ("type");
    if (type != "text")
      block.refuse ("type",
                    "\"" + json_values::quoted (type) + "\" is not available: the model reads text only");
    read_text_block (block, out);
    block.finish ();
    if (fields.failed ())
      return {};
  }
  return out;
}

/// The blocks of one message: results of tools become messages of their own before it.
struct Blocks {
  ChatMessage message;
  std::string results;
  std::string text;
  bool has_text = false;
};

void
read_tool_use (Fields &block, Blocks &out)
{
  const std::string_view id = block.required_string ("id");
  const std::string_view name = block.required_string ("name");
  const auto input = block.take ("input");
  if (!input)
    block.refuse ("input", "is required");
  else if (!input->is_object ())
    block.wrong_type ("input", "an object", *input);
  read_cache_control (block);
  if (!block.failed ())
    append_tool_call (out.message.tool_calls, id, name, json_text (*input));
}

void
read_tool_result (Fields &block, Blocks &out)
{
  ChatMessage result;
  result.role = "tool";
  result.tool_call_id = block.required_string ("tool_use_id");
  result.content = read_text (block, "content");
  result.is_error = block.boolean ("is_error").value_or (false);
  read_cache_control (block);
  if (out.has_text)
    block.refuse ("type", "\"tool_result\" must come before the text of its message");
  if (!block.failed ())
    append_message (out.results, result);
}

void
read_block (Fields &block, bool assistant, Blocks &out)
{
  const std::string_view type = block.required_string ("type");
  if (type == "text") {
    read_text_block (block, out.text);
    out.has_text = true;
  } else if (type == "thinking" && assistant) {
    out.message.reasoning += block.required_string ("thinking");
    block.string ("signature");
  } else if (type == "tool_use" && assistant) {
    read_tool_use (block, out);
  } else if (type == "tool_result" && !assistant) {
    read_tool_result (block, out);
  } else if (type == "thinking" || type == "tool_use" || type == "tool_result") {
    block.refuse ("type", "\"" + std::string (type) + "\" cannot be in a message of this role");
  } else {
    block.refuse ("type",
                  "\"" + json_values::quoted (type) + "\" is not available: the model reads text only");
  }
  block.finish ();
}

void
read_message (Fields &message, std::string &out)
{
  static constexpr std::string_view kRoles[] = {"user", "assistant"};
  Blocks blocks;
  message.required_string ("role");
  blocks.message.role = message.word ("role", kRoles).value_or ("user");
  const auto content = message.take ("content");
  if (!content)
    return message.refuse ("content", "is required");
  std::string_view text;
  simdjson::dom::array entries;
  if (!content->get (text)) {
    blocks.text = text;
    blocks.has_text = true;
  } else if (content->get (entries)) {
    message.wrong_type ("content", "a string or an array of blocks", *content);
  } else {
    size_t index = 0;
    for (const JsonValue entry : entries) {
      if (index == kMaxParts)
        message.refuse ("content", "must have at most " + std::to_string (kMaxParts) + " blocks");
      Fields block (entry, block_path (message, "content", index++), message.error ());
      read_block (block, blocks.message.role == "assistant", blocks);
      if (message.failed ())
        return;
    }
    if (index == 0)
      message.refuse ("content", "must not be empty");
  }
  message.finish ();
  if (message.failed ())
    return;
  if (!blocks.results.empty ())
    out += (out.empty () ? "" : ",") + blocks.results;
  if (blocks.has_text)
    blocks.message.content = std::move (blocks.text);
  else if (blocks.message.tool_calls.empty () && !blocks.message.reasoning.empty ())
    blocks.message.content = "";
  if (blocks.message.content || !blocks.message.tool_calls.empty ())
    append_message (out, blocks.message);
}

void
read_messages (Fields &body, std::string &out)
{
  if (body.has ("system")) {
    ChatMessage system;
    system.role = "system";
    system.content = read_text (body, "system");
    if (!system.content->empty ())
      append_message (out, system);
  }
  const auto messages = body.array ("messages", kMaxMessages);
  if (!messages)
    return body.refuse ("messages", "is required");
  size_t index = 0;
  for (const JsonValue entry : *messages) {
    Fields message (entry, block_path (body, "messages", index++), body.error ());
    read_message (message, out);
    if (body.failed ())
      return;
  }
  if (index == 0)
    body.refuse ("messages", "must not be empty");
}

void
read_tools (Fields &body, std::string &out)
{
  if (const auto tools = body.array ("tools", kMaxTools)) {
    size_t index = 0;
    for (const JsonValue entry : *tools) {
      Fields tool (entry, block_path (body, "tools", index++), body.error ());
      const std::string_view type = tool.string ("type").value_or ("custom");
      if (type != "custom")
        tool.refuse ("type",
                     "\"" + json_values::quoted (type) + "\" is not available: the server runs no tools");
      const std::string_view name = tool.required_string ("name");
      const std::string_view description = tool.string ("description").value_or ("");
      const auto schema = tool.take ("input_schema");
      if (!schema)
        tool.refuse ("input_schema", "is required");
      else if (!schema->is_object ())
        tool.wrong_type ("input_schema", "an object", *schema);
      tool.only ("strict", false, "is not available: constrained decoding is not available yet");
      read_cache_control (tool);
      tool.finish ();
      if (body.failed ())
        return;
      append_tool (out, name, description, json_text (*schema));
    }
  }
  auto choice = body.object ("tool_choice");
  if (!choice)
    return;
  const std::string_view type = choice->required_string ("type");
  if (type == "any" || type == "tool")
    choice->refuse ("type", "can be \"auto\" or \"none\": constrained decoding is not available yet");
  else if (type != "auto" && type != "none")
    choice->refuse ("type", "must be \"auto\" or \"none\", got \"" + json_values::quoted (type) + "\"");
  if (type == "none")
    out.clear ();
  if (!out.empty ())
    choice->only ("disable_parallel_tool_use", false,
                  "is not available: how many tools an answer calls is up to the model");
  else
    choice->boolean ("disable_parallel_tool_use");
  choice->finish ();
}

void
read_thinking (Fields &body, TemplateVariables &variables)
{
  auto thinking = body.object ("thinking");
  if (!thinking)
    return;
  static constexpr std::string_view kTypes[] = {"enabled", "adaptive", "disabled"};
  thinking->required_string ("type");
  const std::string_view type = thinking->word ("type", kTypes).value_or ("");
  if (type == "enabled")
    thinking->refuse ("budget_tokens",
                      "cannot be enforced; {\"type\": \"adaptive\"} lets the model think without one");
  static constexpr std::string_view kDisplays[] = {"summarized"};
  thinking->word ("display", kDisplays);
  thinking->finish ();
  if (!body.failed ())
    variables.add (body, "thinking", "enable_thinking", type == "adaptive" ? "true" : "false");
}

} // namespace

void
read_anthropic_messages (Fields &body, const ApiLimits &limits, SharedMembers &shared, ApiRequest &out)
{
  static constexpr const char *kMaxNames[] = {"max_tokens"};
  static constexpr std::string_view kTiers[] = {"auto", "standard_only"};
  out.stream = body.boolean ("stream").value_or (false);
  read_model (body, limits, out.model);
  check_chat_template (body, limits, "messages");
  Conversation conversation;
  read_messages (body, conversation.messages);
  read_tools (body, conversation.tools);
  conversation.variables.read (body);
  read_thinking (body, conversation.variables);
  if (!read_max_tokens (body, kMaxNames, shared))
    body.refuse ("max_tokens", "is required");
  read_number (body, "temperature", 0, 1, shared);
  read_positive (body, "top_p", 1, shared);
  read_top_k (body, shared);
  read_stop (body, "stop_sequences", shared);
  read_seed (body, shared);
  read_service (body, shared);
  if (auto metadata = body.object ("metadata")) {
    out.user = metadata->string ("user_id").value_or ("");
    metadata->finish ();
  }
  body.word ("service_tier", kTiers);
  body.unavailable ("container", "is not available: the server runs no code");
  body.unavailable ("mcp_servers", "is not available: the server runs no tools");
  body.finish ();
  out.reads_reasoning = true;
  const std::string prompts[] = {conversation.members ()};
  make_generations (prompts, shared, body, out);
}

} // namespace millrace
