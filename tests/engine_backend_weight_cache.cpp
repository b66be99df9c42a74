// labels: unit
// timeout: 300
// Packed weights on disk: the same bits with them and without, one file for each model, and readers and writers at once.
#include "engine/error.hpp"
#include "tests/sanitized.hpp"
#include "tests/weight_cache.hpp"

#include <algorithm>
#include <atomic>
#include <fcntl.h>
#include <fstream>
#include <functional>
#include <linux/capability.h>
#include <stop_token>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

using namespace millrace;
using namespace millrace::testing;
namespace fs = std::filesystem;

namespace
{

TEST_F (WeightCacheTest, every_format_gives_the_same_bits_with_it_and_without)
{
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    write_checkpoint (dtype, 2);
    for (const WeightFormat format : {WeightFormat::kAuto, WeightFormat::kF32, WeightFormat::kF16,
                                      WeightFormat::kBF16, WeightFormat::kInt8, WeightFormat::kInt4}) {
      SCOPED_TRACE (std::string (dtype_name (dtype)) + " " + std::to_string (static_cast<int> (format)));
      fs::remove_all (cache ());
      const std::string plain = result_of (*compile ({}, format));
      EXPECT_TRUE (files ().empty ());
      const auto first = compile (cache (), format);
      EXPECT_EQ (first->load_warning (), "");
      EXPECT_EQ (result_of (*first), plain);
      ASSERT_EQ (files ().size (), 1u);
      EXPECT_TRUE (files ()[0].filename ().string ().starts_with ("tiny-")) << files ()[0];
      const auto written = fs::last_write_time (files ()[0]);

      const auto second = compile (cache (), format);
      EXPECT_EQ (second->load_warning (), "");
      EXPECT_EQ (second->weight_bytes (), first->weight_bytes ());
      EXPECT_EQ (second->description (), first->description ());
      EXPECT_EQ (result_of (*second), plain);
      EXPECT_EQ (fs::last_write_time (files ()[0]), written) << "written again";
      EXPECT_TRUE (files (".tmp").empty ());
    }
  }
}

TEST_F (WeightCacheTest, a_second_start_maps_the_file_and_reads_no_more_of_it_than_its_header)
{
  const fs::path path = fill ();
  const std::string data = bytes_of (path);
  change (path, [&] (int file) {
    const char other = static_cast<char> (~data.back ());
    EXPECT_EQ (pwrite (file, &other, 1, static_cast<off_t> (data.size () - 65)), 1);
  });
  const auto model = compile (cache ());
  EXPECT_EQ (model->load_warning (), "");
  EXPECT_NE (result_of (*model), expected ()) << "the file is not what was used";
}

TEST_F (WeightCacheTest, another_checkpoint_or_format_of_the_same_name_has_its_own_file)
{
  const fs::path path = fill ();
  const std::string sound = bytes_of (path), mine = expected ();
  struct stat before;
  ASSERT_EQ (stat ((checkpoint () / "model.safetensors").c_str (), &before), 0);

  EXPECT_EQ (compile (cache (), WeightFormat::kInt8)->load_warning (), "");
  EXPECT_EQ (files ().size (), 2u);

  // Same name, size and time of change: the weights tell them apart.
  write_checkpoint (DType::kF32, 77);
  const timespec times[2] = {before.st_atim, before.st_mtim};
  ASSERT_EQ (utimensat (AT_FDCWD, (checkpoint () / "model.safetensors").c_str (), times, 0), 0);
  const auto other = compile (cache ());
  EXPECT_EQ (other->load_warning (), "");
  EXPECT_EQ (files ().size (), 3u);
  EXPECT_EQ (result_of (*other), result_of (*compile ({})));
  EXPECT_NE (result_of (*other), mine);

  // Under the name of the other one's file.
  for (const fs::path &file : files ()) {
    if (bytes_of (file) == sound || file == path)
      continue;
    fs::copy_file (path, file, fs::copy_options::overwrite_existing);
    fs::last_write_time (file, fs::last_write_time (path));
  }
  const auto foreign = compile (cache ());
  EXPECT_NE (foreign->load_warning ().find ("other weights"), std::string::npos) << foreign->load_warning ();
  EXPECT_EQ (result_of (*foreign), result_of (*compile ({})));
}

TEST_F (WeightCacheTest, a_checkpoint_may_move_and_its_change_is_seen)
{
  fill ();
  const fs::path file = checkpoint () / "model.safetensors";
  const auto time = fs::last_write_time (file);
  fs::rename (file, checkpoint () / "x");
  fs::copy_file (checkpoint () / "x", file); // another inode
  fs::last_write_time (file, time);
  EXPECT_EQ (compile (cache ())->load_warning (), "");
  EXPECT_EQ (files ().size (), 1u);
  fs::last_write_time (file, time + std::chrono::seconds (1));
  EXPECT_EQ (compile (cache ())->load_warning (), "");
  EXPECT_EQ (files ().size (), 2u);
}

