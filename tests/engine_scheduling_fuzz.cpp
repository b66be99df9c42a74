// labels: property
// timeout: 600
// soak: ROUNDS=10000000
// Planner, scheduler and the KV cache's books under random requests, cancels, deadlines, drafts, holds and pressure, without a
// model: nothing leaks, nothing is owned twice, nobody starves, everything ends.

#include "engine/scheduling/scheduler.hpp"
#include "tests/fake_model.hpp"
#include "tests/seed.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

using namespace millrace;
using namespace millrace::testing;

namespace
{

constexpr int kLearning = 4; // steps without prompts that teach the cost of decoding

int64_t virtual_now_us = 0;

int64_t
virtual_clock ()
{
  return virtual_now_us;
}

class Fuzz
{
public:
  explicit Fuzz (uint64_t seed)
      : random_ (seed)
  {
    FakeOptions fake;
    fake.max_positions = 300;
    fake.window = below (3) ? 0 : 1 + below (50);
    fake.recurrent = below (4) == 0;
    settings_.max_batch = 1 + below (12);
    settings_.prefill_tokens = 1 + below (below (2) ? 64 : 400);
    settings_.max_draft = below (2) ? below (kMaxDraft + 1) : 0;
    settings_.prefix_cache = below (6) > 0;
    settings_.max_step_ms = below (2) ? 0 : 2;
    settings_.clock = virtual_clock;
    holds_ = below (2);
    const auto blocks = static_cast<size_t> (19 + below (below (2) ? 6 : 100));
    settings_.kv_bytes = blocks * 64 * (fake.window ? 2 : 1) + (fake.recurrent ? 16 * 60 : 0);
    scheduler_ = std::make_unique<Scheduler> (fake_model (fake), settings_);
  }

