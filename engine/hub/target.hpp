// What a user asks a hub for: OWNER/NAME, or OWNER/NAME:FILES.
//
// A hub is a server of model repositories with the interface of huggingface.co. Pure functions; any thread.
#pragma once

#include <string>
#include <string_view>

namespace millrace
{

struct HubTarget {
  std::string repository; ///< "owner/name"
  std::string
      files; ///< a path, a pattern of fnmatch(3) or a word of GGUF file names ("Q4_K_M"); empty: what is needed
};

/// Throws std::invalid_argument, with what a repository's name may be.
HubTarget parse_hub_target (std::string_view text);

/// Whether a path that a hub names stays below the folder it is put into, and is a name that files may have: relative, of
/// plain components, no control characters. Names that partial downloads have (kPartSuffix) are nobody else's.
bool is_safe_hub_path (std::string_view path);

/// Whether a revision can stand in an URL's path as it is, but for the slash that names of branches may have.
bool is_hub_revision (std::string_view revision);

/// `text` as one part of an URL's path, or as several with `keep_slashes`: RFC 3986, section 2.
std::string url_escaped (std::string_view text, bool keep_slashes);

constexpr std::string_view kPartSuffix = ".part";          ///< of a file that is being downloaded
constexpr std::string_view kRangesSuffix = ".part.ranges"; ///< and of what is known of it (part_ranges.hpp)

} // namespace millrace
