// The draft controller on a machine made of numbers: it takes what pays, leaves what does not, and notices changes.
//
// labels: unit property
#include "engine/drafting/draft_budget.hpp"
#include "engine/drafting/draft_controller.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <deque>
#include <functional>
#include <numeric>
#include <random>

using namespace millrace;

namespace
{

/// Milliseconds of a step that scores so many tokens.
using Machine = std::function<double (int)>;

Machine
memory_bound (double share)
{
  return [share] (int tokens) { return 10 * (1 + share * (tokens - 1)); };
}

/// One stream whose drafts are right with a given chance; the truth is random tokens.
struct Stream {
  Sequence sequence;
  std::mt19937 random;
  double chance = 0.5; ///< that a guess is right
  double belief = 0.5; ///< what its drafter says
  int guesses = kMaxDraft;

  Stream (int slot, double chance, uint32_t seed)
      : random (seed)
      , chance (chance)
      , belief (chance)
  {
    sequence.request = std::make_shared<Request> ();
    sequence.slot = slot;
    sequence.tokens.reserve (1 << 20);
    sequence.tokens.assign (4, 1);
    sequence.prompt_tokens = 4;
    sequence.max_tokens = 1 << 20;
  }

  /// The token at a position: the same whoever asks.
  static TokenId truth (int position) { return static_cast<TokenId> (position * 2654435761U >> 8 & 0xFFFF); }

  Draft guess ()
  {
    Draft draft;
    std::uniform_real_distribution<double> uniform;
    bool right = true;
    for (int i = 0; i < guesses; ++i) {
      right = right && uniform (random) < chance;
      const TokenId token = truth (static_cast<int> (sequence.tokens.size ()) + i);
      draft.push (right ? token : token + 1, static_cast<float> (belief), DraftSource::kSuffix);
    }
    return draft;
  }
};

struct Totals {
  double ms = 0;
  int64_t tokens = 0, drafted = 0, steps = 0;
  double ms_per_token () const { return ms / static_cast<double> (tokens); }
};

/// Runs all streams together for some steps.
Totals
run (DraftController &controller, std::vector<Stream *> streams, const Machine &machine, int steps,
     DraftGate gate = DraftGate::kCost, bool recurrent = false)
{
  Totals totals;
  Step step;
  if (recurrent)
    step.recurrent_groups = {1};
  std::vector<int> replay (streams.size ());
  for (int turn = 0; turn < steps; ++turn) {
    step.rows.assign (streams.size (), Row ());
    double positions = 0;
    int scored = 0, replayed = 0;
    for (size_t i = 0; i < streams.size (); ++i) {
      Row &row = step.rows[i];
      row.sequence = &streams[i]->sequence;
      row.scored = true;
      row.draft_limit = kMaxDraft;
      positions += static_cast<double> (row.sequence->tokens.size ());
      row.prefill_tokens = std::exchange (replay[i], 0);
      replayed += row.prefill_tokens;
      if (controller.may_try (row, gate))
        controller.offer (row, streams[i]->guess (), gate);
    }
    controller.choose (step);
    for (size_t i = 0; i < streams.size (); ++i) {
      Row &row = step.rows[i];
      scored += 1 + row.draft.count;
      for (row.accepted_count = 0; row.accepted_count <= row.draft.count;) {
        const TokenId token = Stream::truth (static_cast<int> (row.sequence->tokens.size ()));
        row.accepted[static_cast<size_t> (row.accepted_count)].token = token;
        row.sequence->tokens.push_back (token);
        if (row.draft.count == row.accepted_count ||
            row.draft.tokens[static_cast<size_t> (row.accepted_count++)] != token)
          break;
      }
      row.accepted_count = std::max (row.accepted_count, 1);
      const int right = row.right_drafts ();
      row.accepted_count = right + 1;
      if (recurrent && right < row.draft.count)
        replay[i] = right + 1;
      totals.tokens += row.accepted_count;
      totals.drafted += row.draft.count;
      controller.settle (row);
    }
    const double ms = machine (scored + replayed);
    controller.learn (scored + replayed, positions, 0, ms);
    totals.ms += ms;
    totals.steps++;
  }
  return totals;
}

/// The least time for a token with drafts of one fixed length.
double
best_ms_per_token (double chance, const Machine &machine)
{
  double best = machine (1), tokens = 1, q = 1;
  for (int k = 1; k <= kMaxDraft; ++k) {
    tokens += q *= chance;
    best = std::min (best, machine (1 + k) / tokens);
  }
  return best;
}

} // namespace

