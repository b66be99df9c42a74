// labels: unit property
// The six-call loop over a model that remembers everything: whatever is batched, chunked, drafted or
// cancelled around it, a request gets the tokens that it would get alone.

#include "tests/fake_model.hpp"
#include "tests/request_loop.hpp"
#include "tests/seed.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <random>

using namespace millrace;
using namespace millrace::testing;

TEST (Loop, OneAnswerHoweverARequestIsRun)
{
  const uint64_t seed = test_seed ();
  std::mt19937_64 random (seed);
  int compared = 0, accepted = 0;
  for (int round = 0; round < 60; round++) {
    FakeOptions fake;
    fake.period = random () % 3 == 0 ? 0 : 1 + static_cast<int> (random () % 2);
    auto model = fake_model (fake);
    model->eos_token_ids = {3};

    std::vector<std::shared_ptr<Request>> requests;
    for (int i = 0; i < 12; i++)
      requests.push_back (random_request (random, fake.vocab));

    const auto alone = run_alone (model, requests);
    for (int variant = 0; variant < 6; variant++) {
      LoopOptions options;
      options.scheduler.max_batch = 1 + static_cast<int> (random () % 12);
      options.scheduler.prefill_tokens = 1 + static_cast<int> (random () % 64);
      options.scheduler.max_draft = static_cast<int> (random () % (kMaxDraft + 1));
      // From just enough for the longest request to plenty.
      options.scheduler.kv_bytes = (16 + random () % 64) * kBlockTokens * sizeof (TokenId);
      options.prefill = random () % 2;
      options.draft = random () % 4 > 0;
      options.defer_below = static_cast<int> (random () % 20);
      std::vector<std::shared_ptr<Request>> batch;
      for (const auto &request : requests)
        batch.push_back (copy (*request));
      std::shuffle (batch.begin (), batch.end (), random);
      const auto results = run (model, options, batch);
      for (const auto &request : batch) {
        const Result &expected = alone.at (request->serial), &actual = results.at (request->serial);
        ASSERT_EQ (actual.tokens, expected.tokens)
            << "seed " << seed << " round " << round << " variant " << variant;
        ASSERT_EQ (actual.logprobs, expected.logprobs) << "seed " << seed << " round " << round;
        ASSERT_EQ (actual.finish, expected.finish);
        ASSERT_EQ (actual.endings, 1);
        accepted += request->statistics.drafting.accepted;
        compared++;
      }
    }
  }
  std::printf ("%d runs compared, %d drafts accepted\n", compared, accepted);
  EXPECT_GT (accepted, 300) << "speculation was hardly exercised";
}

TEST (Loop, CancelsEndARequestOnceAndFreeItsBlocks)
{
  const uint64_t seed = test_seed ();
  std::mt19937_64 random (seed);
  int cancelled = 0;
  for (int round = 0; round < 50; round++) {
    const FakeOptions fake;
    auto model = fake_model (fake);
    std::vector<std::shared_ptr<Request>> requests;
    for (int i = 0; i < 20; i++)
      requests.push_back (random_request (random, fake.vocab));
    LoopOptions options;
    options.scheduler = {.max_batch = 4, .prefill_tokens = 16, .max_draft = 4};
    const auto results = run (model, options, requests, [&] (Scheduler &, int) {
      for (const auto &request : requests) {
        if (random () % 40 == 0)
          request->end (FinishReason::kCancelled);
      }
    });
    for (const auto &request : requests) {
      const Result &result = results.at (request->serial);
      ASSERT_EQ (result.endings, 1) << "seed " << seed;
      // A request that had ended by itself may have been asked to cancel afterwards.
      if (result.finish == FinishReason::kCancelled) {
        ASSERT_EQ (request->finish_early.load (), FinishReason::kCancelled);
        cancelled++;
      }
    }
  }
  EXPECT_GT (cancelled, 100);
}

