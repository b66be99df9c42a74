// The shared store: what enters it, what leaves it, and that nobody sees it who did not ask for it.
//
// labels: unit property
#include "engine/drafting/shared_store.hpp"
#include "engine/drafting/suffix_drafter.hpp"
#include "tests/draft_rows.hpp"

#include <gtest/gtest.h>

#include <algorithm>

using namespace millrace;
using namespace millrace::testing;

namespace
{

using Tokens = std::vector<TokenId>;

Tokens
chain_tokens (const Chain &chain)
{
  return {chain.tokens.begin (), chain.tokens.begin () + chain.count};
}

Chain
ask (const SharedStore &store, const Tokens &tail)
{
  return store.propose (tail, 2, kMaxDraft);
}

/// A request runs in `slot`: says `output` in pieces behind `prompt`.
void
run_request (Drafter &drafter, const Tokens &prompt, const Tokens &output, int slot = 0)
{
  Sequence sequence = make_sequence (prompt, static_cast<int> (prompt.size () + output.size () + 10), slot);
  for (size_t said = 0; said <= output.size (); said += 5) {
    sequence.tokens.assign (prompt.begin (), prompt.end ());
    sequence.tokens.insert (sequence.tokens.end (), output.begin (),
                            output.begin () + static_cast<std::ptrdiff_t> (said));
    draft_of (drafter, sequence);
  }
}

} // namespace

