#include "bench/sim_figures.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>

namespace millrace::sim
{

namespace
{

constexpr double kSmallest = 1e-4; ///< all below it are one bucket
const double kLogWidth = std::log (1.01);

using Cell = std::function<std::string (const Figures &)>;

std::string
text (const char *format, double value)
{
  char buffer[48];
  std::snprintf (buffer, sizeof buffer, format, value);
  return buffer;
}

/// A number with three digits that count.
std::string
number (double value)
{
  const double size = std::fabs (value);
  return text (size >= 99.95 ? "%.0f" : size >= 9.995 ? "%.1f" : size >= 0.9995 ? "%.2f" : "%.3f", value);
}

std::string
quantiles (const Histogram &histogram, std::initializer_list<double> wanted)
{
  std::string joined;
  for (const double q : wanted)
    joined += (joined.empty () ? "" : " / ") + number (histogram.quantile (q));
  return joined;
}

double
ratio (double a, double b)
{
  return b > 0 ? a / b : 0;
}

} // namespace

void
Histogram::add (double value)
{
  const auto bucket =
      value <= kSmallest ? size_t{0} : 1 + static_cast<size_t> (std::log (value / kSmallest) / kLogWidth);
  if (buckets_.size () <= bucket)
    buckets_.resize (bucket + 1);
  buckets_[bucket]++;
  count_++;
  most_ = std::max (most_, value);
}

double
Histogram::quantile (double q) const
{
  const auto rank = static_cast<uint64_t> (q * static_cast<double> (count_));
  uint64_t below = 0;
  for (size_t i = 0; i < buckets_.size (); i++) {
    below += buckets_[i];
    if (below > rank)
      return i == 0 ? 0
                    : std::min (most_, kSmallest * std::exp ((static_cast<double> (i) - 0.5) * kLogWidth));
  }
  return most_;
}

void
print_figures (std::span<const Figures> runs)
{
  const auto real = [] (auto value) { return static_cast<double> (value); };
  const std::pair<const char *, Cell> rows[] = {
      {"requests finished / failed",
       [] (const Figures &f) { return std::to_string (f.finished) + " / " + std::to_string (f.failed); }},
      {"arrivals, 1/s", [] (const Figures &f) { return f.rate > 0 ? number (f.rate) : std::string ("–"); }},
      {"virtual time, s; busy",
       [] (const Figures &f) {
         return number (f.virtual_s) + "; " + text ("%.0f %%", 100 * ratio (f.busy_s, f.virtual_s));
       }},
      {"prompt tokens/s",
       [&] (const Figures &f) { return number (ratio (real (f.scheduler.prompt_tokens), f.virtual_s)); }},
      {"generated tokens/s",
       [&] (const Figures &f) { return number (ratio (real (f.scheduler.generated_tokens), f.virtual_s)); }},
      {"goodput, requests/s (share)",
       [&] (const Figures &f) {
         return number (ratio (real (f.good), f.virtual_s)) +
                text (" (%.1f %%)", 100 * ratio (real (f.good), real (f.finished)));
       }},
      {"TTFT p50 / p90 / p99, ms",
       [] (const Figures &f) {
         return quantiles (f.ttft_ms, {0.5, 0.9, 0.99});
       }},
      {"ITL p50 / p90 / p99 / max, ms",
       [] (const Figures &f) {
         return quantiles (f.itl_ms, {0.5, 0.9, 0.99}) + " / " + number (f.itl_ms.most ());
       }},
      {"queue p99, ms", [] (const Figures &f) { return quantiles (f.queue_ms, {0.99}); }},
      {"TTFT p50 low / normal / high, ms",
       [] (const Figures &f) {
         std::string joined;
         for (const Histogram &ttft : f.class_ttft_ms)
           joined += (joined.empty () ? "" : " / ") + (ttft.count () ? quantiles (ttft, {0.5}) : "–");
         return joined;
       }},
      {"TTFT of the longest prompt, s",
       [] (const Figures &f) {
         return number (f.longest_ttft_ms / 1000) + " (" + std::to_string (f.longest_prompt) + " tokens)";
       }},
      {"slowdown: mean; Jain index",
       [] (const Figures &f) {
         return number (f.slowdown.mean ()) + "; " + text ("%.3f", f.slowdown.index ());
       }},
      {"prefix hit rate",
       [&] (const Figures &f) {
         return text ("%.1f %%", 100 * ratio (real (f.kv.hit_tokens), real (f.kv.lookup_tokens)));
       }},
      {"preemptions; prefill computed / prompt tokens",
       [&] (const Figures &f) {
         return std::to_string (f.scheduler.preemptions) + "; " +
                text ("%.2f", ratio (real (f.scheduler.prefill_tokens), real (f.scheduler.prompt_tokens)));
       }},
      {"steps; rows in a step; with prefill",
       [&] (const Figures &f) {
         return std::to_string (f.steps) + "; " + number (ratio (real (f.rows), real (f.steps))) + "; " +
                text ("%.0f %%", 100 * ratio (real (f.prefill_steps), real (f.steps)));
       }},
      {"step time off by p50 / p90; steps predicted",
       [&] (const Figures &f) {
         return text ("%.1f %%", 100 * f.prediction_error.quantile (0.5)) + " / " +
                text ("%.1f %%; ", 100 * f.prediction_error.quantile (0.9)) +
                text ("%.0f %%", 100 * ratio (real (f.prediction_error.count ()), real (f.steps)));
       }},
      {"plan (), real µs, p50 / p99",
       [] (const Figures &f) {
         return number (f.plan_ns.quantile (0.5) / 1000) + " / " + number (f.plan_ns.quantile (0.99) / 1000);
       }},
      {"wall time, s; per million steps",
       [&] (const Figures &f) {
         return number (f.wall_s) + "; " + number (1e6 * ratio (f.wall_s, real (f.steps)));
       }},
  };

  std::printf ("| |");
  for (const Figures &run : runs)
    std::printf (" %s |", run.policy.c_str ());
  std::printf ("\n|---|");
  for (size_t i = 0; i < runs.size (); i++)
    std::printf ("---:|");
  std::printf ("\n");
  for (const auto &[name, cell] : rows) {
    std::printf ("| %s |", name);
    for (const Figures &run : runs)
      std::printf (" %s |", cell (run).c_str ());
    std::printf ("\n");
  }
  std::fflush (stdout);
}

} // namespace millrace::sim
