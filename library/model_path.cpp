#include "library/model_path.hpp"

#include <glib.h>

#include <algorithm>
#include <cstdlib>
#include <dlfcn.h>
#include <sstream>
#include <system_error>
#include <vector>

namespace fs = std::filesystem;

namespace millrace
{

namespace
{

std::vector<fs::path>
model_folders ()
{
  const char *search = std::getenv ("MILLRACE_MODEL_PATH");
  std::istringstream text (search && *search ? search
                                             : (library_folder () / MILLRACE_MODEL_DIRECTORY).string ());
  std::vector<fs::path> folders;
  for (std::string folder; std::getline (text, folder, ':');)
    folders.emplace_back (folder);
  folders.push_back (downloaded_models ());
  return folders;
}

/// Not a path that says where it begins, nor one that could lead out of a folder.
bool
is_name (const fs::path &path)
{
  return path.is_relative () &&
         std::ranges::none_of (path, [] (const fs::path &part) { return part == "." || part == ".."; });
}

} // namespace

fs::path
library_folder ()
{
  Dl_info info = {};
  if (!dladdr (reinterpret_cast<const void *> (&library_folder), &info) || !info.dli_fname)
    return {};
  return fs::path (info.dli_fname).parent_path ();
}

fs::path
downloaded_models ()
{
  return fs::path (g_get_user_data_dir ()) / "millrace" / "models";
}

fs::path
find_model (const std::string &name)
{
  const fs::path given (name);
  std::error_code error;
  if (fs::exists (given, error) || !is_name (given))
    return given;
  for (const fs::path &folder : model_folders ())
    if (fs::path candidate = folder / given; fs::exists (candidate, error))
      return candidate;
  return given;
}

} // namespace millrace