TEST (DraftController, comes_close_to_the_best_fixed_length)
{
  for (const double share : {0.02, 0.1, 0.3, 0.6}) {
    for (const double chance : {0.1, 0.3, 0.6, 0.8, 0.95}) {
      DraftController controller;
      Stream stream (0, chance, 1);
      const Machine machine = memory_bound (share);
      run (controller, {&stream}, machine, 300);
      const Totals totals = run (controller, {&stream}, machine, 2000);
      EXPECT_LT (totals.ms_per_token (), 1.07 * best_ms_per_token (chance, machine))
          << "share " << share << " chance " << chance;
      EXPECT_LT (totals.ms_per_token (), 1.02 * machine (1)) << "share " << share << " chance " << chance;
    }
  }
}

TEST (DraftController, a_machine_that_computes_as_slowly_as_it_reads_gets_none)
{
  DraftController controller;
  Stream stream (0, 0.9, 2);
  run (controller, {&stream}, memory_bound (1), 100);
  const Totals totals = run (controller, {&stream}, memory_bound (1), 1000);
  EXPECT_LT (totals.drafted, 60); // now and then one, to see whether it still is
  EXPECT_LT (totals.ms_per_token (), 1.02 * memory_bound (1) (1));
}

TEST (DraftController, beliefs_that_are_wrong_are_found_out)
{
  for (const double belief : {0.05, 0.95}) {
    for (const double chance : {0.05, 0.95}) {
      DraftController controller;
      Stream stream (0, chance, 3);
      stream.belief = belief;
      const Machine machine = memory_bound (0.2);
      run (controller, {&stream}, machine, 200);
      const Totals totals = run (controller, {&stream}, machine, 1000);
      EXPECT_LT (totals.ms_per_token (), 1.05 * best_ms_per_token (chance, machine))
          << "belief " << belief << " chance " << chance;
    }
  }
}

TEST (DraftController, guesses_not_verified_are_scored_all_the_same)
{
  DraftController controller;
  Stream stream (0, 0.02, 4);
  stream.belief = 0.6;
  const Machine machine = memory_bound (0.3);
  run (controller, {&stream}, machine, 300);
  EXPECT_LT (run (controller, {&stream}, machine, 300).drafted, 30); // it rests, and pays for no probes
  stream.chance = 0.95;
  run (controller, {&stream}, machine, 100);
  const Totals awake = run (controller, {&stream}, machine, 300);
  EXPECT_LT (awake.ms_per_token (), 1.1 * best_ms_per_token (0.95, machine));
}

TEST (DraftController, a_request_loses_little_whatever_its_drafters_believe)
{
  for (const double share : {0.03, 0.1, 0.3}) {
    for (const double belief : {0.4, 0.6, 0.79}) {
      for (const int streams : {1, 4, 16}) {
        DraftController controller;
        const Machine machine = memory_bound (share);
        std::deque<Stream> others, wrong;
        std::vector<Stream *> before, now;
        for (int i = 0; i < streams; ++i) {
          before.push_back (&others.emplace_back (i, 0.7, 5 + i));
          now.push_back (&wrong.emplace_back (i, 0, 9 + i));
          now.back ()->belief = belief;
        }
        run (controller, before, machine, 100);
        Totals totals;
        for (const int steps : {1, 2, 4, 8, 16, 32, 64, 128, 256}) {
          const Totals more = run (controller, now, machine, steps);
          totals.ms += more.ms;
          totals.tokens += more.tokens;
          totals.drafted += more.drafted;
          const double tokens = static_cast<double> (totals.tokens) / streams;
          const double lost = totals.ms / machine (streams) - tokens;
          EXPECT_LT (lost, DraftBudget::kLoss * std::max (tokens, DraftBudget::kLossTokens) + 0.3)
              << "share " << share << " belief " << belief << " streams " << streams << " tokens " << tokens;
        }
      }
    }
  }
}

