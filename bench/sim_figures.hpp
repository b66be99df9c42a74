// What a simulated run comes to.
#pragma once

#include "engine/scheduling/scheduler.hpp"

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace millrace::sim
{

/// Counts of non-negative values in buckets 1 % wide: memory does not grow with what is added.
class Histogram
{
public:
  void add (double value);
  /// 0 when empty; the value is right to a half per cent.
  double quantile (double q) const;
  double most () const { return most_; }
  uint64_t count () const { return count_; }

private:
  std::vector<uint32_t> buckets_;
  uint64_t count_ = 0;
  double most_ = 0;
};

/// Jain's index: 1 when all values are equal, 1 / n when one of n has everything.
class Fairness
{
public:
  void add (double value)
  {
    sum_ += value;
    squares_ += value * value;
    count_++;
  }
  double index () const { return count_ ? sum_ * sum_ / (static_cast<double> (count_) * squares_) : 0; }
  double mean () const { return count_ ? sum_ / static_cast<double> (count_) : 0; }

private:
  double sum_ = 0, squares_ = 0;
  uint64_t count_ = 0;
};

struct Figures {
  std::string policy;
  uint64_t finished = 0, failed = 0, good = 0; ///< good: within both targets
  double rate = 0;                             ///< of arrivals, per second
  double virtual_s = 0, wall_s = 0, busy_s = 0;
  uint64_t steps = 0, rows = 0, prefill_steps = 0;
  SchedulerStatistics scheduler;
  KvStatistics kv;
  Histogram ttft_ms, itl_ms, queue_ms, plan_ns;
  std::array<Histogram, 3> class_ttft_ms; ///< by priority
  Histogram prediction_error;             ///< |predicted / real - 1| of steps
  Fairness slowdown;                      ///< time taken, in times that the request alone would take
  double longest_ttft_ms = 0;             ///< of the longest prompt
  int longest_prompt = 0;
};

/// A Markdown table with a column for each run.
void print_figures (std::span<const Figures> runs);

} // namespace millrace::sim