TEST (Loop, ACancelTakesEffectBeforeTheNextStep)
{
  const FakeOptions fake;
  auto model = fake_model (fake);
  for (int at : {0, 1, 5}) { // waiting or in prefill, in prefill, in decode
    auto request = std::make_shared<Request> ();
    request->prompt.assign (40, 7);
    request->sampling.max_tokens = 50;
    LoopOptions options;
    options.scheduler = {.max_batch = 2, .prefill_tokens = 16, .max_draft = 0};
    int turns = 0;
    const auto results = run (model, options, std::vector{request}, [&] (Scheduler &, int turn) {
      turns = turn;
      if (turn == at)
        request->end (FinishReason::kCancelled);
    });
    EXPECT_EQ (results.at (request->serial).finish, FinishReason::kCancelled);
    EXPECT_EQ (turns, at + 1) << "one step delivers the end, the next finds nothing to do";
    EXPECT_EQ (results.at (request->serial).tokens.size (), at < 2 ? 0u : static_cast<size_t> (at) - 2);
  }
}

TEST (Loop, WhatCannotRunEndsWithTheNumbersAndTheOthersGoOn)
{
  const FakeOptions fake;
  auto model = fake_model (fake);
  const auto request = [] (std::vector<TokenId> prompt, int max_tokens = 4) {
    auto made = std::make_shared<Request> ();
    made->prompt = std::move (prompt);
    made->sampling.max_tokens = max_tokens;
    return made;
  };
  auto good = request ({1, 2, 3}), empty = request ({}), unknown = request ({1, fake.vocab}),
       negative = request ({-1}), too_long = request (std::vector<TokenId> (512, 1)),
       longest = request (std::vector<TokenId> (511, 1)),
       too_big = request (std::vector<TokenId> (400, 1), 100), bad_parameter = request ({1});
  bad_parameter->sampling.top_p = 2;
  auto failed_before = request ({1});
  failed_before->error = {"invalid_utf8", "prompt", "byte 3 is not valid UTF-8"};

  LoopOptions options;
  options.scheduler.kv_bytes = 32 * kBlockTokens * sizeof (TokenId);
  const std::vector requests{good, empty, unknown, negative, too_long, longest, bad_parameter, failed_before};
  auto results = run (model, options, requests);
  EXPECT_EQ (results.at (good->serial).finish, FinishReason::kLength);
  EXPECT_EQ (results.at (good->serial).tokens.size (), 4u);
  EXPECT_EQ (results.at (longest->serial).finish, FinishReason::kLength);
  EXPECT_EQ (results.at (longest->serial).tokens.size (), 1u);
  for (const auto &[wrong, field] :
       std::map<std::shared_ptr<Request>, std::string>{{empty, "prompt"},
                                                       {unknown, "tokens"},
                                                       {negative, "tokens"},
                                                       {too_long, "prompt"},
                                                       {bad_parameter, "top_p"},
                                                       {failed_before, "prompt"}}) {
    EXPECT_EQ (results.at (wrong->serial).finish, FinishReason::kError);
    EXPECT_EQ (results.at (wrong->serial).endings, 1);
    EXPECT_EQ (wrong->error.field, field);
  }
  EXPECT_STREQ (too_long->error.code, "context_length_exceeded");
  EXPECT_NE (too_long->error.message.find ("512"), std::string::npos) << too_long->error.message;

  options.scheduler.kv_bytes = 10 * kBlockTokens * sizeof (TokenId);
  results = run (model, options, std::vector{too_big, copy (*good)});
  EXPECT_EQ (too_big->error.field, "max_tokens");
  EXPECT_NE (too_big->error.message.find ("32"), std::string::npos) << too_big->error.message;
}

TEST (Loop, AKvBudgetWithoutABlockIsRefused)
{
  EXPECT_THROW (Scheduler (fake_model (), {.kv_bytes = 8}), std::invalid_argument);
}
