// Ends a test that is stuck, with the stacks of all threads, instead of waiting for the test runner to lose patience.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string>
#include <thread>
#include <unistd.h>

namespace millrace::testing
{

class Watchdog
{
public:
  explicit Watchdog (std::chrono::seconds patience)
      : patience_ (patience)
      , thread_ ([this] { watch (); })
  {
  }
  ~Watchdog ()
  {
    {
      const std::lock_guard lock (mutex_);
      over_ = true;
    }
    changed_.notify_all ();
    thread_.join ();
  }
  /// It goes on; `what` is said when it does not.
  void pat (std::string what)
  {
    const std::lock_guard lock (mutex_);
    what_ = std::move (what);
    deadline_ = std::chrono::steady_clock::now () + patience_;
    changed_.notify_all ();
  }

private:
  void watch ()
  {
    std::unique_lock lock (mutex_);
    while (!over_) {
      const auto deadline = deadline_;
      if (changed_.wait_until (lock, deadline) == std::cv_status::timeout && deadline == deadline_ &&
          !over_) {
        std::fprintf (stderr, "stuck: %s\n", what_.c_str ());
        const std::string command = "command -v gdb >/dev/null && gdb -p " + std::to_string (getpid ()) +
                                    " -batch -ex 'thread apply all bt' >&2 2>/dev/null";
        [[maybe_unused]] const int ignored = std::system (command.c_str ());
        std::abort ();
      }
    }
  }

  const std::chrono::seconds patience_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::string what_ = "the start";
  std::chrono::steady_clock::time_point deadline_ = std::chrono::steady_clock::now () + patience_;
  bool over_ = false;
  std::thread thread_;
};

} // namespace millrace::testing
