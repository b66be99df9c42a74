// Logits → token. The steps, in this order (documented in docs/sampling.md):
//
//   1. logprobs are taken from the raw logits (log-softmax, before anything below)
//   2. logit bias
//   3. repetition, then presence and frequency penalties
//   4. stop tokens are masked while fewer than min_tokens were generated
//   5. temperature 0: the largest logit, the lowest id on ties; otherwise
//   6. divide by temperature, softmax over: top-k, then top-p, then min-p
//   7. draw by inverse CDF over candidates sorted by (probability descending, id ascending) with
//      uniform (seed, position, 0)
//
// `position` is the index of the generated token (0 for the first), so a token is a function of the logits,
// the parameters and the tokens before it; batches and drafts do not enter.
#pragma once

#include "engine/sampling/sampling_params.hpp"
#include "engine/sampling/token_counts.hpp"

#include <span>
#include <vector>

namespace millrace
{

struct Row;
struct Step;

struct TokenLogprob {
  TokenId token = -1;
  float logprob = 0;
};

/// What sample () reports of one position. `top` has params.logprobs entries, best first, of tokens with a
/// probability (fewer when the model gave -inf to most).
struct SampledToken {
  TokenId token = -1;
  float logprob = 0;
  int top_begin = 0; ///< into the step's top_logprobs
  int top_count = 0;
};

/// A token and its logit, while candidates are selected and sorted.
struct Candidate {
  float value;
  TokenId token;
};

/// Scratch space of one decode thread; no allocation after the largest vocabulary was seen.
class Sampler
{
public:
  /// `logits` is overwritten. `stop_ids` are masked below min_tokens. `top` is appended to when
  /// params.logprobs >= 0. A row with a NaN or of only -inf gives token -1; +inf shares all of the
  /// probability among the tokens that have it.
  SampledToken sample (std::span<float> logits, const SamplingParams &params, const TokenCounts &counts,
                       std::span<const TokenId> stop_ids, uint64_t position, std::vector<TokenLogprob> &top);

  /// Samples every scored row of a step: at each verified position the token it would have drawn anyway,
  /// going on while it equals the draft. Sets each row's accepted tokens and finish reason.
  void sample (Step &step);

private:
  void sample_row (Step &step, Row &row);

  std::vector<Candidate> candidates_;
  std::vector<double> masses_;
  std::vector<float> raw_; ///< the model's logits, when logprobs are wanted and the logits are edited
};

} // namespace millrace
