// Progress of a long command, on standard error: a bar on a terminal, otherwise a line now and then.
//
// Lines of other kinds are printed by note (), so that the bar stays below them. Any thread; drawn by whoever calls
// draw () or note ().
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>

namespace millrace
{

class Progress
{
public:
  /// `quiet`: notes only. `amount` makes text of numbers.
  Progress (bool quiet, std::string (*amount) (uint64_t));
  /// Ends the bar's line.
  ~Progress ();
  Progress (const Progress &) = delete;
  Progress &operator= (const Progress &) = delete;

  /// Of `total` bytes `done` are done, of which `before` were when this process began; draws when enough time has passed.
  void draw (uint64_t done, uint64_t total, uint64_t before, const std::string &label);
  void note (const std::string &line);

private:
  using Clock = std::chrono::steady_clock;

  void erase ();

  const bool quiet_, terminal_;
  std::string (*const amount_) (uint64_t);
  const Clock::time_point begin_;
  std::mutex mutex_; ///< of what follows, and of standard error
  Clock::time_point drawn_;
  int drawn_percent_ = 0;
  bool has_bar_ = false;
};

} // namespace millrace
