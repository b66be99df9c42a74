// labels: property
// timeout: 600
// What users do to a server: agents that come back with a longer prompt, memory that is too small, clients that go
// away, cache folders that are damaged or belong to another model.

#include "tests/fake_model.hpp"
#include "tests/request_loop.hpp"
#include "tests/resident_memory.hpp"
#include "tests/sanitized.hpp"
#include "tests/seed.hpp"
#include "tests/synthetic_model.hpp"
#include "tests/test_paths.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <random>

using namespace millrace;
using namespace millrace::testing;
namespace fs = std::filesystem;

namespace
{

std::shared_ptr<Model>
tiny_model (const TemporaryFolder &folder, int seed, int threads = 1)
{
  write_model (folder.path (), {.max_positions = 700}, static_cast<uint32_t> (seed));
  return std::make_shared<Model> (*Model::open (folder.path (), {.cpu = {.threads = threads}}));
}

std::shared_ptr<Request>
simple_request (std::vector<TokenId> prompt, int max_tokens, uint64_t seed = 0)
{
  auto request = std::make_shared<Request> ();
  request->prompt = std::move (prompt);
  request->sampling.max_tokens = max_tokens;
  request->sampling.ignore_eos = true;
  request->sampling.seed = seed;
  request->sampling.temperature = seed % 2 ? 0.8 : 0;
  return request;
}

} // namespace

// Each turn's prompt is the last one, its answer and something new: only the new part is computed.
TEST (Scenarios, AnAgentsTurnsComputeOnlyWhatIsNew)
{
  const auto model = Model::open (source_path ("models/demo-draft"), {.cpu = {.threads = 2}});
  Scheduler scheduler (model, {.max_batch = 4, .kv_bytes = 64u << 20});
  std::vector<TokenId> prompt = model->tokenizer->encode (
      "You are a careful assistant that writes Python.\n\ndef parse(line):\n    return line.split(',')\n");
  int64_t shareable = 0, reused = 0;
  for (int turn = 0; turn < 20; turn++) {
    auto request = simple_request (prompt, 24, static_cast<uint64_t> (turn));
    const std::vector one{request};
    const auto warm = run (scheduler, {}, one);
    const auto cold = run_alone (model, one);
    expect_same (warm, cold);
    ASSERT_FALSE (HasFatalFailure ()) << "turn " << turn;

    reused += request->statistics.cached_tokens;
    EXPECT_EQ (request->statistics.cached_tokens + request->statistics.prefill_tokens,
               static_cast<int> (prompt.size ()) - 1);
    const auto &answer = warm.at (request->serial).tokens;
    prompt.insert (prompt.end (), answer.begin (), answer.end ());
    if (turn < 19)
      shareable += static_cast<int64_t> (prompt.size ()) - 1; // the answer's last token was never computed
    const auto more =
        model->tokenizer->encode ("\n# turn " + std::to_string (turn) + "\nfor name in names:\n");
    prompt.insert (prompt.end (), more.begin (), more.end ());
  }
  std::printf ("%lld of %lld shareable tokens reused (%.2f %%), last prompt %zu tokens\n",
               static_cast<long long> (reused), static_cast<long long> (shareable),
               100.0 * static_cast<double> (reused) / static_cast<double> (shareable), prompt.size ());
  EXPECT_GE (static_cast<double> (reused), 0.99 * static_cast<double> (shareable));
}

TEST (Scenarios, TwoHundredRequestsShareMemoryForLessThanTwo)
{
  const uint64_t seed = test_seed ();
  std::mt19937_64 random (seed);
  TemporaryFolder folder;
  const auto model = tiny_model (folder, 7);
  LoopOptions options;
  const size_t block = model->compiled->kv_layout (KvType::kF32)[0].block_bytes;
  options.scheduler.kv_bytes = 64 * block;
  options.scheduler.max_batch = 16;
  options.scheduler.prefill_tokens = 128;

  const int longest = std::min (40 * kBlockTokens, model->spec.max_positions);
  std::vector<std::shared_ptr<Request>> requests;
  for (int i = 0; i < 200; i++) {
    const int total = longest / 4 + static_cast<int> (random () % static_cast<uint64_t> (longest * 3 / 4));
    const int answer = 1 + static_cast<int> (random () % static_cast<uint64_t> (total / 2));
    requests.push_back (
        simple_request (random_tokens (random, total - answer, model->spec.vocab), answer, random ()));
  }
  const auto alone = run_alone (model, requests);

  Scheduler scheduler (model, options.scheduler);
  ASSERT_EQ (scheduler.kv ().size (0), 64);
  ASSERT_LE (scheduler.kv ().bytes (), options.scheduler.kv_bytes);
  long warm_kib = 0, most_kib = 0;
  int most_blocks = 0;
  const auto results = run (scheduler, options, requests, [&] (Scheduler &live, int turn) {
    most_blocks = std::max (most_blocks, live.kv ().size (0) - live.kv ().free (0));
    if (turn == 200)
      warm_kib = resident_kib ();
    if (turn > 200 && turn % 50 == 0)
      most_kib = std::max (most_kib, resident_kib ());
  });
  expect_same (results, alone);
  std::printf ("%llu steps, %llu preemptions, at most %d of 64 blocks, resident %ld KiB after 200 steps, at "
               "most %ld KiB "
               "later\n",
               static_cast<unsigned long long> (scheduler.statistics ().steps),
               static_cast<unsigned long long> (scheduler.statistics ().preemptions), most_blocks, warm_kib,
               most_kib);
  EXPECT_GT (scheduler.statistics ().preemptions, 0u);
  if (!kSanitized) {
    EXPECT_LE (most_kib - warm_kib, 2048);
  }
}

