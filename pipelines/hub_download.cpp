#include "pipelines/hub_download.hpp"

#include "engine/hub/target.hpp"

#include <glib-unix.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <thread>

namespace millrace
{

namespace
{

constexpr size_t kReadBytes = 256 << 10;
constexpr uint64_t kBroughtSomething = 64 << 10; ///< an attempt that brings so much is not counted as failed
constexpr uint64_t kSlowBytesPerSecond = 512;    ///< slower is as good as nothing
constexpr guint kDrawInterval_ms = 100;
constexpr int kMostRestarts = 3;

std::string
retry_text (double delay_s, const std::string &message)
{
  char delay[32];
  std::snprintf (delay, sizeof delay, "%.1f", delay_s);
  return message + "; trying again in " + delay + " s";
}

std::string
range_text (const ByteRange &range)
{
  return "bytes=" + std::to_string (range.begin) + "-" + std::to_string (range.end - 1);
}

double
random_part (std::minstd_rand &random)
{
  return std::uniform_real_distribution<double> (0, 1) (random);
}

/// False when it was cancelled meanwhile.
bool
wait_cancellable (double seconds, GCancellable *cancellable)
{
  GPollFD fd = {};
  if (!g_cancellable_make_pollfd (cancellable, &fd))
    return !g_cancellable_is_cancelled (cancellable);
  g_poll (&fd, 1, static_cast<gint> (seconds * 1000));
  g_cancellable_release_fd (cancellable);
  return !g_cancellable_is_cancelled (cancellable);
}

} // namespace

std::variant<std::string, HubFailure>
fetch_text (HubClient &client, const std::string &url, size_t most, const RetryPolicy &retry,
            GCancellable *cancellable, const std::function<void (const std::string &)> &note,
            std::string *next)
{
  std::minstd_rand random (std::random_device{}());
  for (int attempt = 0;; ++attempt) {
    auto got = client.get ({url}, cancellable);
    HubFailure failure;
    if (const auto *response = std::get_if<HubResponse> (&got)) {
      if (next)
        *next = response->next;
      auto text = client.read_all (*response, most, cancellable);
      if (std::holds_alternative<std::string> (text))
        return text;
      failure = std::get<HubFailure> (text);
    } else {
      failure = std::get<HubFailure> (got);
    }
    const auto delay = failure.passing
                           ? retry_delay_s (retry, attempt, random_part (random), failure.retry_after_s)
                           : std::nullopt;
    if (!delay)
      return failure;
    note (retry_text (*delay, failure.message));
    if (!wait_cancellable (*delay, cancellable))
      return failure;
  }
}

struct HubDownload::Entry {
  Entry (HubFile file, const std::filesystem::path &folder)
      : part (std::move (file), folder)
  {
  }

