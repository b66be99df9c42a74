// labels: unit property
// timeout: 300
// soak: ROUNDS=10000000
// The planner's promises on random states, without a scheduler around it.

#include "engine/scheduling/planner.hpp"
#include "tests/seed.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

using namespace millrace;

namespace
{

struct State {
  std::vector<SequenceView> sequences;
  KvLayout groups;
  CostModel cost;
  Budgets budgets;
};

/// Knows what decode and prefill cost: about `decode_ms` a step and `token_ms` for each prefill token.
CostModel
trained (double decode_ms, double token_ms)
{
  CostModel cost;
  for (int i = 1; i <= 8; i++) {
    cost.learn ({.scored_tokens = i, .scored_positions = 100.0 * i}, decode_ms);
    cost.learn ({.prefill_tokens = 16 * i}, token_ms * 16 * i);
  }
  return cost;
}

class RandomStates
{
public:
  explicit RandomStates (uint64_t seed)
      : random_ (seed)
  {
  }

  void next (State &state)
  {
    state.groups = {{.block_bytes = 1}};
    if (below (3) == 0)
      state.groups.push_back ({.kind = KvGroup::Kind::kWindow, .window = 1 + below (60), .block_bytes = 1});
    if (below (4) == 0)
      state.groups.push_back ({.kind = KvGroup::Kind::kRecurrent, .block_bytes = 1});
    state.sequences.resize (static_cast<size_t> (below (12)));
    for (SequenceView &view : state.sequences)
      fill (view, state.groups);
    if (below (64) == 0)
      state.cost = trained (1 + below (30), 0.01 + below (100) / 100.0);
    Budgets &budgets = state.budgets;
    budgets.prefill_tokens = 1 + below (below (2) ? 40 : 600);
    budgets.max_draft = below (16);
    budgets.max_step_ms = below (2) ? 0 : 1 + below (100);
    budgets.max_growth = below (2) ? 1 << 24 : 1 + below (200);
    budgets.cost = below (4) ? &state.cost : nullptr;
    budgets.groups = state.groups;
    budgets.whole_blocks = below (3) == 0;
    for (int &available : budgets.available)
      available = below (below (3) ? 4 : 100);
  }

private:
  int below (int bound) { return static_cast<int> (random_ () % static_cast<uint64_t> (bound)); }

  void fill (SequenceView &view, const KvLayout &groups)
  {
    view.length = 1 + below (300);
    view.kv_tokens = below (2) ? view.length - 1 : below (view.length);
    view.draft_room = below (20) - 2;
    view.generating = below (2);
    view.follows = view.prefill_left () > 0 && below (5) == 0;
    view.held = below (8) == 0;
    view.priority = static_cast<Priority> (below (3));
    view.idle_steps = below (10);
    view.entries = view.releasable = {};
    for (size_t g = 0; g < groups.size (); g++) {
      const bool recurrent = groups[g].kind == KvGroup::Kind::kRecurrent;
      view.entries[g] = recurrent ? 2 : blocks_for (view.kv_tokens) + below (2);
      view.releasable[g] = recurrent ? 2 : below (view.entries[g] + 1); // the others are shared
    }
  }

