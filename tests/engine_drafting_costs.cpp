// What the draft controller knows: the cost of steps by their tokens, and how often beliefs come true.
//
// labels: unit property
#include "engine/drafting/acceptance.hpp"
#include "engine/drafting/verify_cost.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

using namespace millrace;

TEST (VerifyCost, interpolates_and_never_falls)
{
  VerifyCost cost;
  EXPECT_EQ (cost.milliseconds (3), 0);
  for (int i = 0; i < 50; ++i) {
    cost.learn (1, 10);
    cost.learn (5, 18);
    cost.learn (9, 17); // noise
    cost.learn (40, 60);
  }
  EXPECT_NEAR (cost.milliseconds (1), 10, 0.3);
  EXPECT_NEAR (cost.milliseconds (3), 14, 0.5);
  for (int tokens = 1; tokens < 1100; ++tokens)
    ASSERT_LE (cost.milliseconds (tokens), cost.milliseconds (tokens + 1)) << tokens;
  EXPECT_GT (cost.milliseconds (200), 150);
}

// While all sequences are about as long nobody can tell what a position costs: then it does not matter either.
TEST (VerifyCost, what_a_position_is_believed_to_cost_matters_only_where_lengths_differ)
{
  VerifyCost cost;
  const auto truth = [] (int tokens) { return 2.6 + 0.8 * tokens; };
  for (int step = 0; step < 60; ++step) {
    const double positions = 100 + step;
    const int tokens = step < 8 || step % 3 ? 1 : 4;
    const double believed = step < 30 ? 0.9 * truth (tokens) / positions : step % 2 * 0.005;
    cost.learn (tokens, truth (tokens), positions, believed);
    const double ratio = step < 12 ? truth (4) / truth (1)
                                   : cost.milliseconds (4, positions) / cost.milliseconds (1, positions);
    EXPECT_NEAR (ratio, truth (4) / truth (1), 0.25) << step;
  }
}

TEST (VerifyCost, long_sequences_cost_more_and_not_their_tokens)
{
  VerifyCost cost;
  const auto truth = [] (int tokens, double positions) { return 10 + 2 * tokens + 0.004 * positions; };
  for (int step = 0; step < 200; ++step) {
    const double positions = step % 2 ? 3000 : 200;
    const int tokens = step % 2 ? 4 : 1;
    cost.learn (tokens, truth (tokens, positions), positions, 0.004);
  }
  for (const double positions : {200.0, 1000.0, 3000.0}) {
    EXPECT_NEAR (cost.milliseconds (1, positions), truth (1, positions), 0.5) << positions;
    EXPECT_NEAR (cost.milliseconds (4, positions), truth (4, positions), 0.5) << positions;
  }
}

TEST (VerifyCost, numbers_that_are_none_teach_nothing)
{
  VerifyCost cost;
  for (const double ms : {0.0, -1.0, std::nan (""), HUGE_VAL})
    cost.learn (1, ms);
  EXPECT_FALSE (cost.knows (1 << 30));
  cost.learn (0, 5);
  cost.learn (1 << 30, 50);
  EXPECT_TRUE (std::isfinite (cost.milliseconds (1 << 30)));
}

TEST (Acceptance, a_band_and_a_request_learn_and_forget)
{
  AcceptanceTable table;
  const auto chance = [&] { return table.chance (DraftSource::kSuffix, SamplingKind::kGreedy, 0.5); };
  EXPECT_NEAR (chance (), 0.5, 0.01);
  for (int i = 0; i < 1000; ++i)
    table.learn (DraftSource::kSuffix, SamplingKind::kGreedy, 0.5, i % 10 != 0);
  EXPECT_NEAR (chance (), 0.9, 0.02);
  for (int i = 0; i < 2000; ++i)
    table.learn (DraftSource::kSuffix, SamplingKind::kGreedy, 0.5, i % 10 == 0);
  EXPECT_NEAR (chance (), 0.1, 0.02);
  EXPECT_NEAR (table.chance (DraftSource::kModel, SamplingKind::kGreedy, 0.5), 0.5, 0.01);
  EXPECT_NEAR (table.chance (DraftSource::kSuffix, SamplingKind::kHot, 0.5), 0.5, 0.01);

  AcceptanceTrack track;
  EXPECT_NEAR (track.correct (0.7, 0), 0.7, 0.001);
  for (int i = 0; i < 30; ++i)
    track.learn (0.7, 0, false);
  EXPECT_LT (track.correct (0.7, 0), 0.2);
  EXPECT_NEAR (track.correct (0.7, 3), 0.7, 0.001);
  for (int i = 0; i < 300; ++i)
    track.learn (0.7, 0, true);
  EXPECT_GT (track.correct (0.7, 0), 0.9);
}
