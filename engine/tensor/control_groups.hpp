// The control groups this process is in: the folders whose limits apply to it.
//
// A limit applies to the whole subtree, so every level up to the root of the hierarchy is looked at; a path
// that does not exist below the mount (a container that sees its host's path) is skipped on the way up and
// the mount's own root, which is then the container's group, still counts.
// Source: Linux Documentation/admin-guide/cgroup-v2.rst, cgroups(7) for /proc/self/cgroup.
#pragma once

#include "engine/tensor/thread_pool.hpp"

#include <filesystem>
#include <string_view>

namespace millrace
{

enum class ControlGroupVersion { kV1, kV2 };

/// Calls `visit` with each folder, from the process's own group up to the mount, of the v2 hierarchy and of the
/// v1 hierarchy that has `controller` ("cpu", "memory"). Folders may not exist and may come twice. `root` is the
/// folder that holds proc/ and sys/. Any thread.
void for_each_control_group (const std::filesystem::path &root, std::string_view controller,
                             FunctionRef<void (const std::filesystem::path &, ControlGroupVersion)> visit);

} // namespace millrace