  std::mt19937_64 random_;
};

bool
same (const StepPlan &a, const StepPlan &b)
{
  return a.preempted == b.preempted && a.blocked == b.blocked && a.prefill_budget == b.prefill_budget &&
         std::equal (a.rows.begin (), a.rows.end (), b.rows.begin (), b.rows.end (),
                     [] (const RowPlan &x, const RowPlan &y) {
                       return x.sequence == y.sequence && x.prefill_tokens == y.prefill_tokens &&
                              x.scored == y.scored && x.draft_limit == y.draft_limit;
                     });
}

/// What is wrong with a plan; null when nothing is.
const char *
broken_promise (const State &state, const StepPlan &plan)
{
  const auto &sequences = state.sequences;
  const Budgets &budgets = state.budgets;
  std::vector<int> gone (sequences.size ()), stuck (sequences.size ()), has_row (sequences.size ());
  for (const int index : plan.preempted) {
    if (gone[static_cast<size_t> (index)]++)
      return "preempted twice";
  }
  for (const int index : plan.blocked)
    stuck[static_cast<size_t> (index)] = 1;

  BlockCounts room = budgets.available;
  for (const int index : plan.preempted) {
    for (size_t g = 0; g < state.groups.size (); g++)
      room[g] += sequences[static_cast<size_t> (index)].releasable[g];
  }
  const auto first = static_cast<size_t> (
      std::ranges::find_if (sequences, [] (const SequenceView &view) { return !view.held; }) -
      sequences.begin ());
  int prefill = 0, previous = -1;
  for (const RowPlan &row : plan.rows) {
    const SequenceView &view = sequences[static_cast<size_t> (row.sequence)];
    if (row.sequence <= previous)
      return "rows out of order";
    previous = row.sequence;
    has_row[static_cast<size_t> (row.sequence)] = 1;
    if (gone[static_cast<size_t> (row.sequence)])
      return "a row for a preempted request";
    if (view.held)
      return "a row for one that is held";
    if (row.prefill_tokens < 0 || row.prefill_tokens > view.prefill_left ())
      return "more prefill than is left";
    if (row.prefill_tokens > 0 && view.follows)
      return "a follower computes what it waits for";
    if (row.scored != (row.prefill_tokens == view.prefill_left ()))
      return "scored before or not scored after its prompt";
    if (!row.scored && row.prefill_tokens == 0)
      return "a row without work";
    if (row.draft_limit < 0 ||
        row.draft_limit > std::max (0, std::min (view.draft_room, budgets.max_draft)) ||
        (row.draft_limit > 0 && !row.scored))
      return "more drafts than allowed";
    if (budgets.whole_blocks && !row.scored && row.prefill_tokens >= kBlockTokens &&
        (view.kv_tokens + row.prefill_tokens) % kBlockTokens != 0)
      return "a chunk that ends inside a block";
    prefill += row.prefill_tokens;
    const int length = view.kv_tokens + row.prefill_tokens + (row.scored ? 1 + row.draft_limit : 0);
    for (size_t g = 0; g < state.groups.size (); g++)
      room[g] -= std::max (0, table_size (state.groups[g], length) - view.entries[g]);
  }
  for (size_t g = 0; g < state.groups.size (); g++) {
    if (room[g] < 0)
      return "more memory than there is";
  }
  if (prefill > std::max (budgets.prefill_tokens, 1))
    return "more prefill than the budget";

  for (size_t i = 0; i < sequences.size (); i++) {
    const SequenceView &view = sequences[i];
    if (view.held) {
      if (stuck[i])
        return "one that is held wants memory";
      continue;
    }
    if (view.prefill_left () == 0 && !has_row[i] && !gone[i] && !stuck[i])
      return "a decoding request without a row";
    if (first < sequences.size () && gone[first])
      return "the first in rank was preempted";
    // Prompts that get nothing: by memory, because they follow, or because others have waited longer.
    if (view.prefill_left () > 0 && !has_row[i] && !gone[i] && !stuck[i] && !view.follows) {
      for (const RowPlan &row : plan.rows) {
        const SequenceView &other = sequences[static_cast<size_t> (row.sequence)];
        if (row.prefill_tokens > 0 && other.idle_steps < view.idle_steps)
          return "a prompt that waited less was served before";
      }
      if (prefill == 0 && plan.blocked.empty () && plan.preempted.empty ())
        return "nobody's prompt was served though there was work";
    }
  }
  if (first == sequences.size () && !(plan.preempted.empty () && plan.rows.empty ()))
    return "something was done though all are held";
  if (first < sequences.size () && stuck[first]) {
    for (size_t i = 0; i < sequences.size (); i++) {
      if (i != first && !gone[i])
        return "the first in rank is blocked though others hold memory";
    }
  }
  return nullptr;
}

} // namespace

