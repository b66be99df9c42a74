#include "engine/scheduling/text_stream.hpp"

#include "engine/scheduling/request_json.hpp"

#include <charconv>
#include <cmath>
#include <cstdio>

namespace millrace
{

TextStream::TextStream (const Request &request, const Tokenizer &tokenizer)
    : detokenizer_ (tokenizer, true, true) // the text goes on after the prompt
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
append_error (std::string &out, const Request &request)
{
  const RequestError &error = request.error;
  const std::string_view code = error.code;
  out += ",\"error\":{\"message\":";
  append_json_string (out, error.message);
  out += ",\"type\":\"";
  out += code == "internal"     ? "server_error"
         : code == "queue_full" ? "rate_limit_error"
                                : "invalid_request_error";
  out += "\",\"param\":";
  if (error.field.empty ())
    out += "null";
  else
    append_json_string (out, error.field);
  out += ",\"code\":";
  append_json_string (out, error.code);
  if (request.retry_after_ms > 0)
    out += ",\"retry_after_ms\":" + std::to_string (request.retry_after_ms);
  out += "}";
}

/// What speculation did.
void
append_drafting (std::string &out, const DraftStatistics &drafting)
{
  const auto member = [&] (const char *name, int64_t value) {
    out += std::string ("\"") + name + "\":" + std::to_string (value) + ",";
  };
  const auto milliseconds = [&] (const char *name, int64_t us) {
    char text[64];
    std::snprintf (text, sizeof text, "\"%s\":%.3f,", name, static_cast<double> (us) / 1000);
    out += text;
  };
  out += "\"drafting\":{";
  member ("attempts", drafting.attempts);
  member ("drafted", drafting.drafted);
  member ("accepted", drafting.accepted);
  member ("rejected", drafting.rejected ());
  member ("full_accepts", drafting.full_accepts);
  member ("pauses", drafting.pauses);
  milliseconds ("drafting_ms", drafting.drafting_us);
  milliseconds ("verifying_ms", drafting.verifying_us);
  milliseconds ("saved_ms", drafting.saved_us - drafting.drafting_us);
  out += "\"accepted_by\":{";
  for (int i = 0; i < kDraftSources; i++)
    out += std::string (i ? ",\"" : "\"") + draft_source_name (static_cast<DraftSource> (i)) +
           "\":" + std::to_string (drafting.accepted_by[static_cast<size_t> (i)]);
  out += "},\"accepted_at\":[";
  for (int i = 0; i < kMaxDraft; i++)
    out += (i ? "," : "") + std::to_string (drafting.accepted_at[static_cast<size_t> (i)]);
  out += "]}";
}

void
append_statistics (std::string &out, const Request &request)
{
  const RequestStatistics &statistics = request.statistics;
  const auto milliseconds = [&] (const char *name, int64_t us) {
    char text[64];
    std::snprintf (text, sizeof text, "\"%s\":%lld.%03lld,", name, static_cast<long long> (us / 1000),
                   static_cast<long long> (us % 1000));
    out += text;
  };
  const auto count = [&] (const char *name, int64_t value, const char *after) {
    out += std::string ("\"") + name + "\":" + std::to_string (value) + after;
  };
  out += ",\"statistics\":{";
  milliseconds ("queue_ms", statistics.queued_us);
  milliseconds ("first_token_ms", statistics.first_token_us);
  milliseconds ("total_ms", statistics.total_us);
  count ("cached_tokens", statistics.cached_tokens, ",");
  count ("prefill_tokens", statistics.prefill_tokens, ",");
  count ("drafted_tokens", statistics.drafting.drafted, ",");
  count ("accepted_tokens", statistics.drafting.accepted, ",");
  count ("preemptions", statistics.preemptions, ",");
  count ("steps", statistics.steps, ",");
  append_drafting (out, statistics.drafting);
  out += '}';
}

void
append_embedding (std::string &out, std::span<const float> embedding)
{
  out += ",\"embedding\":[";
  for (size_t i = 0; i < embedding.size (); i++) {
    out += i ? "," : "";
    append_number (out, embedding[i]);
  }
  out += "]";
}

} // namespace

std::string
result_json (const Request &request, std::string_view text, FinishReason finish, const Usage &usage,
             const ResultLogprobs *logprobs, bool with_statistics, const Tokenizer &tokenizer)
{
  std::string out = "{\"id\":";
  append_json_string (out, request.id);
  if (request.embed.pooling == Pooling::kNone) {
    out += ",\"text\":";
    append_json_string (out, text);
  } else if (finish == FinishReason::kStop) {
    append_embedding (out, request.embedding);
  }
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
  if (with_statistics)
    append_statistics (out, request);
  if (finish == FinishReason::kError)
    append_error (out, request);
  out += "}";
  return out;
}

} // namespace millrace
