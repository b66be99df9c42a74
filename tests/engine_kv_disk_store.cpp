// labels: unit
// timeout: 180
// DiskStore: what was saved comes back, several share a directory, old blocks go, and trouble is only a warning.
#include "engine/kv/disk_store.hpp"

#include "engine/error.hpp"
#include "tests/disk_blocks.hpp"

#include <array>
#include <chrono>
#include <functional>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

using namespace disk_test;
namespace fs = std::filesystem;

namespace
{

/// Runs `work` in a process of its own; its exit code. Only while this process has one thread.
int
in_process (const std::function<int ()> &work)
{
  const pid_t child = fork ();
  if (child == 0)
    _exit (work ());
  int status = -1;
  EXPECT_EQ (waitpid (child, &status, 0), child);
  return WIFEXITED (status) ? WEXITSTATUS (status) : 1000 + status;
}

TEST (DiskStore, gives_back_what_was_saved)
{
  const TemporaryFolder folder;
  DiskStore store (in (folder));
  uint64_t number = 0;
  for (const size_t tokens : {size_t{1}, size_t{5}, size_t{kBlockTokens}}) {
    for (const size_t bytes : {0, 1, 1000, 1 << 20}) {
      Block one = block (++number, bytes, tokens);
      one.tokens[0] = tokens == 5 ? -1 : INT32_MAX;
      const DiskId parent = {number % 2, number};
      const auto id = save (store, one, parent, 0xfedcba98u);
      ASSERT_TRUE (id);
      EXPECT_NE (*id, DiskId{});
      for (int from_disk = 0; from_disk < 2; ++from_disk) {
        Bytes payload;
        const auto loaded = store.load (one.hash, parent, one.tokens, payload);
        ASSERT_TRUE (loaded) << tokens << " tokens, " << bytes << " bytes, from disk " << from_disk;
        EXPECT_EQ (loaded->id, *id);
        EXPECT_EQ (loaded->tag, 0xfedcba98u);
        EXPECT_EQ (payload, one.payload);
        store.flush ();
      }
    }
  }
  const auto statistics = store.statistics ();
  EXPECT_EQ (statistics.hits, 24u);
  EXPECT_EQ (statistics.written, 12u);
  EXPECT_EQ (statistics.misses + statistics.damaged + statistics.dropped + statistics.failed, 0u);
  EXPECT_EQ (statistics.bytes, bytes_in (folder.path ()));
  EXPECT_EQ (store.take_warning (), "");
}

TEST (DiskStore, chains_survive_reopening_and_the_destructor_writes_all)
{
  const TemporaryFolder folder;
  std::vector<DiskId> ids (1);
  {
    DiskStore store (in (folder));
    for (uint64_t i = 0; i < 50; ++i)
      ids.push_back (save (store, block (i), ids.back ()).value ());
  }
  EXPECT_EQ (files (folder.path ()).size (), 50u);
  EXPECT_TRUE (files (folder.path (), ".tmp").empty ());
  DiskStore store (in (folder));
  for (uint64_t i = 0; i < 50; ++i) {
    const Block one = block (i);
    Bytes payload;
    const auto loaded = store.load (one.hash, ids[i], one.tokens, payload);
    ASSERT_TRUE (loaded) << i;
    EXPECT_EQ (loaded->id, ids[i + 1]);
    EXPECT_EQ (payload, one.payload);
  }
  store.flush ();
  EXPECT_EQ (store.statistics ().bytes, bytes_in (folder.path ()));
}

TEST (DiskStore, ids_are_unique)
{
  const TemporaryFolder folder;
  DiskStore store (in (folder));
  std::vector<DiskId> ids;
  for (uint64_t i = 0; i < 200; ++i)
    ids.push_back (save (store, block (i, 1)).value ());
  std::ranges::sort (ids);
  EXPECT_EQ (std::ranges::adjacent_find (ids), ids.end ());
}

TEST (DiskStore, a_saved_block_is_adopted_and_not_written_again)
{
  const TemporaryFolder folder;
  const Block one = block (1);
  DiskStore first (in (folder));
  const auto id = save (first, one);
  EXPECT_EQ (save (first, one), id) << "from the queue";
  first.flush ();
  EXPECT_EQ (save (first, one), id) << "from the disk";
  DiskStore second (in (folder));
  EXPECT_EQ (save (second, one), id) << "of another store";
  second.flush ();
  EXPECT_EQ (first.statistics ().written, 1u);
  EXPECT_EQ (second.statistics ().written, 0u);
}

TEST (DiskStore, a_larger_payload_replaces_a_smaller_one_under_its_id)
{
  const TemporaryFolder folder;
  const Block small = block (1, 100);
  Block large = small;
  large.payload.resize (200);
  for (const bool flushed : {false, true}) {
    DiskStore store (in (folder, flushed ? "a" : "b"));
    const auto id = save (store, small, {}, 1);
    if (flushed)
      store.flush ();
    EXPECT_EQ (save (store, large, {}, 3), id);
    EXPECT_TRUE (has (store, large));
    store.flush ();
    EXPECT_TRUE (has (store, large));
    EXPECT_EQ (save (store, small, {}, 1), id);
    store.flush ();
    EXPECT_TRUE (has (store, large)) << "a smaller one replaces nothing";
  }
}

TEST (DiskStore, says_why_a_directory_cannot_be_used)
{
  const TemporaryFolder folder;
  write_file (folder.path () / "file", {});
  DiskStoreSettings settings = in (folder);
  for (const char *name : {"file", "file/below"}) {
    settings.directory = folder.path () / name;
    try {
      DiskStore store (settings);
      ADD_FAILURE () << name;
    } catch (const LoadError &error) {
      EXPECT_EQ (error.file, settings.directory);
      EXPECT_NE (std::string (error.what ()).find ("Not a directory"), std::string::npos) << error.what ();
    }
  }
  settings.directory = folder.path () / "new/and/deep";
  DiskStore store (settings);
  EXPECT_TRUE (fs::is_directory (settings.directory));
  EXPECT_EQ (fs::status (settings.directory).permissions (), fs::perms::owner_all);
}

TEST (DiskStore, without_permission_reads_what_it_may_and_warns_once)
{
  const SavedBlock saved;
  chmod (saved.folder.path ().c_str (), 0755);
  chmod (saved.path.parent_path ().c_str (), 0555);
  const int failures = in_process ([&] {
    const bool root = geteuid () == 0;
    if (root && setuid (65534) != 0)
      return 100;
    DiskStore store (in (saved.folder));
    int wrong = has (store, saved.content) != !root; // root's file is not nobody's to read
    for (uint64_t i = 10; i < 15; ++i)
      wrong += !save (store, block (i));
    store.flush ();
    wrong += store.statistics ().failed != 5 || store.statistics ().damaged != 0;
    const std::string warning = store.take_warning ();
    wrong += warning.find ("Permission denied") == std::string::npos;
    wrong += warning.find ("; ") != std::string::npos;
    save (store, block (15));
    store.flush ();
    wrong += !store.take_warning ().empty ();
    return wrong;
  });
  chmod (saved.path.parent_path ().c_str (), 0755);
  EXPECT_EQ (failures, 0);
}

TEST (DiskStore, a_full_disk_costs_only_the_saving)
{
  const TemporaryFolder folder;
  DiskStore store (in (folder));
  ASSERT_TRUE (save (store, block (1)));
  store.flush ();
  // A limit on the size of files fails in the middle of a block, as a full disk does.
  rlimit before;
  getrlimit (RLIMIT_FSIZE, &before);
  const rlimit small = {600, before.rlim_max};
  setrlimit (RLIMIT_FSIZE, &small);
  for (uint64_t i = 2; i < 6; ++i)
    save (store, block (i));
  store.flush ();
  setrlimit (RLIMIT_FSIZE, &before);

  EXPECT_EQ (store.statistics ().failed, 4u);
  EXPECT_EQ (store.statistics ().written, 1u);
  const std::string warning = store.take_warning ();
  EXPECT_NE (warning.find ("File too large"), std::string::npos) << warning;
  EXPECT_NE (warning.find (folder.path ().string ()), std::string::npos) << warning;
  EXPECT_EQ (store.take_warning (), "");
  EXPECT_TRUE (files (folder.path (), ".tmp").empty ());
  EXPECT_EQ (files (folder.path ()).size (), 1u);
  EXPECT_TRUE (has (store, block (1)));
  EXPECT_FALSE (has (store, block (2)));
  EXPECT_TRUE (save (store, block (2))) << "when there is room again";
  store.flush ();
  EXPECT_TRUE (has (store, block (2)));
}

TEST (DiskStore, a_vanished_directory_costs_only_the_saving)
{
  const TemporaryFolder folder;
  DiskStoreSettings settings = in (folder);
  settings.directory = folder.path () / "cache";
  DiskStore store (settings);
  save (store, block (1));
  store.flush ();
  fs::remove_all (settings.directory);
  EXPECT_FALSE (has (store, block (1)));
  for (uint64_t i = 2; i < 5; ++i)
    save (store, block (i));
  store.flush ();
  EXPECT_EQ (store.statistics ().failed, 3u);
  EXPECT_NE (store.take_warning ().find ("No such file"), std::string::npos);
  fs::create_directory (settings.directory);
  save (store, block (2));
  store.flush ();
  EXPECT_TRUE (has (store, block (2)));
  EXPECT_EQ (store.take_warning (), "");
}

TEST (DiskStore, a_full_queue_drops_and_counts)
{
  const TemporaryFolder folder;
  DiskStoreSettings settings = in (folder);
  settings.max_queue_bytes = 2500;
  DiskStore store (settings);
  EXPECT_FALSE (save (store, block (0, 2501))) << "never fits";
  EXPECT_EQ (store.statistics ().dropped, 1u);
  uint64_t kept = 0;
  for (uint64_t i = 1; i <= 500; ++i)
    kept += save (store, block (i, 1000)).has_value ();
  store.flush ();
  const auto statistics = store.statistics ();
  EXPECT_GE (kept, 2u);
  EXPECT_EQ (statistics.written, kept);
  EXPECT_EQ (statistics.dropped, 501 - kept);
  EXPECT_EQ (statistics.failed, 0u);
  EXPECT_TRUE (save (store, block (1000, 2500))) << "an empty queue takes all it may";
}

/// Saves and loads blocks [begin, end) until all are there; the number of wrong answers.
int
use_together (const fs::path &directory, uint64_t begin, uint64_t end)
{
  DiskStore store ({.directory = directory, .identity = "model", .max_payload_bytes = 1u << 20});
  int wrong = 0;
  for (int round = 0; round < 3; ++round) {
    for (uint64_t i = begin; i < end; ++i) {
      const Block one = block (i, 500 + i % 7 * 1000);
      wrong += !save (store, one);
      Bytes payload;
      wrong += !store.load (one.hash, {}, one.tokens, payload) || payload != one.payload;
    }
  }
  store.flush ();
  wrong += static_cast<int> (store.statistics ().failed + store.statistics ().damaged);
  return wrong + !store.take_warning ().empty ();
}

TEST (DiskStore, threads_share_a_directory)
{
  const TemporaryFolder folder;
  std::array<int, 4> wrong{};
  std::vector<std::thread> threads;
  for (size_t i = 0; i < wrong.size (); ++i) // 40 blocks of all, 40 of each one's own
    threads.emplace_back ([&, i] {
      wrong[i] = use_together (folder.path (), 0, 40) +
                 use_together (folder.path (), 100 * (i + 1), 100 * (i + 1) + 40);
    });
  for (std::thread &thread : threads)
    thread.join ();
  EXPECT_EQ (wrong, (std::array<int, 4>{}));
  EXPECT_EQ (files (folder.path ()).size (), 200u);
  EXPECT_EQ (use_together (folder.path (), 0, 40), 0);
}

TEST (DiskStore, processes_share_a_directory)
{
  const TemporaryFolder folder;
  std::vector<pid_t> children;
  for (uint64_t i = 0; i < 4; ++i) {
    children.push_back (fork ());
    if (children.back () == 0)
      _exit (use_together (folder.path (), 0, 40) +
             use_together (folder.path (), 100 * (i + 1), 100 * (i + 1) + 40));
  }
  for (const pid_t child : children) {
    int status = -1;
    waitpid (child, &status, 0);
    EXPECT_TRUE (WIFEXITED (status)) << status;
    EXPECT_EQ (WEXITSTATUS (status), 0);
  }
  EXPECT_EQ (files (folder.path ()).size (), 200u);
  EXPECT_TRUE (files (folder.path (), ".tmp").empty ());
  DiskStore store (in (folder));
  for (uint64_t i = 0; i < 40; ++i)
    EXPECT_TRUE (has (store, block (i, 500 + i % 7 * 1000))) << i;
}

void
make_older (const fs::path &directory)
{
  for (const fs::path &path : files (directory))
    fs::last_write_time (path, fs::last_write_time (path) - std::chrono::hours (10));
}

TEST (DiskStore, removes_what_was_used_longest_ago_and_keeps_to_max_bytes)
{
  const TemporaryFolder folder;
  DiskStoreSettings settings = in (folder);
  settings.max_bytes = 40 * 1500;
  {
    DiskStore store (settings);
    for (uint64_t i = 0; i < 30; ++i)
      save (store, block (i, 1300)); // and about 200 bytes of header
    store.flush ();
    EXPECT_EQ (files (folder.path ()).size (), 30u);
    make_older (folder.path ());
    for (uint64_t i = 0; i < 30; i += 3)
      EXPECT_TRUE (has (store, block (i, 1300)));
    EXPECT_TRUE (save (store, block (1, 1300))) << "adopting is a use";
    for (uint64_t i = 100; i < 115; ++i) {
      save (store, block (i, 1300));
      store.flush ();
      EXPECT_LE (bytes_in (folder.path ()), settings.max_bytes);
      EXPECT_EQ (store.statistics ().bytes, bytes_in (folder.path ()));
    }
    EXPECT_GT (bytes_in (folder.path ()), settings.max_bytes / 5 * 4) << "not more than needed";
    for (uint64_t i = 0; i < 30; i += 3)
      EXPECT_TRUE (has (store, block (i, 1300))) << i;
    EXPECT_TRUE (has (store, block (1, 1300)));
    for (uint64_t i = 100; i < 115; ++i)
      EXPECT_TRUE (has (store, block (i, 1300))) << i;
    EXPECT_EQ (store.take_warning (), "");
  }
  // A limit that is lower from the start, and files of others that never count.
  write_file (folder.path () / "README", Bytes (100000));
  fs::create_directory (folder.path () / "aa");
  write_file (folder.path () / "aa/notes.kv", Bytes (100000));
  write_file (folder.path () / "aa/bb000000000000000000000000000000.kv", Bytes (100000));
  settings.max_bytes = 10 * 1500;
  DiskStore store (settings);
  store.flush ();
  EXPECT_LE (store.statistics ().bytes, settings.max_bytes);
  EXPECT_GT (store.statistics ().bytes, settings.max_bytes / 2);
  EXPECT_EQ (bytes_in (folder.path ()), store.statistics ().bytes + 200000);
  EXPECT_TRUE (fs::exists (folder.path () / "README"));
}

TEST (DiskStore, the_beginning_of_a_chain_outlives_its_end)
{
  const TemporaryFolder folder;
  DiskStoreSettings settings = in (folder);
  std::vector<DiskId> ids (1);
  {
    DiskStore store (settings);
    for (uint64_t i = 0; i < 40; ++i)
      ids.push_back (save (store, block (i, 1300), ids.back ()).value ());
  }
  settings.max_bytes = 20 * 1500;
  DiskStore store (settings);
  store.flush ();
  uint64_t there = 0;
  while (there < 40 && has (store, block (there, 1300), ids[there]))
    ++there;
  EXPECT_GE (there, 15u);
  EXPECT_EQ (there, files (folder.path ()).size ()) << "what is left must be of use";
}

TEST (DiskStore, several_that_make_room_do_not_trouble_each_other)
{
  const TemporaryFolder folder;
  std::array<std::string, 4> warnings;
  std::array<uint64_t, 4> failed{};
  std::vector<std::thread> threads;
  for (size_t t = 0; t < warnings.size (); ++t) {
    threads.emplace_back ([&, t] {
      DiskStoreSettings settings = in (folder);
      settings.max_bytes = 20000;
      DiskStore store (settings);
      for (uint64_t i = 0; i < 150; ++i) {
        save (store, block (t * 1000 + i));
        has (store, block (i));
      }
      store.flush ();
      warnings[t] = store.take_warning ();
      failed[t] = store.statistics ().failed + store.statistics ().damaged;
    });
  }
  for (std::thread &thread : threads)
    thread.join ();
  EXPECT_EQ (warnings, (std::array<std::string, 4>{}));
  EXPECT_EQ (failed, (std::array<uint64_t, 4>{}));
  EXPECT_LE (bytes_in (folder.path ()), 4 * 20000u);
}

TEST (DiskStore, removes_temporary_files_that_were_left_behind)
{
  const SavedBlock saved;
  const fs::path parent = saved.path.parent_path ();
  const fs::path old_file = parent / (std::string (32, 'a') + ".tmp");
  const fs::path young_file = parent / (std::string (32, 'b') + ".tmp");
  const fs::path other_file = parent / "letter.tmp";
  for (const fs::path &path : {old_file, young_file, other_file})
    write_file (path, Bytes (10));
  for (const fs::path &path : {old_file, other_file})
    fs::last_write_time (path, fs::file_time_type::clock::now () - std::chrono::minutes (61));
  DiskStore store (in (saved.folder));
  store.flush ();
  EXPECT_FALSE (fs::exists (old_file));
  EXPECT_TRUE (fs::exists (young_file)) << "may be written at this moment";
  EXPECT_TRUE (fs::exists (other_file)) << "not ours";
  EXPECT_EQ (store.statistics ().bytes, saved.bytes.size ());
}

} // namespace
