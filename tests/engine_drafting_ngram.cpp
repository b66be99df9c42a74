// The n-gram policy: counts, recency and its record decide what it guesses, and how much.
//
// labels: unit property
#include "engine/drafting/ngram_drafter.hpp"
#include "engine/drafting/ngram_table.hpp"

#include "tests/draft_rows.hpp"

#include <gtest/gtest.h>

#include <map>

using namespace millrace;
using namespace millrace::testing;

namespace
{

using Tokens = std::vector<TokenId>;

NgramDrafter
ngram (int min_match = 2, int max_draft = kMaxDraft)
{
  return NgramDrafter ({.policy = LookupPolicy::kNgram, .max_draft = max_draft, .min_match = min_match});
}

TokenId
first_guess (const Tokens &tokens)
{
  NgramDrafter drafter = ngram ();
  Sequence sequence = make_sequence (tokens, 100);
  const Tokens all = guesses (drafter, sequence);
  return all.empty () ? -1 : all[0];
}

} // namespace

TEST (NgramDrafter, a_context_seen_once_is_worth_two_tokens)
{
  NgramDrafter drafter = ngram ();
  Sequence sequence = make_sequence ({1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3}, 100);
  const Draft draft = draft_of (drafter, sequence);
  EXPECT_EQ (guesses (draft), (Tokens{4, 5}));
  EXPECT_EQ (draft.source[0], DraftSource::kNgram);
  EXPECT_FLOAT_EQ (draft.probability[0], 0.5F) << "1 of 1, and no record";
}

