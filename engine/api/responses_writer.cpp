// OpenAI's response and the events of its stream
#include "engine/api/json_append.hpp"
#include "engine/api/text_writer.hpp"
#include "engine/api/writers.hpp"

namespace millrace
{

namespace
{

class ResponsesWriter final : public TextWriter
{
public:
  ResponsesWriter (const ApiRequest &request, const ReplyIdentity &identity)
      : TextWriter (request, identity)
  {
    collect (true); // the events at the end say everything again
  }

  void begin (std::string &out) override
  {
    if (!request_.stream)
      return;
    for (const char *const type : {"response.created", "response.in_progress"}) {
      open_event (type, out);
      out += ",\"response\":";
      append_response ("in_progress", nullptr, out);
      close_event (out);
    }
  }

protected:
  void write_piece (const Piece &piece, std::string &out) override
  {
    if (!piece.reasoning.empty ())
      write_delta (Item::kReasoning, piece.reasoning, out);
    if (!piece.content.empty ())
      write_delta (Item::kMessage, piece.content, out);
  }

  void write_end (int, std::string &out) override
  {
    if (settle_logprobs ())
      write_delta (Item::kMessage, "", out);
    else if (open_ != Item::kMessage) // an answer without a word is a message all the same
      open_item (Item::kMessage, out);
    close_item (out);
  }

  void write_last (std::string &out) override
  {
    const bool complete = generations_.front ().finish == FinishReason::kStop;
    open_event (complete ? "response.completed" : "response.incomplete", out);
    out += ",\"response\":";
    append_response (final_status (), nullptr, out);
    close_event (out);
  }

  void write_error (const ApiError &error, std::string &out) override
  {
    open_event ("response.failed", out);
    out += ",\"response\":";
    append_response ("failed", &error, out);
    close_event (out);
  }

  void write_body (std::string &out) override
  {
    settle_logprobs ();
    append_response (final_status (), nullptr, out);
  }

  /// A message has the log-probabilities of its own tokens. Which those are is certain once there is text.
  void collect_tokens (const Piece &piece) override
  {
    if (!piece.reasoning.empty ())
      waiting_.clear ();
    if (piece.reasoning.empty () || !piece.content.empty ())
      waiting_.insert (waiting_.end (), piece.tokens.begin (), piece.tokens.end ());
    if (!piece.content.empty ())
      take_logprobs ();
  }

private:
  enum class Item { kNone, kReasoning, kMessage };

  const char *final_status () const
  {
    return generations_.front ().finish == FinishReason::kStop ? "completed" : "incomplete";
  }

  const char *item_status (Item item) const
  {
    const bool led_on = item == Item::kReasoning && !generations_.front ().content.empty ();
    return led_on ? "completed" : final_status ();
  }

  void take_logprobs ()
  {
    std::string &all = generations_.front ().logprobs;
    delta_logprobs_.clear ();
    append_token_logprobs (delta_logprobs_, waiting_);
    all += !all.empty () && !waiting_.empty () ? "," : "";
    all += delta_logprobs_;
    waiting_.clear ();
  }

  /// What waited at the end belongs to the message, unless it is still about reasoning.
  bool settle_logprobs ()
  {
    const Generation &generation = generations_.front ();
    if (generation.content.empty () && !generation.reasoning.empty ())
      waiting_.clear ();
    take_logprobs ();
    return !delta_logprobs_.empty ();
  }

  void open_event (const char *type, std::string &out)
  {
    out += "event: ";
    out += type;
    out += "\ndata: {\"type\":\"";
    out += type;
    out += "\",\"sequence_number\":";
    append_integer (out, sequence_++);
  }

  static void close_event (std::string &out) { out += "}\n\n"; }

  void append_item_id (Item item, std::string &out) const
  {
    append_json_string (out, (item == Item::kReasoning ? "rs_" : "msg_") + identity_.id);
  }

  /// Of the item that is open, and of its only part.
  void append_place (std::string &out) const
  {
    out += ",\"item_id\":";
    append_item_id (open_, out);
    out += ",\"output_index\":";
    append_integer (out, output_index_);
    out += ",\"content_index\":0";
  }

  void append_part (Item item, bool full, std::string &out) const
  {
    const Generation &generation = generations_.front ();
    if (item == Item::kReasoning) {
      out += "{\"type\":\"reasoning_text\",\"text\":";
      append_json_string (out, full ? generation.reasoning : "");
      out += '}';
      return;
    }
    out += "{\"type\":\"output_text\",\"text\":";
    append_json_string (out, full ? generation.content : "");
    out += ",\"annotations\":[],\"logprobs\":[" + (full ? generation.logprobs : "") + "]}";
  }