TEST (DraftController, what_is_nearly_sure_is_verified_whatever_was_lost)
{
  DraftBudget budget;
  EXPECT_DOUBLE_EQ (budget.left (), DraftBudget::kLoss * DraftBudget::kLossTokens);
  budget.earn (3, 2);
  budget.spend (0.5);
  EXPECT_DOUBLE_EQ (budget.left (), 1.5 + DraftBudget::kLoss * DraftBudget::kLossTokens);
  budget.earn (1997, 0);
  EXPECT_DOUBLE_EQ (budget.left (), 1.5 + DraftBudget::kLoss * 2000);

  DraftController controller;
  const Machine machine = memory_bound (0.25);
  Stream stream (0, 0.5, 6);
  run (controller, {&stream}, machine, 200);
  Stream other (0, 0, 7);
  other.belief = 0.79;
  run (controller, {&other}, machine, 20, DraftGate::kCost, true); // loses all it may
  other.chance = 1;
  other.belief = 0.99;
  EXPECT_EQ (run (controller, {&other}, machine, 1).drafted, 2);
}

// Memory is four times as fast for a while, a token more nearly as dear as before: not all steps change alike.
TEST (DraftController, a_machine_that_changes_its_ways_is_learned_again)
{
  const Machine slow = [] (int tokens) { return 8.7 + 2.8 * (tokens - 1); };
  const Machine fast = [] (int tokens) { return 2.05 + 1.9 * (tokens - 1); };
  double lost = 0;
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    DraftController controller;
    Stream stream (0, 0.8, seed);
    double ms = 0, tokens = 0;
    for (int turn = 0; turn < 12; ++turn) {
      run (controller, {&stream}, fast, 40);
      const Totals totals = run (controller, {&stream}, slow, 40);
      ms += totals.ms;
      tokens += static_cast<double> (totals.tokens);
    }
    lost += ms / tokens / best_ms_per_token (0.8, slow) - 1;
  }
  std::printf ("%.3f lost\n", lost / 20);
  EXPECT_LT (lost / 20, 0.135);
}

// Guesses that cost time to make have an account of their own: others' right ones pay nothing in, nor do they wait for it.
TEST (DraftController, guesses_that_cost_time_have_an_account)
{
  DraftController controller;
  Stream stream (0, 1, 1);
  run (controller, {&stream}, memory_bound (0.1), 20);
  Step step;
  step.rows.resize (1);
  Row &row = step.rows[0];
  row.sequence = &stream.sequence;
  row.scored = true;
  row.draft_limit = kMaxDraft;
  const auto settle = [&] (DraftSource source, int right) {
    Draft draft;
    for (int i = 0; i < 4; ++i) {
      const TokenId token = Stream::truth (static_cast<int> (stream.sequence.tokens.size ()) + i);
      draft.push (i < right ? token : token + 1, 0.99F, source);
    }
    row.draft = {};
    controller.offer (row, draft, DraftGate::kCost);
    row.draft.count = std::min (row.draft.count, 4);
    row.accepted_count = right + 1;
    for (int i = 0; i <= right; ++i) {
      row.accepted[static_cast<size_t> (i)].token =
          Stream::truth (static_cast<int> (stream.sequence.tokens.size ()));
      stream.sequence.tokens.push_back (row.accepted[static_cast<size_t> (i)].token);
    }
    controller.settle (row);
  };
  EXPECT_TRUE (controller.may_charge (row));
  controller.charge (row, 2);
  EXPECT_TRUE (controller.may_charge (row));
  controller.charge (row, 8);
  EXPECT_FALSE (controller.may_charge (row));
  settle (DraftSource::kSuffix, 4);
  settle (DraftSource::kSuffix, 4);
  EXPECT_FALSE (controller.may_charge (row));
  stream.guesses = 0;
  settle (DraftSource::kModel, 4);
  EXPECT_FALSE (controller.may_charge (row));
  settle (DraftSource::kModel, 4);
  EXPECT_TRUE (controller.may_charge (row));

  // The other account has its tokens still.
  controller.charge (row, 1000);
  stream.guesses = kMaxDraft;
  stream.belief = 0.7;
  EXPECT_GT (run (controller, {&stream}, memory_bound (0.1), 5).drafted, 0);
  EXPECT_FALSE (controller.may_charge (row));
}

