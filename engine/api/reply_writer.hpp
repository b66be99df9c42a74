// What happens to a request's generations → the body of its HTTP response, in the dialect of its caller.
//
// One writer for one ApiRequest; one thread at a time. Bytes are appended to `out` as they become certain, so that
// the caller may send them at once.
#pragma once

#include "engine/api/api_types.hpp"

#include <memory>
#include <span>

namespace millrace
{

/// A token of the answer with its log-probability.
struct TokenText {
  std::string text;  ///< valid UTF-8; what a part of a character shows as is up to the tokenizer
  std::string bytes; ///< as they are
  TokenId id = 0;
  float logprob = 0;
  std::vector<TokenText> top; ///< the best at this position, best first
};

/// News of one generation.
struct GenerationDelta {
  int index = 0;                     ///< of ApiRequest::generations
  std::string_view text;             ///< may be empty
  std::span<const TokenText> tokens; ///< of the text up to here, when log-probabilities were asked for
  std::span<const float> embedding;  ///< kEmbedding, with the end
  bool starts_thinking = false;      ///< the prompt itself opened <think>; with the generation's first news
  FinishReason finish = FinishReason::kNone; ///< with the generation's last news
  const RequestError *error = nullptr;       ///< with kError
  std::string_view stop_string; ///< with kStop: the stop string that ended it; empty when none did or unknown
  Usage usage; ///< with the end; the completion before it too, if known: so tokens of reasoning are counted
  int cached_tokens = 0;                        ///< with the end
  int accepted_drafts = 0, rejected_drafts = 0; ///< with the end: tokens that were guessed and verified
  int64_t queued_us = 0;                        ///< with the end: before it was admitted
  int64_t retry_after_ms = 0;                   ///< with kError: when to try again, 0: no hint
  int64_t prompt_us = 0, total_us = 0; ///< with the end: to the first token, to the end (Ollama's durations)
};

/// What every response says of itself.
struct ReplyIdentity {
  std::string id;      ///< without the dialect's prefix, such as chatcmpl-
  int64_t created = 0; ///< seconds since 1970
};

class ReplyWriter
{
public:
  static std::unique_ptr<ReplyWriter> create (const ApiRequest &request, const ReplyIdentity &identity);
  virtual ~ReplyWriter () = default;

  /// Of the response: text/event-stream, application/x-ndjson or application/json.
  virtual const char *content_type () const = 0;
  /// A stream has begun (its status is 200 and cannot change any more): the events that come before any text.
  virtual void begin (std::string &out) = 0;
  /// Streams: appends events. Else: collects, and appends the whole body with the last generation's end.
  /// With kError a stream gets its error event; else nothing is written: the caller answers with error_body ().
  virtual void deliver (const GenerationDelta &delta, std::string &out) = 0;
  /// All generations have ended; a stream has got its last bytes ([DONE] and the like).
  virtual bool ended () const = 0;
  /// Ends a stream at once, with an error event and what must follow it. Nothing when it has ended.
  virtual void abort (const ApiError &error, std::string &out) = 0;
  /// What keeps a silent stream alive and means nothing, such as ": keep-alive\n\n"; empty when there is no such thing.
  virtual std::string_view keep_alive () const = 0;
};

} // namespace millrace
