// What the answers of chat and completions have in common.
#pragma once

#include "engine/api/text_writer.hpp"

namespace millrace
{

class OpenAiWriter : public TextWriter
{
public:
  /// `id_prefix`: chatcmpl-; `object` and `chunk`: what a body and an event of a stream call themselves.
  OpenAiWriter (const ApiRequest &request, const ReplyIdentity &identity, const char *id_prefix,
                const char *object, const char *chunk);

protected:
  void write_end (int index, std::string &out) final;
  void write_last (std::string &out) final;
  void write_error (const ApiError &error, std::string &out) final;
  void write_body (std::string &out) final;

  /// What stands in the last event of a choice, and in a body for one; no braces.
  virtual void append_last_text (std::string &out) const = 0;
  virtual void append_choice (size_t index, std::string &out) const = 0;

  /// Opens an event with one choice, up to its index.
  void open_event (int index, std::string &out) const;
  /// The rest of it, after the choice's own members.
  void close_event (FinishReason finish, std::string &out) const;

private:
  void append_usage (std::string &out) const;

  std::string head_;  ///< of an event or a body, up to "choices":[
  std::string open_;  ///< of an event with a choice
  std::string close_; ///< after a choice's finish_reason
};

} // namespace millrace
