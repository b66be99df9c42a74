#include "engine/api/openai_writer.hpp"

#include "engine/api/json_append.hpp"

namespace millrace
{

OpenAiWriter::OpenAiWriter (const ApiRequest &request, const ReplyIdentity &identity, const char *id_prefix,
                            const char *object, const char *chunk)
    : TextWriter (request, identity)
{
  head_ = request.stream ? "data: {\"id\":" : "{\"id\":";
  append_json_string (head_, id_prefix + identity.id);
  head_ += ",\"object\":\"";
  head_ += request.stream ? chunk : object;
  head_ += "\",\"created\":";
  append_integer (head_, identity.created);
  head_ += ",\"model\":";
  append_json_string (head_, request.model);
  head_ += ",\"system_fingerprint\":null,\"choices\":[";
  open_ = head_ + "{\"index\":";
  close_ = request.include_usage ? "}],\"usage\":null}\n\n" : "}]}\n\n";
}

void
OpenAiWriter::open_event (int index, std::string &out) const
{
  out += open_;
  append_integer (out, index);
}

void
OpenAiWriter::close_event (FinishReason finish, std::string &out) const
{
  out += ",\"finish_reason\":";
  append_string_or_null (out, finish == FinishReason::kNone ? "" : finish_reason_name (finish));
  out += close_;
}

void
OpenAiWriter::write_end (int index, std::string &out)
{
  open_event (index, out);
  append_last_text (out);
  out += ",\"logprobs\":null";
  close_event (generations_[static_cast<size_t> (index)].finish, out);
}

void
OpenAiWriter::append_usage (std::string &out) const
{
  const Usage usage = total_usage ();
  out += ",\"usage\":{\"prompt_tokens\":";
  append_integer (out, usage.prompt_tokens);
  out += ",\"completion_tokens\":";
  append_integer (out, usage.completion_tokens);
  out += ",\"total_tokens\":";
  append_integer (out, int64_t{usage.prompt_tokens} + usage.completion_tokens);
  out += ",\"prompt_tokens_details\":{\"cached_tokens\":";
  append_integer (out, total_cached ());
  int64_t reasoning = 0, accepted = 0, rejected = 0;
  bool counted = true; // whether it is known how many were reasoning
  for (const Generation &generation : generations_) {
    counted &= !generation.has_reasoning || generation.reasoning_tokens > 0;
    reasoning += generation.has_reasoning ? generation.reasoning_tokens : 0;
    accepted += generation.accepted_drafts;
    rejected += generation.rejected_drafts;
  }
  out += "},\"completion_tokens_details\":{";
  if (counted) {
    out += "\"reasoning_tokens\":";
    append_integer (out, reasoning);
    out += ',';
  }
  out += "\"accepted_prediction_tokens\":";
  append_integer (out, accepted);
  out += ",\"rejected_prediction_tokens\":";
  append_integer (out, rejected);
  out += "}}";
}

void
OpenAiWriter::write_last (std::string &out)
{
  if (request_.include_usage) {
    out += head_;
    out += ']';
    append_usage (out);
    out += "}\n\n";
  }
  out += "data: [DONE]\n\n";
}

void
OpenAiWriter::write_error (const ApiError &error, std::string &out)
{
  out += "data: " + error_body (request_.dialect, error) + "\n\ndata: [DONE]\n\n";
}

void
OpenAiWriter::write_body (std::string &out)
{
  out += head_;
  for (size_t i = 0; i < generations_.size (); i++) {
    out += i ? ",{\"index\":" : "{\"index\":";
    append_integer (out, static_cast<int64_t> (i));
    append_choice (i, out);
    out += ",\"finish_reason\":";
    append_json_string (out, finish_reason_name (generations_[i].finish));
    out += '}';
  }
  out += ']';
  append_usage (out);
  out += '}';
}

} // namespace millrace
