// OpenAI's chat.completion and chat.completion.chunk
#include "engine/api/json_append.hpp"
#include "engine/api/openai_writer.hpp"
#include "engine/api/writers.hpp"

namespace millrace
{

namespace
{

class ChatWriter final : public OpenAiWriter
{
public:
  ChatWriter (const ApiRequest &request, const ReplyIdentity &identity)
      : OpenAiWriter (request, identity, "chatcmpl-", "chat.completion", "chat.completion.chunk")
  {
  }

  void begin (std::string &out) override
  {
    if (!request_.stream)
      return;
    for (size_t i = 0; i < generations_.size (); i++) {
      open_event (static_cast<int> (i), out);
      out += ",\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null";
      close_event (FinishReason::kNone, out);
    }
  }

protected:
  void write_piece (const Piece &piece, std::string &out) override
  {
    open_event (piece.index, out);
    out += ",\"delta\":{";
    if (!piece.reasoning.empty ()) {
      out += "\"reasoning_content\":";
      append_json_string (out, piece.reasoning);
    }
    if (!piece.content.empty () || piece.reasoning.empty ()) {
      out += piece.reasoning.empty () ? "\"content\":" : ",\"content\":";
      append_json_string (out, piece.content);
    }
    out += "},\"logprobs\":";
    if (piece.tokens.empty ()) {
      out += "null";
    } else {
      out += "{\"content\":[";
      append_token_logprobs (out, piece.tokens);
      out += "],\"refusal\":null}";
    }
    close_event (FinishReason::kNone, out);
  }

  void append_last_text (std::string &out) const override { out += ",\"delta\":{}"; }

  void append_choice (size_t index, std::string &out) const override
  {
    const Generation &generation = generations_[index];
    out += ",\"message\":{\"role\":\"assistant\",\"content\":";
    append_json_string (out, generation.content);
    if (!generation.reasoning.empty ()) {
      out += ",\"reasoning_content\":";
      append_json_string (out, generation.reasoning);
    }
    out += ",\"refusal\":null},\"logprobs\":";
    out += request_.logprobs ? "{\"content\":[" + generation.logprobs + "],\"refusal\":null}" : "null";
  }
};

} // namespace

std::unique_ptr<ReplyWriter>
make_chat_writer (const ApiRequest &request, const ReplyIdentity &identity)
{
  return std::make_unique<ChatWriter> (request, identity);
}

} // namespace millrace
