#include "bench/speculation/ceiling.hpp"

#include "bench/measure.hpp"
#include "bench/sim_random.hpp"

#include <algorithm>
#include <limits>
#include <numeric>
#include <stdexcept>

namespace millrace::bench
{

namespace
{

constexpr int kMostRounds = 1000;
constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN ();

/// How many drafts the next step has: each number as often as any other, in no order.
class Depths
{
public:
  int next ()
  {
    if (at_ == depths_.size ()) {
      at_ = 0;
      for (size_t i = depths_.size () - 1; i > 0; i--)
        std::swap (depths_[i], depths_[static_cast<size_t> (random_.below (static_cast<int> (i) + 1))]);
    }
    return depths_[at_++];
  }
  Depths () { std::iota (depths_.begin (), depths_.end (), 0); }

private:
  std::array<int, kMostScored> depths_{};
  size_t at_ = kMostScored;
  sim::Random random_{1};
};

} // namespace

bool
StepCosts::complete () const
{
  return std::ranges::all_of (std::span (milliseconds).subspan (1), [] (double ms) { return ms > 0; });
}

double
StepCosts::machine_ceiling () const
{
  if (!complete ())
    return kUnknown;
  double best = 1;
  for (size_t n = 1; n <= kMostScored; n++)
    best = std::max (best, static_cast<double> (n) * milliseconds[1] / milliseconds[n]);
  return best;
}

double
speed_up_by_costs (const RunResult &run, const StepCosts &costs)
{
  if (!costs.complete () || run.turns.empty ())
    return kUnknown;
  double milliseconds = 0;
  for (const Turn &turn : run.turns)
    milliseconds += costs.milliseconds[static_cast<size_t> (std::clamp (turn.scored, 1, kMostScored))];
  return static_cast<double> (run.tokens) * costs.milliseconds[1] / milliseconds;
}

StepCosts
measure_costs (Lane &direct, std::span<const Job> jobs, std::span<const std::vector<TokenId>> answers,
               int samples)
{
  std::vector<size_t> usable;
  for (size_t i = 0; i < jobs.size (); i++)
    if (answers[i].size () >= kMostScored + 2)
      usable.push_back (i);
  std::array<std::vector<double>, kMostScored + 1> seen;
  Depths depths;
  const auto enough = [&] (const std::vector<double> &of) {
    return of.size () >= static_cast<size_t> (samples);
  };
  for (int round = 0; round < kMostRounds && !std::ranges::all_of (std::span (seen).subspan (1), enough);
       round++) {
    for (const size_t i : usable) {
      const std::vector<TokenId> &answer = answers[i];
      const RunResult result = direct.run (jobs.subspan (i, 1), [&] (Row &row, size_t) {
        const int begin = row.sequence->generated ();
        const int count =
            begin == 0
                ? 0
                : std::min ({depths.next (), row.draft_limit, static_cast<int> (answer.size ()) - begin - 1});
        for (int k = 0; k < count; k++)
          row.draft.push (answer[static_cast<size_t> (begin + k)], 1, DraftSource::kNgram);
        row.ungated = true;
      });
      if (result.outputs[0] != answer)
        throw std::runtime_error ("an answer with drafts differs from the one without");
      for (const Turn &turn : result.turns)
        seen[static_cast<size_t> (turn.scored)].push_back (turn.milliseconds);
    }
  }
  StepCosts costs;
  for (size_t n = 1; n <= kMostScored; n++)
    costs.milliseconds[n] = seen[n].empty () ? 0 : median (seen[n]);
  return costs;
}

AcceptTrace
trace_of (Lane &lane, const Job &job, const std::vector<TokenId> &answer)
{
  AcceptTrace trace;
  trace.right.resize (answer.size ());
  const RunResult result = lane.run ({&job, 1}, [&] (Row &row, size_t) {
    const auto begin = static_cast<size_t> (row.sequence->generated ());
    const auto draft = row.draft.span ();
    const auto comes = std::span (answer).subspan (begin);
    const auto right = std::ranges::mismatch (draft, comes).in1 - draft.begin ();
    trace.right[begin] = static_cast<int> (right);
    trace.guesses += begin > 0 && !draft.empty ();
    trace.right_first += begin > 0 && right > 0;
    row.draft.count = 0;
  });
  if (result.outputs[0] != answer)
    throw std::runtime_error ("an answer in a run without drafts differs from the one before");
  return trace;
}

double
ceiling (const AcceptTrace &trace, const StepCosts &costs)
{
  const size_t count = trace.right.size ();
  if (!costs.complete () || count < 2)
    return kUnknown;
  std::vector<double> least (count + 1);
  for (size_t g = count - 1; g >= 1; g--) {
    least[g] = std::numeric_limits<double>::infinity ();
    for (size_t j = 0; j <= static_cast<size_t> (trace.right[g]) && g + 1 + j <= count; j++)
      least[g] = std::min (least[g], costs.milliseconds[1 + j] + least[g + 1 + j]);
  }
  return static_cast<double> (count - 1) * costs.milliseconds[1] / least[1];
}

} // namespace millrace::bench
