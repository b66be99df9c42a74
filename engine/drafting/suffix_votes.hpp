// The chain of guesses that occurrences of a context vote for.
//
// At each depth the occurrences that have agreed so far vote with the token that followed them there; the token with most
// votes is guessed, among equals the one that followed latest. It is believed with votes / (voters + doubt), where the doubt
// of a match of n tokens is kDoubt / n: on the prompts of bench/speculation a single match of 1 is right in a quarter to a half of
// all places, one of 2 in half, of 4 in three quarters, of 16 in 19 of 20. n grows with the chain. Which matches may vote is
// tried for each length there is, longest first: the chain that expects the most right tokens is taken.
// Source: frequency-scored continuations of SuffixDecoding, arXiv 2411.04975; smoothing as the escape of prediction by
// partial matching, Cleary and Witten 1984.
//
// Pure; no allocation.
#pragma once

#include "engine/drafting/draft.hpp"
#include "engine/drafting/token_index.hpp"

namespace millrace
{

struct Chain {
  int count = 0;
  std::array<TokenId, kMaxDraft> tokens{};
  std::array<float, kMaxDraft> probability{};
  double expected = 0; ///< right tokens
  uint32_t from = 0;   ///< position that the first guess was copied from
};

/// What follows the end of an index.
struct Continuation {
  bool goes_on = false; ///< the index is of the text that the chain continues, so that a period goes on
  std::span<const TokenId> drafted; ///< if so: guesses between its end and the chain
};

/// Up to `most` guesses of what follows `matches` of `index`. Unless the index's text goes on, an occurrence ends with it, and
/// always at a border.
Chain vote (const TokenIndex &index, const TokenIndex::Matches &matches, const Continuation &continuation,
            int most, double doubt);

constexpr double kDoubt = 1.2;

} // namespace millrace
