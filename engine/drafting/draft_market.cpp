#include "engine/drafting/draft_market.hpp"

#include <algorithm>

namespace millrace
{

namespace
{

constexpr double kLeastGain = 0.02;  ///< tokens a step; less is within what the costs are known to
constexpr double kFirstShare = 0.15; ///< of a step that a pass is taken to cost before the first

/// Σ reach · first · later^i over i < depth
double
expected (const DraftProspect &prospect, int depth)
{
  double sum = 0, chance = prospect.reach;
  for (int i = 0; i < depth; ++i)
    sum += chance *= i == 0 ? prospect.first : prospect.later;
  return sum;
}

} // namespace

DraftMarket::DraftMarket (const VerifyCost &verify, const VerifyCost &pass, int rows, double positions)
    : verify_ (verify)
    , pass_ (pass)
    , rows_ (rows)
    , positions_ (positions)
    , step_ms_ (verify.milliseconds (rows, positions))
    , price_ (step_ms_ > 0 ? rows / step_ms_ : 0)
{
}

double
DraftMarket::pass_ms (int tokens) const
{
  return pass_.knows (tokens) ? pass_.milliseconds (tokens) : kFirstShare * verify_ms (tokens);
}

void
DraftMarket::weigh (DraftProspect &prospect, int active) const
{
  const double share = pass_ms (active) / active;
  const double first = share + pass_ms (active + prospect.before) - pass_ms (active);
  prospect.depth = 0;
  prospect.gain_alone = 0;
  double tokens = 0, chance = prospect.reach;
  for (int depth = 1; depth <= prospect.most; ++depth) {
    tokens += chance *= depth == 1 ? prospect.first : prospect.later;
    const double verifying = (verify_ms (rows_ + active * depth) - step_ms_) / active;
    const double gain =
        prospect.taken * (tokens - price_ * (verifying + share * (depth - 1))) - price_ * first;
    if (gain > prospect.gain_alone) {
      prospect.gain_alone = gain;
      prospect.depth = depth;
    }
  }
  prospect.gain = prospect.gain_alone - prospect.standing;
  if (prospect.gain <= kLeastGain)
    prospect.depth = 0;
}

void
DraftMarket::weigh (std::span<DraftProspect> prospects)
{
  for (DraftProspect &prospect : prospects)
    prospect.depth = prospect.most;
  const auto count = [&] {
    return static_cast<int> (
        std::ranges::count_if (prospects, [] (const DraftProspect &prospect) { return prospect.depth > 0; }));
  };
  // Whoever drops out leaves its share of the passes to the others.
  int active = count ();
  for (int before = active + 1; active > 0 && active < before; active = count ()) {
    before = active;
    for (DraftProspect &prospect : prospects) {
      if (prospect.depth > 0)
        weigh (prospect, active);
    }
  }
  if (active == 0)
    return;
  double tokens = rows_;
  int guesses = 0, passes = 0;
  for (const DraftProspect &prospect : prospects) {
    tokens += prospect.taken * expected (prospect, prospect.depth);
    guesses += prospect.depth;
    passes = std::max (passes, prospect.depth);
  }
  const double time = verify_ms (rows_ + guesses) + passes * pass_ms (active);
  price_ = std::max (price_, tokens / time);
}

double
DraftMarket::worth (std::span<const double> chances) const
{
  double best = 0, tokens = 0;
  for (size_t i = 0; i < chances.size (); ++i) {
    tokens += chances[i];
    const double verifying = verify_ms (rows_ + static_cast<int> (i) + 1) - step_ms_;
    best = std::max (best, tokens - price_ * verifying);
  }
  return best;
}

double
DraftMarket::floor () const
{
  return open () ? price_ * (verify_ms (2 * rows_) - step_ms_) / rows_ : 0;
}

double
DraftMarket::bar (int active, int guesses) const
{
  const double verifying = verify_ms (rows_ + guesses + active) - verify_ms (rows_ + guesses);
  return price_ * (verifying + pass_ms (active)) / active;
}

} // namespace millrace
