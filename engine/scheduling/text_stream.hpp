// One request's tokens → its text, as it grows: whole characters, stop strings held back, usage counted.
//
// What comes out is a function of the token sequence alone, not of how it was cut into pushes, so drafts and
// batches leave no trace. One thread.
#pragma once

#include "engine/sampling/sampler.hpp"
#include "engine/sampling/stop_matcher.hpp"
#include "engine/scheduling/request.hpp"
#include "engine/tokenizer/detokenizer.hpp"

#include <span>
#include <string>

namespace millrace
{

class TextStream
{
public:
  /// `tokenizer` must outlive this.
  TextStream (const Request &request, const Tokenizer &tokenizer);

  /// Appends to `out` the text that became certain. `end` is the sampler's finish reason when these are the
  /// last tokens, else kNone. Nothing happens after the stream has finished.
  void push (std::span<const TokenId> tokens, FinishReason end, std::string &out);

  /// kNone while it goes on. A stop string ends it before the sampler knows.
  FinishReason finish () const { return finish_; }
  /// That ended it; empty when something else did.
  const std::string &stop_string () const { return matcher_.matched (); }
  const Usage &usage () const { return usage_; }

private:
  Detokenizer detokenizer_;
  StopMatcher matcher_;
  std::string piece_;
  Usage usage_;
  FinishReason finish_ = FinishReason::kNone;
};

/// Log-probabilities collected for a result, one entry for each token.
struct ResultLogprobs {
  std::vector<SampledToken> tokens;
  std::vector<TokenLogprob> top; ///< top_begin of the tokens counts into this
};

/// A finished request as one JSON object (no newline): id, text (or embedding), finish_reason, usage, logprobs or error,
/// and, when wanted, what happened to it besides (RequestStatistics), which is not the same in every run.
std::string result_json (const Request &request, std::string_view text, FinishReason finish,
                         const Usage &usage, const ResultLogprobs *logprobs, bool with_statistics,
                         const Tokenizer &tokenizer);

} // namespace millrace