TEST_F (WeightCacheTest, a_folder_that_cannot_be_made_is_a_warning)
{
  write_file (folder_.path () / "cache", "a file");
  const auto model = compile (cache () / "below");
  EXPECT_NE (model->load_warning ().find ("Not a directory"), std::string::npos) << model->load_warning ();
  EXPECT_EQ (result_of (*model), expected ());
}

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

TEST_F (WeightCacheTest, a_folder_that_is_not_writable_is_a_warning)
{
  fs::create_directory (cache ());
  chmod (cache ().c_str (), 0555);
  chmod (folder_.path ().c_str (), 0755);
  const int failures = in_process ([&] {
    if (geteuid () == 0 && setuid (65534) != 0)
      return 100;
    const auto model = compile (cache ());
    return (model->load_warning ().find ("Permission denied") == std::string::npos) +
           2 * (result_of (*model) != result_of (*compile ({}))) + 4 * !files ().empty ();
  });
  EXPECT_EQ (failures, 0);
}

TEST_F (WeightCacheTest, loading_that_is_told_to_stop_reads_and_keeps_nothing)
{
  std::stop_source stop;
  stop.request_stop ();
  const auto stopped = [&] { compile (cache (), WeightFormat::kAuto, stop.get_token ()); };
  EXPECT_THROW (stopped (), LoadStopped);
  EXPECT_TRUE (files ().empty ());
  EXPECT_TRUE (files (".tmp").empty ());
  fill ();
  EXPECT_THROW (stopped (), LoadStopped) << "packed weights are there";
  const int status = in_process ([&] {
    const WeightFiles opened = WeightFiles::open (checkpoint ());
    fs::resize_file (checkpoint () / "model.safetensors", 0); // whoever reads it gets SIGBUS
    try {
      create_cpu_backend ({.threads = 2})
          ->compile (program (), opened, {.weights = WeightFormat::kInt8, .stop = stop.get_token ()});
    } catch (const LoadStopped &) {
      return 0;
    }
    return 1;
  });
  EXPECT_EQ (status, 0);
}

TEST_F (WeightCacheTest, loading_may_be_told_to_stop_at_any_moment)
{
  expected ();
  int stopped = 0, done = 0, wait = 1000;
  for (int round = 0; round < (kSanitized ? 40 : 200); ++round) {
    fs::remove_all (cache ());
    std::stop_source stop;
    std::thread other ([&stop, wait] {
      for (std::atomic<int> passed = 0; passed < wait; ++passed) {
      }
      stop.request_stop ();
    });
    try {
      const auto model = compile (cache (), WeightFormat::kAuto, stop.get_token ());
      EXPECT_EQ (result_of (*model), expected ());
      ++done;
      wait -= wait / 8;
    } catch (const LoadStopped &) {
      EXPECT_TRUE (files ().empty ());
      ++stopped;
      wait += wait / 8 + 1;
    }
    other.join ();
  }
  EXPECT_TRUE (files (".tmp").empty ());
  std::printf ("%d stopped, %d done\n", stopped, done);
}

TEST_F (WeightCacheTest, a_file_is_read_by_those_who_may_read_the_checkpoint)
{
  const mode_t mask = umask (0);
  EXPECT_EQ (fs::status (fill ()).permissions () & fs::perms::mask, static_cast<fs::perms> (0644 & 0666));
  fs::remove_all (cache ());
  fs::permissions (checkpoint () / "model.safetensors", fs::perms::owner_read | fs::perms::owner_write);
  EXPECT_EQ (fs::status (fill ()).permissions () & fs::perms::mask, static_cast<fs::perms> (0600));
  umask (mask);
}

TEST_F (WeightCacheTest, a_full_disk_costs_only_the_saving)
{
  // A limit on the size of files: what does not fit is known before it is written.
  rlimit before;
  getrlimit (RLIMIT_FSIZE, &before);
  for (const rlim_t limit : {rlim_t{0}, rlim_t{5000}, rlim_t{100000}}) {
    const rlimit small = {limit, before.rlim_max};
    setrlimit (RLIMIT_FSIZE, &small);
    const auto model = compile (cache ());
    setrlimit (RLIMIT_FSIZE, &before);
    EXPECT_NE (model->load_warning ().find ("File too large"), std::string::npos) << model->load_warning ();
    EXPECT_EQ (result_of (*model), expected ());
    EXPECT_TRUE (files ().empty ());
    EXPECT_TRUE (files (".tmp").empty ());
  }
  fill ();
}

