// Memory this process may still take: MemAvailable, and what each control group leaves.
//
// The page cache that a group is charged for counts as its use but goes first when the group needs memory, so
// the inactive part of it (and reclaimable slabs) is taken off; the active part is not, since giving it up costs
// time. What is missing or not a number limits nothing.
// Source: Linux Documentation/filesystems/proc.rst (MemAvailable), admin-guide/cgroup-v2.rst (memory.*),
// admin-guide/cgroup-v1/memory.rst.
#include "engine/tensor/available_memory.hpp"

#include "engine/tensor/control_groups.hpp"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>

namespace fs = std::filesystem;

namespace millrace
{

namespace
{

constexpr uint64_t kNothingKnown = uint64_t{1} << 30;
/// From here on a number means "no limit": v1 writes the largest one that is a multiple of the page size.
constexpr uint64_t kUnlimited = uint64_t{1} << 62;

/// The whole of `text` as a number.
std::optional<uint64_t>
number (std::string_view text)
{
  uint64_t value = 0;
  const auto [end, error] = std::from_chars (text.data (), text.data () + text.size (), value);
  return error == std::errc () && end == text.data () + text.size () ? std::optional (value) : std::nullopt;
}

/// A file that holds one number; nothing for "max" too.
std::optional<uint64_t>
number_in (const fs::path &path)
{
  std::ifstream file (path);
  std::string word;
  return file >> word ? number (word) : std::nullopt;
}

/// Of a file of lines "NAME NUMBER" the sum of the named ones.
uint64_t
sum_in (const fs::path &path, std::string_view first, std::string_view second)
{
  std::ifstream file (path);
  uint64_t sum = 0;
  for (std::string line; std::getline (file, line);) {
    const size_t space = line.find (' ');
    const auto name = std::string_view (line).substr (0, space);
    if (space == std::string::npos || (name != first && name != second))
      continue;
    const uint64_t value = number (std::string_view (line).substr (space + 1)).value_or (0);
    sum += std::min (value, UINT64_MAX - sum);
  }
  return sum;
}

/// What a limit leaves. `reclaimable` was read at another moment than `use` and may be larger.
uint64_t
left_of (uint64_t limit, uint64_t use, uint64_t reclaimable)
{
  const uint64_t needed = use - std::min (use, reclaimable);
  return limit - std::min (limit, needed);
}

std::optional<uint64_t>
v2_left (const fs::path &group)
{
  // Above memory.high the kernel slows the group down instead of ending it: as good as a limit.
  const uint64_t limit = std::min (number_in (group / "memory.max").value_or (kUnlimited),
                                   number_in (group / "memory.high").value_or (kUnlimited));
  const auto use = number_in (group / "memory.current");
  if (limit >= kUnlimited || !use)
    return std::nullopt;
  return left_of (limit, *use, sum_in (group / "memory.stat", "inactive_file", "slab_reclaimable"));
}

std::optional<uint64_t>
v1_left (const fs::path &group)
{
  const auto limit = number_in (group / "memory.limit_in_bytes");
  const auto use = number_in (group / "memory.usage_in_bytes");
  if (limit.value_or (kUnlimited) >= kUnlimited || !use)
    return std::nullopt;
  // total_: with the groups below, as limit and use are.
  return left_of (*limit, *use, sum_in (group / "memory.stat", "total_inactive_file", "total_inactive_file"));
}

/// The line "MemAvailable:   123456 kB".
std::optional<uint64_t>
machine_left (const fs::path &meminfo)
{
  std::ifstream file (meminfo);
  for (std::string word; file >> word;) {
    if (word != "MemAvailable:")
      continue;
    std::string amount;
    std::string unit;
    const auto kib = file >> amount >> unit ? number (amount) : std::nullopt;
    return kib && unit == "kB" && *kib < kUnlimited / 1024 ? std::optional (*kib * 1024) : std::nullopt;
  }
  return std::nullopt;
}

} // namespace

uint64_t
available_memory_under (const fs::path &root)
{
  std::optional<uint64_t> smallest = machine_left (root / "proc/meminfo");
  for_each_control_group (root, "memory", [&] (const fs::path &group, ControlGroupVersion version) {
    const auto left = version == ControlGroupVersion::kV2 ? v2_left (group) : v1_left (group);
    if (left)
      smallest = std::min (*left, smallest.value_or (*left));
  });
  return smallest.value_or (kNothingKnown);
}

uint64_t
available_memory ()
{
  return available_memory_under ("/");
}

} // namespace millrace
