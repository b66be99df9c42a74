#include "bench/sim_plan_cost.hpp"
#include "bench/empty_model.hpp"

#include "bench/sim_machine.hpp"
#include "bench/sim_random.hpp"

#include "engine/scheduling/scheduler.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <vector>

namespace millrace::sim
{

namespace
{

struct Case {
  const char *name;
  double prefilling = 0;   ///< share of requests that are made to have very long prompts
  int kv_tokens = 0;       ///< 0: plenty
  int max_draft = 0;       ///< all accepted, so that lengths differ
  int queued_per_live = 0; ///< that wait, for each live one
  double endings = 0;      ///< of rows, in each step; a new request takes the place
  int shared_tokens = 0;   ///< that all prompts begin with
  int prompt_tokens = 100; ///< of those that are not long
};

constexpr int kLong = 20'000;

class Bench
{
public:
  Bench (const Case &what, int requests)
      : case_ (what)
      , requests_ (requests)
      , random_ (1)
  {
    SchedulerSettings settings;
    settings.max_batch = requests;
    settings.max_draft = what.max_draft;
    settings.learn_cost = false; // whole budgets for prompts: the short ones are soon done
    settings.clock = virtual_clock;
    settings.kv_bytes = static_cast<size_t> (what.kv_tokens ? what.kv_tokens : 1 << 25) / kBlockTokens;
    scheduler_ = std::make_unique<Scheduler> (bench::empty_model (kVocab, kMaxPositions, 1), settings);
  }

  void run (int steps)
  {
    for (int i = requests_ * (1 + case_.queued_per_live); i > 0; i--)
      arrive ();
    const int settle = requests_ * (case_.prompt_tokens + 50) / 256 + 100;
    for (int i = 0; i < settle; i++)
      step (false);
    for (int i = 0; i < steps; i++)
      step (true);
  }

  void print () const
  {
    auto times = plan_us_;
    std::ranges::sort (times);
    const auto at = [&] (double q) {
      return times[static_cast<size_t> (q * static_cast<double> (times.size () - 1))];
    };
    const auto n = static_cast<double> (times.size ());
    std::printf ("| %s | %.0f | %.0f | %.1f | %.2f | %.0f | %.0f |\n", case_.name, live_ / n, rows_ / n,
                 prefilling_ / n, preempted_ / n, at (0.5), at (0.99));
    std::fflush (stdout);
  }

private:
  void arrive ()
  {
    auto request = std::make_shared<Request> ();
    const uint64_t text = random_.next ();
    const int own = random_.uniform () < case_.prefilling ? kLong : case_.prompt_tokens + random_.below (50);
    for (int i = 0; i < case_.shared_tokens; i++)
      request->prompt.push_back (token_of (1, i, kVocab));
    for (int i = 0; i < own; i++)
      request->prompt.push_back (token_of (text, i, kVocab));
    request->sampling.max_tokens = case_.kv_tokens ? 300 : 10'000;
    request->submitted_us = ++now_us;
    scheduler_->admit (std::move (request));
  }

  void step (bool timed)
  {
    const auto begin = std::chrono::steady_clock::now ();
    const bool planned = scheduler_->plan (step_);
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now () - begin;
    if (!planned)
      return;
    StepWork work;
    int ended = 0, prefilling = 0;
    for (Row &row : step_.rows) {
      prefilling += row.prefill_tokens > 0;
      work.prefill_tokens += row.prefill_tokens;
      if (!row.scored || row.ended ())
        continue;
      work.scored_tokens++;
      const int room = row.sequence->max_tokens - static_cast<int> (row.sequence->tokens.size ());
      row.draft.count = row.draft_limit > 0 ? random_.below (row.draft_limit + 1) : 0;
      row.accepted_count = std::min (1 + row.draft.count, room);
      for (int i = 0; i < row.accepted_count; i++)
        row.accepted[static_cast<size_t> (i)].token = random_.below (kVocab);
      if (row.accepted_count == room || random_.uniform () < case_.endings) {
        row.finish = FinishReason::kLength;
        ended++;
      }
    }
    if (timed) {
      plan_us_.push_back (took.count ());
      rows_ += static_cast<double> (step_.rows.size ());
      prefilling_ += prefilling;
      preempted_ += scheduler_->report ().preempted;
      live_ += scheduler_->live ();
    }
    now_us += static_cast<int64_t> (1000 * Machine::named ("fast").step_ms (work));
    scheduler_->commit (step_);
    for (; ended > 0; ended--)
      arrive ();
  }

  Case case_;
  int requests_;
  Random random_;
  std::unique_ptr<Scheduler> scheduler_;
  Step step_;
  std::vector<double> plan_us_;
  double rows_ = 0, prefilling_ = 0, preempted_ = 0, live_ = 0;
};

} // namespace

void
measure_plan_cost (int requests, int steps, int only)
{
  const Case cases[] = {
      {.name = "decode"},
      {.name = "decode, up to 8 drafts a row", .max_draft = 8},
      {.name = "decode, 1 % of rows end and come in each step", .endings = 0.01},
      {.name = "decode, 10,000 wait", .queued_per_live = 10},
      {.name = "10 % long prompts", .prefilling = 0.1},
      {.name = "50 % long prompts", .prefilling = 0.5},
      {.name = "1 % of rows end and come, memory full of cached blocks",
       .kv_tokens = 600 * requests,
       .endings = 0.01},
      {.name = "decode, memory short", .kv_tokens = 280 * requests},
      {.name = "decode with drafts, memory short", .kv_tokens = 280 * requests, .max_draft = 8},
      {.name = "decode, memory short, 2,000 tokens shared",
       .kv_tokens = 290 * requests,
       .shared_tokens = 2000},
  };
  std::printf ("| | live | rows | with prefill | preempted | median, µs | p99, µs |\n"
               "|---|---:|---:|---:|---:|---:|---:|\n");
  int number = 0;
  for (const Case &one : cases) {
    if (only > 0 && ++number != only)
      continue;
    Bench bench (one, requests);
    bench.run (steps);
    bench.print ();
  }
  std::printf ("(means of a step; bound %.0f µs for 1,000 live requests)\n", kPlanBoundUs);
}

} // namespace millrace::sim
