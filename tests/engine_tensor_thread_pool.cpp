// labels: unit
// The thread pool: each part once, callers in turn, no allocation, idle threads asleep.
#include "engine/tensor/thread_pool.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <new>
#include <numeric>
#include <set>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

namespace
{

std::atomic<int64_t> allocations = 0;

} // namespace

// Not inlined, or the compiler sees free () of what it takes for the standard operator new.
[[gnu::noinline]] void *
operator new (size_t size)
{
  allocations.fetch_add (1, std::memory_order_relaxed);
  if (void *memory = std::malloc (size ? size : 1))
    return memory;
  throw std::bad_alloc ();
}

[[gnu::noinline]] void
operator delete (void *memory) noexcept
{
  std::free (memory);
}

[[gnu::noinline]] void
operator delete (void *memory, size_t) noexcept
{
  std::free (memory);
}

namespace
{

using millrace::ThreadPool;

std::set<std::string>
thread_ids ()
{
  std::set<std::string> ids;
  for (const auto &task : std::filesystem::directory_iterator ("/proc/self/task"))
    ids.insert (task.path ().filename ());
  return ids;
}

std::set<std::string>
threads_since (const std::set<std::string> &before)
{
  std::set<std::string> fresh;
  for (const std::string &id : thread_ids ())
    if (!before.contains (id))
      fresh.insert (id);
  return fresh;
}

/// Threads other than the caller that the kernel does not see asleep.
int
busy_threads ()
{
  int busy = 0;
  for (const auto &task : std::filesystem::directory_iterator ("/proc/self/task")) {
    std::ifstream file (task.path () / "stat"); // "ID (NAME) STATE ..."
    std::string line;
    std::getline (file, line);
    const size_t name_end = line.rfind (')');
    const bool self = task.path ().filename () == std::to_string (gettid ());
    if (!self && name_end != std::string::npos && line.size () > name_end + 2)
      busy += line[name_end + 2] != 'S';
  }
  return busy;
}

class Lanes : public testing::TestWithParam<int>
{
};

TEST_P (Lanes, every_part_runs_exactly_once)
{
  ThreadPool pool (GetParam ());
  ASSERT_EQ (pool.size (), GetParam ());
  for (const int parts : {0, 1, 2, 3, 7, 8, 9, 64, 1000, 4097}) {
    for (int round = 0; round < 20; ++round) {
      std::vector<std::atomic<int>> runs (parts);
      std::atomic<int> bad_lanes = 0;
      pool.run (parts, [&] (int part, int lane) {
        runs[part].fetch_add (1, std::memory_order_relaxed);
        if (lane < 0 || lane >= pool.size ())
          bad_lanes.fetch_add (1);
      });
      ASSERT_EQ (bad_lanes, 0) << parts << " parts, round " << round;
      for (int part = 0; part < parts; ++part)
        ASSERT_EQ (runs[part], 1) << "part " << part << " of " << parts << ", round " << round;
    }
  }
}

TEST_P (Lanes, what_parts_write_is_visible_when_run_returns)
{
  ThreadPool pool (GetParam ());
  std::vector<int> values (257); // not atomic: ThreadSanitizer looks at this test
  for (int round = 0; round < 2000; ++round) {
    pool.run (static_cast<int> (values.size ()), [&] (int part, int) { values[part] = round + part; });
    for (size_t i = 0; i < values.size (); ++i)
      ASSERT_EQ (values[i], round + static_cast<int> (i)) << "round " << round;
  }
}

TEST_P (Lanes, a_lane_is_never_two_threads_at_once)
{
  ThreadPool pool (GetParam ());
  constexpr int kCallers = 4;
  constexpr int kRounds = 300;
  constexpr int kParts = 13;
  struct alignas (64) Scratch {
    int64_t parts = 0; // not atomic: one lane, one thread
  };
  std::vector<Scratch> scratch (pool.size ());
  std::vector<int64_t> sums (kCallers);
  std::vector<std::thread> callers;
  for (int caller = 0; caller < kCallers; ++caller)
    callers.emplace_back ([&, caller] {
      for (int round = 0; round < kRounds; ++round) {
        std::array<int, kParts> results{};
        pool.run (kParts, [&] (int part, int lane) {
          ++scratch[lane].parts;
          results[part] = part + 1;
        });
        sums[caller] += std::accumulate (results.begin (), results.end (), 0);
      }
    });
  for (std::thread &caller : callers)
    caller.join ();
  int64_t parts = 0;
  for (const Scratch &lane : scratch)
    parts += lane.parts;
  EXPECT_EQ (parts, int64_t{kCallers} * kRounds * kParts);
  for (int caller = 0; caller < kCallers; ++caller)
    EXPECT_EQ (sums[caller], int64_t{kRounds} * kParts * (kParts + 1) / 2) << "caller " << caller;
}

TEST_P (Lanes, a_run_allocates_nothing)
{
  ThreadPool pool (GetParam ());
  std::atomic<int64_t> done = 0;
  pool.run (100, [&] (int, int) { done.fetch_add (1); });
  const int64_t before = allocations.load ();
  for (int round = 0; round < 500; ++round)
    pool.run (16, [&] (int, int) { done.fetch_add (1, std::memory_order_relaxed); });
  EXPECT_EQ (allocations.load () - before, 0);
  EXPECT_EQ (done, 100 + 500 * 16);
}

TEST_P (Lanes, idle_threads_fall_asleep_and_wake_again)
{
  ThreadPool pool (GetParam ());
  for (int round = 0; round < 3; ++round) {
    std::atomic<int> done = 0;
    pool.run (50, [&] (int, int) { done.fetch_add (1); });
    EXPECT_EQ (done, 50) << "round " << round;
    while (busy_threads () > 0) // ends by the test's time limit when a thread never sleeps
      std::this_thread::yield ();
  }
  EXPECT_EQ (busy_threads (), 0);
}

TEST_P (Lanes, pools_come_and_go_with_and_without_work)
{
  std::atomic<int> done = 0;
  for (int round = 0; round < 50; ++round) {
    ThreadPool pool (GetParam ());
    if (round % 2)
      pool.run (5, [&] (int, int) { done.fetch_add (1); });
  }
  EXPECT_EQ (done, 25 * 5);
}

INSTANTIATE_TEST_SUITE_P (thread_pool, Lanes, testing::Values (1, 2, 3, 8),
                          [] (const auto &info) { return std::to_string (info.param); });

TEST (thread_pool, one_lane_has_no_threads)
{
  const auto before = thread_ids ();
  ThreadPool pool (1);
  EXPECT_EQ (threads_since (before).size (), 0u);
  const auto caller = std::this_thread::get_id ();
  int here = 0;
  pool.run (10, [&] (int, int lane) { here += lane == 0 && std::this_thread::get_id () == caller; });
  EXPECT_EQ (here, 10);
}

TEST (thread_pool, lanes_are_threads_and_end_with_the_pool)
{
  std::thread ([] {}).join (); // a sanitizer starts a thread of its own beside the first one
  const auto before = thread_ids ();
  {
    ThreadPool pool (5);
    EXPECT_EQ (threads_since (before).size (), 4u);
  }
  while (!threads_since (before).empty ()) // the kernel removes a joined thread's entry a moment later
    std::this_thread::yield ();
  EXPECT_EQ (threads_since (before).size (), 0u);
}

TEST (thread_pool, zero_threads_means_the_usable_cores)
{
  ThreadPool pool;
  EXPECT_EQ (pool.size (), millrace::usable_cores ());
  EXPECT_GE (pool.size (), 1);
}

TEST (thread_pool, negative_counts_of_parts_do_nothing)
{
  ThreadPool pool (2);
  int runs = 0;
  pool.run (-1, [&] (int, int) { ++runs; });
  EXPECT_EQ (runs, 0);
}

} // namespace
