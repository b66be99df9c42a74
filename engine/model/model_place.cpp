#include "engine/model/model_place.hpp"

#include "engine/error.hpp"
#include "engine/tensor/mapped_file.hpp"
#include "engine/weights/gguf.hpp"

#include <system_error>

namespace fs = std::filesystem;

namespace millrace
{

fs::path
gguf_file_of (const fs::path &path)
{
  std::error_code error;
  if (fs::is_regular_file (path, error))
    return path.extension () == ".gguf" || is_gguf (MappedFile (path).bytes ()) ? path : fs::path ();
  fs::path found;
  if (!fs::is_directory (path, error) || fs::exists (path / "config.json", error))
    return found;
  for (fs::directory_iterator entry (path, error), end; !error && entry != end; entry.increment (error)) {
    if (entry->path ().extension () != ".gguf")
      continue;
    if (!found.empty ())
      throw LoadError (path, "",
                       "holds several GGUF files, " + found.filename ().string () + " and " +
                           entry->path ().filename ().string () + " among them; name the one to open");
    found = entry->path ();
  }
  return found;
}

} // namespace millrace
