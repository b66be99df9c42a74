// labels: property
// timeout: 300
// Embeddings: they are the pooled hidden states of the whole prompt, to the bit, whatever runs beside them and however the
// prompt is cut, shared, preempted or held.

#include "engine/scheduling/text_stream.hpp"
#include "tests/fake_model.hpp"
#include "tests/model_runner.hpp"
#include "tests/request_loop.hpp"
#include "tests/seed.hpp"
#include "tests/synthetic_model.hpp"
#include "tests/test_paths.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

using namespace millrace;
using namespace millrace::testing;

namespace
{

std::shared_ptr<Request>
embedding_request (std::vector<TokenId> prompt, const EmbeddingParams &embed)
{
  auto request = std::make_shared<Request> ();
  request->prompt = std::move (prompt);
  request->embed = embed;
  return request;
}

/// Plain code for what a vector is. `hidden`: [tokens × width].
std::vector<float>
pooled (std::span<const float> hidden, size_t width, const EmbeddingParams &params)
{
  const size_t count = hidden.size () / width;
  const size_t size = params.dimensions > 0 ? static_cast<size_t> (params.dimensions) : width;
  std::vector<double> vector (size);
  for (size_t i = 0; i < size; i++) {
    switch (params.pooling) {
    case Pooling::kMean:
      for (size_t token = 0; token < count; token++)
        vector[i] += static_cast<double> (hidden[token * width + i]);
      vector[i] /= static_cast<double> (count);
      break;
    case Pooling::kCls:
      vector[i] = static_cast<double> (hidden[i]);
      break;
    default:
      vector[i] = static_cast<double> (hidden[(count - 1) * width + i]);
    }
  }
  double squares = 0;
  for (const double value : vector)
    squares += value * value;
  std::vector<float> out;
  for (const double value : vector)
    out.push_back (static_cast<float> (params.normalize ? value / std::sqrt (squares) : value));
  return out;
}

struct Totals {
  int64_t compared = 0, preempted = 0, cached = 0, generated = 0;
};

/// Embedding requests among others, in a random scheduler, against what each gives alone.
class Mix
{
public:
  Mix (uint64_t seed, std::vector<std::shared_ptr<Model>> models, size_t bytes_per_block, size_t other_bytes)
      : random_ (seed)
      , models_ (std::move (models))
      , bytes_per_block_ (bytes_per_block)
      , other_bytes_ (other_bytes)
  {
  }

  void run (Totals &totals)
  {
    make_requests ();
    const auto alone = run_alone (models_.front (), requests_);
    for (int variant = 0; variant < 3 && !::testing::Test::HasFatalFailure (); variant++) {
      const LoopOptions options = random_options ();
      Scheduler scheduler (models_[random_ () % models_.size ()], options.scheduler);
      for (int pass = 0; pass < 2 && !::testing::Test::HasFatalFailure (); pass++) // cold, then warm
        run_pass (scheduler, options, alone, totals);
    }
  }

private:
  int below (int bound) { return static_cast<int> (random_ () % static_cast<uint64_t> (bound)); }

  void make_requests ()
  {
    const int vocab = models_.front ()->spec.vocab;
    const auto prefix = random_tokens (random_, below (80), vocab);
    for (int i = 3 + below (8); i > 0; i--) {
      auto request = random_request (random_, vocab);
      if (below (2))
        request->prompt.insert (request->prompt.begin (), prefix.begin (), prefix.end ());
      if (below (3) > 0) {
        request->sampling.min_tokens = 0; // random ones may exceed max_tokens
        request->embed.pooling = static_cast<Pooling> (1 + below (3));
        request->embed.normalize = below (2);
        request->embed.dimensions = below (2) ? 0 : 1 + below (models_.front ()->spec.hidden);
      }
      const bool embeds = request->embed.pooling != Pooling::kNone;
      longest_ = std::max (longest_, static_cast<int> (request->prompt.size ()) +
                                         (embeds ? 0 : request->sampling.max_tokens));
      requests_.push_back (request);
    }
  }