TEST (Planner, KeepsItsPromisesInEveryState)
{
  const uint64_t seed = test_seed ();
  const int rounds = test_rounds (400'000);
  RandomStates states (seed);
  State state;
  state.cost = trained (8, 0.5);
  Planner planner, other;
  StepPlan plan, again;
  int64_t preempted = 0, blocked = 0, rows = 0;
  for (int round = 0; round < rounds; round++) {
    states.next (state);
    planner.plan (state.sequences, state.budgets, plan);
    const char *broken = broken_promise (state, plan);
    ASSERT_EQ (broken, nullptr) << broken << ", seed " << seed << ", round " << round;
    if (round % 8 == 0) {
      other.plan (state.sequences, state.budgets, again);
      ASSERT_TRUE (same (plan, again)) << "seed " << seed << ", round " << round;
    }
    preempted += static_cast<int64_t> (plan.preempted.size ());
    blocked += static_cast<int64_t> (plan.blocked.size ());
    rows += static_cast<int64_t> (plan.rows.size ());
  }
  std::printf ("%d plans: %lld rows, %lld preempted, %lld blocked\n", rounds, static_cast<long long> (rows),
               static_cast<long long> (preempted), static_cast<long long> (blocked));
}

TEST (Planner, SharesTheBudgetByWeightAndHandsLeftoversOn)
{
  std::vector<SequenceView> sequences (3);
  sequences[0] = {.length = 1001, .priority = Priority::kHigh};
  sequences[1] = {.length = 1001, .priority = Priority::kNormal};
  sequences[2] = {.length = 11, .priority = Priority::kLow};
  const KvLayout groups{{.block_bytes = 1}};
  Budgets budgets{.prefill_tokens = 310, .groups = groups, .available = {1000}};
  Planner planner;
  StepPlan plan;
  planner.plan (sequences, budgets, plan);
  ASSERT_EQ (plan.rows.size (), 3u);
  EXPECT_EQ (plan.rows[2].prefill_tokens, 10) << "a short prompt is served whole";
  EXPECT_TRUE (plan.rows[2].scored);
  EXPECT_EQ (plan.rows[0].prefill_tokens, 192) << "two thirds of the other 300, to a block's end";
  EXPECT_EQ (plan.rows[1].prefill_tokens, 96);
}

TEST (Planner, CutsPromptsToTheTimeThatRunningRequestsLeave)
{
  const CostModel cost = trained (10, 0.25);
  std::vector<SequenceView> sequences (2);
  sequences[0] = {.length = 100, .kv_tokens = 99};
  sequences[1] = {.length = 4001};
  const KvLayout groups{{.block_bytes = 1}};
  Budgets budgets{.prefill_tokens = 512, .cost = &cost, .groups = groups, .available = {1000}};
  Planner planner;
  StepPlan plan;
  planner.plan (sequences, budgets, plan);
  EXPECT_NEAR (plan.prefill_budget, 160, 5) << "four rows' time, 10 ms each, at 0.25 ms a token";
  sequences.insert (sequences.begin (), 7, SequenceView (sequences[0]));
  planner.plan (sequences, budgets, plan);
  EXPECT_NEAR (plan.prefill_budget, 28, 2) << "0.7 of the rows' time at least";
  budgets.max_step_ms = 60;
  planner.plan (sequences, budgets, plan);
  EXPECT_NEAR (plan.prefill_budget, 200, 10);
  EXPECT_NEAR (plan.predicted_ms, 60, 6);
  sequences.erase (sequences.begin (), sequences.end () - 1);
  planner.plan (sequences, budgets, plan);
  EXPECT_EQ (plan.prefill_budget, 512) << "nobody waits for tokens";
}

TEST (Planner, PreemptsTheNewestPromptThenTheNewestAnswerAndNobodyInVain)
{
  std::vector<SequenceView> sequences (4);
  sequences[0] = {.length = 33, .kv_tokens = 32, .generating = true, .entries = {2}, .releasable = {2}};
  sequences[1] = {.length = 50, .kv_tokens = 49, .generating = true, .entries = {4}, .releasable = {4}};
  sequences[2] = {.length = 50, .kv_tokens = 16, .entries = {1}, .releasable = {1}};
  sequences[3] = {.length = 50, .kv_tokens = 49, .generating = true, .entries = {4}, .releasable = {4}};
  const KvLayout groups{{.block_bytes = 1}};
  Budgets budgets{.prefill_tokens = 16, .groups = groups, .available = {0}};
  Planner planner;
  StepPlan plan;
  planner.plan (sequences, budgets, plan);
  EXPECT_EQ (plan.preempted, (std::vector<int>{2})) << "the prompt goes before the newer answer";
  EXPECT_EQ (plan.rows.size (), 3u);

  sequences[0].length = 32 + 2 * kBlockTokens + 1;
  sequences[0].kv_tokens = sequences[0].length - 1;
  planner.plan (sequences, budgets, plan); // three blocks: the prompt's one and the newest answer's
  EXPECT_EQ (plan.preempted, (std::vector<int>{2, 3}));

  for (auto &view : sequences)
    view.releasable = {0};
  std::swap (sequences[0], sequences[1]); // now the second in rank lacks blocks that nobody can give
  planner.plan (sequences, budgets, plan);
  EXPECT_TRUE (plan.preempted.empty ());
  EXPECT_EQ (plan.blocked.front (), 1);
}

TEST (Planner, WhoIsHeldGetsNothingAndMakesWayForTheFirstThatIsNot)
{
  std::vector<SequenceView> sequences (3);
  sequences[0] = {.length = 50, .kv_tokens = 49, .held = true, .entries = {4}, .releasable = {4}};
  sequences[1] = {.length = 33, .kv_tokens = 32, .generating = true, .entries = {2}, .releasable = {2}};
  sequences[2] = {.length = 200, .kv_tokens = 0, .held = true};
  const KvLayout groups{{.block_bytes = 1}};
  Budgets budgets{.prefill_tokens = 16, .groups = groups, .available = {1}};
  Planner planner;
  StepPlan plan;
  planner.plan (sequences, budgets, plan);
  ASSERT_EQ (plan.rows.size (), 1u);
  EXPECT_EQ (plan.rows[0].sequence, 1);
  EXPECT_TRUE (plan.preempted.empty ());
  EXPECT_TRUE (plan.blocked.empty ());

  budgets.available = {0};
  planner.plan (sequences, budgets, plan);
  ASSERT_EQ (plan.rows.size (), 1u);
  EXPECT_EQ (plan.rows[0].sequence, 1);
  EXPECT_EQ (plan.preempted, (std::vector<int>{2, 0})) << "the newest first";

  sequences[1].held = true;
  planner.plan (sequences, budgets, plan);
  EXPECT_TRUE (plan.rows.empty ());
  EXPECT_TRUE (plan.preempted.empty ());
  EXPECT_TRUE (plan.blocked.empty ());
}

TEST (CostModel, LearnsLinearCostsAndShrugsOffHiccups)
{
  std::mt19937_64 random (1);
  CostModel cost;
  const auto truth = [] (const StepWork &work) {
    return (work.scored_tokens ? 3 + 0.4 * work.scored_tokens + work.scored_positions * 1e-4 : 0) +
           (work.prefill_tokens ? 1.5 + 0.3 * work.prefill_tokens + work.prefill_positions * 2e-5 +
                                      work.prefill_lengths * 1e-3
                                : 0);
  };
  for (int i = 0; i < 400; i++) {
    StepWork work;
    work.scored_tokens = static_cast<int> (random () % 9);
    work.scored_positions = work.scored_tokens * static_cast<double> (random () % 2000);
    if (i % 3 == 0) {
      work.prefill_tokens = 16 + static_cast<int> (random () % 500);
      work.prefill_lengths = static_cast<double> (random () % 4000);
      work.prefill_positions = work.prefill_tokens * work.prefill_lengths;
    }
    cost.learn (work, i % 50 == 49 ? 20 * truth (work) : truth (work));
  }
  const StepWork decode{.scored_tokens = 8, .scored_positions = 8000};
  const StepWork mixed{
      .scored_tokens = 8, .scored_positions = 8000, .prefill_tokens = 128, .prefill_positions = 128 * 1000.0};
  EXPECT_NEAR (cost.predict_ms (decode) / truth (decode), 1, 0.25);
  EXPECT_NEAR (cost.predict_ms (mixed) / truth (mixed), 1, 0.25);
  const int fitting = cost.prefill_tokens_within (20, 1000, 1);
  EXPECT_NEAR (
      cost.prefill_ms (
          {.prefill_tokens = fitting, .prefill_positions = fitting * 1000.0, .prefill_lengths = 1000}),
      20, 0.5);
  EXPECT_EQ (cost.prefill_tokens_within (0, 0, 1), 0);
}

TEST (CostModel, StepsFasterThanDecodeAloneDoNotMakePromptsFree)
{
  CostModel cost;
  const StepWork decode{.scored_tokens = 8, .scored_positions = 800};
  StepWork mixed = decode;
  mixed.prefill_tokens = 4;
  for (int i = 0; i < 10; i++)
    cost.learn (decode, 10);
  for (int i = 0; i < 200; i++) // 2 ms for the prompt, and noise that is larger
    cost.learn (mixed, 12 + (i % 2 ? 3 : -3));
  EXPECT_NEAR (cost.prefill_ms (mixed), 2, 0.8);
}
