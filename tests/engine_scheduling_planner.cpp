// labels: unit property
// The planner's promises on random states.

#include "engine/scheduling/planner.hpp"
#include "tests/seed.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <numeric>
#include <random>

using namespace millrace;

TEST (Planner, SpendsTheBudgetFairlyAndNeverStarvesDecode)
{
  const uint64_t seed = test_seed ();
  std::mt19937_64 random (seed);
  std::vector<RowPlan> rows, again;
  for (int round = 0; round < 200'000; round++) {
    std::vector<SequenceView> sequences (random () % 40);
    for (auto &sequence : sequences)
      sequence = {.prefill_left = random () % 2 ? 0 : static_cast<int> (random () % 300),
                  .draft_room = static_cast<int> (random () % 20) - 2};
    const Budgets budgets{.prefill_tokens = 1 + static_cast<int> (random () % 600),
                          .max_draft = static_cast<int> (random () % 16)};
    plan_rows (sequences, budgets, rows);

    std::vector<int> given (sequences.size (), 0), has_row (sequences.size (), 0);
    int previous = -1;
    for (const RowPlan &row : rows) {
      ASSERT_GT (row.sequence, previous) << "seed " << seed;
      previous = row.sequence;
      const auto &sequence = sequences[row.sequence];
      given[row.sequence] = row.prefill_tokens;
      has_row[row.sequence] = 1;
      ASSERT_LE (row.prefill_tokens, sequence.prefill_left);
      ASSERT_EQ (row.scored, row.prefill_tokens == sequence.prefill_left);
      ASSERT_TRUE (row.prefill_tokens > 0 || row.scored) << "a row without work";
      ASSERT_GE (row.draft_limit, 0);
      ASSERT_LE (row.draft_limit, std::max (0, std::min (budgets.max_draft, sequence.draft_room)));
    }
    int wanted = 0;
    for (size_t i = 0; i < sequences.size (); i++) {
      wanted += sequences[i].prefill_left;
      ASSERT_TRUE (sequences[i].prefill_left > 0 || has_row[i])
          << "a decoding sequence without a row, seed " << seed;
    }
    const int total = std::accumulate (given.begin (), given.end (), 0);
    ASSERT_EQ (total, std::min (wanted, budgets.prefill_tokens)) << "seed " << seed;
    // Max-min fairness: whoever is left unsatisfied has at least as much as anybody else, but for a token.
    const int most = given.empty () ? 0 : *std::max_element (given.begin (), given.end ());
    for (size_t i = 0; i < sequences.size (); i++) {
      if (given[i] < sequences[i].prefill_left) {
        ASSERT_GE (given[i] + 1, most) << "seed " << seed << " round " << round;
      }
    }
    plan_rows (sequences, budgets, again);
    ASSERT_TRUE (std::equal (rows.begin (), rows.end (), again.begin (), again.end (),
                             [] (const RowPlan &a, const RowPlan &b) {
                               return a.sequence == b.sequence && a.prefill_tokens == b.prefill_tokens &&
                                      a.scored == b.scored && a.draft_limit == b.draft_limit;
                             }));
  }
}