  LoopOptions random_options ()
  {
    LoopOptions options;
    const int chunks[] = {16, 64, 512, 1 + below (100)};
    options.scheduler.max_batch = 1 + below (8);
    options.scheduler.prefill_tokens = chunks[below (4)];
    options.scheduler.max_draft = below (2) ? below (kMaxDraft + 1) : 0;
    options.scheduler.prefix_cache = below (4) > 0;
    const auto blocks = static_cast<size_t> (blocks_for (longest_) + below (below (2) ? 4 : 100));
    options.scheduler.kv_bytes = blocks * bytes_per_block_ + other_bytes_;
    options.prefill = below (2);
    options.draft = below (4) > 0;
    options.defer_below = below (2) ? below (100) : 0;
    return options;
  }

  void run_pass (Scheduler &scheduler, LoopOptions options, const std::map<uint64_t, Result> &alone,
                 Totals &totals)
  {
    std::vector<std::shared_ptr<Request>> batch;
    for (const auto &request : requests_) {
      batch.push_back (copy (*request));
      options.arrivals.push_back (below (10));
    }
    std::shuffle (batch.begin (), batch.end (), random_);
    const bool holds = below (3) == 0;
    const auto results = millrace::testing::run (scheduler, options, batch, [&] (Scheduler &, int turn) {
      for (const auto &request : batch) {
        if (holds && below (8) == 0) // not for ever: who makes way begins anew
          request->held = !request->held && turn < 100;
      }
    });
    for (const auto &request : batch) {
      const Result &expected = alone.at (request->serial), &actual = results.at (request->serial);
      ASSERT_EQ (actual.tokens, expected.tokens);
      ASSERT_EQ (actual.finish, expected.finish);
      ASSERT_EQ (actual.endings, 1);
      ASSERT_TRUE (same_bits (actual.embedding, expected.embedding));
      if (request->embed.pooling == Pooling::kNone) {
        totals.generated++;
        continue;
      }
      ASSERT_TRUE (actual.tokens.empty ());
      ASSERT_EQ (actual.finish, FinishReason::kStop);
      ASSERT_EQ (actual.embedding.size (),
                 static_cast<size_t> (request->embed.dimensions > 0 ? request->embed.dimensions
                                                                    : models_.front ()->spec.hidden));
      if (request->embed.pooling != Pooling::kLast) {
        ASSERT_EQ (request->statistics.cached_tokens, 0);
      }
      totals.compared++;
      totals.preempted += request->statistics.preemptions;
      totals.cached += request->statistics.cached_tokens;
    }
  }

  std::mt19937_64 random_;
  std::vector<std::shared_ptr<Model>> models_;
  size_t bytes_per_block_, other_bytes_;
  std::vector<std::shared_ptr<Request>> requests_;
  int longest_ = 0;
};

void
print (const char *what, const Totals &totals)
{
  std::printf (
      "%s: %lld embeddings compared beside %lld others; preempted %lld times, %lld tokens from the cache\n",
      what, static_cast<long long> (totals.compared), static_cast<long long> (totals.generated),
      static_cast<long long> (totals.preempted), static_cast<long long> (totals.cached));
}

/// The models of one folder with 1 and with 2 threads.
std::vector<std::shared_ptr<Model>>
open_models (const TemporaryFolder &folder)
{
  std::vector<std::shared_ptr<Model>> models;
  for (const int threads : {1, 2})
    models.push_back (std::make_shared<Model> (*Model::open (folder.path (), {.cpu = {.threads = threads}})));
  return models;
}

} // namespace

