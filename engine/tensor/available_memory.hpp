// Memory this process may still take: the machine's free memory, and what its control groups leave.
#pragma once

#include <cstdint>
#include <filesystem>

namespace millrace
{

/// Bytes. The smallest of MemAvailable and, for each control group from the process's own up to the root, limit minus
/// use (page cache that can be dropped does not count as use). 1 GiB when nothing can be read. Any thread.
uint64_t available_memory ();

/// The same of the files below `root`; for tests.
uint64_t available_memory_under (const std::filesystem::path &root);

} // namespace millrace