TEST (Scenarios, AHundredThousandCancelsLeaveNothingBehind)
{
  const uint64_t seed = test_seed ();
  std::mt19937_64 random (seed);
  const int wanted = kSanitized ? 10'000 : 100'000;
  int cancelled = 0, computed_after = 0;
  for (int round = 0; cancelled < wanted; round++) {
    FakeOptions fake;
    fake.vocab = 8;
    fake.window = round % 3 ? 0 : 20;
    fake.recurrent = round % 4 == 0;
    SchedulerSettings settings{.max_batch = 8, .prefill_tokens = 48, .max_draft = 4, .kv_bytes = 128 * 60};
    if (fake.window)
      settings.kv_bytes *= 2;
    Scheduler scheduler (fake_model (fake), settings);
    const auto drafter = make_lookup_drafter ();
    Sampler sampler;
    Step step;
    std::vector<std::shared_ptr<Request>> requests;
    for (int turn = 0; turn < 2000 || !scheduler.idle (); turn++) {
      for (int i = 0; turn < 2000 && i < 3 && scheduler.waiting () < 20; i++) {
        requests.push_back (simple_request (random_tokens (random, 1 + static_cast<int> (random () % 150), 3),
                                            1 + static_cast<int> (random () % 60), random ()));
        scheduler.admit (requests.back ());
      }
      for (const auto &request : requests) {
        if (random () % 8 == 0)
          request->end (FinishReason::kCancelled);
      }
      if (!scheduler.plan (step))
        continue;
      for (const Row &row : step.rows)
        computed_after += !row.ended () && row.sequence->request->finish_early.load () != FinishReason::kNone;
      if (random () % 2)
        prefill (step);
      drafter->draft (step);
      if (random () % 50 == 0 && !requests.empty ()) // in mid-step
        requests[random () % requests.size ()]->end (FinishReason::kCancelled);
      verify (step);
      sampler.sample (step);
      scheduler.commit (step);
      for (const auto &request : scheduler.finished ()) {
        cancelled += request->finish_early == FinishReason::kCancelled;
        std::erase (requests, request);
      }
    }
    ASSERT_TRUE (requests.empty ());
    ASSERT_EQ (scheduler.inconsistency (), "") << "seed " << seed;
    for (int group = 0; group < scheduler.kv ().groups (); group++)
      ASSERT_EQ (scheduler.kv ().available (group), scheduler.kv ().size (group)) << "leaked, seed " << seed;
  }
  EXPECT_EQ (computed_after, 0);
  std::printf ("%d cancelled\n", cancelled);
}

// Whatever happens to the folder between runs, answers stay what they are.
TEST (Scenarios, ADamagedOrForeignCacheFolderNeverChangesAnAnswer)
{
  const uint64_t seed = test_seed ();
  std::mt19937_64 random (seed);
  TemporaryFolder folder, other_folder;
  const auto model = tiny_model (folder, 7), other = tiny_model (other_folder, 8);
  std::vector<std::shared_ptr<Request>> requests;
  const auto prefix = random_tokens (random, 90, model->spec.vocab);
  for (int i = 0; i < 6; i++) {
    auto prompt = prefix;
    const auto tail = random_tokens (random, 5 + 10 * i, model->spec.vocab);
    prompt.insert (prompt.end (), tail.begin (), tail.end ());
    requests.push_back (simple_request (prompt, 20, random ()));
  }
  const auto alone = run_alone (model, requests), alone_other = run_alone (other, requests);
  const auto again = [&] (std::shared_ptr<Model> with, const SchedulerSettings &settings, KvStatistics &kv) {
    std::vector<std::shared_ptr<Request>> copies;
    for (const auto &request : requests)
      copies.push_back (copy (*request));
    Scheduler scheduler (with, settings);
    LoopOptions options;
    options.scheduler = settings;
    const auto results = run (scheduler, options, copies);
    scheduler.save ();
    kv = scheduler.kv ().statistics ();
    return results;
  };

  int64_t hits = 0;
  for (int round = 0; round < 30; round++) {
    TemporaryFolder cache;
    SchedulerSettings settings{.max_batch = 4, .kv_bytes = 4u << 20};
    settings.cache_directory = cache.path ();
    KvStatistics kv;
    expect_same (again (model, settings, kv), alone);
    ASSERT_EQ (kv.disk_hit_tokens, 0u);

    std::vector<fs::path> files;
    for (const auto &entry : fs::recursive_directory_iterator (cache.path ())) {
      if (entry.is_regular_file ())
        files.push_back (entry.path ());
    }
    ASSERT_GT (files.size (), 5u);
    for (const auto &file : files) {
      const auto size = fs::file_size (file);
      switch (random () % 5) {
      case 0: { // a bit flips
        std::fstream stream (file, std::ios::in | std::ios::out | std::ios::binary);
        const auto at = static_cast<std::streamoff> (random () % size);
        stream.seekg (at);
        const char byte = static_cast<char> (stream.get () ^ (1 << random () % 8));
        stream.seekp (at);
        stream.put (byte);
        break;
      }
      case 1:
        fs::resize_file (file, random () % size);
        break;
      case 2: // another block's contents
        fs::copy_file (files[random () % files.size ()], file.string () + ".tmp",
                       fs::copy_options::overwrite_existing);
        fs::rename (file.string () + ".tmp", file);
        break;
      default:
        break; // as it was
      }
    }
    expect_same (again (model, settings, kv), alone);
    hits += static_cast<int64_t> (kv.disk_hit_tokens);
    expect_same (again (other, settings, kv), alone_other);
    ASSERT_EQ (kv.disk_hit_tokens, 0u) << "another model's blocks";
    settings.kv_type = KvType::kF16;
    again (model, settings, kv);
    ASSERT_EQ (kv.disk_hit_tokens, 0u) << "blocks of another type";
    settings.kv_type = KvType::kF32;
    expect_same (again (model, settings, kv), alone);
    ASSERT_GT (kv.disk_hit_tokens, 0u) << "what was damaged has been written again";
    ASSERT_FALSE (HasFatalFailure ()) << "seed " << seed << " round " << round;
  }
  std::printf ("%lld tokens read from damaged folders\n", static_cast<long long> (hits));
  EXPECT_GT (hits, 0);
}

