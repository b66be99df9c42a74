// labels: unit
// usable_cores (): quotas of control groups v1 and v2, read from fake file trees.
#include "engine/tensor/cpu_cores.hpp"

#include "engine/tensor/thread_pool.hpp"
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
  int affinity = 8;
  int expected = 8;
};

const std::string kSelf = "proc/self/cgroup";
const std::string kGroups = "sys/fs/cgroup/";

const std::vector<Case> kCases = {
    {"no files", {}, 8, 8},
    {"no files, one core", {}, 1, 1},
    {"affinity below one counts as one", {}, 0, 1},
    {"v2 without a quota", {{kSelf, "0::/a\n"}, {kGroups + "a/cpu.max", "max 100000\n"}}, 8, 8},
    {"v2 whole cores", {{kSelf, "0::/a\n"}, {kGroups + "a/cpu.max", "200000 100000\n"}}, 8, 2},
    {"v2 rounds up", {{kSelf, "0::/a\n"}, {kGroups + "a/cpu.max", "150000 100000\n"}}, 8, 2},
    {"v2 part of a core", {{kSelf, "0::/a\n"}, {kGroups + "a/cpu.max", "1000 100000\n"}}, 8, 1},
    {"v2 quota above the affinity", {{kSelf, "0::/a\n"}, {kGroups + "a/cpu.max", "900000 100000\n"}}, 4, 4},
    {"v2 parent is tighter",
     {{kSelf, "0::/a/b/c\n"},
      {kGroups + "a/cpu.max", "300000 100000\n"},
      {kGroups + "a/b/cpu.max", "max 100000\n"},
      {kGroups + "a/b/c/cpu.max", "600000 100000\n"}},
     8,
     3},
    {"v2 child is tighter",
     {{kSelf, "0::/a/b\n"},
      {kGroups + "a/cpu.max", "600000 100000\n"},
      {kGroups + "a/b/cpu.max", "200000 100000\n"}},
     8,
     2},
    {"v2 in a container that sees its host's path",
     {{kSelf, "0::/docker/0123\n"}, {kGroups + "cpu.max", "250000 100000\n"}},
     8,
     3},
    {"v2 at the root of a namespace", {{kSelf, "0::/\n"}, {kGroups + "cpu.max", "400000 100000\n"}}, 8, 4},
    {"v2 path outside of the namespace",
     {{kSelf, "0::/../../other\n"}, {kGroups + "cpu.max", "100000 100000\n"}, {"other/cpu.max", "1 1\n"}},
     8,
     1},
    {"v2 damaged file", {{kSelf, "0::/a\n"}, {kGroups + "a/cpu.max", "lots and lots\n"}}, 8, 8},
    {"v2 period of zero", {{kSelf, "0::/a\n"}, {kGroups + "a/cpu.max", "100000 0\n"}}, 8, 8},
    {"v2 huge quota", {{kSelf, "0::/a\n"}, {kGroups + "a/cpu.max", "9223372036854775807 1\n"}}, 8, 8},
    {"v1 quota",
     {{kSelf, "5:memory:/m\n4:cpu,cpuacct:/a\n"},
      {kGroups + "cpu,cpuacct/a/cpu.cfs_quota_us", "350000\n"},
      {kGroups + "cpu,cpuacct/a/cpu.cfs_period_us", "100000\n"}},
     8,
     4},
    {"v1 mounted as cpu",
     {{kSelf, "4:cpu,cpuacct:/a\n"},
      {kGroups + "cpu/a/cpu.cfs_quota_us", "100000\n"},
      {kGroups + "cpu/a/cpu.cfs_period_us", "50000\n"}},
     8,
     2},
    {"v1 without a quota",
     {{kSelf, "4:cpu:/a\n"},
      {kGroups + "cpu/a/cpu.cfs_quota_us", "-1\n"},
      {kGroups + "cpu/a/cpu.cfs_period_us", "100000\n"}},
     8,
     8},
    {"v1 parent is tighter",
     {{kSelf, "4:cpu:/a/b\n"},
      {kGroups + "cpu/a/cpu.cfs_quota_us", "200000\n"},
      {kGroups + "cpu/a/cpu.cfs_period_us", "100000\n"},
      {kGroups + "cpu/a/b/cpu.cfs_quota_us", "-1\n"},
      {kGroups + "cpu/a/b/cpu.cfs_period_us", "100000\n"}},
     8,
     2},
    {"v1 other controllers do not count",
     {{kSelf, "4:cpuset:/a\n3:cpuacct:/a\n"},
      {kGroups + "cpuset/a/cpu.cfs_quota_us", "100000\n"},
      {kGroups + "cpuset/a/cpu.cfs_period_us", "100000\n"}},
     8,
     8},
    {"v1 beside v2",
     {{kSelf, "4:cpu:/a\n0::/a\n"},
      {kGroups + "cpu/a/cpu.cfs_quota_us", "500000\n"},
      {kGroups + "cpu/a/cpu.cfs_period_us", "100000\n"},
      {kGroups + "unified/a/cpu.max", "300000 100000\n"}},
     8,
     3},
    {"damaged list of groups",
     {{kSelf, "nonsense\n::\n0:\n\n0::/a\n"}, {kGroups + "a/cpu.max", "2 1\n"}},
     8,
     2},
};

TEST (usable_cores, is_the_smallest_of_affinity_and_every_quota_above)
{
  for (const Case &test : kCases) {
    const TemporaryFolder root;
    for (const auto &[path, contents] : test.files) {
      std::filesystem::create_directories ((root.path () / path).parent_path ());
      std::ofstream (root.path () / path) << contents;
    }
    EXPECT_EQ (millrace::usable_cores_under (root.path (), test.affinity), test.expected) << test.name;
  }
}

TEST (usable_cores, of_this_machine_is_at_least_one_and_stable)
{
  const int cores = millrace::usable_cores ();
  EXPECT_GE (cores, 1);
  EXPECT_EQ (millrace::usable_cores (), cores);
}

} // namespace
