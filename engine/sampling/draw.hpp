// One draw from a row of logits: temperature, top-k, top-p, min-p, inverse CDF.
//
// Candidates are ordered by (logit descending, id ascending), which is the order of their probabilities;
// every filter keeps a prefix of that order. With top-k the k best are selected and sorted. Without, the
// whole vocabulary is a candidate and sorting it would cost more than the rest of the sampler together:
// instead a histogram by distance from the largest logit gives the mass of each bin (summed in id order), and
// only the bins that hold a cut or the drawn token are sorted. Both give one result that depends on the
// logits and parameters alone.
#pragma once

#include "engine/sampling/sampler.hpp"

#include <span>
#include <vector>

namespace millrace
{

/// The token at `u` in [0, 1) of the filtered distribution. `max` is the largest logit; it is finite, and no
/// logit is NaN or above it. params.temperature > 0. `candidates` and `masses` are scratch.
TokenId draw_token (std::span<const float> logits, float max, const SamplingParams &params, double u,
                    std::vector<Candidate> &candidates, std::vector<double> &masses);

} // namespace millrace