TEST (DraftController, another_request_is_judged_for_itself)
{
  DraftController controller;
  const Machine machine = memory_bound (0.25);
  Stream good (0, 0.95, 5), bad (0, 0.05, 6);
  good.belief = bad.belief = 0.6;
  for (int round = 0; round < 5; ++round) {
    good.sequence.request = std::make_shared<Request> ();
    run (controller, {&good}, machine, 100);
    bad.sequence.request = std::make_shared<Request> ();
    EXPECT_LT (run (controller, {&bad}, machine, 400).ms_per_token (), 1.03 * machine (1)) << round;
  }
}

TEST (DraftController, rows_share_a_step_by_what_their_guesses_are_worth)
{
  DraftController controller;
  Stream good (0, 0.95, 7), bad (1, 0.1, 8);
  const Machine machine = memory_bound (0.3);
  run (controller, {&good, &bad}, machine, 200);
  auto count = [] (const Stream &stream) { return stream.sequence.tokens.size (); };
  const size_t good_before = count (good), bad_before = count (bad);
  const Totals totals = run (controller, {&good, &bad}, machine, 200);
  EXPECT_GT (count (good) - good_before, 5 * (count (bad) - bad_before));
  EXPECT_LT (totals.ms_per_token (), machine (2) / 2);
}

// Text that repeats a few tokens here and there: what is not sure deep in a chain is doubted after one that broke.
TEST (DraftController, after_a_chain_that_broke_they_are_shorter)
{
  const Machine machine = memory_bound (0.15);
  const auto drafts_of = [&] (bool breaks) {
    DraftController controller;
    Stream stream (0, 1, 19);
    stream.belief = 0.93;
    run (controller, {&stream}, machine, 12);
    stream.chance = breaks ? 0 : 1;
    run (controller, {&stream}, machine, 1);
    stream.chance = 1;
    stream.belief = 0.65; // another band, of which nothing is known
    return run (controller, {&stream}, machine, 1).drafted;
  };
  EXPECT_LT (drafts_of (true), drafts_of (false));
  EXPECT_GE (drafts_of (true), 2);
}

TEST (DraftController, a_slower_machine_is_not_a_dearer_draft)
{
  DraftController controller;
  Stream stream (0, 0.9, 9);
  run (controller, {&stream}, memory_bound (0.1), 200);
  const auto slow = [] (int tokens) { return 3 * memory_bound (0.1) (tokens); };
  run (controller, {&stream}, slow, 40);
  const Totals totals = run (controller, {&stream}, slow, 40);
  EXPECT_LT (totals.ms_per_token (), 1.05 * best_ms_per_token (0.9, slow));
}

TEST (DraftController, one_bad_moment_is_forgotten)
{
  DraftController controller;
  Stream stream (0, 0.9, 10);
  const Machine machine = memory_bound (0.1);
  // The first longer steps fall into a moment in which everything takes twenty times as long.
  run (
      controller, {&stream}, [] (int tokens) { return 10 * (1 + 2.0 * (tokens - 1)); }, 3);
  run (controller, {&stream}, machine, 1500);
  EXPECT_LT (run (controller, {&stream}, machine, 300).ms_per_token (),
             1.15 * best_ms_per_token (0.9, machine));
}