TEST (Embeddings, AreThePooledHiddenStatesOfTheWholePrompt)
{
  const uint64_t seed = test_seed ();
  std::mt19937_64 random (seed);
  TemporaryFolder folder;
  write_model (folder.path (), {}, 5);
  const auto models = open_models (folder);
  const RunnableModel direct = load_runnable (folder.path ());
  const auto width = static_cast<size_t> (direct.spec.hidden);
  for (const int length : {1, 2, 16, 17, 100, 200, direct.spec.max_positions}) {
    const auto prompt = random_tokens (random, length, direct.spec.vocab);
    SequenceRunner runner (direct, length, length);
    runner.run (prompt, length);
    for (const Pooling pooling : {Pooling::kLast, Pooling::kMean, Pooling::kCls}) {
      for (const bool normalize : {true, false}) {
        for (const int dimensions : {0, 1, 7, direct.spec.hidden}) {
          const EmbeddingParams params{pooling, normalize, dimensions};
          const auto expected = pooled (runner.outputs ().hidden, width, params);
          for (const int chunk : {16, 64, 512}) {
            auto request = embedding_request (prompt, params);
            LoopOptions options;
            options.scheduler = {.max_batch = 2, .prefill_tokens = chunk, .kv_bytes = 4u << 20};
            options.defer_below = chunk == 64 ? 64 : 0;
            options.prefill = chunk != 16;
            const auto results = run (models[random () % 2], options, std::vector{request});
            EXPECT_EQ (results.at (request->serial).finish, FinishReason::kStop);
            ASSERT_TRUE (same_bits (request->embedding, expected))
                << "seed " << seed << ", " << pooling_name (pooling) << ", " << length
                << " tokens, chunks of " << chunk << ", dimensions " << dimensions;
            EXPECT_EQ (request->statistics.prefill_tokens, length - 1);
            EXPECT_EQ (request->statistics.generated, 0);
          }
        }
      }
    }
    double squares = 0;
    for (const float value : pooled (runner.outputs ().hidden, width, {Pooling::kMean, true, 0}))
      squares += static_cast<double> (value) * static_cast<double> (value);
    EXPECT_NEAR (squares, 1, 1e-5);
  }
}

TEST (Embeddings, OneVectorWhateverRunsBesideIt)
{
  const uint64_t seed = test_seed ();
  const int rounds = test_rounds (400);
  Totals totals;
  for (int round = 0; round < rounds; round++) {
    SCOPED_TRACE ("seed " + std::to_string (seed) + ", round " + std::to_string (round));
    std::mt19937_64 random (seed + static_cast<uint64_t> (round));
    FakeOptions fake;
    fake.window = random () % 3 ? 0 : 1 + static_cast<int> (random () % 50);
    fake.recurrent = random () % 4 == 0;
    auto model = fake_model (fake);
    model->eos_token_ids = {3};
    Mix mix (random (), {model}, kBlockTokens * sizeof (TokenId) * (fake.window ? 2 : 1),
             fake.recurrent ? 16 * 40 : 0);
    mix.run (totals);
    ASSERT_FALSE (HasFatalFailure ());
  }
  print ("hash model", totals);
  if (rounds >= 400) {
    EXPECT_GT (totals.preempted, 20);
    EXPECT_GT (totals.cached, 1000);
  }
}

TEST (Embeddings, OneVectorOfARealModel)
{
  const uint64_t seed = test_seed ();
  const int rounds = std::max (1, test_rounds (400) / 20);
  Totals totals;
  TemporaryFolder folder;
  write_model (folder.path (), {}, 5);
  const auto models = open_models (folder);
  for (int round = 0; round < rounds; round++) {
    SCOPED_TRACE ("seed " + std::to_string (seed) + ", round " + std::to_string (round));
    Mix mix (seed + static_cast<uint64_t> (round), models,
             models[0]->compiled->kv_layout (KvType::kF32)[0].block_bytes, 0);
    mix.run (totals);
    ASSERT_FALSE (HasFatalFailure ());
  }
  print ("real model", totals);
}

