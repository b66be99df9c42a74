// What a hub says of a revision of a repository: its files, their sizes and digests.
//
// Two answers of a hub's API: of a revision, /api/models/OWNER/NAME/revision/REVISION?blobs=true, which resolves names of
// branches to a commit, and of a tree, /api/models/OWNER/NAME/tree/COMMIT?recursive=true, for servers whose first answer has
// no sizes. Both are hostile: whatever is wrong is a LoadError that names the address and the field. Pure; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace millrace
{

struct HubFile {
  std::string path; ///< as the hub has it, not yet checked (is_safe_hub_path)
  std::optional<uint64_t> size;
  std::string sha256; ///< of files in large file storage, 64 hex digits; empty: not known
  std::string
      blob_sha1; ///< of the others: git's digest of the file as a blob, 40 hex digits; empty: not known
};

struct HubListing {
  std::string commit; ///< what the revision's name stood for; the revision itself when the hub did not say
  std::vector<HubFile> files;

  const HubFile *find (std::string_view path) const;
  /// Sizes or digests are missing.
  bool is_incomplete () const;
};

/// `url` is for messages. Throws LoadError.
HubListing parse_hub_revision (const std::string &url, std::string_view json, const std::string &revision);

/// Adds the sizes and digests of the listing's files that a page of a tree has. Throws LoadError.
void add_hub_tree (const std::string &url, std::string_view json, HubListing &listing);

/// The different files that `weight_map` of a model.safetensors.index.json names, in order. Throws LoadError.
std::vector<std::string> parse_hub_index (const std::string &url, std::string_view json);

} // namespace millrace