// Deadlines in every state, and priorities: what is urgent goes first, and what waits long enough is urgent.
namespace
{
int64_t now_us = 0;
int64_t
virtual_clock ()
{
  return now_us;
}
} // namespace

TEST (Scenarios, ATimeoutEndsARequestWhereverItIs)
{
  const FakeOptions fake;
  now_us = 1;
  SchedulerSettings settings{.max_batch = 1, .prefill_tokens = 16, .max_draft = 0};
  settings.clock = virtual_clock;
  auto running = simple_request (std::vector<TokenId> (20, 1), 300), waiting = simple_request ({1, 2}, 5),
       expired = simple_request ({1, 2}, 5), endless = simple_request ({3}, 4);
  running->timeout_us = 30'000;
  waiting->timeout_us = 10'000;
  expired->timeout_us = 1;
  LoopOptions options;
  options.scheduler = settings;
  Scheduler scheduler (fake_model (fake), settings);
  const auto results = run (scheduler, options, std::vector{running, waiting, expired, endless},
                            [] (Scheduler &, int) { now_us += 1000; });
  EXPECT_EQ (results.at (running->serial).finish, FinishReason::kTimeout);
  EXPECT_GT (results.at (running->serial).tokens.size (), 20u) << "what it had by then is its answer";
  EXPECT_LT (results.at (running->serial).tokens.size (), 32u);
  EXPECT_EQ (results.at (waiting->serial).finish, FinishReason::kTimeout);
  EXPECT_TRUE (results.at (waiting->serial).tokens.empty ());
  EXPECT_EQ (results.at (expired->serial).finish, FinishReason::kTimeout);
  EXPECT_EQ (results.at (endless->serial).finish, FinishReason::kLength);
  EXPECT_STREQ (finish_reason_name (results.at (waiting->serial).finish), "timeout");
}

TEST (Scenarios, UrgentRequestsGoFirstUntilOthersHaveWaitedLongEnough)
{
  const FakeOptions fake;
  now_us = 1;
  SchedulerSettings settings{.max_batch = 1};
  settings.clock = virtual_clock;
  Scheduler scheduler (fake_model (fake), settings);
  std::vector<std::shared_ptr<Request>> requests;
  std::vector<int> order;
  const auto add = [&] (Priority priority, int64_t submitted_us) {
    requests.push_back (simple_request ({1}, 1));
    requests.back ()->priority = priority;
    requests.back ()->submitted_us = submitted_us;
  };
  add (Priority::kLow, 1);
  add (Priority::kNormal, 2);
  add (Priority::kHigh, 3);
  add (Priority::kHigh, 4 + 2 * kAgingUs);   // too late to overtake even the low one
  add (Priority::kNormal, 2 + kAgingUs / 2); // overtakes the low one
  LoopOptions options;
  options.scheduler = settings;
  Step step;
  for (const auto &request : requests)
    scheduler.admit (request);
  while (scheduler.plan (step)) {
    for (Row &row : step.rows) {
      row.accepted_count = 1;
      row.accepted[0].token = 1;
      row.finish = FinishReason::kLength;
    }
    scheduler.commit (step);
    for (const auto &request : scheduler.finished ())
      order.push_back (
          static_cast<int> (std::find (requests.begin (), requests.end (), request) - requests.begin ()));
  }
  EXPECT_EQ (order, (std::vector<int>{2, 1, 4, 0, 3}));
}
