#include "engine/backend/cpu/routing.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace millrace::cpu
{

namespace
{

constexpr float kLeast = -std::numeric_limits<float>::infinity ();
constexpr float kSumEpsilon = 1e-20f; ///< added to the sum of sigmoids, as the reference does

void
score (RouteOp::Scores kind, const float *logits, int count, float *scores)
{
  if (kind == RouteOp::Scores::kSigmoid) {
    for (int i = 0; i < count; ++i)
      scores[i] = 1.0f / (1.0f + std::exp (-logits[i]));
    return;
  }
  float largest = kLeast, sum = 0;
  for (int i = 0; i < count; ++i)
    largest = std::max (largest, logits[i]);
  for (int i = 0; i < count; ++i)
    sum += scores[i] = std::exp (logits[i] - largest);
  for (int i = 0; i < count; ++i)
    scores[i] /= sum;
}

float
group_score (RouteOp::GroupScore kind, const float *choice, int count)
{
  float first = kLeast, second = kLeast;
  for (int i = 0; i < count; ++i) {
    if (choice[i] > first) {
      second = first;
      first = choice[i];
    } else {
      second = std::max (second, choice[i]);
    }
  }
  return kind == RouteOp::GroupScore::kLargest || count < 2 ? first : first + second;
}

/// The largest of those that are not taken; of equal ones, and where nothing is larger than NaN, the first.
int
best_of (const float *values, const float *taken, int count)
{
  int best = -1;
  for (int i = 0; i < count; ++i) {
    if (taken[i] == 0 && (best < 0 || values[i] > values[best]))
      best = i;
  }
  return best;
}

/// Experts outside the best groups are never chosen. `out` is used for the groups' scores.
void
leave_groups (const RouteOp &op, float *choice, float *taken, float *out)
{
  const int size = op.experts / op.groups;
  for (int group = 0; group < op.groups; ++group)
    out[group] = group_score (op.group_score, choice + group * size, size);
  std::fill_n (taken, op.groups, 0.0f);
  for (int i = 0; i < op.chosen_groups; ++i)
    taken[best_of (out, taken, op.groups)] = 1;
  std::copy_n (taken, op.groups, out);
  for (int expert = 0; expert < op.experts; ++expert)
    taken[expert] = out[expert / size] == 0 ? 1.0f : 0.0f;
}

} // namespace

void
route (const RouteOp &op, const float *logits, const float *correction, const float *expert_scale,
       float *scratch, float *out)
{
  float *scores = scratch, *choice = scratch + op.experts, *taken = choice + op.experts;
  score (op.scores, logits, op.experts, scores);
  for (int i = 0; i < op.experts; ++i)
    choice[i] = correction ? scores[i] + correction[i] : scores[i];
  std::fill_n (taken, op.experts, 0.0f);
  if (op.chosen_groups < op.groups)
    leave_groups (op, choice, taken, out);
  std::fill_n (out, op.experts, 0.0f);
  float sum = op.scores == RouteOp::Scores::kSigmoid ? kSumEpsilon : 0.0f;
  for (int i = 0; i < op.chosen; ++i) {
    const int expert = best_of (choice, taken, op.experts);
    taken[expert] = 1;
    out[expert] = scores[expert];
    sum += scores[expert];
  }
  const float factor = op.normalized ? op.scale / sum : op.scale;
  for (int i = 0; i < op.experts; ++i) {
    if (out[i] == 0)
      continue;
    out[i] *= factor;
    if (expert_scale)
      out[i] *= expert_scale[i];
  }
}

} // namespace millrace::cpu
