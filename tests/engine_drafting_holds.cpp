// labels: unit property
// Requests whose readers are slow: they get no rows, hold up nobody, and go on as if nothing had been.

#include "tests/fake_model.hpp"
#include "tests/request_loop.hpp"
#include "tests/seed.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

using namespace millrace;
using namespace millrace::testing;

namespace
{

int64_t now_us = 1;

int64_t
virtual_clock ()
{
  return now_us;
}

std::shared_ptr<Request>
make_request (std::vector<TokenId> prompt, int max_tokens)
{
  auto request = std::make_shared<Request> ();
  request->prompt = std::move (prompt);
  request->sampling.max_tokens = max_tokens;
  return request;
}

/// One scheduler, stepped by hand.
struct Stepper {
  explicit Stepper (const SchedulerSettings &settings, const FakeOptions &fake = {})
      : scheduler (fake_model (fake), settings)
  {
  }

  /// The serials of the rows of the next step, which is run; empty: there is none.
  std::vector<uint64_t> turn ()
  {
    std::vector<uint64_t> serials;
    if (!scheduler.plan (step))
      return serials;
    prefill (step);
    verify (step);
    sampler.sample (step);
    for (const Row &row : step.rows) {
      serials.push_back (row.sequence->request->serial);
      if (row.ended ())
        ended[row.sequence->request->serial] = row.finish;
    }
    scheduler.commit (step);
    return serials;
  }
  void expect_empty ()
  {
    EXPECT_TRUE (scheduler.idle ());
    EXPECT_EQ (scheduler.inconsistency (), "");
    for (int group = 0; group < scheduler.kv ().groups (); group++)
      EXPECT_EQ (scheduler.kv ().available (group), scheduler.kv ().size (group));
  }

  Scheduler scheduler;
  Sampler sampler;
  Step step;
  std::map<uint64_t, FinishReason> ended;
};

using Serials = std::vector<uint64_t>;

} // namespace

TEST (Holds, AHeldRequestGetsNoRowsAndTheOthersGoOn)
{
  Stepper loop ({.max_batch = 4, .prefill_tokens = 16, .max_draft = 0, .learn_cost = false});
  auto decoding = make_request ({1, 2}, 20), prompt = make_request (std::vector<TokenId> (100, 3), 4),
       other = make_request ({4}, 200);
  for (const auto &request : {decoding, prompt, other})
    loop.scheduler.admit (request);
  loop.turn ();
  loop.turn ();
  decoding->held = prompt->held = true;
  for (int i = 0; i < 10; i++)
    EXPECT_EQ (loop.turn (), (Serials{other->serial}));
  const int blocks = loop.scheduler.kv ().size (0) - loop.scheduler.kv ().available (0);
  EXPECT_EQ (blocks, 1 + 1 + 1) << "they keep what they have";
  auto late = make_request ({5}, 4);
  late->held = true;
  loop.scheduler.admit (late);
  EXPECT_EQ (loop.turn (), (Serials{other->serial}));
  EXPECT_EQ (loop.scheduler.waiting (), 1) << "it has not been started";
  decoding->held = false;
  EXPECT_EQ (loop.turn (), (Serials{decoding->serial, other->serial}));
  prompt->held = late->held = false;
  while (!loop.turn ().empty ()) {
  }
  EXPECT_EQ (loop.ended.size (), 4u);
  EXPECT_EQ (loop.scheduler.statistics ().preemptions, 0u);
  loop.expect_empty ();
}

// A prompt's first block is another's too: who waits for it must not wait for one that is held.
TEST (Holds, NobodyFollowsAHeldRequest)
{
  Stepper loop ({.max_batch = 4, .prefill_tokens = 64, .max_draft = 0});
  auto first = make_request (std::vector<TokenId> (100, 3), 2), second = make_request (first->prompt, 2);
  first->held = true;
  loop.scheduler.admit (first);
  loop.scheduler.admit (second);
  first->held = false;
  loop.turn (); // both run
  first->held = true;
  for (int i = 0; i < 5; i++)
    loop.turn ();
  EXPECT_EQ (loop.ended.count (second->serial), 1u);
  first->held = false;
  while (!loop.turn ().empty ()) {
  }
  EXPECT_EQ (loop.ended.count (first->serial), 1u);
  loop.expect_empty ();
}

