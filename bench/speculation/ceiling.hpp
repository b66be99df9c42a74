// What speculation could bring at most.
//
// Costs. C(n) is how long a step of one stream takes that scores n tokens, by the clock: medians of steps of real answers
// whose drafts are the tokens that come, n - 1 of them, n from 2 to 16 in a shuffled order, so that a slow phase of the
// machine hits all n alike; C(1) is of the steps of decoding without drafts, which the speed-up is against: the same step between
// longer ones was seen to take up to a third longer. Everything a step does is in it but making guesses.
//
// Accept trace of a drafter on an answer. At each place of the answer, which is known, the drafter is asked for guesses, up
// to kMaxDraft, and none are verified: r(g) of them are right after g tokens.
//
// Ceiling of that drafter on that answer. Of all ways to go through the answer's N tokens by steps that verify only guesses that
// are right, 0 … r(g) of them, the one that takes least: T(g) = min over j ≤ r(g) of C(1 + j) + T(g + 1 + j). The ceiling is
// (N - 1) · C(1) / T(1): making guesses is free, no wrong guess is ever verified, and what to leave out is known beforehand.
// No controller reaches it.
//
// Ceiling of the machine. The same for guesses that are always right: the most of (k + 1) · C(1) / C(k + 1).
#pragma once

#include "bench/sim_random.hpp"
#include "bench/speculation/lane.hpp"

#include <array>
#include <span>
#include <vector>

namespace millrace::bench
{

constexpr int kMostScored = kMaxDraft + 1;

struct StepCosts {
  std::array<double, kMostScored + 1> milliseconds{}; ///< [n]; 0: not measured
  bool complete () const;
  double machine_ceiling () const;
};

/// What a run of one stream should have brought, by what its steps scored and what that costs: against the speed-up that was
/// measured it lacks the time for guesses, and the noise of the clock. NaN when costs are not known.
double speed_up_by_costs (const RunResult &run, const StepCosts &costs);

/// Times of steps by the tokens that they score, of answers that are known.
class CostSamples
{
public:
  /// Goes on with an answer to the first of `jobs`, which is answers[0], by some more steps; begins it, and begins it again,
  /// where need be. Answers of less than kMostScored + 2 tokens teach nothing.
  void advance (Lane &direct, std::span<const Job> jobs, std::span<const std::vector<TokenId>> answers);
  /// Ends the answer that advance () was at.
  void finish (Lane &direct);
  /// What the steps of an answer without drafts took.
  void add_direct (const RunResult &run);
  size_t fewest () const; ///< samples of any number of tokens
  StepCosts medians () const;

private:
  /// How many drafts the next step has: each number as often as any other, in no order.
  int next_depth ();

  std::array<std::vector<double>, kMostScored + 1> seen_;
  std::vector<int> depths_;
  sim::Random random_{1};
  const std::vector<TokenId> *answer_ = nullptr; ///< that is under way
  int64_t done_ = 0;                             ///< tokens of it that were asked for
};

/// By jobs one after the other, over and over, until each number of tokens was seen `samples` times; `runs` are theirs without
/// drafts. Answers shorter than kMostScored + 2 tokens are left out: without any other the costs stay unknown.
StepCosts measure_costs (Lane &direct, std::span<const Job> jobs, std::span<const RunResult> runs,
                         int samples);

struct AcceptTrace {
  std::vector<int> right;  ///< [g]: right guesses after g tokens of the answer
  int64_t guesses = 0;     ///< places with a guess
  int64_t right_first = 0; ///< places where its first token is right
};

/// `lane` is one of the drafter's mode, ungated, that is used for nothing else; `job` says `answer`.
AcceptTrace trace_of (Lane &lane, const Job &job, const std::vector<TokenId> &answer);

/// NaN when costs are not known or the answer has less than two tokens.
double ceiling (const AcceptTrace &trace, const StepCosts &costs);

} // namespace millrace::bench
