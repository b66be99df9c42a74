#include "pipelines/progress.hpp"

#include <algorithm>
#include <cstdio>
#include <unistd.h>

namespace millrace
{

namespace
{

using std::chrono::duration;

constexpr auto kBarInterval = std::chrono::milliseconds (200);
constexpr int kLinePercent = 10; ///< between two lines where there is no terminal
constexpr int kBarWidth = 24;

/// "1:02:03", "2:03"
std::string
time_text (double seconds)
{
  const auto whole = static_cast<long long> (std::min (seconds, 359999.0));
  char text[32];
  if (whole >= 3600)
    std::snprintf (text, sizeof text, "%lld:%02lld:%02lld", whole / 3600, whole / 60 % 60, whole % 60);
  else
    std::snprintf (text, sizeof text, "%lld:%02lld", whole / 60, whole % 60);
  return text;
}

} // namespace

Progress::Progress (bool quiet, std::string (*amount) (uint64_t))
    : quiet_ (quiet)
    , terminal_ (isatty (STDERR_FILENO) == 1)
    , amount_ (amount)
    , begin_ (Clock::now ())
{
}

Progress::~Progress ()
{
  if (has_bar_)
    std::fputc ('\n', stderr);
}

void
Progress::erase ()
{
  if (has_bar_)
    std::fputs ("\r\033[K", stderr);
  has_bar_ = false;
}

void
Progress::note (const std::string &line)
{
  const std::lock_guard lock (mutex_);
  erase ();
  std::fprintf (stderr, "%s\n", line.c_str ());
}

void
Progress::draw (uint64_t done, uint64_t total, uint64_t before, const std::string &label)
{
  const std::lock_guard lock (mutex_);
  const auto now = Clock::now ();
  const int percent =
      total > 0 ? static_cast<int> (100.0 * static_cast<double> (done) / static_cast<double> (total)) : 100;
  const bool last = done >= total;
  if (quiet_ || (terminal_ ? now - drawn_ < kBarInterval && !last : percent < drawn_percent_ + kLinePercent))
    return;
  drawn_ = now;
  drawn_percent_ = percent;
  const double seconds = duration<double> (now - begin_).count ();
  const double rate = static_cast<double> (done - std::min (done, before)) / std::max (seconds, 1e-3);
  const double rest = rate > 0 ? static_cast<double> (total - done) / rate : 0;
  std::string text = std::to_string (percent) + "%  " + amount_ (done) + " of " + amount_ (total) + "  " +
                     amount_ (static_cast<uint64_t> (rate)) + "/s  " + time_text (last ? seconds : rest) +
                     (last ? "" : " left");
  if (!label.empty ())
    text += "  " + label;
  if (!terminal_) {
    std::fprintf (stderr, "%s\n", text.c_str ());
    return;
  }
  const int filled = percent * kBarWidth / 100;
  erase ();
  std::fprintf (stderr, "[%s%s] %s", std::string (static_cast<size_t> (filled), '=').c_str (),
                std::string (static_cast<size_t> (kBarWidth - filled), ' ').c_str (), text.c_str ());
  std::fflush (stderr);
  has_bar_ = true;
}

} // namespace millrace
