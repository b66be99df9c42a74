// Chat templates: a conversation → the prompt text a model was trained on.
//
// Runs the Jinja that models ship (tokenizer_config.json or chat_template.jinja), rendered as transformers
// does: ImmutableSandboxedEnvironment with trim_blocks and lstrip_blocks, loop controls, tojson without HTML
// escapes, raise_exception. Templates and conversations are hostile: work, depth and output are bounded.
// Source: Jinja 3.1 template designer documentation; transformers' chat_template_utils.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>

namespace millrace
{

/// A template that does not compile or render. what () is the message for the user; for
/// raise_exception it is the template's own message, verbatim.
class ChatTemplateError : public std::runtime_error
{
public:
  enum class Kind : uint8_t { kSyntax, kRuntime, kRaised, kLimit };
  ChatTemplateError (Kind kind, int line, const std::string &message)
      : std::runtime_error (message)
      , kind (kind)
      , line (line)
  {
  }
  Kind kind;
  int line; ///< 1-based line of the template, 0 when unknown
};

struct RenderLimits {
  size_t output_bytes = 64u << 20;
  size_t memory_bytes = 256u << 20; ///< living values and output, the variables included
  uint64_t operations = 50'000'000; ///< evaluated nodes, plus one for every eight bytes moved
  int depth = 128;                  ///< nested calls, values and expressions
};

/// Immutable after compile (); any thread may render.
class ChatTemplate
{
public:
  /// Throws ChatTemplateError.
  static std::shared_ptr<const ChatTemplate> compile (std::string_view source);
  ~ChatTemplate ();

  /// `variables_json` is a JSON object whose members become the template's variables (messages, tools,
  /// add_generation_prompt, bos_token, ...). `now_unix` is what strftime_now sees, in seconds (local time
  /// is UTC). Throws ChatTemplateError.
  std::string render (std::string_view variables_json, int64_t now_unix,
                      const RenderLimits &limits = {}) const;

private:
  ChatTemplate ();
  struct State;
  std::unique_ptr<State> state_;
};

} // namespace millrace
