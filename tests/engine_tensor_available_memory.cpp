// labels: unit
// available_memory (): limits of control groups v1 and v2 and MemAvailable, read from fake file trees.
#include "engine/tensor/available_memory.hpp"

#include "tests/test_paths.hpp"

#include <fstream>
#include <string>
#include <utility>
#include <vector>

namespace
{

struct Case {
  std::string name;
  std::vector<std::pair<std::string, std::string>> files; ///< path below the root, contents
  uint64_t expected = 0;
};

constexpr uint64_t kGiB = uint64_t{1} << 30;
const std::string kInfo = "proc/meminfo";
const std::string kSelf = "proc/self/cgroup";
const std::string kGroups = "sys/fs/cgroup/";
const std::string kMeminfo =
    "MemTotal:       99 kB\nMemFree:   1 kB\nMemAvailable:    4096 kB\nCached: 7 kB\n";
constexpr uint64_t kMachine = 4096 * 1024;

const std::vector<Case> kCases = {
    {"no files", {}, kGiB},
    {"the machine alone", {{kInfo, kMeminfo}}, kMachine},
    {"nothing left", {{kInfo, "MemAvailable: 0 kB\n"}}, 0},
    {"an old kernel", {{kInfo, "MemTotal: 99 kB\nMemFree: 5 kB\n"}}, kGiB},
    {"damaged meminfo", {{kInfo, "MemAvailable: many kB\n"}}, kGiB},
    {"meminfo cut off", {{kInfo, "MemAvailable: 77"}}, kGiB},
    {"another unit", {{kInfo, "MemAvailable: 77 MB\n"}}, kGiB},
    {"meminfo beyond 64 bits", {{kInfo, "MemAvailable: 18446744073709551615 kB\n"}}, kGiB},
    {"v2 limit minus use",
     {{kInfo, kMeminfo},
      {kSelf, "0::/a\n"},
      {kGroups + "a/memory.max", "1000\n"},
      {kGroups + "a/memory.high", "max\n"},
      {kGroups + "a/memory.current", "400\n"}},
     600},
    {"v2 page cache and slabs are no use",
     {{kInfo, kMeminfo},
      {kSelf, "0::/a\n"},
      {kGroups + "a/memory.max", "1000\n"},
      {kGroups + "a/memory.current", "900\n"},
      {kGroups + "a/memory.stat",
       "anon 500\ninactive_file 250\nactive_file 100\nslab_reclaimable 50\nslab_unreclaimable 7\n"}},
     400},
    {"v2 more page cache than use",
     {{kSelf, "0::/a\n"},
      {kGroups + "a/memory.max", "1000\n"},
      {kGroups + "a/memory.current", "900\n"},
      {kGroups + "a/memory.stat", "inactive_file 18446744073709551615\nslab_reclaimable 50\n"}},
     1000},
    {"v2 damaged statistics",
     {{kSelf, "0::/a\n"},
      {kGroups + "a/memory.max", "1000\n"},
      {kGroups + "a/memory.current", "900\n"},
      {kGroups + "a/memory.stat", "inactive_file\ninactive_file lots\n\nslab_reclaimable -5\n"}},
     100},
    {"v2 use above the limit",
     {{kSelf, "0::/a\n"}, {kGroups + "a/memory.max", "1000\n"}, {kGroups + "a/memory.current", "1001\n"}},
     0},
    {"v2 high is lower than max",
     {{kSelf, "0::/a\n"},
      {kGroups + "a/memory.max", "1000\n"},
      {kGroups + "a/memory.high", "800\n"},
      {kGroups + "a/memory.current", "300\n"}},
     500},
    {"v2 without a limit",
     {{kInfo, kMeminfo},
      {kSelf, "0::/a\n"},
      {kGroups + "a/memory.max", "max\n"},
      {kGroups + "a/memory.high", "max\n"},
      {kGroups + "a/memory.current", "300\n"}},
     kMachine},
    {"v2 limit above the machine",
     {{kInfo, kMeminfo},
      {kSelf, "0::/a\n"},
      {kGroups + "a/memory.max", "99999999999\n"},
      {kGroups + "a/memory.current", "300\n"}},
     kMachine},
    {"v2 parent leaves less",
     {{kInfo, kMeminfo},
      {kSelf, "0::/a/b/c\n"},
      {kGroups + "a/memory.max", "5000\n"},
      {kGroups + "a/memory.current", "4900\n"},
      {kGroups + "a/b/memory.max", "max\n"},
      {kGroups + "a/b/memory.current", "4000\n"},
      {kGroups + "a/b/c/memory.max", "3000\n"},
      {kGroups + "a/b/c/memory.current", "100\n"}},
     100},
    {"v2 in a container that sees its host's path",
     {{kSelf, "0::/docker/0123\n"}, {kGroups + "memory.max", "1000\n"}, {kGroups + "memory.current", "1\n"}},
     999},
    {"v2 path outside of the namespace",
     {{kSelf, "0::/../../other\n"},
      {kGroups + "memory.max", "1000\n"},
      {kGroups + "memory.current", "1\n"},
      {"other/memory.max", "5\n"},
      {"other/memory.current", "1\n"}},
     999},
    {"v2 damaged limit",
     {{kInfo, kMeminfo},
      {kSelf, "0::/a\n"},
      {kGroups + "a/memory.max", "12x\n"},
      {kGroups + "a/memory.high", "-3\n"},
      {kGroups + "a/memory.current", "1\n"}},
     kMachine},
    {"v2 limit beyond 64 bits",
     {{kInfo, kMeminfo},
      {kSelf, "0::/a\n"},
      {kGroups + "a/memory.max", "99999999999999999999999\n"},
      {kGroups + "a/memory.current", "1\n"}},
     kMachine},
    {"v2 empty files",
     {{kInfo, kMeminfo},
      {kSelf, "0::/a\n"},
      {kGroups + "a/memory.max", ""},
      {kGroups + "a/memory.current", ""}},
     kMachine},
    {"v2 use unknown",
     {{kInfo, kMeminfo}, {kSelf, "0::/a\n"}, {kGroups + "a/memory.max", "1000\n"}},
     kMachine},
    {"v1 limit minus use and page cache",
     {{kInfo, kMeminfo},
      {kSelf, "5:memory:/m\n4:cpu,cpuacct:/a\n"},
      {kGroups + "memory/m/memory.limit_in_bytes", "1000\n"},
      {kGroups + "memory/m/memory.usage_in_bytes", "900\n"},
      {kGroups + "memory/m/memory.stat", "inactive_file 1\ntotal_inactive_file 300\ntotal_active_file 9\n"}},
     400},
    {"v1 without a limit",
     {{kSelf, "5:memory:/m\n"},
      {kGroups + "memory/m/memory.limit_in_bytes", "9223372036854771712\n"},
      {kGroups + "memory/m/memory.usage_in_bytes", "900\n"}},
     kGiB},
    {"v1 parent leaves less",
     {{kSelf, "5:memory:/m/n\n"},
      {kGroups + "memory/m/memory.limit_in_bytes", "1000\n"},
      {kGroups + "memory/m/memory.usage_in_bytes", "990\n"},
      {kGroups + "memory/m/n/memory.limit_in_bytes", "800\n"},
      {kGroups + "memory/m/n/memory.usage_in_bytes", "200\n"}},
     10},
    {"v1 other controllers do not count",
     {{kInfo, kMeminfo},
      {kSelf, "5:cpu:/m\n"},
      {kGroups + "memory/m/memory.limit_in_bytes", "1000\n"},
      {kGroups + "memory/m/memory.usage_in_bytes", "990\n"}},
     kMachine},
    {"v1 beside v2",
     {{kSelf, "5:memory:/m\n0::/m\n"},
      {kGroups + "memory/m/memory.limit_in_bytes", "1000\n"},
      {kGroups + "memory/m/memory.usage_in_bytes", "200\n"},
      {kGroups + "unified/m/memory.max", "500\n"},
      {kGroups + "unified/m/memory.current", "200\n"}},
     300},
    {"a folder where a file should be", {{kInfo + "/x", ""}, {kSelf, "nonsense\n"}}, kGiB},
};

TEST (available_memory, is_the_smallest_that_the_machine_and_every_group_above_leave)
{
  for (const Case &test : kCases) {
    const TemporaryFolder root;
    for (const auto &[path, contents] : test.files) {
      std::filesystem::create_directories ((root.path () / path).parent_path ());
      std::ofstream (root.path () / path) << contents;
    }
    EXPECT_EQ (millrace::available_memory_under (root.path ()), test.expected) << test.name;
  }
}

TEST (available_memory, of_this_machine_is_a_sensible_number)
{
  const uint64_t bytes = millrace::available_memory ();
  EXPECT_GT (bytes, uint64_t{1} << 20);
  EXPECT_LT (bytes, uint64_t{1} << 50);
}

} // namespace