TEST (Embeddings, APromptMayFillTheContextAndTheMemory)
{
  const FakeOptions fake;
  auto model = fake_model (fake);
  const auto request = [] (int tokens, EmbeddingParams embed) {
    return embedding_request (std::vector<TokenId> (static_cast<size_t> (tokens), 1), embed);
  };
  auto whole = request (512, {.pooling = Pooling::kMean}),
       longer = request (513, {.pooling = Pooling::kMean}),
       many = request (3, {.pooling = Pooling::kLast, .dimensions = 9}),
       negative = request (3, {.pooling = Pooling::kLast, .dimensions = -1}),
       empty = request (0, {.pooling = Pooling::kLast});
  LoopOptions options;
  options.scheduler.kv_bytes = 32 * kBlockTokens * sizeof (TokenId);
  const auto results = run (model, options, std::vector{whole, longer, many, negative, empty});
  EXPECT_EQ (results.at (whole->serial).finish, FinishReason::kStop);
  EXPECT_EQ (whole->embedding.size (), 8u);
  for (const auto &wrong : {longer, many, negative, empty}) {
    EXPECT_EQ (results.at (wrong->serial).finish, FinishReason::kError);
    EXPECT_TRUE (wrong->embedding.empty ());
  }
  EXPECT_STREQ (longer->error.code, "context_length_exceeded");
  EXPECT_EQ (longer->error.message, "the prompt has 513 tokens; this model's context holds 512");
  for (const auto &wrong : {many, negative}) {
    EXPECT_STREQ (wrong->error.code, "invalid_request");
    EXPECT_EQ (wrong->error.field, "dimensions");
  }
  EXPECT_EQ (many->error.message,
             "dimensions must be between 1 and 8, the size of this model's embeddings, got 9");
  EXPECT_EQ (empty->error.field, "prompt");

  options.scheduler.kv_bytes = 10 * kBlockTokens * sizeof (TokenId);
  auto fits = request (160, {.pooling = Pooling::kCls}), does_not = request (161, {.pooling = Pooling::kCls});
  run (model, options, std::vector{fits, does_not});
  EXPECT_FALSE (fits->error) << fits->error.message;
  EXPECT_EQ (does_not->error.message, "the prompt needs 11 KV blocks of 16 tokens, kv-memory holds 10");
}

TEST (Embeddings, OneThatIsCancelledLeavesNothing)
{
  const FakeOptions fake;
  auto request =
      embedding_request (std::vector<TokenId> (200, 1), EmbeddingParams{.pooling = Pooling::kMean});
  LoopOptions options;
  options.scheduler = {.max_batch = 2, .prefill_tokens = 16};
  const auto results = run (fake_model (fake), options, std::vector{request}, [&] (Scheduler &, int turn) {
    if (turn == 5)
      request->end (FinishReason::kCancelled);
  });
  EXPECT_EQ (results.at (request->serial).finish, FinishReason::kCancelled);
  EXPECT_TRUE (request->embedding.empty ());
}

TEST (Embeddings, WhatIsMissingOrNoNumberFails)
{
  const float hidden[] = {1, 2, 3, 4, std::numeric_limits<float>::quiet_NaN (), 6};
  const EmbeddingParams mean{.pooling = Pooling::kMean, .normalize = false};
  std::vector<float> out;
  EmbeddingPool pool;
  pool.begin (Pooling::kMean, 2, 2);
  EXPECT_FALSE (pool.finish (mean, out));
  pool.expect (hidden + 2, 1, 1);
  pool.collect ();
  EXPECT_FALSE (pool.finish (mean, out)) << "the first position is missing";
  pool.expect (hidden, 0, 2);
  pool.collect ();
  ASSERT_TRUE (pool.finish (mean, out));
  EXPECT_EQ (out, (std::vector<float>{2, 3}));
  pool.reset ();
  EXPECT_FALSE (pool.finish (mean, out));
  pool.expect (hidden + 2, 0, 2);
  pool.collect ();
  EXPECT_FALSE (pool.finish (mean, out)) << "not a number";

  const float zeros[2] = {};
  pool.begin (Pooling::kLast, 1, 2);
  pool.expect (zeros, 0, 1);
  pool.collect ();
  ASSERT_TRUE (pool.finish ({.pooling = Pooling::kLast}, out)) << "zero has no direction, but it is a number";
  EXPECT_EQ (out, (std::vector<float>{0, 0}));
}

TEST (Embeddings, AResultHasTheNumbersAndNoText)
{
  const auto model = Model::open (source_path ("models/demo-draft"));
  Request request;
  request.id = "e";
  request.embed.pooling = Pooling::kMean;
  request.embedding = {0.1f, -2, 1e-7f, 0.333333343f};
  EXPECT_EQ (
      result_json (request, "", FinishReason::kStop, {.prompt_tokens = 3}, nullptr, false, *model->tokenizer),
      R"({"id":"e","embedding":[0.1,-2,1e-07,0.33333334],"finish_reason":"stop",)"
      R"("usage":{"prompt_tokens":3,"completion_tokens":0,"total_tokens":3}})");
  EXPECT_EQ (result_json (request, "", FinishReason::kCancelled, {}, nullptr, false, *model->tokenizer),
             R"({"id":"e","finish_reason":"cancelled",)"
             R"("usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}})");
}
