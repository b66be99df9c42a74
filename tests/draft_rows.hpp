// Sequences and rows for tests of drafters: what a scheduler would plan, by hand.
#pragma once

#include "engine/drafting/lookup_policy.hpp"
#include "engine/step.hpp"

#include <memory>
#include <random>
#include <vector>

namespace millrace::testing
{

inline Sequence
make_sequence (const std::vector<TokenId> &tokens, int max_tokens, int slot = 0)
{
  Sequence sequence;
  sequence.request = std::make_shared<Request> ();
  sequence.slot = slot;
  sequence.tokens.reserve (static_cast<size_t> (max_tokens) + 1);
  sequence.tokens.assign (tokens.begin (), tokens.end ());
  sequence.prompt_tokens = static_cast<int> (tokens.size ());
  sequence.max_tokens = max_tokens;
  return sequence;
}

inline Row
make_row (Sequence &sequence, int draft_limit = kMaxDraft)
{
  Row row;
  row.sequence = &sequence;
  row.scored = true;
  row.draft_limit = draft_limit;
  return row;
}

/// The guesses of one step with this sequence alone.
inline Draft
draft_of (Drafter &drafter, Sequence &sequence, int limit = kMaxDraft)
{
  Step step;
  step.rows.push_back (make_row (sequence, limit));
  drafter.draft (step);
  return step.rows[0].draft;
}

// noinline: GCC 12 takes what it inlines here for a wrong delete.
__attribute__ ((noinline)) inline std::vector<TokenId>
guesses (const Draft &draft)
{
  return {draft.span ().begin (), draft.span ().end ()};
}

inline std::vector<TokenId>
guesses (Drafter &drafter, Sequence &sequence, int limit = kMaxDraft)
{
  return guesses (draft_of (drafter, sequence, limit));
}

/// Runs a model that says `text` after the prompt; returns the number of steps it took.
inline int
steps_to_say (Drafter &drafter, Sequence &sequence, const std::vector<TokenId> &text, int *drafted = nullptr)
{
  size_t said = 0;
  int steps = 0;
  for (; said < text.size (); ++steps) {
    const std::vector<TokenId> drafts = guesses (drafter, sequence);
    if (drafted)
      *drafted += static_cast<int> (drafts.size ());
    size_t right = 0;
    while (right < drafts.size () && said + right < text.size () && drafts[right] == text[said + right])
      ++right;
    for (size_t i = 0; i <= right && said < text.size (); ++i)
      sequence.tokens.push_back (text[said++]);
  }
  return steps;
}

inline std::vector<TokenId>
counting_from (TokenId from, TokenId to)
{
  std::vector<TokenId> tokens;
  for (TokenId token = from; token < to; ++token)
    tokens.push_back (token);
  return tokens;
}

inline std::vector<TokenId>
random_text (std::mt19937_64 &random, size_t length, uint64_t vocab)
{
  std::vector<TokenId> tokens (length);
  for (TokenId &token : tokens)
    token = static_cast<TokenId> (random () % vocab);
  return tokens;
}

} // namespace millrace::testing
