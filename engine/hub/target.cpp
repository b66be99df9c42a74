#include "engine/hub/target.hpp"

#include <algorithm>
#include <stdexcept>

namespace millrace
{

namespace
{

constexpr size_t kMostName = 96;       ///< characters of an owner or a name, as huggingface.co has it
constexpr size_t kMostComponent = 240; ///< bytes: file systems take 255, and suffixes are put behind
constexpr size_t kMostPath = 1024;

bool
is_letter_or_digit (char c)
{
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/// Of an owner or a repository.
bool
is_name (std::string_view name)
{
  return !name.empty () && name.size () <= kMostName && name.front () != '.' && name.front () != '-' &&
         name.find ("..") == std::string_view::npos && std::ranges::all_of (name, [] (char c) {
           return is_letter_or_digit (c) || c == '-' || c == '_' || c == '.';
         });
}

bool
is_component (std::string_view name)
{
  return !name.empty () && name.size () <= kMostComponent && name != "." && name != ".." &&
         std::ranges::all_of (name, [] (char c) {
           const auto byte = static_cast<unsigned char> (c);
           return byte >= 0x20 && byte != 0x7f && c != '\\';
         });
}

/// Calls `check` with each part between slashes until one does not pass.
template <typename Check>
bool
all_components (std::string_view path, const Check &check)
{
  for (size_t begin = 0; begin <= path.size ();) {
    const size_t end = std::min (path.find ('/', begin), path.size ());
    if (!check (path.substr (begin, end - begin)))
      return false;
    begin = end + 1;
  }
  return true;
}

} // namespace

HubTarget
parse_hub_target (std::string_view text)
{
  const size_t colon = text.find (':');
  const std::string_view repository = text.substr (0, colon);
  const size_t slash = repository.find ('/');
  if (slash == std::string_view::npos || !is_name (repository.substr (0, slash)) ||
      !is_name (repository.substr (slash + 1)))
    throw std::invalid_argument ("\"" + std::string (text.substr (0, 200)) +
                                 "\" is no OWNER/NAME or OWNER/NAME:FILES; owners and names are made of "
                                 "letters, digits, dots, hyphens and underscores");
  HubTarget target{std::string (repository), {}};
  if (colon != std::string_view::npos)
    target.files = text.substr (colon + 1);
  if (colon != std::string_view::npos && target.files.empty ())
    throw std::invalid_argument ("\"" + std::string (text) + "\" names no files after the colon");
  return target;
}

bool
is_safe_hub_path (std::string_view path)
{
  return path.size () <= kMostPath && !path.ends_with (kPartSuffix) && !path.ends_with (kRangesSuffix) &&
         all_components (path, is_component);
}

bool
is_hub_revision (std::string_view revision)
{
  return revision.size () <= kMostComponent && all_components (revision, [] (std::string_view part) {
           return is_component (part) && std::ranges::all_of (part, [] (char c) {
                    return is_letter_or_digit (c) || c == '-' || c == '_' || c == '.';
                  });
         });
}

std::string
url_escaped (std::string_view text, bool keep_slashes)
{
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string escaped;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char> (c);
    if (is_letter_or_digit (c) || c == '-' || c == '_' || c == '.' || c == '~' || (c == '/' && keep_slashes))
      escaped += c;
    else
      (((escaped += '%') += kHex[byte >> 4]) += kHex[byte & 15]);
  }
  return escaped;
}

} // namespace millrace