  void append_item (Item item, bool full, std::string &out) const
  {
    out += "{\"id\":";
    append_item_id (item, out);
    out += item == Item::kReasoning ? ",\"type\":\"reasoning\",\"summary\":[]"
                                    : ",\"type\":\"message\",\"role\":\"assistant\"";
    out += ",\"status\":\"";
    out += full ? item_status (item) : "in_progress";
    out += "\",\"content\":[";
    if (full)
      append_part (item, true, out);
    out += "]}";
  }

  void open_item (Item item, std::string &out)
  {
    close_item (out);
    open_ = item;
    open_event ("response.output_item.added", out);
    out += ",\"output_index\":";
    append_integer (out, output_index_);
    out += ",\"item\":";
    append_item (item, false, out);
    close_event (out);
    open_event ("response.content_part.added", out);
    append_place (out);
    out += ",\"part\":";
    append_part (item, false, out);
    close_event (out);
  }

  void write_delta (Item item, std::string_view text, std::string &out)
  {
    if (open_ != item)
      open_item (item, out);
    open_event (item == Item::kMessage ? "response.output_text.delta" : "response.reasoning_text.delta", out);
    append_place (out);
    out += ",\"delta\":";
    append_json_string (out, text);
    if (item == Item::kMessage)
      out += ",\"logprobs\":[" + delta_logprobs_ + "]";
    close_event (out);
  }

  void close_item (std::string &out)
  {
    if (open_ == Item::kNone)
      return;
    const Generation &generation = generations_.front ();
    const bool message = open_ == Item::kMessage;
    open_event (message ? "response.output_text.done" : "response.reasoning_text.done", out);
    append_place (out);
    out += ",\"text\":";
    append_json_string (out, message ? generation.content : generation.reasoning);
    if (message)
      out += ",\"logprobs\":[" + generation.logprobs + "]";
    close_event (out);
    open_event ("response.content_part.done", out);
    append_place (out);
    out += ",\"part\":";
    append_part (open_, true, out);
    close_event (out);
    open_event ("response.output_item.done", out);
    out += ",\"output_index\":";
    append_integer (out, output_index_++);
    out += ",\"item\":";
    append_item (open_, true, out);
    close_event (out);
    open_ = Item::kNone;
  }

  void append_usage (std::string &out) const
  {
    const Usage usage = total_usage ();
    out += "{\"input_tokens\":";
    append_integer (out, usage.prompt_tokens);
    out += ",\"input_tokens_details\":{\"cached_tokens\":";
    append_integer (out, total_cached ());
    out += ",\"cache_write_tokens\":0},\"output_tokens\":";
    append_integer (out, usage.completion_tokens);
    const Generation &generation = generations_.front ();
    if (!generation.has_reasoning || generation.reasoning_tokens > 0) {
      out += ",\"output_tokens_details\":{\"reasoning_tokens\":";
      append_integer (out, generation.reasoning_tokens);
      out += '}';
    }
    out += ",\"total_tokens\":";
    append_integer (out, int64_t{usage.prompt_tokens} + usage.completion_tokens);
    out += '}';
  }

  void append_response (std::string_view status, const ApiError *error, std::string &out) const
  {
    const Generation &generation = generations_.front ();
    const bool over = status == "completed" || status == "incomplete";
    out += "{\"id\":";
    append_json_string (out, "resp_" + identity_.id);
    out += ",\"object\":\"response\",\"created_at\":";
    append_integer (out, identity_.created);
    out += ",\"status\":";
    append_json_string (out, status);
    out += ",\"background\":false,\"error\":";
    if (error) {
      out += "{\"code\":";
      append_json_string (out, error->code);
      out += ",\"message\":";
      append_json_string (out, error->message);
      out += '}';
    } else {
      out += "null";
    }
    out += ",\"incomplete_details\":";
    if (status == "incomplete") {
      const bool length = generation.finish == FinishReason::kLength;
      out += "{\"reason\":\"";
      out += length ? "max_output_tokens" : finish_reason_name (generation.finish);
      out += "\"}";
    } else {
      out += "null";
    }
    out += ",\"model\":";
    append_json_string (out, request_.model);
    out += ",\"output\":[";
    if (over) {
      if (!generation.reasoning.empty ()) {
        append_item (Item::kReasoning, true, out);
        out += ',';
      }
      append_item (Item::kMessage, true, out);
    }
    out += "],\"store\":false,\"text\":{\"format\":{\"type\":\"text\"}}";
    out += request_.response_members;
    out += ",\"usage\":";
    if (over)
      append_usage (out);
    else
      out += "null";
    out += '}';
  }

  std::vector<TokenText> waiting_; ///< of the message, or of reasoning
  std::string delta_logprobs_;     ///< of the delta at hand
  Item open_ = Item::kNone;
  int output_index_ = 0;
  int64_t sequence_ = 0;
};

} // namespace

std::unique_ptr<ReplyWriter>
make_responses_writer (const ApiRequest &request, const ReplyIdentity &identity)
{
  return std::make_unique<ResponsesWriter> (request, identity);
}

} // namespace millrace
