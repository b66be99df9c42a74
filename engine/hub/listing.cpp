#include "engine/hub/listing.hpp"

#include "engine/error.hpp"
#include "engine/weights/tensor_entry.hpp"

#include <algorithm>
#include <map>
#include <set>
#include <simdjson.h>

namespace millrace
{

namespace dom = simdjson::dom;

namespace
{

constexpr size_t kMostFiles = 100'000;
constexpr uint64_t kMostBytes = uint64_t{1} << 50; ///< of a file: sums of all stay within 64 bits
constexpr size_t kSha1Digits = 40, kSha256Digits = 64;
constexpr const char *kNoHub = "; is this the address of a hub?";

dom::element
parsed (dom::parser &parser, const std::string &url, std::string_view json)
{
  dom::element root;
  if (const auto error = parser.parse (json.data (), json.size ()).get (root))
    throw LoadError (url, "",
                     std::string ("the answer is not valid JSON (") + simdjson::error_message (error) + ")" +
                         kNoHub);
  return root;
}

bool
is_hex (std::string_view text, size_t digits)
{
  return text.size () == digits &&
         std::ranges::all_of (text, [] (char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

/// A text that is there and is one; empty otherwise.
std::string_view
text_of (const dom::object &object, const char *name)
{
  std::string_view text;
  return object[name].get (text) ? std::string_view () : text;
}

/// The members that both answers have, under the names of one of them.
struct FileFields {
  const char *path, *blob, *large_digest;
};
constexpr FileFields kSibling{"rfilename", "blobId", "sha256"};
constexpr FileFields kTreeEntry{"path", "oid", "oid"};

HubFile
file_of (const std::string &url, const dom::object &entry, const FileFields &names)
{
  HubFile file;
  std::string_view path;
  if (entry[names.path].get (path) || path.empty ())
    throw LoadError (url, names.path, std::string ("is missing or no text") + kNoHub);
  file.path = path;
  dom::object large;
  const bool is_large = !entry["lfs"].get (large);
  uint64_t size = 0;
  if (const auto value = is_large && !large["size"].error () ? large["size"] : entry["size"];
      !value.error ()) {
    if (value.get (size) || size > kMostBytes)
      throw LoadError (url, "size", "of " + printable (path) + " is no number of bytes that a file can have");
    file.size = size;
  }
  const std::string_view digest =
      text_of (is_large ? large : entry, is_large ? names.large_digest : names.blob);
  if (is_large && is_hex (digest, kSha256Digits))
    file.sha256 = digest;
  if (!is_large && is_hex (digest, kSha1Digits))
    file.blob_sha1 = digest;
  return file;
}

} // namespace

const HubFile *
HubListing::find (std::string_view path) const
{
  const auto found = std::ranges::find (files, path, &HubFile::path);
  return found == files.end () ? nullptr : &*found;
}

bool
HubListing::is_incomplete () const
{
  return std::ranges::any_of (files, [] (const HubFile &file) {
    return !file.size || (file.sha256.empty () && file.blob_sha1.empty ());
  });
}

HubListing
parse_hub_revision (const std::string &url, std::string_view json, const std::string &revision)
{
  dom::parser parser;
  const dom::element root = parsed (parser, url, json);
  dom::array siblings;
  if (root["siblings"].get (siblings))
    throw LoadError (url, "siblings", std::string ("is missing or no array") + kNoHub);
  HubListing listing;
  std::string_view commit;
  listing.commit =
      !root["sha"].get (commit) && is_hex (commit, kSha1Digits) ? std::string (commit) : revision;
  std::set<std::string, std::less<>> seen;
  for (const dom::element value : siblings) {
    dom::object entry;
    if (value.get (entry) || listing.files.size () == kMostFiles)
      throw LoadError (url, "siblings",
                       listing.files.size () == kMostFiles
                           ? "lists more files than a repository of a model has"
                           : std::string ("holds what is no object") + kNoHub);
    HubFile file = file_of (url, entry, kSibling);
    if (seen.insert (file.path).second)
      listing.files.push_back (std::move (file));
  }
  return listing;
}

void
add_hub_tree (const std::string &url, std::string_view json, HubListing &listing)
{
  dom::parser parser;
  dom::array entries;
  if (parsed (parser, url, json).get (entries))
    throw LoadError (url, "", std::string ("the answer is no array") + kNoHub);
  std::map<std::string_view, HubFile *> by_path;
  for (HubFile &file : listing.files)
    by_path.emplace (file.path, &file);
  for (const dom::element value : entries) {
    dom::object entry;
    if (value.get (entry))
      throw LoadError (url, "", std::string ("the answer holds what is no object") + kNoHub);
    if (text_of (entry, "type") != "file")
      continue;
    HubFile file = file_of (url, entry, kTreeEntry);
    const auto known = by_path.find (file.path);
    if (known == by_path.end ())
      continue;
    known->second->size = file.size;
    known->second->sha256 = std::move (file.sha256);
    known->second->blob_sha1 = std::move (file.blob_sha1);
  }
}

std::vector<std::string>
parse_hub_index (const std::string &url, std::string_view json)
{
  dom::parser parser;
  dom::object entries;
  if (parsed (parser, url, json)["weight_map"].get (entries))
    throw LoadError (url, "weight_map", "is missing or no object: the index of the weights is damaged");
  std::set<std::string> files;
  for (const auto [tensor, value] : entries) {
    std::string_view file;
    if (value.get (file))
      throw LoadError (url, "weight_map", "holds what is no text: the index of the weights is damaged");
    files.emplace (file);
  }
  return {files.begin (), files.end ()};
}

} // namespace millrace