// Where others use the machine too a step now and then takes much longer, and it may be the only one with so many tokens, or the
// first without drafts.
TEST (DraftController, what_a_disturbed_step_says_is_doubted)
{
  constexpr int kSteps = 160, kSeeds = 400;
  const Machine machine = [] (int tokens) { return 2.6 + 0.8 * tokens; };
  // By the clock of the machine without the disturbances, against no drafts. When three steps of the last five without drafts are
  // disturbed alike that is believed, in one of 200 runs; no more than one of 100 may be as bad as `limit`.
  const auto expect = [&] (double chance, int count, double limit, double mean) {
    std::vector<double> costs;
    for (uint32_t seed = 0; seed < kSeeds; ++seed) {
      DraftController controller;
      std::deque<Stream> streams;
      std::vector<Stream *> all;
      for (int i = 0; i < count; ++i)
        all.push_back (&streams.emplace_back (i, chance, 100 * seed + static_cast<uint32_t> (i)));
      std::mt19937 random (seed);
      std::uniform_real_distribution<double> uniform;
      double disturbed = 0;
      const Machine noisy = [&] (int tokens) {
        const double ms =
            machine (tokens) * 0.1 * uniform (random) + (uniform (random) < 0.05 ? 12 * uniform (random) : 0);
        disturbed += ms;
        return machine (tokens) + ms;
      };
      const Totals totals = run (controller, all, noisy, kSteps);
      costs.push_back ((totals.ms - disturbed) / static_cast<double> (totals.tokens) * count /
                       machine (count));
    }
    EXPECT_LE (std::ranges::count_if (costs, [&] (double cost) { return cost >= limit; }), kSeeds / 100)
        << "chance " << chance << " streams " << count;
    EXPECT_LT (std::accumulate (costs.begin (), costs.end (), 0.0) / kSeeds, mean)
        << "chance " << chance << " streams " << count;
  };
  expect (0.9, 1, 0.6, 0.5);  // a mean and a running maximum: 1.0
  expect (0.3, 1, 1.2, 1.0);  // 1.7
  expect (0.3, 4, 1.2, 1.01); // 1.8
  expect (0.98, 8, 0.95, 0.85);
}

TEST (DraftController, drafts_that_break_cost_more_where_state_is_recurrent)
{
  const Machine machine = memory_bound (0.3);
  Totals totals[2];
  for (const bool recurrent : {false, true}) {
    DraftController controller;
    Stream stream (0, 0.6, 11);
    run (controller, {&stream}, machine, 300, DraftGate::kCost, recurrent);
    totals[recurrent] = run (controller, {&stream}, machine, 1000, DraftGate::kCost, recurrent);
  }
  EXPECT_LT (totals[1].drafted / static_cast<double> (totals[1].steps),
             totals[0].drafted / static_cast<double> (totals[0].steps));
  EXPECT_LT (totals[1].ms_per_token (), 1.02 * machine (1));
}

TEST (DraftController, the_ema_gate_pauses_for_eight_steps)
{
  DraftController controller;
  Stream stream (0, 0, 12);
  stream.guesses = 4;
  // α = 0.1 from 1: below 0.5 after seven misses; then one try in nine steps.
  EXPECT_EQ (run (controller, {&stream}, memory_bound (0.1), 7, DraftGate::kEma).drafted, 28);
  EXPECT_EQ (run (controller, {&stream}, memory_bound (0.1), 8, DraftGate::kEma).drafted, 0);
  EXPECT_EQ (run (controller, {&stream}, memory_bound (0.1), 9, DraftGate::kEma).drafted, 4);
  stream.chance = 1;
  EXPECT_GT (run (controller, {&stream}, memory_bound (0.1), 200, DraftGate::kEma).drafted, 400);
}

