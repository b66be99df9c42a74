// What holds for every drafter that looks things up, whatever its policy: limits, slots, memory, and that it repeats itself.
//
// labels: unit property
// soak: MILLRACE_UPDATES=100000000
// timeout: 300
#include "engine/drafting/lookup_policy.hpp"
#include "tests/draft_rows.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <new>

using namespace millrace;
using namespace millrace::testing;

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

using Tokens = std::vector<TokenId>;

constexpr size_t kBytesPerToken = 64;
constexpr size_t kLeastBytes = 64 << 10; ///< what a sequence of a few tokens may take

class Lookup : public ::testing::TestWithParam<LookupPolicy>
{
protected:
  std::unique_ptr<LookupDrafter> make (int max_draft = kMaxDraft, int min_match = 2) const
  {
    return make_lookup_drafter ({.policy = GetParam (), .max_draft = max_draft, .min_match = min_match});
  }
};

std::string
policy_name (const ::testing::TestParamInfo<LookupPolicy> &info)
{
  return info.param == LookupPolicy::kSuffix ? "suffix" : "ngram";
}

INSTANTIATE_TEST_SUITE_P (Policies, Lookup, ::testing::Values (LookupPolicy::kSuffix, LookupPolicy::kNgram),
                          policy_name);

/// A phrase that came often, and begins again.
Tokens
often (int times = 12)
{
  Tokens tokens;
  for (int i = 0; i < times; ++i) {
    const Tokens phrase = counting_from (1, 20);
    tokens.insert (tokens.end (), phrase.begin (), phrase.end ());
    tokens.push_back (1'000 + i);
  }
  tokens.insert (tokens.end (), {1, 2, 3, 4});
  return tokens;
}

} // namespace

