// The cached blocks of a directory: which file is whose, the queue and the thread that writes.
//
// A file's name is the block's hash mixed with the identity and the format's version, so that several models share
// a directory without replacing each other's blocks.
//
// Threads: the caller's reads files and fills the queue; the store's writes files and removes old ones. `mutex`
// guards what both use and is never held during I/O.
#include "engine/kv/disk_store.hpp"

#include "engine/error.hpp"
#include "engine/kv/disk_files.hpp"

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <thread>
#include <unistd.h>
#include <utility>

namespace fs = std::filesystem;

namespace millrace
{

namespace
{

struct Job {
  DiskName name;
  DiskHeader header;
  std::vector<std::byte> payload;
};

} // namespace

struct DiskStore::State {
  explicit State (const DiskStoreSettings &given);

  DiskName name_of (const BlockHash &hash) const
  {
    return {hash.low ^ identity_digest[0], hash.high ^ identity_digest[1]};
  }
  bool is (const DiskHeader &header, const BlockHash &hash, const DiskId &parent,
           std::span<const TokenId> tokens) const;
  std::shared_ptr<const Job> queued (const BlockHash &hash, const DiskId &parent,
                                     std::span<const TokenId> tokens);
  Found read (const BlockHash &hash, const DiskId &parent, std::span<const TokenId> tokens, Loaded &loaded,
              std::vector<std::byte> &payload);
  bool keep (const BlockHash &hash, const DiskId &parent, std::span<const TokenId> tokens, uint32_t tag,
             std::span<const std::byte> payload, std::optional<DiskId> &id);
  void trouble (const char *doing, int error);

  // Of the store's thread.
  void run ();
  void work (const Job &job);
  void make_room ();

  DiskStoreSettings settings; ///< never changes
  DiskDigest identity_digest; ///< never changes

  std::mutex mutex;
  std::condition_variable wake; ///< a job, or the end
  std::condition_variable idle; ///< nothing is left to do
  std::deque<std::shared_ptr<const Job>> queue;
  std::map<DiskName, std::shared_ptr<const Job>> latest; ///< until written
  size_t queue_bytes = 0;                                ///< of payloads until written
  bool busy = true;                                      ///< counting files at first
  bool stopping = false;
  DiskStoreStatistics statistics;
  std::string warning;
  std::set<std::pair<std::string_view, int>> told;

