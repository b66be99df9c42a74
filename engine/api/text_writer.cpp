#include "engine/api/text_writer.hpp"

#include "engine/api/json_append.hpp"

#include <algorithm>
#include <cmath>

namespace millrace
{

namespace
{

void
append_token (std::string &out, const TokenText &token)
{
  out += "{\"token\":";
  append_json_string (out, token.text);
  out += ",\"logprob\":";
  append_logprob (out, token.logprob);
  out += ",\"bytes\":[";
  for (size_t i = 0; i < token.bytes.size (); i++) {
    out += i ? "," : "";
    append_integer (out, static_cast<unsigned char> (token.bytes[i]));
  }
  out += ']';
}

ApiRequest
without_generations (const ApiRequest &request)
{
  ApiRequest copy;
  copy.dialect = request.dialect;
  copy.model = request.model;
  copy.stream = request.stream;
  copy.include_usage = request.include_usage;
  copy.choices = std::max (1, request.choices);
  copy.echoes = request.echoes;
  copy.logprobs = request.logprobs;
  copy.reads_reasoning = request.reads_reasoning;
  copy.base64 = request.base64;
  copy.response_members = request.response_members;
  return copy;
}

} // namespace

void
append_logprob (std::string &out, float logprob)
{
  if (std::isfinite (logprob))
    append_float (out, logprob);
  else
    out += "-9999.0";
}

void
append_token_logprobs (std::string &out, std::span<const TokenText> tokens)
{
  for (size_t i = 0; i < tokens.size (); i++) {
    out += i ? "," : "";
    append_token (out, tokens[i]);
    out += ",\"top_logprobs\":[";
    for (size_t j = 0; j < tokens[i].top.size (); j++) {
      out += j ? "," : "";
      append_token (out, tokens[i].top[j]);
      out += '}';
    }
    out += "]}";
  }
}

TextWriter::TextWriter (const ApiRequest &request, const ReplyIdentity &identity)
    : request_ (without_generations (request))
    , identity_ (identity)
    , generations_ (std::max<size_t> (1, request.generations.size ()))
    , unfinished_ (static_cast<int> (generations_.size ()))
    , collects_ (!request.stream)
{
}

const char *
TextWriter::content_type () const
{
  return request_.stream ? "text/event-stream" : "application/json";
}

std::string_view
TextWriter::keep_alive () const
{
  return request_.stream ? ": keep-alive\n\n" : "";
}

void
TextWriter::deliver (const GenerationDelta &delta, std::string &out)
{
  if (ended () || delta.index < 0 || static_cast<size_t> (delta.index) >= generations_.size ())
    return;
  Generation &generation = generations_[static_cast<size_t> (delta.index)];
  if (generation.finish != FinishReason::kNone)
    return;
  if (delta.finish == FinishReason::kError) {
    const RequestError unknown{"internal", "", "the generation failed"};
    const bool known = delta.error && *delta.error;
    abort (api_error (known ? *delta.error : unknown, delta.retry_after_ms), out);
    return;
  }

  Piece piece{delta.index, {}, delta.text, request_.logprobs ? delta.tokens : std::span<const TokenText>{}};
  if (request_.reads_reasoning) {
    if (!generation.splitter)
      generation.splitter.emplace (delta.starts_thinking);
    reasoning_.clear ();
    content_.clear ();
    generation.splitter->push (delta.text, reasoning_, content_);
    if (delta.finish != FinishReason::kNone)
      generation.splitter->finish (reasoning_, content_);
    piece.reasoning = reasoning_;
    piece.content = content_;
  }
  generation.has_reasoning |= !piece.reasoning.empty ();
  generation.has_content |= !piece.content.empty ();
  // The tags count as reasoning; what comes with the first content does not.
  if (generation.has_reasoning && !generation.has_content)
    generation.reasoning_tokens = delta.usage.completion_tokens;
  if (collects_) {
    generation.reasoning += piece.reasoning;
    generation.content += piece.content;
    collect_tokens (piece);
  }
  const bool says_something = !piece.reasoning.empty () || !piece.content.empty () || !piece.tokens.empty ();
  if (request_.stream && says_something)
    write_piece (piece, out);
  if (delta.finish == FinishReason::kNone)
    return;

  generation.finish = delta.finish;
  generation.stop_string = delta.stop_string;
  generation.usage = delta.usage;
  generation.cached_tokens = delta.cached_tokens;
  generation.accepted_drafts = delta.accepted_drafts;
  generation.rejected_drafts = delta.rejected_drafts;
  generation.queued_us = delta.queued_us;
  generation.prompt_us = delta.prompt_us;
  generation.total_us = delta.total_us;
  if (request_.stream)
    write_end (delta.index, out);
  if (--unfinished_ > 0)
    return;
  if (request_.stream)
    write_last (out);
  else
    write_body (out);
}

void
TextWriter::abort (const ApiError &error, std::string &out)
{
  if (ended ())
    return;
  unfinished_ = 0;
  if (request_.stream)
    write_error (error, out);
}

void
TextWriter::collect_tokens (const Piece &piece)
{
  std::string &logprobs = generations_[static_cast<size_t> (piece.index)].logprobs;
  if (!piece.tokens.empty () && !logprobs.empty ())
    logprobs += ',';
  append_token_logprobs (logprobs, piece.tokens);
}

Usage
TextWriter::total_usage () const
{
  Usage total;
  for (size_t i = 0; i < generations_.size (); i++) {
    if (i % static_cast<size_t> (request_.choices) == 0)
      total.prompt_tokens += generations_[i].usage.prompt_tokens;
    total.completion_tokens += generations_[i].usage.completion_tokens;
  }
  return total;
}

int
TextWriter::total_cached () const
{
  int cached = 0;
  for (size_t i = 0; i < generations_.size (); i += static_cast<size_t> (request_.choices))
    cached += generations_[i].cached_tokens;
  return cached;
}

} // namespace millrace
