// A conversation in the shape that chat templates expect, whichever dialect it came in.
#pragma once

#include "engine/api/fields.hpp"

namespace millrace
{

constexpr size_t kMaxMessages = 16384;
constexpr size_t kMaxParts = 16384; ///< of one message, and tool calls of one
constexpr size_t kMaxTools = 1024;

/// One message. Empty members are left out, except for the content, which is null when it has no value.
struct ChatMessage {
  std::string_view role;
  std::optional<std::string> content;
  std::string reasoning;
  std::string tool_calls; ///< JSON objects with commas between them
  std::string_view name;
  std::string_view tool_call_id;
  std::string_view refusal;
  bool is_error = false; ///< of a tool
};

/// The member `content`: a string, or parts, of which the text counts. None: it is not there, or it was refused.
std::optional<std::string> read_content (Fields &message);

/// Appends to a JSON array without its brackets.
void append_message (std::string &out, const ChatMessage &message);
/// `arguments`: JSON. Without an id when that is empty.
void append_tool_call (std::string &out, std::string_view id, std::string_view name,
                       std::string_view arguments);
/// Templates expect an object: a text that is one becomes it, any other stays a JSON string.
std::string arguments_json (std::string_view text);
/// `parameters`: JSON, or empty.
void append_tool (std::string &out, std::string_view name, std::string_view description,
                  std::string_view parameters);

/// Variables for the template besides the conversation.
class TemplateVariables
{
public:
  /// Reads chat_template_kwargs.
  void read (Fields &body);
  /// Adds one on behalf of the field `cause`, which is refused when the variable is there already.
  void add (Fields &body, std::string_view cause, std::string_view name, std::string_view json);
  /// reasoning_effort or what a dialect calls it.
  void read_effort (Fields &fields, std::string_view field);

  bool empty () const { return members_.empty (); }
  const std::string &members () const { return members_; } ///< of a JSON object, without braces

private:
  std::string members_;
  std::vector<std::string> names_;
};

/// What a chat template is rendered with.
struct Conversation {
  std::string messages; ///< entries of an array, without brackets
  std::string tools;    ///< likewise; empty: none
  TemplateVariables variables;

  /// "messages":[…] and, when there are any, "tools" and "chat_template_kwargs"; no braces.
  std::string members () const;
};

/// OpenAI's messages.
void read_openai_messages (Fields &body, std::string &out);
/// OpenAI's tools, the function nested (chat) or `flat` (responses).
void read_tools (Fields &body, bool flat, std::string &out);
/// Those with tool_choice and parallel_tool_calls.
void read_openai_tools (Fields &body, bool flat, std::string &out);
/// A template is needed for a conversation.
void check_chat_template (Fields &body, const ApiLimits &limits, std::string_view field);

} // namespace millrace
