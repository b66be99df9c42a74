// Which guesses are worth verifying: expected right tokens against the measured cost of a longer step.
//
// Acceptance. Every guess that is offered is kept, verified or not, and compared with the tokens that come: guesses that
// were not worth verifying are scored for nothing, so there are no probes to pay for. What a drafter believes is corrected
// twice: by a table of (source, greedy or sampled, belief) → share that was right, of all requests, a Beta posterior
// whose evidence decays; and, for each request and depth, by how many were right of as many as that table expected
// (acceptance.hpp).
//
// Choice. With R rows, and the chances q of all guesses of all rows (each the product of the probabilities up to it) in
// descending order, verifying the first n costs a step of R + n tokens and is expected to bring R + q1 + … + qn of them.
// The n with the most tokens per time is taken, if it beats none by kMargin: so the step's rows share its tokens by
// marginal gain.
// What a request's drafts may lose is bounded besides (draft_budget.hpp): once it is lost only guesses that are nearly sure are
// verified, whatever chances say.
// A request of which nothing is known yet begins with short chains, and doubles them while they are all right. After a chain that
// broke, what lies deeper than twice what was right of it, and is not nearly sure, counts less than its chance: there chances
// are known worst, and texts that repeat a few tokens here and there differ from those that copy.
// Source: the utility of speculation as goodput, Liu et al., arXiv 2406.14066; the rest is this file's.
//
// Drafters whose guesses cost time weigh that themselves, by the same costs and chances (draft_market.hpp).
//
// Everything from the decode thread. No clock of its own, no allocation after the largest batch was seen.
#pragma once

#include "engine/drafting/acceptance.hpp"
#include "engine/drafting/draft_statistics.hpp"
#include "engine/drafting/drafter.hpp"
#include "engine/drafting/verify_cost.hpp"
#include "engine/step.hpp"

#include <array>
#include <span>
#include <vector>

namespace millrace
{

class DraftController
{
public:
  DraftController ();
  ~DraftController ();

  // --- drafters ---

  /// Whether a drafter's gate lets it try in this step.
  bool may_try (const Row &row, DraftGate gate);
  /// A drafter's guesses for a row, made from its pending token on. They take the place of what is there, extend it, or are
  /// only remembered for the comparison.
  void offer (Row &row, const Draft &draft, DraftGate gate);
  /// `draft` is row.draft with guesses behind it: takes them over.
  void extend (Row &row, const Draft &draft);
  /// That a guess of `source` for the row is right at `depth` (0: the first), when the drafter itself believes `belief`.
  double chance (const Row &row, DraftSource source, double belief, int depth);
  /// Guesses were made for the row, in the time in which decoding without makes so many of its tokens.
  void charge (const Row &row, double tokens);
  /// Whether guesses that cost time may be made for the row: they have earned it, or may lose some more.
  bool may_charge (const Row &row);

  // --- verify () ---

  /// Cuts each row's draft to what is worth verifying.
  void choose (Step &step);

  // --- the scheduler ---

  /// After a row's accepted tokens were appended to its sequence.
  void settle (const Row &row);
  /// A step without prefill scored so many tokens, of sequences with `positions` in all, each of which costs `position_ms`.
  void learn (int scored_tokens, double positions, double position_ms, double milliseconds);
  /// Forgets the sequences, not what was learned of the machine and the drafters.
  void clear ();

  const VerifyCost &cost () const { return cost_; }

private:
  struct Slot;
  struct Candidate {
    double chance; ///< that it and all before it are right
    int row, depth;
  };
  struct Right {
    double chance = 0;   ///< of the last token taken of a row
    double expected = 0; ///< right ones among those taken
    double replay () const { return (1 - chance) * (1 + expected); }
  };

  Slot &slot_of (const Sequence &sequence);
  double probability (const Slot &slot, const Draft &draft, int depth, SamplingKind kind) const;
  double expected (const Slot &slot, const Draft &draft, SamplingKind kind) const;
  void remember (Slot &slot, const Row &row, const Draft &draft, int begin);
  void compare (Slot &slot, const Sequence &sequence);
  void gather (const Step &step, double price);
  size_t best_count (const Step &step, int rows, int always, double positions);
  double price (int rows, int always, int more, double positions) const;
  void spend (const Step &step, double price);
  void note_costs (Step &step, int rows, int verified, double positions) const;

  AcceptanceTable table_;
  VerifyCost cost_;
  int64_t choices_ = 0;     ///< that verified some
  std::vector<Slot> slots_; ///< by Sequence::slot

  // Scratch of choose ().
  std::vector<Candidate> candidates_;
  std::vector<Right> right_;
  std::vector<int> kept_;
};

} // namespace millrace
