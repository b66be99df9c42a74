#include "engine/scheduling/text_stream.hpp"

#include "engine/scheduling/request_json.hpp"

#include <charconv>
#include <cmath>

namespace millrace
{

TextStream::TextStream (const Request &request, const Tokenizer &tokenizer)
    : detokenizer_ (tokenizer)
    , matcher_ (request.sampling.stop)
{
  usage_.prompt_tokens = static_cast<int> (request.prompt.size ());
}

void
TextStream::push (std::span<const TokenId> tokens, FinishReason end, std::string &out)
{
  if (finish_ != FinishReason::kNone)
    return;
  for (size_t i = 0; i < tokens.size (); i++) {
    usage_.completion_tokens++;
    // The sampler stops for one reason only: the last token is a stop token, which is no text.
    if (end == FinishReason::kStop && i + 1 == tokens.size ())
      break;
    piece_.clear ();
    detokenizer_.push (tokens[i], piece_);
    if (matcher_.push (piece_, out)) {
      finish_ = FinishReason::kStop;
      return;
    }
  }
  if (end == FinishReason::kNone)
    return;
  finish_ = end;
  piece_.clear ();
  detokenizer_.finish (piece_);
  if (matcher_.push (piece_, out))
    finish_ = FinishReason::kStop;
  else
    matcher_.finish (out);
}

namespace
{

void
append_number (std::string &out, float value)
{
  // JSON has no infinity: a token of probability zero gets the lowest float.
  if (!std::isfinite (value))
    value = -3.4028235e38f;
  char digits[32];
  const auto end = std::to_chars (digits, digits + sizeof digits, value);
  out.append (digits, end.ptr);
}

void
append_token (std::string &out, TokenId token, float logprob, const Tokenizer &tokenizer)
{
  const TokenId ids[] = {token};
  out += "{\"token\":";
  append_json_string (out, tokenizer.decode (ids));
  out += ",\"id\":" + std::to_string (token) + ",\"logprob\":";
  append_number (out, logprob);
  out += ",\"bytes\":[";
  bool first = true;
  for (unsigned char byte : tokenizer.token_bytes (token)) {
    out += (first ? "" : ",") + std::to_string (byte);
    first = false;
  }
  out += "]";
}

void
append_error (std::string &out, const RequestError &error)
{
  out += ",\"error\":{\"message\":";
  append_json_string (out, error.message);
  out += ",\"type\":\"";
  out += std::string_view (error.code) == "internal" ? "server_error" : "invalid_request_error";
  out += "\",\"param\":";
  if (error.field.empty ())
    out += "null";
  else
    append_json_string (out, error.field);
  out += ",\"code\":";
  append_json_string (out, error.code);
  out += "}";
}

} // namespace

std::string
result_json (const Request &request, std::string_view text, FinishReason finish, const Usage &usage,
             const ResultLogprobs *logprobs, const Tokenizer &tokenizer)
{
  std::string out = "{\"id\":";
  append_json_string (out, request.id);
  out += ",\"text\":";
  append_json_string (out, text);
  out += ",\"finish_reason\":\"";
  out += finish_reason_name (finish);
  out += "\",\"usage\":{\"prompt_tokens\":" + std::to_string (usage.prompt_tokens) +
         ",\"completion_tokens\":" + std::to_string (usage.completion_tokens) +
         ",\"total_tokens\":" + std::to_string (usage.prompt_tokens + usage.completion_tokens) + "}";
  if (logprobs) {
    out += ",\"logprobs\":{\"content\":[";
    for (size_t i = 0; i < logprobs->tokens.size (); i++) {
      const SampledToken &token = logprobs->tokens[i];
      out += i ? "," : "";
      append_token (out, token.token, token.logprob, tokenizer);
      out += ",\"top_logprobs\":[";
      for (int j = 0; j < token.top_count; j++) {
        const TokenLogprob &top = logprobs->top[token.top_begin + j];
        out += j ? "," : "";
        append_token (out, top.token, top.logprob, tokenizer);
        out += "}";
      }
      out += "]}";
    }
    out += "]}";
  }
  if (finish == FinishReason::kError)
    append_error (out, request.error);
  out += "}";
  return out;
}

} // namespace millrace
