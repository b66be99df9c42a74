// Requests through the engine's loop, without elements: for tests of what may never change an answer.
#pragma once

#include "engine/drafting/lookup_policy.hpp"
#include "engine/model/forward.hpp"
#include "engine/scheduling/scheduler.hpp"

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <random>

namespace millrace::testing
{

struct Result {
  std::vector<TokenId> tokens;
  std::vector<std::pair<TokenId, float>> logprobs;
  std::vector<float> embedding;
  FinishReason finish = FinishReason::kNone;
  int endings = 0;
  std::string error;
  bool operator== (const Result &) const = default;
};

inline std::vector<TokenId>
random_tokens (std::mt19937_64 &random, int count, int vocab)
{
  std::vector<TokenId> tokens;
  for (int i = 0; i < count; i++)
    tokens.push_back (static_cast<TokenId> (random () % static_cast<uint64_t> (vocab)));
  return tokens;
}

/// `actual` may have others too.
inline void
expect_same (const std::map<uint64_t, Result> &actual, const std::map<uint64_t, Result> &expected)
{
  for (const auto &[serial, result] : expected) {
    ASSERT_TRUE (actual.contains (serial));
    EXPECT_EQ (actual.at (serial), result);
  }
}

struct LoopOptions {
  SchedulerSettings scheduler;
  bool prefill = true, draft = true, choose = true; ///< choose: drafts are cut as llmverifier has it
  int defer_below = 0;
  std::vector<Drafter *> drafters{}; ///< in series; none: the usual one
  std::vector<int> arrivals{};       ///< the turn in which each request comes; empty: all before the first
  std::function<void (const Step &)> sampled{}; ///< sees each step between the sampler and commit ()
};

/// Runs all requests to their end; `between` is called before each step. With an existing scheduler its cache is warm.
inline std::map<uint64_t, Result>
run (Scheduler &scheduler, const LoopOptions &options, std::span<const std::shared_ptr<Request>> requests,
     const std::function<void (Scheduler &, int)> &between = {})
{
  const auto drafter = make_lookup_drafter ();
  Sampler sampler;
  Step step;
  std::map<uint64_t, Result> results;
  size_t arrived = 0;
  for (int turn = 0;; turn++) {
    for (size_t i = 0; i < requests.size (); i++) {
      if (options.arrivals.empty () ? turn == 0 : options.arrivals[i] == turn) {
        scheduler.admit (requests[i]);
        arrived++;
      }
    }
    if (between)
      between (scheduler, turn);
    if (!scheduler.plan (step)) {
      if (arrived == requests.size () && !scheduler.stalled ())
        break;
      continue;
    }
    if (options.prefill)
      prefill (step, options.defer_below);
    if (options.draft && options.drafters.empty ())
      drafter->draft (step);
    for (size_t i = 0; options.draft && i < options.drafters.size (); i++)
      options.drafters[i]->draft (step);
    if (options.choose)
      step.drafting->choose (step);
    verify (step);
    sampler.sample (step);
    for (const Row &row : step.rows) {
      Result &result = results[row.sequence->request->serial];
      for (int i = 0; i < row.accepted_count; i++) {
        result.tokens.push_back (row.accepted[i].token);
        for (int j = 0; j < row.accepted[i].top_count; j++) {
          const auto &top = step.top_logprobs[row.accepted[i].top_begin + j];
          result.logprobs.emplace_back (top.token, top.logprob);
        }
      }
      if (row.ended ()) {
        result.finish = row.finish;
        result.error = row.sequence->request->error.code;
        result.embedding = row.sequence->request->embedding;
        result.endings++;
      }
    }
    if (options.sampled)
      options.sampled (step);
    scheduler.commit (step);
    EXPECT_LE (scheduler.live (), options.scheduler.max_batch);
  }
  EXPECT_TRUE (scheduler.idle ());
  for (int group = 0; group < scheduler.kv ().groups (); group++)
    EXPECT_EQ (scheduler.kv ().available (group), scheduler.kv ().size (group)) << "blocks leaked";
  EXPECT_EQ (scheduler.inconsistency (), "");
  return results;
}

inline std::map<uint64_t, Result>
run (std::shared_ptr<const Model> model, const LoopOptions &options,
     std::span<const std::shared_ptr<Request>> requests,
     const std::function<void (Scheduler &, int)> &between = {})
{
  Scheduler scheduler (std::move (model), options.scheduler);
  return run (scheduler, options, requests, between);
}

inline std::shared_ptr<Request>
random_request (std::mt19937_64 &random, int vocab)
{
  auto request = std::make_shared<Request> ();
  const auto below = [&] (uint64_t bound) { return static_cast<int> (random () % bound); };
  const int length = 1 + below (below (2) ? 20 : 150);
  for (int i = 0; i < length; i++)
    request->prompt.push_back (below (below (2) ? 4 : vocab));
  auto &sampling = request->sampling;
  sampling.max_tokens = 1 + below (80);
  sampling.seed = random ();
  if (below (2)) {
    sampling.temperature = 0.1 + below (15) / 10.0;
    sampling.top_k = below (2) ? 0 : 1 + below (20);
    sampling.top_p = below (2) ? 1 : 0.3 + below (7) / 10.0;
    sampling.min_p = below (3) ? 0 : 0.1;
  }
  if (below (3) == 0) {
    sampling.repetition_penalty = 1 + below (10) / 10.0;
    sampling.presence_penalty = below (10) / 10.0;
    sampling.frequency_penalty = below (10) / 20.0;
  }
  if (below (3) == 0)
    sampling.stop_token_ids = {below (vocab), below (vocab)};
  sampling.min_tokens = below (4) ? 0 : below (10);
  if (below (3) == 0)
    sampling.logprobs = below (4);
  return request;
}

inline std::shared_ptr<Request>
copy (const Request &request)
{
  auto same = std::make_shared<Request> ();
  same->serial = request.serial;
  same->prompt = request.prompt;
  same->prediction = request.prediction;
  same->sampling = request.sampling;
  same->priority = request.priority;
  same->embed = request.embed;
  return same;
}

/// What each request gives when it runs by itself: whole prompt at once, no drafts, nothing cached.
inline std::map<uint64_t, Result>
run_alone (std::shared_ptr<const Model> model, std::span<const std::shared_ptr<Request>> requests)
{
  std::map<uint64_t, Result> alone;
  LoopOptions plain;
  plain.scheduler = {.max_batch = 1, .prefill_tokens = 1 << 12, .max_draft = 0, .prefix_cache = false};
  plain.prefill = plain.draft = false;
  for (const auto &request : requests)
    alone.merge (run (model, plain, std::vector{copy (*request)}));
  return alone;
}

} // namespace millrace::testing