TEST_F (WeightCacheTest, temporary_files_of_dead_writers_are_removed_and_no_others)
{
  const fs::path path = fill ();
  const fs::path old = path.string () + ".0123456789abcdef.tmp",
                 young = path.string () + ".0000000000000000.tmp", other = cache () / "other.tmp";
  for (const fs::path &file : {old, young, other})
    write_file (file, "x");
  const auto hours_ago = fs::file_time_type::clock::now () - std::chrono::hours (2);
  fs::last_write_time (old, hours_ago);
  fs::last_write_time (other, hours_ago);
  fs::remove (path);
  fill ();
  EXPECT_FALSE (fs::exists (old));
  EXPECT_TRUE (fs::exists (young));
  EXPECT_TRUE (fs::exists (other));
}

TEST_F (WeightCacheTest, writers_and_readers_at_once_all_get_the_same)
{
  const std::string plain = expected ();
  std::vector<pid_t> children;
  for (int i = 0; i < 3; ++i) {
    const pid_t child = fork ();
    if (child == 0) {
      int wrong = 0;
      for (int round = 0; round < 20; ++round) {
        const auto model = compile (cache ());
        wrong += !model->load_warning ().empty () || result_of (*model) != plain;
        fs::path path;
        for (const fs::path &file : files ())
          path = file;
        std::error_code ignored;
        if (round % 2 == 0)
          fs::remove (path, ignored);
      }
      _exit (wrong);
    }
    children.push_back (child);
  }
  std::vector<std::string> results (3);
  std::vector<std::thread> threads;
  for (std::string &result : results)
    threads.emplace_back ([&] { result = result_of (*compile (cache ())); });
  for (std::thread &thread : threads)
    thread.join ();
  for (const std::string &result : results)
    EXPECT_EQ (result, plain);
  for (const pid_t child : children) {
    int status = -1;
    EXPECT_EQ (waitpid (child, &status, 0), child);
    EXPECT_EQ (status, 0) << "warnings or wrong results";
  }
  EXPECT_TRUE (files (".tmp").empty ());
}

TEST_F (WeightCacheTest, a_mapped_file_may_be_replaced_and_removed)
{
  const fs::path path = fill ();
  const auto model = compile (cache ());
  fs::remove (path);
  fill ();
  EXPECT_EQ (result_of (*model), expected ());
}

// locked memory of this process, KiB
long
locked_kib ()
{
  std::ifstream status ("/proc/self/status");
  for (std::string line; std::getline (status, line);) {
    if (line.starts_with ("VmLck:"))
      return std::atol (line.c_str () + 6);
  }
  return -1;
}

/// What a user other than root may do, for the calling thread.
class WithoutLockCapability
{
public:
  WithoutLockCapability ()
  {
    syscall (SYS_capget, &header_, before_);
    __user_cap_data_struct less[2] = {before_[0], before_[1]};
    less[0].effective &= ~(1u << CAP_IPC_LOCK);
    EXPECT_EQ (syscall (SYS_capset, &header_, less), 0);
  }
  ~WithoutLockCapability () { syscall (SYS_capset, &header_, before_); }

private:
  __user_cap_header_struct header_ = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct before_[2] = {};
};

TEST_F (WeightCacheTest, locked_weights_are_locked_and_a_limit_is_named)
{
  const auto locked = [&] (const fs::path &cache) {
    return create_cpu_backend ({.threads = 2})
        ->compile (program (), WeightFiles::open (checkpoint ()), {WeightFormat::kAuto, cache, true});
  };
  std::vector<char> probe (size_t{8} << 20);
  if (kSanitized || mlock (probe.data (), probe.size () / 2) != 0)
    GTEST_SKIP () << "this process may not lock memory, or a sanitizer does not let it";
  munlock (probe.data (), probe.size () / 2);
  rlimit before;
  getrlimit (RLIMIT_MEMLOCK, &before);
  for (const fs::path &folder : {fs::path (), cache (), cache ()}) { // memory, memory, the file
    const long kib = locked_kib ();
    const auto model = locked (folder);
    EXPECT_GE (locked_kib () - kib, static_cast<long> (model->weight_bytes () >> 10));
    EXPECT_EQ (result_of (*model), expected ());
  }
  EXPECT_EQ (locked_kib (), 0);

  for (const rlim_t limit : {rlim_t{0}, rlim_t{65536}}) {
    const WithoutLockCapability user;
    const rlimit small = {limit, before.rlim_max};
    setrlimit (RLIMIT_MEMLOCK, &small);
    std::string message = "no error";
    try {
      locked ({});
    } catch (const LoadError &error) {
      message = error.what ();
    }
    setrlimit (RLIMIT_MEMLOCK, &before);
    for (const char *word :
         {"RLIMIT_MEMLOCK", "ulimit -l", "lock-memory", limit ? "64 KiB" : " 0 KiB", "tiny"})
      EXPECT_NE (message.find (word), std::string::npos) << word << ": " << message;
  }
}

} // namespace
