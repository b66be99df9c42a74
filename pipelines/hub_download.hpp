// Downloads files of a hub, several at a time and big ones in ranges, until all are there and have their digests.
//
// run () starts the threads and waits in the caller's main loop, where a signal stops them: what has come stays and is taken
// up by the next run. Each thread has a client of its own and takes one job after the other: a file to look at, a range to
// fetch. Passing trouble is waited out (engine/hub/retry.hpp); the first lasting one stops everything.
#pragma once

#include "engine/hub/retry.hpp"
#include "pipelines/hub_client.hpp"
#include "pipelines/part_file.hpp"
#include "pipelines/progress.hpp"

#include <condition_variable>
#include <deque>
#include <functional>
#include <list>
#include <mutex>
#include <random>
#include <string>
#include <vector>

namespace millrace
{

struct DownloadOptions {
  HubEndpoint endpoint;
  std::string repository, revision;
  int jobs = 4;
  unsigned timeout_s = 60;          ///< without a byte, or with next to none
  uint64_t range_bytes = 256 << 20; ///< of one request
  RetryPolicy retry;
};

/// What one call of a hub's API brings, with attempts. `note` is told of each that fails.
std::variant<std::string, HubFailure> fetch_text (HubClient &client, const std::string &url, size_t most,
                                                  const RetryPolicy &retry, GCancellable *cancellable,
                                                  const std::function<void (const std::string &)> &note,
                                                  std::string *next = nullptr);

class HubDownload
{
public:
  HubDownload (const DownloadOptions &options, Progress &progress);
  ~HubDownload ();

  /// Sizes are known. Before run ().
  void add (HubFile file, const std::filesystem::path &folder);
  uint64_t total_bytes () const;
  uint64_t bytes_to_come () const;

  enum class Outcome { kDone, kFailed, kStopped };
  Outcome run ();
  const std::string &problem () const { return problem_; } ///< kFailed

private:
  struct Entry;
  struct Job {
    Entry *entry;
    ByteRange range; ///< empty: look at the file first
    unsigned generation = 0;
  };
  enum class Fetched { kDone, kAgain, kOver };

  void work ();
  bool take (Job &job);
  void done_with_job ();
  void begin (Entry &entry);
  void queue_missing (Entry &entry);
  void fetch (HubClient &client, Job job);
  Fetched fetch_once (HubClient &client, Job &job, uint64_t &came, HubFailure &failure);
  Fetched receive (const HubResponse &response, Job &job, uint64_t &came, HubFailure &failure);
  bool begin_anew (Job &job);
  void finish (Entry &entry);
  bool wait (double seconds);
  void fail (const std::string &problem);

  const DownloadOptions options_;
  Progress &progress_;
  std::list<Entry> entries_;
  GCancellable *cancellable_;
  GMainLoop *loop_;
  std::mutex mutex_; ///< of what follows
  std::condition_variable changed_;
  std::deque<Job> queue_;
  int busy_ = 0, running_ = 0;
  bool stopped_ = false;
  std::string problem_;
  std::minstd_rand random_;
};

} // namespace millrace
