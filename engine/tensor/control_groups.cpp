// Finding the control groups: /proc/self/cgroup names them, the mounts below /sys/fs/cgroup hold them.
#include "engine/tensor/control_groups.hpp"

#include <algorithm>
#include <fstream>
#include <string>

namespace fs = std::filesystem;

namespace millrace
{

namespace
{

using Visit = FunctionRef<void (const fs::path &, ControlGroupVersion)>;

/// `group` and all groups above it, up to the hierarchy's mount point.
void
walk_up (const fs::path &mount, const fs::path &group, ControlGroupVersion version, Visit visit)
{
  fs::path relative = group.relative_path ().lexically_normal ();
  if (std::find (relative.begin (), relative.end (), fs::path ("..")) != relative.end ())
    relative.clear (); // the group lies outside of the visible part of the hierarchy
  for (;; relative = relative.parent_path ()) {
    visit (mount / relative, version);
    if (relative.empty ())
      return;
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

} // namespace

void
for_each_control_group (const fs::path &root, std::string_view controller, Visit visit)
{
  const fs::path mounts = root / "sys/fs/cgroup";
  std::ifstream memberships (root / "proc/self/cgroup"); // lines "ID:CONTROLLERS:PATH"
  for (std::string line; std::getline (memberships, line);) {
    const size_t first = line.find (':');
    const size_t second = first == std::string::npos ? first : line.find (':', first + 1);
    if (second == std::string::npos)
      continue;
    const auto controllers = std::string_view (line).substr (first + 1, second - first - 1);
    const fs::path group = line.substr (second + 1);
    if (controllers.empty ()) {
      walk_up (mounts, group, ControlGroupVersion::kV2, visit);
      walk_up (mounts / "unified", group, ControlGroupVersion::kV2, visit); // v1 and v2 side by side
    } else if (lists (controllers, controller)) {
      walk_up (mounts / controllers, group, ControlGroupVersion::kV1, visit);
      walk_up (mounts / controller, group, ControlGroupVersion::kV1, visit);
    }
  }
}

} // namespace millrace