TEST (NgramDrafter, length_is_bounded_by_support)
{
  for (int repeats = 1; repeats <= 20; ++repeats) {
    Tokens tokens;
    for (int i = 0; i < repeats; ++i) {
      const Tokens phrase = counting_from (1, 40);
      tokens.insert (tokens.end (), phrase.begin (), phrase.end ());
      tokens.push_back (1'000 + i);
    }
    tokens.insert (tokens.end (), {1, 2, 3, 4});
    NgramDrafter drafter = ngram ();
    Sequence sequence = make_sequence (tokens, 1'000);
    EXPECT_EQ (guesses (drafter, sequence), counting_from (5, 5 + std::min (repeats + 1, kMaxDraft)))
        << repeats;
  }
}

TEST (NgramDrafter, the_longest_context_speaks)
{
  EXPECT_EQ (first_guess ({9, 1, 2, 50, 8, 1, 2, 60, 7, 9, 1, 2}), 50) << "9 1 2 is longer than 1 2";
  EXPECT_EQ (first_guess ({1, 2, 50, 3, 2}), -1) << "one token is no context";
}

TEST (NgramDrafter, the_majority_wins_then_the_latest)
{
  Tokens mostly_50;
  for (TokenId i = 0; i < 9; ++i)
    mostly_50.insert (mostly_50.end (), {1, 2, 50, 100 + i});
  mostly_50.insert (mostly_50.end (), {1, 2, 60, 5, 1, 2});
  EXPECT_EQ (first_guess (mostly_50), 50);
  EXPECT_EQ (first_guess ({1, 2, 50, 3, 1, 2, 60, 5, 1, 2}), -1) << "an even chance, and no record: 0.25";
  NgramDrafter drafter = ngram ();
  Sequence sequence = make_sequence ({1, 2, 60, 9, 1, 2, 50}, 200);
  // Both are right as often as they are guessed, until equal confidence suffices: then the later one is guessed.
  for (int i = 0; i < 12; ++i) {
    sequence.tokens.insert (sequence.tokens.end (), {1, 2});
    draft_of (drafter, sequence);
    sequence.tokens.push_back (60);
  }
  sequence.tokens.insert (sequence.tokens.end (), {1, 2});
  EXPECT_EQ (guesses (drafter, sequence)[0], 60);
}

TEST (NgramDrafter, a_guess_that_was_wrong_is_trusted_less)
{
  NgramDrafter drafter = ngram (2, 1);
  Tokens tokens;
  for (TokenId i = 0; i < 10; ++i)
    tokens.insert (tokens.end (), {1, 2, 50, 100 + i});
  Sequence sequence = make_sequence (tokens, 200);
  // Each time something else comes than the 10 of 11 say.
  std::vector<float> beliefs;
  for (TokenId i = 0; i < 5; ++i) {
    sequence.tokens.insert (sequence.tokens.end (), {200 + i, 1, 2});
    const Draft draft = draft_of (drafter, sequence);
    if (draft.count == 0)
      break;
    EXPECT_EQ (draft.tokens[0], 50);
    beliefs.push_back (draft.probability[0]);
    sequence.tokens.push_back (300);
  }
  ASSERT_EQ (beliefs.size (), 1u) << "10/11 × 1/3 is below 0.4";
  EXPECT_FLOAT_EQ (beliefs[0], 0.5F);
}

TEST (NgramDrafter, only_accepted_guesses_and_the_first_rejected_one_are_its_record)
{
  Tokens phrase = counting_from (1, 12), tokens;
  for (int i = 0; i < 12; ++i) {
    tokens.insert (tokens.end (), phrase.begin (), phrase.end ());
    tokens.push_back (100 + i);
  }
  tokens.insert (tokens.end (), {1, 2, 3, 4});
  NgramDrafter drafter = ngram ();
  Sequence sequence = make_sequence (tokens, 1'000);
  ASSERT_EQ (guesses (drafter, sequence), counting_from (5, 12));
  sequence.tokens.insert (sequence.tokens.end (),
                          {5, 6, 999, 500, 1, 2, 3, 4}); // 7 was wrong, 8 … were not tried
  const Draft draft = draft_of (drafter, sequence);
  ASSERT_EQ (guesses (draft), (Tokens{5, 6})) << "7 is at 12/13 × 1/3";
  EXPECT_FLOAT_EQ (draft.probability[0], 2.0F / 3);
  EXPECT_FLOAT_EQ (draft.probability[1], 2.0F / 3);
  sequence.tokens.insert (sequence.tokens.end (), {5, 6, 7, 8});
  const Draft later = draft_of (drafter, sequence);
  ASSERT_GE (later.count, 1);
  EXPECT_EQ (later.tokens[0], 9);
  EXPECT_FLOAT_EQ (later.probability[0], 0.5F) << "has no record";
}

TEST (NgramDrafter, min_match_is_the_shortest_context)
{
  for (int min_match = 2; min_match <= 4; ++min_match) {
    for (int common = 1; common <= 5; ++common) {
      NgramDrafter drafter = ngram (min_match, 1);
      Tokens tokens = {100};
      const auto shared = counting_from (1, 1 + common);
      tokens.insert (tokens.end (), shared.begin (), shared.end ());
      tokens.insert (tokens.end (), {200, 300});
      tokens.insert (tokens.end (), shared.begin (), shared.end ());
      Sequence sequence = make_sequence (tokens, 100);
      EXPECT_EQ (guesses (drafter, sequence), common >= min_match ? Tokens{200} : Tokens{})
          << "min_match " << min_match << ", " << common << " tokens in common";
    }
  }
}

TEST (NgramDrafter, a_prediction_is_known_beforehand)
{
  NgramDrafter drafter = ngram ();
  Sequence sequence = make_sequence ({1, 2, 3}, 200);
  sequence.request->prediction = counting_from (100, 140);
  const Draft first = draft_of (drafter, sequence);
  EXPECT_EQ (guesses (first), counting_from (100, 115));
  EXPECT_EQ (first.source[0], DraftSource::kPrediction);
  sequence.tokens.insert (sequence.tokens.end (), {110, 111});
  const Draft later = draft_of (drafter, sequence);
  EXPECT_EQ (guesses (later), (Tokens{112, 113}));
  EXPECT_EQ (later.source[0], DraftSource::kPrediction);
  sequence.tokens.insert (sequence.tokens.end (), {138, 139});
  EXPECT_TRUE (guesses (drafter, sequence).empty ()) << "the prompt does not follow the prediction";
}

// Against a map that keeps everything.
TEST (NgramTable, counts_what_followed_each_context_and_finds_nothing_else)
{
  int looked_up = 0, missing = 0;
  for (uint64_t seed = 0; seed < 30; ++seed) {
    std::mt19937_64 random (seed);
    const int context = 2 + static_cast<int> (seed % 3);
    const Tokens history = random_text (random, 50 + random () % 3'000, seed % 2 ? 4 : 100'000);
    NgramTable table (context);
    struct Known {
      uint16_t count = 0;
      uint32_t next = 0;
    };
    std::map<Tokens, std::map<TokenId, Known>> expected;
    for (auto next = static_cast<uint32_t> (context); next < history.size (); ++next) {
      table.insert (history, next);
      Known &known = expected[{history.begin () + next - context, history.begin () + next}][history[next]];
      ++known.count;
      known.next = next;
    }
    for (const auto &[key, continuations] : expected) {
      const auto found = table.find (history, key);
      looked_up += static_cast<int> (continuations.size ());
      missing += static_cast<int> (continuations.size ()) - found.count;
      uint32_t total = 0;
      for (int i = 0; i < found.count; ++i) {
        const auto &entry = found.items[static_cast<size_t> (i)];
        const auto known = continuations.find (history[entry.next]);
        ASSERT_NE (known, continuations.end ()) << "seed " << seed;
        ASSERT_EQ (entry.next, known->second.next) << "seed " << seed;
        ASSERT_LE (entry.count, known->second.count) << "seed " << seed;
        missing += entry.count < known->second.count; // crowded out, and back
        total += entry.count;
      }
      ASSERT_EQ (found.total, total);
    }
    EXPECT_LE (table.bytes (), std::max<size_t> (8 * 512, 14 * table.entries ())) << "seed " << seed;
  }
  EXPECT_GT (looked_up, 10'000);
  EXPECT_LE (missing, looked_up / 200) << "crowded out";
}

TEST (NgramTable, keeps_four_continuations_the_weakest_makes_room)
{
  Tokens history;
  for (const TokenId next : {50, 50, 51, 52, 52, 53, 54})
    history.insert (history.end (), {1, 2, next});
  NgramTable table (2);
  for (uint32_t next = 2; next < history.size (); next += 3)
    table.insert (history, next);
  const auto found = table.find (history, Tokens{1, 2});
  ASSERT_EQ (found.count, NgramTable::kContinuations);
  std::map<TokenId, int> counts;
  for (const auto &entry : found.items)
    counts[history[entry.next]] = entry.count;
  EXPECT_EQ (counts, (std::map<TokenId, int>{{50, 2}, {52, 2}, {53, 1}, {54, 1}}))
      << "51 was the older of two";
}

TEST (NgramTable, hostile_texts_cost_probes_within_bounds)
{
  std::mt19937_64 random (3);
  const std::vector<std::pair<const char *, Tokens>> texts = {
      {"one token", Tokens (100'000, 7)},
      {"two tokens", random_text (random, 100'000, 2)},
      {"one context, always something else after it",
       [] {
         Tokens tokens;
         for (TokenId i = 0; i < 33'000; ++i)
           tokens.insert (tokens.end (), {1, 2, 100 + i});
         return tokens;
       }()},
      {"never the same", counting_from (0, 100'000)},
  };
  for (const auto &[name, text] : texts) {
    NgramTable table (2);
    for (uint32_t next = 2; next < text.size (); ++next) {
      table.insert (text, next);
      const uint64_t before = table.work ();
      table.find (text, std::span (text).subspan (next - 1, 2));
      ASSERT_LE (table.work () - before, 64u) << name;
    }
    EXPECT_LE (table.work (), 128 * text.size ()) << name;
    EXPECT_LE (table.bytes (), 14 * text.size ()) << name;
  }
}
