// Whether guesses that cost time to make are worth it, row by row.
//
// The currency is tokens: a millisecond is worth the tokens that the step would bring in it without guesses, or with them
// where that is more. A row's guesses are worth the right ones among them, less what verifying them adds to the step, less
// its share of the passes that make them. Rows share passes, so that one that gains little may still be worth it
// beside others, and not by itself.
//
// No clock, no allocation; one thread. Used by drafters that run a model.
#pragma once

#include "engine/drafting/verify_cost.hpp"

#include <span>

namespace millrace
{

/// A row that could have guesses.
struct DraftProspect {
  int most = 0;          ///< guesses
  double first = 0;      ///< chance that the first is right, where it is worth verifying
  double taken = 1;      ///< share of the first ones that are
  double later = 0;      ///< chance that one is right after right ones
  double reach = 1;      ///< that what they go on from is right itself: less than 1 behind others' guesses
  double standing = 0;   ///< worth () of others' guesses, which these would replace
  int before = 0;        ///< tokens that the first pass computes before the one that the first guess is of
  int depth = 0;         ///< out: guesses worth making; 0: none
  double gain = 0;       ///< out: tokens
  double gain_alone = 0; ///< out: tokens, if there were no `standing`
};

class DraftMarket
{
public:
  /// A step that scores `rows` tokens without guesses, of sequences with `positions` in all. `pass`: what passes of the
  /// drafter's model cost by their tokens. Both costs outlive the market.
  DraftMarket (const VerifyCost &verify, const VerifyCost &pass, int rows, double positions = 0);

  /// False: nothing has been measured yet.
  bool open () const { return price_ > 0; }
  /// Decides the depth of each row.
  void weigh (std::span<DraftProspect> prospects);
  /// The chance that one more guess for each of `active` rows needs, when `guesses` have been made in the step.
  double bar (int active, int guesses) const;
  /// The chance that a guess needs for being verified, once it is there.
  double floor () const;
  /// What guesses that are there bring, when the first of them are verified as far as that pays: tokens, net. `chances` of
  /// each and all before it.
  double worth (std::span<const double> chances) const;
  /// Of the drafter's model, with so many tokens.
  double pass_ms (int tokens) const;
  int rows () const { return rows_; }
  double step_ms () const { return step_ms_; }
  /// Tokens per millisecond.
  double price () const { return price_; }

private:
  void weigh (DraftProspect &prospect, int active) const;
  double verify_ms (int tokens) const { return verify_.milliseconds (tokens, positions_); }

  const VerifyCost &verify_, &pass_;
  int rows_;
  double positions_;
  double step_ms_, price_;
};

} // namespace millrace
