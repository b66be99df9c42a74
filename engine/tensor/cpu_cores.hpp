// How many cores the process may use: what usable_cores () is made of, so that tests can fake the files.
#pragma once

#include <filesystem>

namespace millrace
{

/// The smaller of `affinity_cores` and every CPU quota on the way from this process's control group up to
/// the root of its hierarchy, rounded up; at least 1. `root` is the folder that holds proc/ and sys/.
/// Files that are absent or unreadable limit nothing.
int usable_cores_under (const std::filesystem::path &root, int affinity_cores);

} // namespace millrace
