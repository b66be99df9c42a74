// Anthropic's message and the events of its stream
#include "engine/api/json_append.hpp"
#include "engine/api/text_writer.hpp"
#include "engine/api/writers.hpp"

#include <algorithm>

namespace millrace
{

namespace
{

class MessagesWriter final : public TextWriter
{
public:
  MessagesWriter (const ApiRequest &request, const ReplyIdentity &identity)
      : TextWriter (request, identity)
  {
    head_ = "{\"id\":";
    append_json_string (head_, "msg_" + identity.id);
    head_ += ",\"type\":\"message\",\"role\":\"assistant\",\"model\":";
    append_json_string (head_, request.model);
    head_ += ",\"content\":[";
  }

  void begin (std::string &out) override
  {
    if (!request_.stream)
      return;
    // The prompt has not been counted yet: its tokens come with message_delta.
    out += "event: message_start\ndata: {\"type\":\"message_start\",\"message\":" + head_ +
           "],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":0,"
           "\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":0,\"output_tokens\":0}}}\n\n";
  }

  std::string_view keep_alive () const override
  {
    return request_.stream ? "event: ping\ndata: {\"type\":\"ping\"}\n\n" : "";
  }

protected:
  void write_piece (const Piece &piece, std::string &out) override
  {
    if (!piece.reasoning.empty ())
      write_delta (Block::kThinking, piece.reasoning, out);
    if (!piece.content.empty ())
      write_delta (Block::kText, piece.content, out);
  }

  void write_end (int, std::string &out) override
  {
    close_block (out);
    out += "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{";
    append_stop (out);
    out += "},";
    append_usage (out);
    out += "}\n\n";
  }

  void write_last (std::string &out) override
  {
    out += "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
  }

  void write_error (const ApiError &error, std::string &out) override
  {
    out += "event: error\ndata: " + error_body (request_.dialect, error) + "\n\n";
  }

  void write_body (std::string &out) override
  {
    const Generation &generation = generations_.front ();
    out += head_;
    if (!generation.reasoning.empty ()) {
      out += "{\"type\":\"thinking\",\"thinking\":";
      append_json_string (out, generation.reasoning);
      out += generation.content.empty () ? ",\"signature\":\"\"}" : ",\"signature\":\"\"},";
    }
    if (!generation.content.empty ()) {
      out += "{\"type\":\"text\",\"text\":";
      append_json_string (out, generation.content);
      out += '}';
    }
    out += "],";
    append_stop (out);
    out += ',';
    append_usage (out);
    out += '}';
  }

private:
  enum class Block { kNone, kThinking, kText };

  void write_delta (Block block, std::string_view text, std::string &out)
  {
    if (open_ != block) {
      close_block (out);
      open_ = block;
      out += "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":";
      append_integer (out, index_);
      out += block == Block::kText
                 ? ",\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n"
                 : ",\"content_block\":{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}}\n\n";
    }
    out += "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":";
    append_integer (out, index_);
    out += block == Block::kText ? ",\"delta\":{\"type\":\"text_delta\",\"text\":"
                                 : ",\"delta\":{\"type\":\"thinking_delta\",\"thinking\":";
    append_json_string (out, text);
    out += "}}\n\n";
  }

  void close_block (std::string &out)
  {
    if (open_ == Block::kNone)
      return;
    out += "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":";
    append_integer (out, index_++);
    out += "}\n\n";
    open_ = Block::kNone;
  }

  void append_stop (std::string &out) const
  {
    const Generation &generation = generations_.front ();
    const bool stop = generation.finish == FinishReason::kStop;
    const std::string_view sequence = stop ? std::string_view (generation.stop_string) : "";
    out += "\"stop_reason\":";
    append_json_string (out, !sequence.empty () ? "stop_sequence"
                             : stop             ? "end_turn"
                             : generation.finish == FinishReason::kLength
                                 ? "max_tokens"
                                 : finish_reason_name (generation.finish));
    out += ",\"stop_sequence\":";
    append_string_or_null (out, sequence);
  }

  /// What was found in the cache is not counted as input, as in this dialect it is charged apart.
  void append_usage (std::string &out) const
  {
    const Generation &generation = generations_.front ();
    out += "\"usage\":{\"input_tokens\":";
    append_integer (out, std::max (0, generation.usage.prompt_tokens - generation.cached_tokens));
    out += ",\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":";
    append_integer (out, generation.cached_tokens);
    out += ",\"output_tokens\":";
    append_integer (out, generation.usage.completion_tokens);
    out += '}';
  }

  std::string head_; ///< of a message, up to its content
  Block open_ = Block::kNone;
  int index_ = 0; ///< of the block
};

} // namespace

std::unique_ptr<ReplyWriter>
make_messages_writer (const ApiRequest &request, const ReplyIdentity &identity)
{
  return std::make_unique<MessagesWriter> (request, identity);
}

} // namespace millrace
