// The n-gram drafter: it finds what was said before, keeps to its limits, and learns when to be quiet.
//
// labels: unit property
#include "engine/drafting/ngram_drafter.hpp"
#include "engine/drafting/ngram_table.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <new>
#include <random>

using namespace millrace;

namespace
{

size_t allocations = 0; ///< of the whole program; the tests run in one thread

} // namespace

// noinline: GCC would pair the inlined malloc with the visible delete and warn.
__attribute__ ((noinline)) void *
operator new (size_t size)
{
  ++allocations;
  if (void *memory = std::malloc (size ? size : 1))
    return memory;
  throw std::bad_alloc ();
}

__attribute__ ((noinline)) void
operator delete (void *memory) noexcept
{
  std::free (memory);
}

__attribute__ ((noinline)) void
operator delete (void *memory, size_t) noexcept
{
  std::free (memory);
}

namespace
{

Sequence
make_sequence (std::vector<TokenId> tokens, int max_tokens, int slot = 0)
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

Row
make_row (Sequence &sequence, int draft_limit)
{
  Row row;
  row.sequence = &sequence;
  row.scored = true;
  row.draft_limit = draft_limit;
  return row;
}

std::vector<TokenId>
drafts_of (const Row &row)
{
  return {row.draft.tokens.begin (), row.draft.tokens.begin () + row.draft.count};
}

std::vector<TokenId>
draft (NgramDrafter &drafter, Sequence &sequence, int limit = kMaxDraft)
{
  Step step;
  step.rows.push_back (make_row (sequence, limit));
  drafter.draft (step);
  return drafts_of (step.rows[0]);
}

/// Runs a model that says `text` after the prompt; returns the number of steps it took.
int
steps_to_say (NgramDrafter &drafter, Sequence &sequence, const std::vector<TokenId> &text,
              int *drafted = nullptr)
{
  size_t said = 0;
  int steps = 0;
  for (; said < text.size (); ++steps) {
    const std::vector<TokenId> drafts = draft (drafter, sequence);
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

std::vector<TokenId>
counting (TokenId from, TokenId to)
{
  std::vector<TokenId> tokens;
  for (TokenId token = from; token < to; ++token)
    tokens.push_back (token);
  return tokens;
}

} // namespace

TEST (NgramDrafter, proposes_what_followed_the_same_tokens_before)
{
  NgramDrafter drafter ({.max_draft = 8, .min_match = 2});
  Sequence sequence = make_sequence ({1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3}, 100);
  EXPECT_EQ (draft (drafter, sequence), (std::vector<TokenId>{4, 5, 6, 7}));
}

TEST (NgramDrafter, prefers_the_longest_context_then_the_latest)
{
  NgramDrafter drafter ({.max_draft = 1, .min_match = 2});
  Sequence longest = make_sequence ({9, 1, 2, 50, 8, 1, 2, 60, 7, 9, 1, 2}, 100, 0);
  EXPECT_EQ (draft (drafter, longest), std::vector<TokenId>{50}) << "9 1 2 is longer than 1 2";
  Sequence latest = make_sequence ({9, 1, 2, 50, 9, 1, 2, 60, 9, 1, 2}, 100, 1);
  EXPECT_EQ (draft (drafter, latest), std::vector<TokenId>{60});
  Sequence shortest = make_sequence ({1, 2, 50, 3, 2}, 100, 2);
  EXPECT_EQ (draft (drafter, shortest), std::vector<TokenId>{}) << "one token is no context";
}

TEST (NgramDrafter, min_match_is_the_shortest_context)
{
  for (int min_match = 2; min_match <= 4; ++min_match) {
    for (int common = 1; common <= 5; ++common) {
      NgramDrafter drafter ({.max_draft = 1, .min_match = min_match});
      std::vector<TokenId> tokens = {100};
      const auto shared = counting (1, 1 + common);
      tokens.insert (tokens.end (), shared.begin (), shared.end ());
      tokens.insert (tokens.end (), {200, 300});
      tokens.insert (tokens.end (), shared.begin (), shared.end ());
      Sequence sequence = make_sequence (tokens, 100);
      EXPECT_EQ (draft (drafter, sequence),
                 common >= min_match ? std::vector<TokenId>{200} : std::vector<TokenId>{})
          << "min_match " << min_match << ", " << common << " tokens in common";
    }
  }
}

TEST (NgramDrafter, a_period_goes_on_past_the_end_of_the_history)
{
  NgramDrafter drafter ({.max_draft = 8, .min_match = 2});
  Sequence sequence = make_sequence ({1, 2, 3, 1, 2, 3}, 200);
  EXPECT_EQ (draft (drafter, sequence), (std::vector<TokenId>{1, 2, 3, 1}));
  // And again and again: what follows is always what was drafted, so drafts grow to their maximum.
  std::vector<TokenId> text;
  for (int i = 0; i < 150; ++i)
    text.push_back (1 + i % 3);
  const int steps = steps_to_say (drafter, sequence, text);
  EXPECT_LE (steps, 150 / 9 + 4);
}

TEST (NgramDrafter, never_drafts_more_than_it_may)
{
  for (int max_draft = -1; max_draft <= kMaxDraft + 2; ++max_draft) {
    NgramDrafter drafter ({.max_draft = max_draft, .min_match = 2});
    Sequence sequence = make_sequence (std::vector<TokenId> (60, 7), 2'000);
    for (int step = 0; step < 40; ++step) {
      const int limit = step % (kMaxDraft + 3) - 1;
      const auto drafts = draft (drafter, sequence, limit);
      ASSERT_LE (static_cast<int> (drafts.size ()), std::max (0, std::min ({limit, max_draft, kMaxDraft})));
      for (size_t i = 0; i <= drafts.size (); ++i)
        sequence.tokens.push_back (7);
    }
    EXPECT_EQ (draft (drafter, sequence, kMaxDraft).size (),
               static_cast<size_t> (std::clamp (max_draft, 0, kMaxDraft)));
  }
}

TEST (NgramDrafter, rows_that_cannot_use_drafts_get_none)
{
  NgramDrafter drafter ({});
  Sequence sequence = make_sequence (std::vector<TokenId> (20, 7), 100);
  Step step;
  step.rows.assign (4, make_row (sequence, 5));
  step.rows[0].scored = false;
  step.rows[1].finish = FinishReason::kCancelled;
  step.rows[2].draft.count = 1;
  step.rows[2].draft.tokens[0] = 99;
  step.rows[3].draft_limit = 0;
  drafter.draft (step);
  EXPECT_EQ (step.rows[0].draft.count, 0);
  EXPECT_EQ (step.rows[1].draft.count, 0);
  EXPECT_EQ (drafts_of (step.rows[2]), std::vector<TokenId>{99});
  EXPECT_EQ (step.rows[3].draft.count, 0);
}

TEST (NgramDrafter, a_slot_knows_nothing_of_the_sequence_before)
{
  NgramDrafter drafter ({});
  Sequence first = make_sequence ({1, 2, 3, 4, 5, 1, 2, 3}, 1'000, 3);
  EXPECT_FALSE (draft (drafter, first).empty ());
  // Shorter, longer, and with a larger table than before.
  Sequence second = make_sequence ({1, 2, 3}, 10, 3);
  EXPECT_TRUE (draft (drafter, second).empty ());
  Sequence third = make_sequence ({8, 8, 9, 1, 2, 3, 9, 9, 1, 1, 2, 3}, 5'000, 3);
  EXPECT_EQ (draft (drafter, third)[0], 9);
  Sequence other_slot = make_sequence ({1, 2, 3}, 100, 0);
  EXPECT_TRUE (draft (drafter, other_slot).empty ());
  drafter.clear ();
  EXPECT_EQ (draft (drafter, third)[0], 9) << "the sequence itself is all it needs";
}

TEST (NgramDrafter, rests_when_its_drafts_are_wrong_and_comes_back)
{
  // Every context of the prompt is followed by something new each time: all drafts are wrong.
  NgramDrafter drafter ({.max_draft = 8, .min_match = 2});
  std::vector<TokenId> text;
  for (TokenId i = 0; i < 300; ++i)
    text.insert (text.end (), {1, 2, 1'000 + i});
  Sequence sequence = make_sequence ({1, 2, 5}, 4'000);
  int drafted = 0;
  steps_to_say (drafter, sequence, text, &drafted);
  EXPECT_GT (drafted, 0);
  EXPECT_LT (drafted, 150) << "of 300 chances to draft and 8 tokens each";

  // Then the text becomes a list that repeats, and drafting pays again.
  text.clear ();
  for (int i = 0; i < 600; ++i)
    text.push_back (10 + i % 20);
  const int steps = steps_to_say (drafter, sequence, text);
  EXPECT_LT (steps, 300) << "for 600 tokens";
}

TEST (NgramDrafter, allocates_nothing_once_its_tables_are_sized)
{
  NgramDrafter drafter ({.max_draft = 8, .min_match = 2});
  std::mt19937_64 random (5);
  std::vector<Sequence> sequences;
  Step step;
  for (int slot = 0; slot < 4; ++slot) {
    sequences.push_back (make_sequence ({1, 2, 3, 4, 1, 2, 3}, 3'000, slot));
    step.rows.push_back (make_row (sequences.back (), kMaxDraft));
  }
  for (int slot = 0; slot < 4; ++slot)
    step.rows[static_cast<size_t> (slot)].sequence = &sequences[static_cast<size_t> (slot)];
  drafter.draft (step);

  int drafted = 0;
  const size_t before = allocations;
  for (int i = 0; i < 2'000; ++i) {
    for (Row &row : step.rows) {
      drafted += row.draft.count;
      row.draft.count = 0;
      row.sequence->tokens.push_back (static_cast<TokenId> (random () % 4));
    }
    drafter.draft (step);
  }
  EXPECT_EQ (allocations - before, 0u);
  EXPECT_GT (drafted, 100);

  // A slot's next sequence finds the tables of the one before.
  Sequence next = make_sequence ({1, 2, 3, 4, 1, 2, 3}, 3'000, 2);
  step.rows[2] = make_row (next, kMaxDraft);
  const size_t before_next = allocations;
  drafter.draft (step);
  EXPECT_EQ (allocations - before_next, 0u);
  EXPECT_GT (step.rows[2].draft.count, 0);
}

TEST (NgramTable, finds_the_latest_occurrence_of_what_was_inserted_and_nothing_else)
{
  int looked_up = 0, forgotten = 0;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    std::mt19937_64 random (seed);
    const int context = 2 + static_cast<int> (seed % 3), length = 50 + static_cast<int> (random () % 2'000);
    const uint64_t vocab = seed % 2 ? 6 : 100'000;
    std::vector<TokenId> tokens;
    for (int i = 0; i < length; ++i)
      tokens.push_back (static_cast<TokenId> (random () % vocab));
    NgramTable table;
    table.size_for (length, context);
    std::map<std::vector<TokenId>, int> expected;
    for (int end = context; end <= length; ++end) {
      const std::vector<TokenId> key (tokens.begin () + end - context, tokens.begin () + end);
      const int found = table.find (tokens, end);
      if (const auto known = expected.find (key); known == expected.end ())
        ASSERT_EQ (found, 0) << "seed " << seed << " end " << end;
      else
        ASSERT_TRUE (found == known->second || found == 0)
            << "seed " << seed << " end " << end << ": " << found << " for " << known->second;
      table.insert (tokens, end);
      expected[key] = end;
    }
    for (const auto &[key, end] : expected) {
      ++looked_up;
      forgotten += table.find (tokens, end) != end;
    }
  }
  // Half empty, 16 probes: a context is crowded out about never.
  EXPECT_GT (looked_up, 10'000);
  EXPECT_LE (forgotten, looked_up / 1'000);
}

TEST (Sampler, allocates_nothing_once_it_has_seen_the_vocabulary)
{
  constexpr int kVocab = 3'000;
  std::mt19937_64 random (6);
  Sequence sequence = make_sequence ({1, 2, 3}, 4'000);
  sequence.counts.reserve (4'000);
  Step step;
  step.vocab = kVocab;
  step.rows.push_back (make_row (sequence, kMaxDraft));
  std::vector<float> logits (kVocab * (kMaxDraft + 1));
  SamplingParams &params = sequence.request->sampling;
  params.logit_bias = {{1, -100.0f}, {2, 3.0f}};
  Sampler sampler;
  size_t warm = 0, accepted = 0;
  for (int i = 0; i < 400; ++i) {
    for (float &logit : logits)
      logit = static_cast<float> (random () % 1'000) / 100;
    Row &row = step.rows[0];
    row.logits = logits.data ();
    row.finish = FinishReason::kNone;
    row.draft.count = 0;
    params.temperature = i % 4 * 0.5;
    params.top_k = i % 3 * 1'000;
    params.top_p = i % 5 ? 1 : 0.9;
    params.min_p = i % 7 ? 0 : 0.01;
    params.frequency_penalty = i % 2;
    params.logprobs = i == 0 ? kMaxTopLogprobs : i % 22 - 1;
    if (i == 1)
      warm = allocations;
    sampler.sample (step);
    accepted += static_cast<size_t> (row.accepted_count);
    sequence.tokens.push_back (row.accepted[0].token);
  }
  EXPECT_EQ (accepted, 400u);
  EXPECT_EQ (allocations - warm, 0u);
}

TEST (NgramDrafter, random_updates_of_many_sequences_stay_within_bounds_and_repeat)
{
  int drafted = 0;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    std::vector<std::vector<TokenId>> outcomes;
    for (int run = 0; run < 2; ++run) {
      std::mt19937_64 random (seed);
      NgramDrafter drafter ({.max_draft = static_cast<int> (random () % 17),
                             .min_match = 2 + static_cast<int> (random () % 3)});
      const uint64_t vocab = 1 + random () % 12;
      std::map<int, std::unique_ptr<Sequence>> live;
      std::vector<TokenId> outcome;
      for (int i = 0; i < 300; ++i) {
        const int slot = static_cast<int> (random () % 6);
        auto &sequence = live[slot];
        if (!sequence || random () % 40 == 0 ||
            static_cast<int> (sequence->tokens.size ()) >= sequence->max_tokens) {
          std::vector<TokenId> prompt (1 + random () % 30);
          for (TokenId &token : prompt)
            token = static_cast<TokenId> (random () % vocab);
          sequence = std::make_unique<Sequence> (
              make_sequence (prompt, static_cast<int> (prompt.size () + 1 + random () % 200), slot));
        }
        if (random () % 100 == 0)
          drafter.clear ();
        Step step;
        for (auto &[number, each] : live) {
          Row row = make_row (*each, static_cast<int> (random () % (kMaxDraft + 1)));
          row.scored = random () % 8 != 0;
          step.rows.push_back (row);
        }
        drafter.draft (step);
        for (Row &row : step.rows) {
          ASSERT_LE (row.draft.count, row.draft_limit) << "seed " << seed;
          ASSERT_TRUE (row.scored || row.draft.count == 0) << "seed " << seed;
          drafted += row.draft.count;
          for (const TokenId token : drafts_of (row)) {
            ASSERT_GE (token, 0) << "seed " << seed;
            ASSERT_LT (token, static_cast<TokenId> (vocab)) << "seed " << seed;
            outcome.push_back (token);
          }
          // Some of the drafts come true, then something else comes, up to the end of the sequence.
          if (!row.scored)
            continue;
          const int right = row.draft.count
                                ? static_cast<int> (random () % static_cast<uint64_t> (row.draft.count + 1))
                                : 0;
          auto &tokens = row.sequence->tokens;
          for (int j = 0; j <= right && static_cast<int> (tokens.size ()) < row.sequence->max_tokens; ++j)
            tokens.push_back (j < right ? row.draft.tokens[static_cast<size_t> (j)]
                                        : static_cast<TokenId> (random () % vocab));
        }
      }
      outcomes.push_back (outcome);
    }
    ASSERT_EQ (outcomes[0], outcomes[1]) << "seed " << seed;
  }
  EXPECT_GT (drafted, 5'000);
}
