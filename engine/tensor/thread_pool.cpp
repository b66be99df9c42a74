// Worker threads that split a loop over rows of output.
//
// One 64-bit word holds (parts << 32 | next part). A part is claimed by adding one to it: whoever gets a
// next below parts owns that part, and the job cannot end, so its fields cannot change, before the owner
// has counted the part off `remaining`. A thread that comes late finds nothing left and has read nothing
// but the word; so a run () never waits for threads that have no part, which matters with more threads than
// cores. Idle threads spin for a bounded time (a decode step is hundreds of run () calls a few µs apart),
// then sleep on a futex through std::atomic::wait.
#include "engine/tensor/thread_pool.hpp"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace millrace
{

namespace
{

constexpr auto kSpinTime = std::chrono::microseconds (40);
constexpr int kPausesPerClockRead = 16;
constexpr size_t kCacheLine = 64;

inline void
cpu_pause ()
{
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause ();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/// Spins until `changed ()` or the time is over; true when it changed.
template <typename Condition>
bool
spin_until (const Condition &changed)
{
  const auto deadline = std::chrono::steady_clock::now () + kSpinTime;
  do {
    for (int i = 0; i < kPausesPerClockRead; ++i) {
      if (changed ())
        return true;
      cpu_pause ();
    }
  } while (std::chrono::steady_clock::now () < deadline);
  return false;
}

} // namespace

struct ThreadPool::State {
  using Work = FunctionRef<void (int, int)>;

  int lanes = 1;
  bool may_spin = true; ///< a spinning thread must not keep a working one off its core
  std::mutex turn;      ///< held by the caller whose job runs
  std::vector<std::thread> threads;
  const Work *work = nullptr; ///< of the running job; published by claims

  alignas (kCacheLine) std::atomic<uint64_t> claims = 0; ///< parts << 32 | next part
  alignas (kCacheLine) std::atomic<uint32_t> epoch = 0;  ///< one more for each job; idle threads wait on it
  std::atomic<bool> stopping = false;
  alignas (kCacheLine) std::atomic<int> remaining = 0; ///< parts of the job that are not done

  void start ();
  void stop ();
  void run_lane (int lane);
  void take_parts (int lane);
  uint32_t wait_for_job (uint32_t seen);
  void wait_until_done ();
};

ThreadPool::ThreadPool (int threads)
    : state_ (std::make_unique<State> ())
{
  const int cores = usable_cores ();
  state_->lanes = threads > 0 ? threads : cores;
  state_->may_spin = state_->lanes <= cores;
  state_->start ();
}

ThreadPool::~ThreadPool ()
{
  state_->stop ();
}

int
ThreadPool::size () const
{
  return state_->lanes;
}

void
ThreadPool::run (int parts, FunctionRef<void (int part, int lane)> work)
{
  if (parts <= 0)
    return;
  State &state = *state_;
  const std::lock_guard turn (state.turn);
  if (state.lanes == 1 || parts == 1) {
    for (int part = 0; part < parts; ++part)
      work (part, 0);
    return;
  }
  state.work = &work;
  state.remaining.store (parts, std::memory_order_relaxed);
  state.claims.store (static_cast<uint64_t> (parts) << 32, std::memory_order_release);
  // Sequentially consistent: the count of sleepers that notify looks at must not be read before this.
  state.epoch.fetch_add (1);
  state.epoch.notify_all ();
  state.take_parts (0);
  state.wait_until_done ();
}

void
ThreadPool::State::start ()
{
  threads.reserve (lanes - 1);
  try {
    for (int lane = 1; lane < lanes; ++lane)
      threads.emplace_back ([this, lane] { run_lane (lane); });
  } catch (...) {
    stop ();
    throw;
  }
}

void
ThreadPool::State::stop ()
{
  stopping.store (true);
  epoch.fetch_add (1);
  epoch.notify_all ();
  for (std::thread &thread : threads)
    thread.join ();
  threads.clear ();
}

void
ThreadPool::State::run_lane (int lane)
{
  uint32_t seen = 0;
  for (;;) {
    seen = wait_for_job (seen);
    if (stopping.load ())
      return;
    take_parts (lane);
  }
}

void
ThreadPool::State::take_parts (int lane)
{
  int done = 0;
  for (;;) {
    const uint64_t claim = claims.fetch_add (1, std::memory_order_acq_rel);
    const auto part = static_cast<uint32_t> (claim);
    const auto parts = static_cast<uint32_t> (claim >> 32);
    if (part >= parts)
      break;
    (*work) (static_cast<int> (part), lane);
    ++done;
  }
  if (done > 0 && remaining.fetch_sub (done) == done && lane != 0)
    remaining.notify_one ();
}

uint32_t
ThreadPool::State::wait_for_job (uint32_t seen)
{
  const auto changed = [&] { return epoch.load (std::memory_order_acquire) != seen; };
  if (!may_spin || !spin_until (changed))
    epoch.wait (seen, std::memory_order_acquire);
  return epoch.load (std::memory_order_acquire);
}

void
ThreadPool::State::wait_until_done ()
{
  const auto done = [&] { return remaining.load (std::memory_order_acquire) == 0; };
  if (done () || (may_spin && spin_until (done)))
    return;
  for (int left = remaining.load (std::memory_order_acquire); left != 0;
       left = remaining.load (std::memory_order_acquire))
    remaining.wait (left, std::memory_order_acquire);
}

} // namespace millrace