TEST (DraftController, a_pause_lasts_as_long_however_many_drafters_ask)
{
  DraftController controller;
  Stream stream (0, 0, 18);
  run (controller, {&stream}, memory_bound (0.1), 7, DraftGate::kEma);
  Row row;
  row.sequence = &stream.sequence;
  for (int i = 0; i < 20; ++i)
    EXPECT_FALSE (controller.may_try (row, DraftGate::kEma));
  EXPECT_TRUE (controller.may_try (row, DraftGate::kCost));
  EXPECT_EQ (run (controller, {&stream}, memory_bound (0.1), 8, DraftGate::kEma).drafted, 0);
  EXPECT_TRUE (controller.may_try (row, DraftGate::kEma));
}

TEST (DraftController, no_gate_verifies_all)
{
  DraftController controller;
  Stream stream (0, 0, 13);
  EXPECT_EQ (run (controller, {&stream}, memory_bound (1), 50, DraftGate::kNone).drafted, 50 * kMaxDraft);
}

namespace
{

Draft
chain (std::initializer_list<TokenId> tokens, float belief, DraftSource source)
{
  Draft draft;
  for (const TokenId token : tokens)
    draft.push (token, belief, source);
  return draft;
}

std::vector<TokenId>
tokens_of (const Row &row)
{
  return {row.draft.span ().begin (), row.draft.span ().end ()};
}

} // namespace

TEST (DraftController, the_chain_with_more_expected_tokens_stays)
{
  DraftController controller;
  Stream stream (0, 0, 14);
  Row row;
  row.sequence = &stream.sequence;
  row.scored = true;
  controller.offer (row, chain ({1, 2}, 0.5F, DraftSource::kSuffix), DraftGate::kCost);
  controller.offer (row, chain ({3, 4, 5}, 0.2F, DraftSource::kModel), DraftGate::kCost);
  EXPECT_EQ (tokens_of (row), (std::vector<TokenId>{1, 2}));
  controller.offer (row, chain ({3, 4, 5}, 0.9F, DraftSource::kModel), DraftGate::kCost);
  EXPECT_EQ (tokens_of (row), (std::vector<TokenId>{3, 4, 5}));
  EXPECT_FALSE (row.ungated);
  // The gate is that of the chain that stays.
  Row other;
  other.sequence = &stream.sequence;
  other.scored = true;
  controller.offer (other, chain ({1}, 0.2F, DraftSource::kNgram), DraftGate::kCost);
  controller.offer (other, chain ({2}, 0.9F, DraftSource::kModel), DraftGate::kNone);
  EXPECT_TRUE (other.ungated);
  // One that agrees and knows more is appended, and lends its confidence.
  controller.offer (row, chain ({3, 4, 5, 6}, 0.95F, DraftSource::kSuffix), DraftGate::kCost);
  EXPECT_EQ (tokens_of (row), (std::vector<TokenId>{3, 4, 5, 6}));
  EXPECT_EQ (row.draft.source[0], DraftSource::kSuffix);
  controller.offer (row, chain ({3, 4}, 0.1F, DraftSource::kNgram), DraftGate::kCost);
  EXPECT_EQ (tokens_of (row), (std::vector<TokenId>{3, 4, 5, 6}));
  EXPECT_EQ (row.draft.source[0], DraftSource::kSuffix);
}

TEST (DraftController, the_same_decisions_every_time)
{
  Totals first;
  for (int repeat = 0; repeat < 2; ++repeat) {
    DraftController controller;
    Stream a (0, 0.7, 15), b (1, 0.4, 16), c (2, 0.9, 17);
    const Totals totals = run (controller, {&a, &b, &c}, memory_bound (0.15), 500);
    if (repeat == 0)
      first = totals;
    EXPECT_EQ (totals.drafted, first.drafted);
    EXPECT_EQ (totals.tokens, first.tokens);
  }
}