TEST_P (Lookup, guesses_what_came_often)
{
  Sequence sequence = make_sequence (often (), 1'000);
  const Draft draft = draft_of (*make (), sequence);
  ASSERT_GE (draft.count, 8);
  for (int i = 0; i < draft.count; ++i) {
    EXPECT_EQ (draft.tokens[static_cast<size_t> (i)], 5 + i);
    EXPECT_GT (draft.probability[static_cast<size_t> (i)], 0.4F);
    EXPECT_LT (draft.probability[static_cast<size_t> (i)], 1.0F);
  }
}

TEST_P (Lookup, a_text_that_repeats_takes_few_steps)
{
  const auto drafter = make ();
  Sequence sequence = make_sequence ({1, 2, 3, 1, 2, 3}, 2'000);
  Tokens text;
  for (int i = 0; i < 1'000; ++i)
    text.push_back (1 + i % 3);
  EXPECT_LE (steps_to_say (*drafter, sequence, text), 1'000 / 16 + 12);
}

TEST_P (Lookup, never_drafts_more_than_it_may)
{
  for (int max_draft = -1; max_draft <= kMaxDraft + 2; ++max_draft) {
    const auto drafter = make (max_draft);
    Sequence sequence = make_sequence (Tokens (60, 7), 2'000);
    for (int step = 0; step < 40; ++step) {
      const int limit = step % (kMaxDraft + 3) - 1;
      const Tokens drafts = guesses (*drafter, sequence, limit);
      ASSERT_LE (static_cast<int> (drafts.size ()), std::max (0, std::min ({limit, max_draft, kMaxDraft})));
      for (size_t i = 0; i <= drafts.size (); ++i)
        sequence.tokens.push_back (7);
    }
    EXPECT_EQ (guesses (*drafter, sequence).size (),
               static_cast<size_t> (std::clamp (max_draft, 0, kMaxDraft)));
  }
}

TEST_P (Lookup, rows_that_cannot_use_drafts_get_none)
{
  const auto drafter = make ();
  Sequence sequence = make_sequence (Tokens (20, 7), 100);
  Step step;
  step.rows.assign (4, make_row (sequence, 5));
  step.rows[0].scored = false;
  step.rows[1].finish = FinishReason::kCancelled;
  step.rows[2].draft.push (99, 0.5F, DraftSource::kModel);
  step.rows[3].draft_limit = 0;
  drafter->draft (step);
  EXPECT_EQ (step.rows[0].draft.count, 0);
  EXPECT_EQ (step.rows[1].draft.count, 0);
  EXPECT_EQ (guesses (step.rows[2].draft), Tokens{99}) << "without a controller nobody is replaced";
  EXPECT_EQ (step.rows[3].draft.count, 0);
  EXPECT_LE (drafter->bytes (), kLeastBytes);
}

TEST_P (Lookup, a_slot_knows_nothing_of_the_sequence_before)
{
  const auto drafter = make ();
  Sequence first = make_sequence (often (), 1'000, 3);
  EXPECT_FALSE (guesses (*drafter, first).empty ());
  Sequence second = make_sequence ({1, 2, 3, 4}, 10, 3);
  EXPECT_TRUE (guesses (*drafter, second).empty ());
  Sequence third = make_sequence (often (30), 5'000, 3);
  EXPECT_FALSE (guesses (*drafter, third).empty ());
  Sequence other_slot = make_sequence ({1, 2, 3, 4}, 100, 0);
  EXPECT_TRUE (guesses (*drafter, other_slot).empty ());
  const Tokens before = guesses (*drafter, third);
  drafter->clear ();
  EXPECT_EQ (guesses (*drafter, third), before) << "the sequence itself is all it needs";
}

TEST_P (Lookup, an_output_without_repetition_gets_hardly_any_guesses)
{
  const auto drafter = make ();
  Sequence sequence = make_sequence (counting_from (0, 500), 4'000);
  int drafted = 0;
  steps_to_say (*drafter, sequence, counting_from (500, 3'000), &drafted);
  EXPECT_EQ (drafted, 0);
}

TEST_P (Lookup, memory_is_bounded_by_the_tokens_of_the_history)
{
  for (const uint64_t vocab : {uint64_t{1}, uint64_t{3}, uint64_t{50}, uint64_t{150'000}}) {
    const auto drafter = make ();
    std::mt19937_64 random (vocab);
    Sequence sequence = make_sequence (random_text (random, 10, vocab), 70'000);
    sequence.request->prediction = random_text (random, vocab % 2 ? 0 : 5'000, vocab);
    size_t looked = 0;
    while (sequence.tokens.size () < 70'000) {
      draft_of (*drafter, sequence);
      const size_t history = sequence.tokens.size () + sequence.request->prediction.size ();
      ASSERT_LE (drafter->bytes (), std::max (kLeastBytes, kBytesPerToken * history))
          << history << " tokens of " << vocab;
      ++looked;
      for (uint64_t i = 0; i <= random () % 16; ++i)
        sequence.tokens.push_back (static_cast<TokenId> (random () % vocab));
    }
    EXPECT_GT (looked, 1'000u);
    // The next sequence of the slot does not inherit what it has no use for.
    Sequence next = make_sequence (random_text (random, 3'000, vocab), 4'000);
    draft_of (*drafter, next);
    EXPECT_LE (drafter->bytes (), kBytesPerToken * 3'000) << vocab;
  }
}

TEST_P (Lookup, allocates_only_when_a_history_grows)
{
  const auto drafter = make ();
  std::mt19937_64 random (5);
  std::vector<Sequence> sequences;
  for (int slot = 0; slot < 4; ++slot)
    sequences.push_back (make_sequence ({1, 2, 3, 4, 1, 2, 3}, 60'000, slot));
  Step step;
  for (Sequence &sequence : sequences)
    step.rows.push_back (make_row (sequence));
  drafter->draft (step);
  int drafted = 0;
  const size_t before = allocations;
  for (int i = 0; i < 50'000; ++i) {
    for (Row &row : step.rows) {
      drafted += row.draft.count;
      row.draft.count = 0;
      row.sequence->tokens.push_back (static_cast<TokenId> (random () % 4));
    }
    drafter->draft (step);
  }
  EXPECT_LE (allocations - before, 4u * 50'000 / 512) << "of four histories of 50,000 tokens";
  EXPECT_GT (drafted, 1'000);

  const size_t settled = allocations;
  for (int i = 0; i < 100; ++i) {
    for (Row &row : step.rows)
      row.draft.count = 0;
    drafter->draft (step);
  }
  EXPECT_EQ (allocations - settled, 0u);
}

// Short by default; MILLRACE_UPDATES=100000000 is the soak.
TEST_P (Lookup, random_updates_of_many_sequences_stay_within_bounds)
{
  const char *const wanted = std::getenv ("MILLRACE_UPDATES");
  const long long updates = wanted ? std::atoll (wanted) : 1'000'000;
  std::mt19937_64 random (11);
  const auto drafter = make ();
  std::map<int, std::unique_ptr<Sequence>> live;
  std::array<uint64_t, 8> vocab{};
  Step step;
  size_t drafted = 0, right = 0, largest = 0;
  for (long long update = 0; update < updates;) {
    step.rows.clear ();
    for (int slot = 0; slot < 8; ++slot) {
      auto &sequence = live[slot];
      if (!sequence || static_cast<int> (sequence->tokens.size ()) + kMaxDraft + 1 >= sequence->max_tokens) {
        vocab[static_cast<size_t> (slot)] = uint64_t{2} << random () % 17;
        const size_t length = 1 + random () % (random () % 8 ? 200 : 10'000);
        const Tokens prompt = random_text (random, length, vocab[static_cast<size_t> (slot)]);
        sequence = std::make_unique<Sequence> (
            make_sequence (prompt, static_cast<int> (length + 20 + random () % 4'000), slot));
        if (random () % 4 == 0)
          sequence->request->prediction =
              random_text (random, random () % 2'000, vocab[static_cast<size_t> (slot)]);
      }
      step.rows.push_back (make_row (*sequence, static_cast<int> (random () % (kMaxDraft + 1))));
    }
    drafter->draft (step);
    size_t history = 0;
    for (Row &row : step.rows) {
      ASSERT_LE (row.draft.count, row.draft_limit);
      drafted += static_cast<size_t> (row.draft.count);
      // Some of the guesses come true, then a token of many or of few comes.
      auto &tokens = row.sequence->tokens;
      const int same =
          row.draft.count ? static_cast<int> (random () % static_cast<uint64_t> (row.draft.count + 1)) : 0;
      right += static_cast<size_t> (same);
      for (int i = 0; i < same; ++i)
        tokens.push_back (row.draft.tokens[static_cast<size_t> (i)]);
      tokens.push_back (static_cast<TokenId> (random () % vocab[static_cast<size_t> (row.sequence->slot)]));
      update += same + 1;
      history += tokens.size () + row.sequence->request->prediction.size ();
    }
    // A slot may just have been taken over by a request whose few tokens need less than the least.
    ASSERT_LE (drafter->bytes (), 8 * kLeastBytes + kBytesPerToken * history) << "after " << update;
    largest = std::max (largest, drafter->bytes ());
  }
  EXPECT_GT (drafted, static_cast<size_t> (updates) / 100);
  EXPECT_GT (right, 1'000u);
  RecordProperty ("largest_bytes", std::to_string (largest));
}

TEST_P (Lookup, random_updates_repeat)
{
  size_t drafted = 0;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    std::vector<Tokens> outcomes;
    for (int run = 0; run < 2; ++run) {
      std::mt19937_64 random (seed);
      const auto drafter = make (static_cast<int> (random () % 17), 2 + static_cast<int> (random () % 3));
      const uint64_t vocab = 1 + random () % 12;
      std::map<int, std::unique_ptr<Sequence>> live;
      Tokens outcome;
      for (int i = 0; i < 300; ++i) {
        const int slot = static_cast<int> (random () % 6);
        auto &sequence = live[slot];
        if (!sequence || random () % 40 == 0 ||
            static_cast<int> (sequence->tokens.size ()) >= sequence->max_tokens) {
          const Tokens prompt = random_text (random, 1 + random () % 30, vocab);
          sequence = std::make_unique<Sequence> (
              make_sequence (prompt, static_cast<int> (prompt.size () + 1 + random () % 200), slot));
        }
        if (random () % 100 == 0)
          drafter->clear ();
        Step step;
        for (auto &[number, each] : live) {
          Row row = make_row (*each, static_cast<int> (random () % (kMaxDraft + 1)));
          row.scored = random () % 8 != 0;
          step.rows.push_back (row);
        }
        drafter->draft (step);
        for (Row &row : step.rows) {
          ASSERT_LE (row.draft.count, row.draft_limit) << "seed " << seed;
          ASSERT_TRUE (row.scored || row.draft.count == 0) << "seed " << seed;
          drafted += static_cast<size_t> (row.draft.count);
          for (int j = 0; j < row.draft.count; ++j) {
            const TokenId token = row.draft.tokens[static_cast<size_t> (j)];
            const float chance = row.draft.probability[static_cast<size_t> (j)];
            ASSERT_GE (token, 0) << "seed " << seed;
            ASSERT_LT (token, static_cast<TokenId> (vocab)) << "seed " << seed;
            ASSERT_GT (chance, 0) << "seed " << seed;
            ASSERT_LE (chance, 1) << "seed " << seed;
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
  EXPECT_GT (drafted, 5'000u);
}