  uint64_t full_at = 0; ///< bytes at which files are removed; of the store's thread
  std::thread thread;
};

DiskStore::State::State (const DiskStoreSettings &given)
    : settings (given)
{
  if (settings.identity.size () > kMaxIdentityBytes)
    throw std::invalid_argument ("the identity of a disk store is longer than 64 KiB");
  const std::string versioned = std::to_string (kDiskVersion) + ":" + settings.identity;
  identity_digest = disk_digest (std::as_bytes (std::span (versioned)));

  const auto fail = [&] (const char *what, const std::error_code &error) {
    throw LoadError (settings.directory, "",
                     std::string (what) + ": " + error.message () +
                         "; choose another folder for the KV cache");
  };
  std::error_code error;
  settings.directory = fs::absolute (settings.directory, error); // whoever changes the current folder later
  if (error)
    fail ("cannot be found", error);
  const bool made = fs::create_directories (settings.directory, error);
  if (error)
    fail ("cannot be made", error);
  std::error_code ignored; // a file system without permissions
  if (made)
    fs::permissions (settings.directory, fs::perms::owner_all, ignored);
  const fs::directory_iterator readable (settings.directory, error);
  if (error)
    fail ("cannot be read", error);
}

/// False when the payload is not kept. `id` is that of the block in the queue or on disk, if any.
bool
DiskStore::State::keep (const BlockHash &hash, const DiskId &parent, std::span<const TokenId> tokens,
                        uint32_t tag, std::span<const std::byte> payload, std::optional<DiskId> &id)
{
  // The queue before the disk: what leaves the queue in between is on disk already. A payload that holds more (the
  // blocks of further groups) replaces the other under the same id, so that the blocks after it stay valid.
  if (const auto job = queued (hash, parent, tokens)) {
    id = job->header.id;
    if (job->payload.size () >= payload.size ())
      return true;
  } else {
    BlockFile block;
    open_block (block_path (settings.directory, name_of (hash)), block);
    if (block.found == Found::kSound && is (block.header, hash, parent, tokens)) {
      mark_used (block);
      id = block.header.id;
      if (block.header.payload_bytes >= payload.size ())
        return true;
    }
  }
  {
    const std::scoped_lock lock (mutex);
    if (payload.size () > settings.max_queue_bytes - queue_bytes)
      return false;
  }
  const std::optional<DiskId> chosen = id ? id : new_disk_id (parent);
  if (!chosen)
    return false;
  auto job = std::make_shared<Job> ();
  job->name = name_of (hash);
  job->header = {.hash = hash,
                 .id = *chosen,
                 .parent = parent,
                 .tag = tag,
                 .tokens = {tokens.begin (), tokens.end ()},
                 .identity = settings.identity,
                 .payload_bytes = payload.size ()};
  job->payload.assign (payload.begin (), payload.end ());
  {
    const std::scoped_lock lock (mutex);
    queue.push_back (job);
    queue_bytes += payload.size ();
    latest[job->name] = job;
  }
  wake.notify_one ();
  id = chosen;
  return true;
}

bool
DiskStore::State::is (const DiskHeader &header, const BlockHash &hash, const DiskId &parent,
                      std::span<const TokenId> tokens) const
{
  return header.hash == hash && header.parent == parent && header.identity == settings.identity &&
         header.payload_bytes <= settings.max_payload_bytes && std::ranges::equal (header.tokens, tokens);
}

std::shared_ptr<const Job>
DiskStore::State::queued (const BlockHash &hash, const DiskId &parent, std::span<const TokenId> tokens)
{
  const std::scoped_lock lock (mutex);
  const auto found = latest.find (name_of (hash));
  return found != latest.end () && is (found->second->header, hash, parent, tokens) ? found->second : nullptr;
}

Found
DiskStore::State::read (const BlockHash &hash, const DiskId &parent, std::span<const TokenId> tokens,
                        Loaded &loaded, std::vector<std::byte> &payload)
{
  if (const auto job = queued (hash, parent, tokens)) {
    payload = job->payload;
    loaded = {job->header.id, job->header.tag};
    return Found::kSound;
  }
  const fs::path path = block_path (settings.directory, name_of (hash));
  BlockFile block;
  open_block (path, block);
  if (block.found == Found::kSound) {
    if (!is (block.header, hash, parent, tokens))
      return Found::kForeign;
    if (read_payload (block, payload)) {
      mark_used (block);
      loaded = {block.header.id, block.header.tag};
      return Found::kSound;
    }
    block.found = Found::kBroken;
  }
  // Another process may have replaced it by a sound one meanwhile, which is then lost: a miss, later.
  if (block.found == Found::kBroken && block.regular)
    unlink (path.c_str ());
  return block.found;
}

void
DiskStore::State::trouble (const char *doing, int error)
{
  const std::scoped_lock lock (mutex);
  if (!told.emplace (doing, error).second)
    return;
  if (!warning.empty ())
    warning += "; ";
  warning +=
      settings.directory.string () + ": cannot " + doing + ": " + std::generic_category ().message (error);
}

void
DiskStore::State::run ()
{
  try {
    make_room ();
  } catch (const std::exception &) { // no memory for the list: the first write tries again
    full_at = 0;
  }
  std::unique_lock lock (mutex);
  for (;;) {
    busy = false;
    if (queue.empty ())
      idle.notify_all ();
    wake.wait (lock, [&] { return stopping || !queue.empty (); });
    if (queue.empty ())
      return;
    const std::shared_ptr<const Job> job = std::move (queue.front ());
    queue.pop_front ();
    busy = true;

    lock.unlock ();
    bool failed = false;
    try {
      work (*job);
    } catch (const std::exception &) { // no memory
      failed = true;
    }
    lock.lock ();
    statistics.failed += failed;
    queue_bytes -= job->payload.size ();
    if (const auto found = latest.find (job->name); found != latest.end () && found->second == job)
      latest.erase (found);
  }
}

void
DiskStore::State::work (const Job &job)
{
  uint64_t bytes = 0;
  const int error = write_block (settings.directory, job.name, job.header, job.payload, bytes);
  if (error != 0)
    trouble ("save a block of the KV cache (it is computed again instead)", error);
  bool full = false;
  {
    const std::scoped_lock lock (mutex);
    (error == 0 ? statistics.written : statistics.failed) += 1;
    if (error == 0)
      statistics.bytes += bytes;
    full = statistics.bytes > full_at;
  }
  if (full)
    make_room ();
}

/// Counts the files; when they are too many, removes those used longest ago. Other processes may do so too.
void
DiskStore::State::make_room ()
{
  std::vector<DiskEntry> entries = list_blocks (settings.directory);
  uint64_t total = 0;
  for (const DiskEntry &entry : entries)
    total += entry.bytes;
  full_at = settings.max_bytes;
  if (total > settings.max_bytes) {
    std::ranges::sort (entries, {}, &DiskEntry::used);
    const uint64_t goal = settings.max_bytes - settings.max_bytes / 10; // not one by one
    for (const DiskEntry &entry : entries) {
      if (total <= goal)
        break;
      const fs::path path = block_path (settings.directory, entry.name);
      const int error = unlink (path.c_str ()) == 0 ? 0 : errno;
      if (error == 0 || error == ENOENT)
        total -= entry.bytes;
      else
        trouble ("remove an old block of the KV cache", error);
    }
    if (total > settings.max_bytes)
      full_at = total + settings.max_bytes / 10; // cannot be helped: do not try after every block
  }
  const std::scoped_lock lock (mutex);
  statistics.bytes = total;
}

DiskStore::DiskStore (const DiskStoreSettings &settings)
    : state_ (std::make_unique<State> (settings))
{
  // Signals are the application's; and writing beyond a file size limit is an error here, not SIGXFSZ.
  sigset_t all;
  sigset_t before;
  sigfillset (&all);
  pthread_sigmask (SIG_SETMASK, &all, &before);
  try {
    state_->thread = std::thread ([this] { state_->run (); });
  } catch (...) {
    pthread_sigmask (SIG_SETMASK, &before, nullptr);
    throw;
  }
  pthread_sigmask (SIG_SETMASK, &before, nullptr);
}

DiskStore::~DiskStore ()
{
  {
    const std::scoped_lock lock (state_->mutex);
    state_->stopping = true;
  }
  state_->wake.notify_one ();
  state_->thread.join ();
}

std::optional<DiskStore::Loaded>
DiskStore::load (const BlockHash &hash, const DiskId &parent, std::span<const TokenId> tokens,
                 std::vector<std::byte> &payload)
{
  Loaded loaded;
  Found found = Found::kNothing;
  try {
    found = state_->read (hash, parent, tokens, loaded, payload);
  } catch (const std::bad_alloc &) { // computing it needs less
  }
  const std::scoped_lock lock (state_->mutex);
  if (found == Found::kSound) {
    ++state_->statistics.hits;
    return loaded;
  }
  payload.clear ();
  ++state_->statistics.misses;
  state_->statistics.damaged += found == Found::kBroken;
  return std::nullopt;
}

std::optional<DiskId>
DiskStore::save (const BlockHash &hash, const DiskId &parent, std::span<const TokenId> tokens, uint32_t tag,
                 std::span<const std::byte> payload)
{
  std::optional<DiskId> id;
  bool kept = false;
  try {
    kept = !tokens.empty () && tokens.size () <= kBlockTokens &&
           payload.size () <= state_->settings.max_payload_bytes &&
           state_->keep (hash, parent, tokens, tag, payload, id);
  } catch (const std::bad_alloc &) { // as a full queue
  }
  if (!kept) {
    const std::scoped_lock lock (state_->mutex);
    ++state_->statistics.dropped;
  }
  return id;
}

void
DiskStore::flush ()
{
  std::unique_lock lock (state_->mutex);
  state_->idle.wait (lock, [&] { return !state_->busy && state_->queue.empty (); });
}

DiskStoreStatistics
DiskStore::statistics () const
{
  const std::scoped_lock lock (state_->mutex);
  return state_->statistics;
}

std::string
DiskStore::take_warning ()
{
  const std::scoped_lock lock (state_->mutex);
  return std::exchange (state_->warning, {});
}

} // namespace millrace
