// What writers of text have in common: reasoning told from content, and when everything has ended.
#pragma once

#include "engine/api/reply_writer.hpp"
#include "engine/chat/reasoning.hpp"

#include <optional>

namespace millrace
{

/// JSON objects with commas between them: token, logprob, bytes, top_logprobs.
void append_token_logprobs (std::string &out, std::span<const TokenText> tokens);
/// JSON has no infinity: a token of probability zero gets -9999.0, as clients of vLLM know it.
void append_logprob (std::string &out, float logprob);

class TextWriter : public ReplyWriter
{
public:
  TextWriter (const ApiRequest &request, const ReplyIdentity &identity);

  const char *content_type () const override;
  void begin (std::string &) override {}
  void deliver (const GenerationDelta &delta, std::string &out) final;
  bool ended () const final { return unfinished_ == 0; }
  void abort (const ApiError &error, std::string &out) final;
  std::string_view keep_alive () const override;

protected:
  struct Generation {
    std::optional<ReasoningSplitter> splitter;
    std::string reasoning, content; ///< all of it, when the writer collects
    std::string logprobs;           ///< likewise: entries of an array
    std::string stop_string;
    FinishReason finish = FinishReason::kNone;
    bool has_reasoning = false, has_content = false;
    int reasoning_tokens = 0; ///< 0: not known, unless there is no reasoning
    Usage usage;
    int cached_tokens = 0;
    int accepted_drafts = 0, rejected_drafts = 0;
    int64_t queued_us = 0, prompt_us = 0, total_us = 0;
  };

  /// A part of a generation that became certain; some of its members may be empty.
  struct Piece {
    int index;
    std::string_view reasoning, content;
    std::span<const TokenText> tokens;
  };

  /// A writer that is not a stream collects; a stream may, for what it says at the end.
  void collect (bool always) { collects_ = always; }

  virtual void write_piece (const Piece &piece, std::string &out) = 0;    ///< streams
  virtual void write_end (int index, std::string &out) = 0;               ///< streams: one has ended
  virtual void write_last (std::string &out) = 0;                         ///< streams: all have ended
  virtual void write_error (const ApiError &error, std::string &out) = 0; ///< streams: the last there is
  virtual void write_body (std::string &out) = 0;                         ///< all at once
  virtual void collect_tokens (const Piece &piece);

  /// Prompts counted once, however many answers they have.
  Usage total_usage () const;
  int total_cached () const;

  const ApiRequest request_; ///< without its generations
  const ReplyIdentity identity_;
  std::vector<Generation> generations_;

private:
  int unfinished_;
  bool collects_;
  std::string reasoning_, content_; ///< of the piece at hand
};

} // namespace millrace
