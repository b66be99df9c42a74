// Cores this process may use: affinity mask and control group quotas.
//
// A container's quota is often far below the number of cores of the machine, and threads beyond it are
// stopped in the middle of a step. A quota applies to the whole subtree, so every level up to the root is
// looked at; a path that does not exist below the mount (a container that sees its host's path) is skipped
// on the way up and the mount's own root, which is then the container's group, still counts.
// Source: Linux Documentation/admin-guide/cgroup-v2.rst (cpu.max), scheduler/sched-bwc.rst (cpu.cfs_*).
#include "engine/tensor/cpu_cores.hpp"

#include "engine/tensor/thread_pool.hpp"

#include <algorithm>
#include <fstream>
#include <sched.h>
#include <string>
#include <string_view>
#include <thread>

namespace fs = std::filesystem;

namespace millrace
{

namespace
{

/// Cores that a quota per period amounts to, rounded up; `fallback` when there is no quota.
int
quota_cores (int64_t quota, int64_t period, int fallback)
{
  if (quota <= 0 || period <= 0)
    return fallback;
  const int64_t cores = quota / period + (quota % period != 0 ? 1 : 0);
  return static_cast<int> (std::min<int64_t> (cores, fallback));
}

int
v2_limit (const fs::path &group, int cores)
{
  std::ifstream file (group / "cpu.max");
  int64_t quota = 0;
  int64_t period = 0;
  return file >> quota >> period ? quota_cores (quota, period, cores) : cores; // "max 100000": no quota
}

int
v1_limit (const fs::path &group, int cores)
{
  std::ifstream quota_file (group / "cpu.cfs_quota_us");
  std::ifstream period_file (group / "cpu.cfs_period_us");
  int64_t quota = 0;
  int64_t period = 0;
  return quota_file >> quota && period_file >> period ? quota_cores (quota, period, cores) : cores;
}

/// The smallest limit of `group` and all groups above it, below the hierarchy's mount point.
template <typename Limit>
int
limit_along (const fs::path &mount, const fs::path &group, int cores, Limit limit)
{
  fs::path relative = group.relative_path ().lexically_normal ();
  if (std::find (relative.begin (), relative.end (), fs::path ("..")) != relative.end ())
    relative.clear (); // the group lies outside of the visible part of the hierarchy
  for (;; relative = relative.parent_path ()) {
    cores = limit (mount / relative, cores);
    if (relative.empty ())
      return cores;
  }
}

bool
lists (std::string_view controllers, std::string_view wanted)
{
  for (size_t begin = 0; begin <= controllers.size ();) {
    const size_t end = std::min (controllers.find (',', begin), controllers.size ());
    if (controllers.substr (begin, end - begin) == wanted)
      return true;
    begin = end + 1;
  }
  return false;
}

int
affinity_cores ()
{
  for (int cpus = 1024; cpus <= 1 << 20; cpus *= 2) { // the mask must be at least as large as the kernel's
    cpu_set_t *set = CPU_ALLOC (cpus);
    if (!set)
      break;
    const size_t bytes = CPU_ALLOC_SIZE (cpus);
    const bool known = sched_getaffinity (0, bytes, set) == 0;
    const int count = known ? CPU_COUNT_S (bytes, set) : 0;
    CPU_FREE (set);
    if (known)
      return std::max (count, 1);
  }
  return std::max (static_cast<int> (std::thread::hardware_concurrency ()), 1);
}

} // namespace

int
usable_cores_under (const fs::path &root, int affinity_cores)
{
  int cores = std::max (affinity_cores, 1);
  const fs::path cgroup = root / "sys/fs/cgroup";
  std::ifstream memberships (root / "proc/self/cgroup"); // lines "ID:CONTROLLERS:PATH"
  for (std::string line; std::getline (memberships, line);) {
    const size_t first = line.find (':');
    const size_t second = first == std::string::npos ? first : line.find (':', first + 1);
    if (second == std::string::npos)
      continue;
    const auto controllers = std::string_view (line).substr (first + 1, second - first - 1);
    const fs::path group = line.substr (second + 1);
    if (controllers.empty ()) {
      cores = limit_along (cgroup, group, cores, v2_limit);
      cores = limit_along (cgroup / "unified", group, cores, v2_limit); // v1 and v2 side by side
    } else if (lists (controllers, "cpu")) {
      cores = limit_along (cgroup / controllers, group, cores, v1_limit);
      cores = limit_along (cgroup / "cpu", group, cores, v1_limit);
    }
  }
  return std::max (cores, 1);
}

int
usable_cores ()
{
  return usable_cores_under ("/", affinity_cores ());
}

} // namespace millrace
