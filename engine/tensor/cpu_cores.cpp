// Cores this process may use: affinity mask and control group quotas.
//
// A container's quota is often far below the number of cores of the machine, and threads beyond it are
// stopped in the middle of a step.
// Source: Linux Documentation/admin-guide/cgroup-v2.rst (cpu.max), scheduler/sched-bwc.rst (cpu.cfs_*).
#include "engine/tensor/cpu_cores.hpp"

#include "engine/tensor/control_groups.hpp"
#include "engine/tensor/thread_pool.hpp"

#include <algorithm>
#include <fstream>
#include <sched.h>
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
  for_each_control_group (root, "cpu", [&] (const fs::path &group, ControlGroupVersion version) {
    cores = version == ControlGroupVersion::kV2 ? v2_limit (group, cores) : v1_limit (group, cores);
  });
  return std::max (cores, 1);
}

int
usable_cores ()
{
  return usable_cores_under ("/", affinity_cores ());
}

} // namespace millrace