  /// Runs `steps` steps, then until all is done.
  void run (int steps)
  {
    for (int i = 0; i < steps && !::testing::Test::HasFatalFailure (); i++) {
      arrive ();
      step ();
    }
    // The work that is left is bounded, so the steps are.
    for (int i = 0; !scheduler_->idle () && !::testing::Test::HasFatalFailure (); i++) {
      ASSERT_LT (i, 200'000) << "requests that never end";
      if (below (50) == 0 || scheduler_->stalled ())
        release_holds ();
      step ();
    }
    ASSERT_EQ (ended_, arrived_);
    ASSERT_EQ (scheduler_->inconsistency (), "");
    for (int group = 0; group < scheduler_->kv ().groups (); group++)
      ASSERT_EQ (scheduler_->kv ().available (group), scheduler_->kv ().size (group));
  }

  int64_t steps = 0, preemptions = 0, cancels = 0, timeouts = 0, blocked = 0, stalls = 0, longest_wait = 0;

private:
  int below (int bound) { return static_cast<int> (random_ () % static_cast<uint64_t> (bound)); }

  void arrive ()
  {
    while (scheduler_->waiting () < 8 && below (3) == 0) {
      auto request = std::make_shared<Request> ();
      const int kind = below (4); // prompts of one kind begin alike
      for (int i = 1 + below (below (3) ? 30 : 250); i > 0; i--)
        request->prompt.push_back (below (20) ? kind : below (4));
      request->sampling.max_tokens =
          1 + below (std::min (80, 299 - static_cast<int> (request->prompt.size ()) + 1));
      request->priority = static_cast<Priority> (below (3));
      request->timeout_us = below (20) ? 0 : 1000 * (1 + below (3000));
      request->submitted_us = virtual_now_us + 1;
      requests_.push_back (request);
      arrived_++;
      scheduler_->admit (request);
    }
    for (const auto &request : requests_) {
      if (below (300) == 0)
        request->end (FinishReason::kCancelled);
      if (holds_ && below (request->held ? 10 : 100) == 0)
        request->held = !request->held;
    }
  }

  void release_holds ()
  {
    for (const auto &request : requests_)
      request->held = false;
  }

  void step ()
  {
    virtual_now_us += 1000 + below (4000);
    if (!scheduler_->plan (step_)) {
      const bool stalled = !requests_.empty () && std::ranges::all_of (requests_, [] (const auto &each) {
        return each->held.load ();
      });
      ASSERT_EQ (scheduler_->stalled (), stalled);
      ASSERT_TRUE (scheduler_->idle () || stalled) << "no rows though requests are left";
      stalls += stalled;
      return;
    }
    steps++;
    int prefill = 0, running = 0;
    for (Row &row : step_.rows) {
      Sequence &sequence = *row.sequence;
      const auto cancelled = sequence.request->finish_early.load ();
      ASSERT_EQ (row.finish, cancelled) << "a cancelled request computes, or another one ends";
      if (row.ended ())
        continue;
      ASSERT_FALSE (sequence.request->held) << "a row for one that is held";
      running++;
      prefill += row.prefill_tokens;
      // Within its tables, and nobody else's business.
      const int end = row.position + row.prefill_tokens + (row.scored ? 1 + row.draft_limit : 0);
      ASSERT_LE (end, static_cast<int> (sequence.kv.tables[0].size ()) * kBlockTokens);
      ASSERT_LE (end, sequence.max_tokens);
      ASSERT_EQ (row.position, sequence.kv.tokens);
      has_row_[sequence.request->serial] = steps;
      preemptions_[sequence.request->serial] = sequence.request->statistics.preemptions;
      if (row.scored)
        answer (row);
    }
    ASSERT_LE (running, settings_.max_batch);
    ASSERT_LE (prefill, settings_.prefill_tokens);
    scheduler_->commit (step_);
    virtual_now_us += 100;
    for (const auto &request : scheduler_->finished ()) {
      ended_++;
      cancels += request->finish_early == FinishReason::kCancelled;
      timeouts += request->finish_early == FinishReason::kTimeout;
      has_row_.erase (request->serial);
      preemptions_.erase (request->serial);
      std::erase (requests_, request);
    }
    preemptions += scheduler_->report ().preempted;
    blocked += scheduler_->report ().blocked;
    check_starvation ();
    if (steps % 32 == 0) {
      ASSERT_EQ (scheduler_->inconsistency (), "");
    }
  }

  // Whoever is first in rank of all, once it runs, is never without memory, never preempted and never waits for another's
  // prompt; of n prompts m are served in a step, those that waited longest, so it waits for n / m steps at most. Ranks
  // never change, so everybody is first some day; until a slot is free, those that run must end, which they do. Who is held
  // does not count.
  void check_starvation ()
  {
    const std::shared_ptr<Request> *first = nullptr;
    const auto rank = [] (const Request &request) {
      return std::pair (rank_of (request.submitted_us, request.priority), request.serial);
    };
    for (const auto &request : requests_) {
      if (!request->held && (!first || rank (*request) < rank (**first)))
        first = &request;
    }
    if (!first) {
      first_ = 0;
      return;
    }
    const uint64_t serial = (*first)->serial;
    const bool runs = has_row_[serial] > 0 && preemptions_[serial] == (*first)->statistics.preemptions;
    if (first_ != serial || has_row_[serial] == steps) {
      first_ = serial;
      first_since_ = steps;
    }
    const int served = std::max (std::min (settings_.prefill_tokens, kMinPrefill) / kMinPrefill, 1);
    const int turns = (settings_.max_batch + served - 1) / served + 1;
    const int64_t bound =
        runs ? turns + turns / 8 + 1 + kLearning : int64_t{turns} * settings_.max_batch * 400;
    ASSERT_LE (steps - first_since_, bound) << (runs ? "runs" : "waits");
    longest_wait = std::max (longest_wait, runs ? steps - first_since_ : 0);
  }

  void answer (Row &row)
  {
    Sequence &sequence = *row.sequence;
    row.draft.count = row.draft_limit > 0 ? below (row.draft_limit + 1) : 0;
    row.checkpoint = row.position + row.prefill_tokens;
    const int room = sequence.max_tokens - static_cast<int> (sequence.tokens.size ());
    row.accepted_count = std::min (1 + below (row.draft.count + 1), room);
    for (int i = 0; i < row.accepted_count; i++)
      row.accepted[static_cast<size_t> (i)].token = below (3);
    if (row.accepted_count == room)
      row.finish = FinishReason::kLength;
    else if (below (60) == 0)
      row.finish = FinishReason::kStop;
    else if (below (400) == 0)
      row.fail ("internal", "as if logits were NaN");
  }

  std::mt19937_64 random_;
  SchedulerSettings settings_;
  bool holds_ = false;
  std::unique_ptr<Scheduler> scheduler_;
  Step step_;
  std::vector<std::shared_ptr<Request>> requests_;
  std::map<uint64_t, int64_t> has_row_; // of each request: its latest step
  std::map<uint64_t, int> preemptions_; // before that step
  uint64_t first_ = 0;                  // in rank, and since when it has been so without a row
  int64_t first_since_ = 0;
  int arrived_ = 0, ended_ = 0;
};

} // namespace

TEST (SchedulerFuzz, NothingLeaksNobodyStarvesEverythingEnds)
{
  const uint64_t seed = test_seed ();
  const int64_t wanted = test_rounds (300'000);
  int64_t steps = 0, preemptions = 0, cancels = 0, timeouts = 0, blocked = 0, stalls = 0;
  for (uint64_t round = 0; steps < wanted; round++) {
    SCOPED_TRACE ("seed " + std::to_string (seed) + ", round " + std::to_string (round));
    Fuzz fuzz (seed + round);
    fuzz.run (2000);
    ASSERT_FALSE (HasFatalFailure ());
    steps += fuzz.steps;
    preemptions += fuzz.preemptions;
    cancels += fuzz.cancels;
    timeouts += fuzz.timeouts;
    blocked += fuzz.blocked;
    stalls += fuzz.stalls;
  }
  std::printf ("%lld steps, %lld preemptions, %lld blocked, %lld cancels, %lld timeouts, %lld stalls\n",
               static_cast<long long> (steps), static_cast<long long> (preemptions),
               static_cast<long long> (blocked), static_cast<long long> (cancels),
               static_cast<long long> (timeouts), static_cast<long long> (stalls));
  EXPECT_GT (preemptions, wanted / 1000);
  EXPECT_GT (cancels, wanted / 1000);
}