  PartFile part;
  std::atomic<bool> done = false;
  std::atomic<bool> whole = false; ///< the server cannot send ranges
  std::atomic<int> restarts = 0;
};

HubDownload::HubDownload (const DownloadOptions &options, Progress &progress)
    : options_ (options)
    , progress_ (progress)
    , cancellable_ (g_cancellable_new ())
    , loop_ (g_main_loop_new (nullptr, FALSE))
    , random_ (std::random_device{}())
{
}

HubDownload::~HubDownload ()
{
  g_main_loop_unref (loop_);
  g_object_unref (cancellable_);
}

void
HubDownload::add (HubFile file, const std::filesystem::path &folder)
{
  queue_.push_back ({&entries_.emplace_back (std::move (file), folder), {}});
}

uint64_t
HubDownload::total_bytes () const
{
  uint64_t sum = 0;
  for (const Entry &entry : entries_)
    sum += *entry.part.file ().size;
  return sum;
}

uint64_t
HubDownload::bytes_to_come () const
{
  uint64_t sum = 0;
  for (const Entry &entry : entries_)
    sum += entry.part.bytes_to_come ();
  return sum;
}

HubDownload::Outcome
HubDownload::run ()
{
  const uint64_t total = total_bytes (), before = total - bytes_to_come ();
  std::vector<std::thread> threads;
  running_ = options_.jobs;
  for (int i = 0; i < options_.jobs; ++i)
    threads.emplace_back ([this] { work (); });

  const auto stop = [] (gpointer data) -> gboolean {
    auto *self = static_cast<HubDownload *> (data);
    const std::lock_guard lock (self->mutex_);
    self->stopped_ = true;
    self->changed_.notify_all ();
    g_cancellable_cancel (self->cancellable_);
    return G_SOURCE_CONTINUE;
  };
  struct Timer {
    HubDownload *download;
    uint64_t total, before;
  } timer{this, total, before};
  const auto draw = [] (gpointer data) -> gboolean {
    const auto *timer = static_cast<Timer *> (data);
    uint64_t done = 0;
    std::string label;
    for (const Entry &entry : timer->download->entries_) {
      done += entry.done ? *entry.part.file ().size : entry.part.bytes ();
      if (!entry.done && label.empty ())
        label = entry.part.file ().path;
    }
    timer->download->progress_.draw (done, timer->total, timer->before, label);
    return G_SOURCE_CONTINUE;
  };
  const guint sources[] = {g_unix_signal_add (SIGINT, stop, this), g_unix_signal_add (SIGTERM, stop, this),
                           g_timeout_add (kDrawInterval_ms, draw, &timer)};
  g_main_loop_run (loop_); // the last thread ends it
  for (std::thread &thread : threads)
    thread.join ();
  for (const guint source : sources)
    g_source_remove (source);
  for (Entry &entry : entries_)
    if (!entry.done)
      entry.part.save ();
  if (!problem_.empty ())
    return Outcome::kFailed;
  if (stopped_)
    return Outcome::kStopped;
  draw (&timer);
  return Outcome::kDone;
}

void
HubDownload::work ()
{
  {
    HubClient client (options_.endpoint, options_.timeout_s);
    for (Job job; take (job); done_with_job ()) {
      if (job.range.bytes () == 0)
        begin (*job.entry);
      else
        fetch (client, job);
    }
  }
  const std::lock_guard lock (mutex_);
  if (--running_ == 0)
    g_main_loop_quit (loop_);
}

/// Waits while others work, who may put jobs into the queue; false at the end.
bool
HubDownload::take (Job &job)
{
  std::unique_lock lock (mutex_);
  changed_.wait (lock, [&] { return stopped_ || !queue_.empty () || busy_ == 0; });
  if (stopped_ || queue_.empty ())
    return false;
  job = queue_.front ();
  queue_.pop_front ();
  ++busy_;
  return true;
}

void
HubDownload::done_with_job ()
{
  const std::lock_guard lock (mutex_);
  --busy_;
  changed_.notify_all ();
}

void
HubDownload::begin (Entry &entry)
{
  if (entry.part.is_there ()) {
    entry.done = true;
    return;
  }
  if (const std::string problem = entry.part.open (); !problem.empty ())
    return fail (problem);
  queue_missing (entry);
  finish (entry); // of an empty file, or one that came whole before
}

void
HubDownload::queue_missing (Entry &entry)
{
  const std::lock_guard lock (mutex_);
  const unsigned generation = entry.part.generation ();
  const uint64_t most = entry.whole ? UINT64_MAX : options_.range_bytes;
  for (const ByteRange &range : entry.part.missing (most))
    queue_.push_back ({&entry, range, generation});
  changed_.notify_all ();
}

void
HubDownload::fetch (HubClient &client, Job job)
{
  for (int failed = 0;;) {
    uint64_t came = 0;
    HubFailure failure;
    const Fetched fetched = fetch_once (client, job, came, failure);
    if (fetched == Fetched::kDone)
      return finish (*job.entry);
    if (fetched == Fetched::kOver || g_cancellable_is_cancelled (cancellable_))
      return;
    failed = came >= kBroughtSomething ? 0 : failed + 1;
    double random = 0;
    {
      const std::lock_guard lock (mutex_);
      random = random_part (random_);
    }
    const auto delay = failure.passing ? retry_delay_s (options_.retry, std::max (failed - 1, 0), random,
                                                        failure.retry_after_s)
                                       : std::nullopt;
    if (!delay)
      return fail (failure.message);
    progress_.note (retry_text (*delay, failure.message));
    if (!wait (*delay))
      return;
  }
}

/// One request for what the job still lacks. kAgain: `failure` says why it is not done. kOver: the job is somebody else's now,
/// or nobody's.
HubDownload::Fetched
HubDownload::fetch_once (HubClient &client, Job &job, uint64_t &came, HubFailure &failure)
{
  const PartFile &part = job.entry->part;
  const bool all = job.range.begin == 0 && job.range.end == *part.file ().size;
  HubRequest request{options_.endpoint.url + "/" + options_.repository + "/resolve/" +
                     url_escaped (options_.revision, false) + "/" + url_escaped (part.file ().path, true)};
  if (!all) {
    request.range = range_text (job.range);
    request.if_range = part.tag ();
  }
  auto got = client.get (request, cancellable_);
  if (auto *problem = std::get_if<HubFailure> (&got)) {
    failure = std::move (*problem);
    return Fetched::kAgain;
  }
  const HubResponse &response = std::get<HubResponse> (got);
  const uint64_t size = *part.file ().size;
  if (response.whole.value_or (size) != size ||
      (response.status == 200 && response.length.value_or (size) != size)) {
    failure.message = response.url + ": has " +
                      std::to_string (response.whole ? *response.whole : response.length.value_or (0)) +
                      " bytes, the hub's list says " + std::to_string (size) +
                      "; the file is changing or the server is wrong, try again later";
    return Fetched::kAgain;
  }
  if (response.status == 416 || (response.status == 200 && !all)) {
    // What is here is of something else, or the server sends no ranges: the whole from now on, in one piece.
    if (!begin_anew (job))
      return Fetched::kOver;
    if (response.status == 416) {
      failure = {response.url + ": status 416, the server has no such range", true};
      return Fetched::kAgain;
    }
  } else if (response.status == 206 && response.begin.value_or (UINT64_MAX) != job.range.begin) {
    failure.message = response.url + ": the server sends another range than it was asked for";
    return Fetched::kAgain;
  }
  job.entry->part.set_tag (job.generation, response.tag);
  return receive (response, job, came, failure);
}

HubDownload::Fetched
HubDownload::receive (const HubResponse &response, Job &job, uint64_t &came, HubFailure &failure)
{
  using Clock = std::chrono::steady_clock;
  std::vector<std::byte> buffer (kReadBytes);
  auto window_begin = Clock::now ();
  uint64_t window_bytes = 0;
  while (job.range.bytes () > 0) {
    GError *error = nullptr;
    const gssize count =
        g_input_stream_read (response.body.get (), buffer.data (),
                             std::min<uint64_t> (buffer.size (), job.range.bytes ()), cancellable_, &error);
    if (count < 0) {
      failure = transfer_failure (error, response.url);
      g_error_free (error);
      return Fetched::kAgain;
    }
    if (count == 0) {
      failure = {response.url + ": the connection ended " + std::to_string (job.range.bytes ()) +
                     " bytes too early",
                 true};
      return Fetched::kAgain;
    }
    const auto bytes = static_cast<size_t> (count);
    std::string problem;
    switch (job.entry->part.write (job.generation, job.range.begin, {buffer.data (), bytes}, problem)) {
    case PartFile::Written::kStale:
      return Fetched::kOver;
    case PartFile::Written::kFailed:
      failure.message = problem;
      return Fetched::kAgain;
    case PartFile::Written::kYes:
      break;
    }
    job.range.begin += bytes;
    came += bytes;
    window_bytes += bytes;
    const std::chrono::duration<double> elapsed = Clock::now () - window_begin;
    if (elapsed.count () < options_.timeout_s)
      continue;
    if (window_bytes < kSlowBytesPerSecond * options_.timeout_s && job.range.bytes () > 0) {
      failure = {response.url + ": only " + std::to_string (window_bytes) + " bytes came in " +
                     std::to_string (options_.timeout_s) + " s",
                 true};
      return Fetched::kAgain;
    }
    window_begin = Clock::now ();
    window_bytes = 0;
  }
  return Fetched::kDone;
}

/// The job gets the whole file; false when another thread has begun anew before, or it was done too often.
bool
HubDownload::begin_anew (Job &job)
{
  if (!job.entry->part.restart (job.generation))
    return false;
  job.entry->whole = true;
  job.generation = job.entry->part.generation ();
  job.range = {0, *job.entry->part.file ().size};
  {
    const std::lock_guard lock (mutex_);
    std::erase_if (queue_, [&] (const Job &other) { return other.entry == job.entry; });
  }
  if (++job.entry->restarts <= kMostRestarts)
    return true;
  fail (job.entry->part.destination ().string () +
        ": the transfer broke off again and again, and the server cannot go on where it did (no ranges)");
  return false;
}

void
HubDownload::finish (Entry &entry)
{
  std::string problem;
  switch (entry.part.finish (problem)) {
  case PartFile::Finished::kNotYet:
    return;
  case PartFile::Finished::kYes:
    entry.done = true;
    return;
  case PartFile::Finished::kFailed:
    return fail (problem);
  case PartFile::Finished::kWrongDigest:
    break;
  }
  entry.part.restart (entry.part.generation ());
  if (++entry.restarts > 1)
    return fail (problem + "; it was fetched more than once: the hub or something on the way is broken");
  progress_.note (problem + "; fetching it again");
  queue_missing (entry);
}

/// False when there is an end meanwhile.
bool
HubDownload::wait (double seconds)
{
  std::unique_lock lock (mutex_);
  return !changed_.wait_for (lock, std::chrono::duration<double> (seconds), [&] { return stopped_; });
}

void
HubDownload::fail (const std::string &problem)
{
  const std::lock_guard lock (mutex_);
  if (!stopped_)
    problem_ = problem;
  stopped_ = true;
  changed_.notify_all ();
  g_cancellable_cancel (cancellable_);
}

} // namespace millrace