TEST (SharedStore, proposes_what_others_said_up_to_its_end)
{
  SharedStore store (1 << 14);
  store.add (counting_from (1, 11));
  store.add (counting_from (100, 120));
  EXPECT_EQ (ask (store, {3, 4, 5}).count, 0) << "still waits";
  store.settle (5);
  EXPECT_EQ (chain_tokens (ask (store, {2, 3})), (Tokens{4, 5})) << "as far as it is written";
  store.settle (1'000);
  EXPECT_EQ (store.waiting (), 0u);
  EXPECT_EQ (chain_tokens (ask (store, {3, 4, 5})), counting_from (6, 11)) << "not into the next text";
  EXPECT_EQ (ask (store, {9, 10}).count, 0) << "a text ended there";
  EXPECT_EQ (chain_tokens (ask (store, {102, 103})), counting_from (104, 119));
  EXPECT_EQ (store.texts (), 2u);
}

TEST (SharedStore, the_oldest_leaves_but_what_was_used_is_spared)
{
  SharedStore store (1'024);
  std::vector<Tokens> texts;
  for (TokenId i = 0; i < 10; ++i)
    texts.push_back (counting_from (1'000 * i, 1'000 * i + 99)); // ten texts of 100 with the border
  for (const Tokens &text : texts) {
    store.add (text);
    store.settle (1'000);
  }
  const auto known = [&] (size_t i) {
    return ask (store, {texts[i][3], texts[i][4], texts[i][5]}).count > 0;
  };
  for (size_t i = 0; i < 10; ++i)
    EXPECT_TRUE (known (i)) << i;
  store.used (ask (store, {texts[1][3], texts[1][4]}));
  for (TokenId i = 20; i < 23; ++i) {
    store.add (counting_from (1'000 * i, 1'000 * i + 99));
    store.settle (1'000);
  }
  EXPECT_FALSE (known (0)) << "the oldest";
  EXPECT_TRUE (known (1)) << "used";
  EXPECT_FALSE (known (2));
  // It is not spared for ever.
  for (TokenId i = 30; i < 45; ++i) {
    store.add (counting_from (1'000 * i, 1'000 * i + 99));
    store.settle (1'000);
  }
  EXPECT_FALSE (known (1));
  EXPECT_LE (store.tokens (), store.capacity ());
}

TEST (SharedStore, stays_within_its_bounds_and_says_only_what_was_said)
{
  for (uint64_t seed = 0; seed < 6; ++seed) {
    std::mt19937_64 random (seed);
    SharedStore store (1 + random () % 5'000);
    std::vector<Tokens> said;
    size_t proposed = 0;
    for (int i = 0; i < 1'500; ++i) {
      // Texts of one vocabulary each, so that it shows whose a guess is.
      const auto base = static_cast<TokenId> (1'000 * (i % 50));
      Tokens text = random_text (random, random () % (i % 100 == 0 ? 20'000 : 300), 6);
      for (TokenId &token : text)
        token += base;
      store.add (text);
      said.push_back (text);
      store.settle (random () % 600);
      ASSERT_LE (store.tokens (), store.capacity ());
      ASSERT_LE (store.waiting (), 2 * store.capacity ());
      ASSERT_LE (store.bytes (), store.capacity () * 44 + 16 * 1'024 + store.texts () * 16);
      const Tokens &asked = said[random () % said.size ()];
      if (asked.size () < 8)
        continue;
      const size_t at = random () % (asked.size () - 5);
      const Tokens tail (asked.begin () + static_cast<std::ptrdiff_t> (at),
                         asked.begin () + static_cast<std::ptrdiff_t> (at) + 5);
      const Chain chain = ask (store, tail);
      if (chain.count == 0)
        continue;
      ++proposed;
      if (random () % 2)
        store.used (chain);
      // Token by token: each was said behind what is before it.
      Tokens whole = tail;
      for (int guess = 0; guess < chain.count; ++guess) {
        whole.push_back (chain.tokens[static_cast<size_t> (guess)]);
        const std::span last = std::span (whole).last (3);
        ASSERT_TRUE (std::ranges::any_of (
            said, [&] (const Tokens &text) { return !std::ranges::search (text, last).empty (); }))
            << "seed " << seed;
      }
    }
    EXPECT_GT (proposed, 20u) << "seed " << seed;
  }
}

TEST (SharedStore, one_request_s_output_is_guessed_in_another)
{
  SuffixDrafter drafter ({.shared_store_tokens = 1 << 14});
  run_request (drafter, {1, 2, 3}, counting_from (500, 540));
  Sequence next = make_sequence ({7, 8, 9}, 1'000, 0);
  draft_of (drafter, next);
  next.tokens.insert (next.tokens.end (), {503, 504, 505});
  const Draft draft = draft_of (drafter, next);
  ASSERT_EQ (guesses (draft), counting_from (506, 521));
  EXPECT_EQ (draft.source[0], DraftSource::kStore);
  // Prompts are their users' own.
  next.tokens.insert (next.tokens.end (), {1, 2});
  EXPECT_TRUE (guesses (drafter, next).empty ());
}

TEST (SharedStore, without_it_requests_know_nothing_of_each_other)
{
  SuffixDrafter drafter ({});
  EXPECT_EQ (drafter.store (), nullptr);
  run_request (drafter, {1, 2, 3}, counting_from (500, 540));
  Sequence next = make_sequence ({7, 8, 9}, 1'000, 0);
  draft_of (drafter, next);
  next.tokens.insert (next.tokens.end (), {503, 504, 505});
  EXPECT_TRUE (guesses (drafter, next).empty ());
}

TEST (SharedStore, the_request_s_own_words_come_first_when_they_are_as_likely)
{
  SuffixDrafter drafter ({.shared_store_tokens = 1 << 14});
  run_request (drafter, {1, 2, 3}, counting_from (500, 540));
  Sequence next = make_sequence ({503, 504, 505, 77, 78, 79, 80, 1, 1, 503, 504, 505}, 1'000, 0);
  const Draft draft = draft_of (drafter, next);
  ASSERT_GE (draft.count, 4);
  EXPECT_EQ (draft.tokens[0], 77);
  EXPECT_EQ (draft.source[0], DraftSource::kSuffix);
}

TEST (SharedStore, an_output_enters_when_its_slot_stays_empty_too)
{
  SuffixDrafter drafter ({.shared_store_tokens = 1 << 14});
  run_request (drafter, {1, 2, 3}, counting_from (500, 540), 5);
  Sequence other = make_sequence ({7, 8, 9}, 1'000, 0);
  draft_of (drafter, other);
  other.tokens.insert (other.tokens.end (), {503, 504, 505});
  int steps = 1;
  while (steps < 20 && draft_of (drafter, other).count == 0)
    ++steps;
  EXPECT_GT (steps, 5);
  EXPECT_LT (steps, 15);
  draft_of (drafter, other);
  EXPECT_EQ (drafter.store ()->waiting (), 0u);
  EXPECT_EQ (drafter.store ()->tokens (), 41u) << "and a border";
}

TEST (SharedStore, a_sequence_that_was_away_enters_each_token_once)
{
  SuffixDrafter drafter ({.shared_store_tokens = 1 << 14});
  Sequence away = make_sequence ({1, 2, 3}, 1'000, 1), other = make_sequence ({7, 8, 9}, 1'000, 0);
  const auto entered = [&] {
    for (int i = 0; i < 20; ++i)
      draft_of (drafter, other);
    return drafter.store ()->tokens () + drafter.store ()->waiting () - drafter.store ()->texts ();
  };
  draft_of (drafter, away);
  away.tokens.insert (away.tokens.end (), {100, 101, 102, 103, 104});
  draft_of (drafter, away);
  EXPECT_EQ (entered (), 5u);
  EXPECT_EQ (entered (), 5u);
  away.tokens.insert (away.tokens.end (), {105, 106, 107});
  draft_of (drafter, away);
  EXPECT_EQ (entered (), 8u);
}

TEST (SharedStore, clear_forgets_it)
{
  SuffixDrafter drafter ({.shared_store_tokens = 1 << 14});
  run_request (drafter, {1, 2, 3}, counting_from (500, 540));
  run_request (drafter, {4, 5, 6}, counting_from (600, 640));
  EXPECT_GT (drafter.store ()->tokens (), 0u);
  drafter.clear ();
  EXPECT_EQ (drafter.store ()->tokens () + drafter.store ()->waiting (), 0u);
}
