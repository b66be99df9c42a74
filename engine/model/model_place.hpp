// What kind of model a path is.
#pragma once

#include <filesystem>

namespace millrace
{

/// The GGUF file that `path` is, or that is all there is of a model in the folder `path`; empty for other models, and for what
/// is not there. Throws LoadError when a folder has several.
std::filesystem::path gguf_file_of (const std::filesystem::path &path);

} // namespace millrace