TEST (Holds, AllHeldIsAStallThatEndsNothing)
{
  now_us = 1;
  SchedulerSettings settings{.max_batch = 2, .prefill_tokens = 16, .max_draft = 0};
  settings.clock = virtual_clock;
  Stepper loop (settings);
  auto a = make_request ({1, 2}, 6), b = make_request ({3}, 6), waiting = make_request ({4}, 6);
  EXPECT_FALSE (loop.scheduler.plan (loop.step));
  EXPECT_FALSE (loop.scheduler.stalled ()) << "idle";
  a->timeout_us = 50'000;
  for (const auto &request : {a, b, waiting})
    loop.scheduler.admit (request);
  loop.turn ();
  loop.turn ();
  a->held = b->held = waiting->held = true;
  for (int i = 0; i < 100; i++) {
    EXPECT_FALSE (loop.scheduler.plan (loop.step));
    EXPECT_TRUE (loop.scheduler.stalled ());
    EXPECT_FALSE (loop.scheduler.idle ());
  }
  EXPECT_EQ (loop.scheduler.live (), 2);
  EXPECT_EQ (loop.scheduler.waiting (), 1);
  EXPECT_TRUE (loop.ended.empty ());

  // A deadline fires in spite of the hold, then a cancel; both give everything back.
  EXPECT_EQ (loop.scheduler.next_deadline_us (), 1 + 50'000);
  now_us = 50'001;
  EXPECT_EQ (loop.turn (), (Serials{a->serial}));
  EXPECT_EQ (loop.ended.at (a->serial), FinishReason::kTimeout);
  EXPECT_FALSE (loop.scheduler.plan (loop.step));
  EXPECT_TRUE (loop.scheduler.stalled ());
  EXPECT_EQ (loop.scheduler.next_deadline_us (), INT64_MAX);
  b->end (FinishReason::kCancelled);
  waiting->end (FinishReason::kCancelled);
  EXPECT_EQ (loop.turn ().size (), 2u);
  EXPECT_EQ (loop.ended.at (b->serial), FinishReason::kCancelled);
  EXPECT_FALSE (loop.scheduler.plan (loop.step));
  EXPECT_FALSE (loop.scheduler.stalled ());
  loop.expect_empty ();
}

TEST (Holds, HeldRequestsLeaveTheirSlotsToWhoWaits)
{
  Stepper loop ({.max_batch = 2, .prefill_tokens = 16, .max_draft = 0});
  auto a = make_request ({1, 2}, 9), b = make_request ({3}, 9), c = make_request ({4}, 3);
  for (const auto &request : {a, b, c})
    loop.scheduler.admit (request);
  loop.turn ();
  a->held = true;
  EXPECT_EQ (loop.turn (), (Serials{b->serial})) << "somebody runs: no reason to give way";
  b->held = true;
  EXPECT_EQ (loop.turn (), (Serials{c->serial}));
  EXPECT_EQ (a->statistics.preemptions, 0);
  EXPECT_EQ (b->statistics.preemptions, 1) << "the newer one";
  a->held = b->held = false;
  while (!loop.turn ().empty ()) {
  }
  EXPECT_EQ (loop.ended.size (), 3u);
  loop.expect_empty ();
}

// The first that is not held never waits for memory that a held one has.
TEST (Holds, MemoryOfHeldRequestsIsThereForOthers)
{
  SchedulerSettings settings{.max_batch = 4, .prefill_tokens = 64, .max_draft = 0};
  settings.kv_bytes = 10 * kBlockTokens * sizeof (TokenId);
  Stepper loop (settings);
  auto slow = make_request (std::vector<TokenId> (60, 1), 20), other = make_request ({2, 3}, 120);
  loop.scheduler.admit (slow);
  loop.turn ();
  loop.scheduler.admit (other);
  loop.turn ();
  slow->held = true;
  while (!loop.ended.contains (other->serial))
    ASSERT_FALSE (loop.turn ().empty ());
  EXPECT_GT (slow->statistics.preemptions, 0);
  EXPECT_FALSE (loop.scheduler.plan (loop.step));
  EXPECT_TRUE (loop.scheduler.stalled ());
  slow->held = false;
  while (!loop.turn ().empty ()) {
  }
  EXPECT_EQ (loop.ended.at (slow->serial), FinishReason::kLength);
  loop.expect_empty ();
}

// Requests that are held and let go at random give what they give alone.
TEST (Holds, OneAnswerHoweverOftenARequestIsHeld)
{
  const uint64_t seed = test_seed ();
  std::mt19937_64 random (seed);
  const int rounds = test_rounds (150);
  int64_t stalls = 0, preemptions = 0;
  const auto below = [&] (int bound) { return static_cast<int> (random () % static_cast<uint64_t> (bound)); };
  for (int round = 0; round < rounds; round++) {
    SCOPED_TRACE ("seed " + std::to_string (seed) + ", round " + std::to_string (round));
    FakeOptions fake;
    fake.period = below (2) ? 0 : 1 + below (2);
    fake.window = below (3) ? 0 : 1 + below (50);
    fake.recurrent = below (4) == 0;
    auto model = fake_model (fake);
    model->eos_token_ids = {3};
    std::vector<std::shared_ptr<Request>> requests;
    for (int i = 2 + below (8); i > 0; i--)
      requests.push_back (random_request (random, fake.vocab));
    const auto alone = run_alone (model, requests);
    LoopOptions options;
    options.scheduler.max_batch = 1 + below (5);
    options.scheduler.prefill_tokens = 1 + below (64);
    options.scheduler.max_draft = below (9);
    options.scheduler.prefix_cache = below (4) > 0;
    const size_t bytes = kBlockTokens * sizeof (TokenId) * (fake.window ? 2 : 1);
    options.scheduler.kv_bytes =
        static_cast<size_t> (16 + below (40)) * bytes + (fake.recurrent ? 16 * 40 : 0);
    options.prefill = below (2);
    options.defer_below = below (20);
    for (size_t i = 0; i < requests.size (); i++)
      options.arrivals.push_back (below (20));
    const int often = 2 + below (20);
    Scheduler scheduler (model, options.scheduler);
    const auto results = run (scheduler, options, requests, [&] (Scheduler &live, int turn) {
      for (const auto &request : requests) {
        if (below (often) == 0) // not for ever: who makes way may have to begin anew
          request->held = !request->held && turn < 1000;
      }
      stalls += live.stalled ();
    });
    preemptions += static_cast<int64_t> (scheduler.statistics ().preemptions);
    for (const auto &request : requests) {
      ASSERT_EQ (results.at (request->serial), alone.at (request->serial));
    }
  }
  std::printf ("%lld stalls, %lld preemptions\n", static_cast<long long> (stalls),
               static_cast<long long> (preemptions));
}
