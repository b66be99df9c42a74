// Where models are looked for by name.
#pragma once

#include <filesystem>
#include <string>

namespace millrace
{

/// A path, or a name in one of the folders of $MILLRACE_MODEL_PATH (or where Millrace's own models are installed), or in
/// downloaded_models (). A name may have slashes, as downloaded ones do: OWNER/NAME. What is found nowhere is taken for a
/// path.
std::filesystem::path find_model (const std::string &name);

/// Where libmillrace lies; what is installed with it is found relative to it.
std::filesystem::path library_folder ();

/// $XDG_DATA_HOME/millrace/models: where `millrace download` puts models.
std::filesystem::path downloaded_models ();

} // namespace millrace
