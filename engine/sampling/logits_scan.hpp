// Passes over a row of logits: the largest one, the sum of the softmax, the best k.
//
// A row has up to some 150,000 logits and every token pays for its passes, so they are written in fixed-size
// blocks and lanes that the compiler vectorizes. Their results depend on the values alone. Used by Sampler;
// pure functions.
#pragma once

#include "engine/sampling/sampler.hpp"

#include <span>
#include <vector>

namespace millrace
{

/// The order of candidates everywhere: larger value first, then lower id.
inline bool
is_better (const Candidate &left, const Candidate &right)
{
  return left.value != right.value ? left.value > right.value : left.token < right.token;
}

/// The best candidate of a row; token -1 when the row has a NaN or is all -inf (or empty).
Candidate find_peak (std::span<const float> logits);

/// Branch-free filters over kStride logits: is any above the bound, or within [low, high]?
constexpr size_t kStride = 16;
bool has_above (const float *stride, float bound);
bool has_within (const float *stride, float low, float high);

/// The softmax denominator with the largest logit `max` (finite) taken out: sum of exp (logit - max). In
/// double, in eight interleaved partial sums over ids.
double sum_exp (std::span<const float> logits, float max);

/// The `count` best candidates above -inf, or as many as there are, best first. The row has no NaN.
void select_top (std::span<const float> logits, size_t count, std::vector<Candidate> &out);

} // namespace millrace
