#include "bench/speculation/ceiling.hpp"

#include "bench/measure.hpp"

#include <algorithm>
#include <limits>
#include <numeric>
#include <stdexcept>

namespace millrace::bench
{

namespace
{

constexpr int kMostRounds = 1000;
constexpr int64_t kTurnTokens = 32; ///< of an answer whose steps are sampled, before others have their turn
constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN ();

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

int
CostSamples::next_depth ()
{
  if (depths_.empty ()) {
    depths_.resize (kMaxDraft);
    std::iota (depths_.begin (), depths_.end (), 1);
    for (size_t i = depths_.size () - 1; i > 0; i--)
      std::swap (depths_[i], depths_[static_cast<size_t> (random_.below (static_cast<int> (i) + 1))]);
  }
  const int depth = depths_.back ();
  depths_.pop_back ();
  return depth;
}

void
CostSamples::advance (Lane &direct, std::span<const Job> jobs, std::span<const std::vector<TokenId>> answers)
{
  if (answers[0].size () < kMostScored + 2)
    return;
  if (!answer_) {
    answer_ = &answers[0];
    done_ = 0;
    direct.begin (jobs.first (1), [this] (Row &row, size_t) {
      const int begin = row.sequence->generated ();
      const int count =
          begin == 0
              ? 0
              : std::min ({next_depth (), row.draft_limit, static_cast<int> (answer_->size ()) - begin - 1});
      for (int k = 0; k < count; k++)
        row.draft.push ((*answer_)[static_cast<size_t> (begin + k)], 1, DraftSource::kNgram);
      row.ungated = true;
    });
  }
  if (!direct.advance (done_ += kTurnTokens))
    finish (direct);
}

void
CostSamples::finish (Lane &direct)
{
  if (!answer_)
    return;
  while (direct.advance (done_ += kTurnTokens)) {
  }
  const RunResult result = direct.finish ();
  if (result.outputs[0] != *answer_)
    throw std::runtime_error ("an answer with drafts differs from the one without");
  for (const Turn &turn : result.turns) {
    if (turn.scored > 1)
      seen_[static_cast<size_t> (turn.scored)].push_back (turn.milliseconds);
  }
  answer_ = nullptr;
}

void
CostSamples::add_direct (const RunResult &run)
{
  for (const Turn &turn : run.turns) {
    if (turn.scored == 1)
      seen_[1].push_back (turn.milliseconds);
  }
}

size_t
CostSamples::fewest () const
{
  return std::ranges::min (std::span (seen_).subspan (1), {}, &std::vector<double>::size).size ();
}

StepCosts
CostSamples::medians () const
{
  StepCosts costs;
  for (size_t n = 1; n <= kMostScored; n++)
    costs.milliseconds[n] = seen_[n].empty () ? 0 : median (seen_[n]);
  return costs;
}

StepCosts
measure_costs (Lane &direct, std::span<const Job> jobs, std::span<const RunResult> runs, int samples)
{
  CostSamples costs;
  std::vector<std::vector<TokenId>> answers;
  for (const RunResult &run : runs) {
    costs.add_direct (run);
    answers.push_back (run.outputs[0]);
  }
  for (int round = 0; round < kMostRounds && costs.fewest () < static_cast<size_t> (samples); round++) {
    for (size_t i = 0; i < jobs.size (); i++) {
      costs.advance (direct, jobs.subspan (i, 1), std::span (answers).subspan (i, 1));
      costs.finish (direct);
    }
  }
  return costs.medians ();
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
