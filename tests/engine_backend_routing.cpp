// labels: unit
// Which experts a token goes to: the choice, groups, corrections, ties, and logits that are not numbers.
#include "engine/backend/cpu/routing.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <random>
#include <vector>

namespace
{

using namespace millrace;

std::vector<float>
routed (const RouteOp &op, const std::vector<float> &logits, const std::vector<float> &correction = {},
        const std::vector<float> &scale = {})
{
  std::vector<float> scratch (3 * logits.size ()), out (logits.size (), -7);
  cpu::route (op, logits.data (), correction.empty () ? nullptr : correction.data (),
              scale.empty () ? nullptr : scale.data (), scratch.data (), out.data ());
  return out;
}

float
sigmoid (float x)
{
  return 1 / (1 + std::exp (-x));
}

TEST (routing, weights_of_the_chosen_are_a_softmax_of_their_own)
{
  const RouteOp op{.logits = 0, .out = 0, .experts = 4, .chosen = 2};
  const auto weights = routed (op, {1, 3, -1, 2});
  EXPECT_EQ (weights[0], 0);
  EXPECT_EQ (weights[2], 0);
  EXPECT_NEAR (weights[1], std::exp (1.0f) / (1 + std::exp (1.0f)), 1e-6f);
  EXPECT_NEAR (weights[3], 1 / (1 + std::exp (1.0f)), 1e-6f);
  RouteOp all = op;
  all.normalized = false;
  all.scale = 3;
  const float sum = std::exp (1.0f) + std::exp (3.0f) + std::exp (-1.0f) + std::exp (2.0f);
  EXPECT_NEAR (routed (all, {1, 3, -1, 2})[3], 3 * std::exp (2.0f) / sum, 1e-6f);
}

TEST (routing, of_equal_scores_the_first_are_chosen)
{
  const RouteOp op{.logits = 0, .out = 0, .experts = 5, .chosen = 2};
  const auto weights = routed (op, {0, 0, 0, 0, 0});
  EXPECT_EQ (weights, (std::vector<float>{0.5f, 0.5f, 0, 0, 0}));
}

TEST (routing, corrections_change_the_choice_and_not_the_weights)
{
  const RouteOp op{.logits = 0,
                   .out = 0,
                   .experts = 3,
                   .chosen = 1,
                   .scores = RouteOp::Scores::kSigmoid,
                   .normalized = false,
                   .scale = 2};
  EXPECT_FLOAT_EQ (routed (op, {1, 0, -1})[0], 2 * sigmoid (1));
  const auto weights = routed (op, {1, 0, -1}, {-2, -2, 1});
  EXPECT_EQ (weights[0], 0);
  EXPECT_FLOAT_EQ (weights[2], 2 * sigmoid (-1));
  EXPECT_FLOAT_EQ (routed (op, {1, 0, -1}, {-2, -2, 1}, {5, 6, 7})[2], 14 * sigmoid (-1));
}

// Experts of groups that were left are not chosen however bad the others are.
TEST (routing, only_experts_of_the_best_groups_are_chosen)
{
  RouteOp op{.logits = 0,
             .out = 0,
             .experts = 6,
             .chosen = 2,
             .scores = RouteOp::Scores::kSigmoid,
             .groups = 3,
             .chosen_groups = 1};
  const std::vector<float> logits = {5, -5, 2, 2, -1, -1};
  auto weights = routed (op, logits); // 0.993 + 0.007, 0.88 + 0.88, …
  EXPECT_EQ (weights, (std::vector<float>{0, 0, 0.5f, 0.5f, 0, 0}));
  weights = routed (op, logits, {-3, -3, -3, -3, -3, -3});
  EXPECT_EQ (weights, (std::vector<float>{0, 0, 0.5f, 0.5f, 0, 0}));
  op.group_score = RouteOp::GroupScore::kLargest;
  weights = routed (op, logits);
  EXPECT_GT (weights[0], 0.9f);
  EXPECT_GT (weights[1], 0);
  EXPECT_EQ (weights[2], 0);
}

TEST (routing, logits_that_are_not_numbers_do_not_vanish_and_choose_no_more_experts)
{
  const float nan = std::numeric_limits<float>::quiet_NaN ();
  for (const auto scores : {RouteOp::Scores::kSoftmax, RouteOp::Scores::kSigmoid}) {
    for (const int chosen_groups : {1, 2}) {
      const RouteOp op{.logits = 0,
                       .out = 0,
                       .experts = 4,
                       .chosen = 2,
                       .scores = scores,
                       .groups = 2,
                       .chosen_groups = chosen_groups};
      int used = 0, nans = 0;
      for (const float weight : routed (op, {nan, nan, nan, nan})) {
        used += weight != 0;
        nans += std::isnan (weight);
      }
      EXPECT_EQ (used, 2);
      EXPECT_EQ (nans, 2);
    }
  }
}

TEST (routing, random_choices_are_those_of_a_sort)
{
  std::mt19937 random (3);
  std::normal_distribution<float> normal;
  for (int round = 0; round < 200; ++round) {
    const int experts = 1 + static_cast<int> (random () % 40),
              chosen = 1 + static_cast<int> (random () % experts);
    std::vector<float> logits (static_cast<size_t> (experts));
    for (float &logit : logits)
      logit = normal (random);
    const auto weights = routed ({.logits = 0, .out = 0, .experts = experts, .chosen = chosen}, logits);
    std::vector<float> sorted = logits;
    std::ranges::sort (sorted, std::greater ());
    float sum = 0;
    for (size_t i = 0; i < logits.size (); ++i) {
      EXPECT_EQ (weights[i] != 0, logits[i] >= sorted[static_cast<size_t> (chosen - 1)]);
      sum += weights[i];
    }
    EXPECT_NEAR (sum, 1, 1e-5f);
  }
}

} // namespace
