#include "engine/scheduling/cost_model.hpp"

#include <algorithm>
#include <cmath>

namespace millrace
{

namespace
{

constexpr double kForget = 0.98;     ///< what a sample weighs after one newer sample
constexpr double kRidge = 1e-3;      ///< keeps terms that never vary from growing without bound
constexpr double kRidgeFixed = 1e-5; ///< the same for the fixed cost, which explains steps that are all alike
constexpr double kCheapestForgets = 1.01; ///< growth of the least cost of a token with each newer sample
constexpr double kTiny = 1e-12;           ///< for terms that have never been seen
constexpr double kLeastMs = 0.01;         ///< faster steps need not be told apart
constexpr double kOutlier = 4.0;          ///< times the prediction: as much as a sample may say
constexpr double kPositions = 1024;       ///< scales positions to the size of the other terms
constexpr double kTokens = 16;            ///< the same for tokens

/// Solves a · x = b for symmetric positive definite a by elimination in a fixed order, without the rows where `use` is
/// false.
template <size_t N>
std::array<double, N>
solve (std::array<std::array<double, N>, N> a, std::array<double, N> b, const std::array<bool, N> &use)
{
  std::array<double, N> x{};
  for (size_t i = 0; i < N; i++) {
    for (size_t row = i + 1; use[i] && row < N; row++) {
      if (!use[row])
        continue;
      const double factor = a[row][i] / a[i][i];
      for (size_t column = i; column < N; column++)
        a[row][column] -= factor * a[i][column];
      b[row] -= factor * b[i];
    }
  }
  for (size_t i = N; i-- > 0;) {
    if (!use[i])
      continue;
    x[i] = b[i];
    for (size_t column = i + 1; column < N; column++)
      x[i] -= use[column] ? a[i][column] * x[column] : 0;
    x[i] /= a[i][i];
  }
  return x;
}

} // namespace

void
CostModel::Regression::add (const Terms &terms, double milliseconds, double expected_ms)
{
  const double scale = 1 / std::max (expected_ms, kLeastMs);
  const double y = milliseconds * scale;
  Terms x = terms;
  for (double &value : x)
    value *= scale;
  samples = std::min (samples + 1, 1 << 20);
  for (size_t i = 0; i < kTerms; i++) {
    for (size_t j = 0; j < kTerms; j++)
      products[i][j] = kForget * products[i][j] + x[i] * x[j];
    targets[i] = kForget * targets[i] + x[i] * y;
  }

  // Terms whose weight comes out negative are left out and the others solved again, the most negative first.
  auto ridged = products;
  for (size_t i = 0; i < kTerms; i++)
    ridged[i][i] += (i == 0 ? kRidgeFixed : kRidge) * (products[i][i] + kTiny);
  std::array<bool, kTerms> use;
  use.fill (true);
  for (int round = 0; round < kTerms; round++) {
    weights = solve (ridged, targets, use);
    const auto lowest = std::min_element (weights.begin (), weights.end ());
    if (*lowest >= 0)
      break;
    use[static_cast<size_t> (lowest - weights.begin ())] = false;
    *lowest = 0;
  }
}

double
CostModel::Regression::at (const Terms &x) const
{
  double sum = 0;
  for (size_t i = 0; i < kTerms; i++)
    sum += weights[i] * x[i];
  return sum;
}

CostModel::Terms
CostModel::decode_terms (const StepWork &work)
{
  return {1, work.scored_tokens / kTokens, work.scored_positions / kTokens / kPositions, 0};
}

double
CostModel::position_ms () const
{
  return decode_.weights[2] / (kTokens * kPositions);
}

CostModel::Terms
CostModel::prefill_terms (const StepWork &work)
{
  return {1, work.prefill_tokens / kTokens, work.prefill_positions / kTokens / kPositions,
          work.prefill_lengths / kPositions};
}

void
CostModel::learn (const StepWork &work, double milliseconds)
{
  if (!std::isfinite (milliseconds) || milliseconds < 0)
    return;
  const bool trusted =
      (work.scored_tokens == 0 || knows_decode ()) && (work.prefill_tokens == 0 || knows_prefill ());
  double expected_ms = milliseconds; // weighing samples by their own noise would favour the fast ones
  if (trusted) { // of the whole step: noise of the decode rows must not look like an outlier of a small chunk
    expected_ms = predict_ms (work);
    milliseconds = std::min (milliseconds, kOutlier * expected_ms + kLeastMs);
  }
  if (work.prefill_tokens == 0) {
    if (work.scored_tokens > 0)
      decode_.add (decode_terms (work), milliseconds, expected_ms);
  } else if (work.scored_tokens == 0 || knows_decode ()) {
    if (work.scored_tokens == 0) {
      const double token_ms = milliseconds / work.prefill_tokens;
      cheapest_token_ms_ =
          cheapest_token_ms_ > 0 ? std::min (cheapest_token_ms_ * kCheapestForgets, token_ms) : token_ms;
    }
    // Below zero now and then, as noise has it: cutting it off would be a bias.
    prefill_.add (prefill_terms (work), milliseconds - decode_ms (work), expected_ms);
  }
}

double
CostModel::decode_ms (const StepWork &work) const
{
  return work.scored_tokens > 0 ? std::max (0.0, decode_.at (decode_terms (work))) : 0;
}

double
CostModel::prefill_ms (const StepWork &work) const
{
  return work.prefill_tokens > 0 ? std::max (0.0, prefill_.at (prefill_terms (work))) : 0;
}

int
CostModel::prefill_tokens_within (double milliseconds, double positions, int sequences) const
{
  const double lengths = positions * sequences;
  const StepWork one{.prefill_tokens = 1, .prefill_positions = positions, .prefill_lengths = lengths};
  const StepWork two{.prefill_tokens = 2, .prefill_positions = 2 * positions, .prefill_lengths = lengths};
  const double per_token = std::max (prefill_ms (two) - prefill_ms (one), cheapest_token_ms_);
  const double fixed = std::max (0.0, prefill_ms (one) - per_token);
  const double room = milliseconds - fixed;
  if (room <= 0)
    return 0;
  if (per_token * (1 << 24) <= room)
    return 1 << 24;
  return static_cast<int> (room / per_token);
}

} // namespace millrace
