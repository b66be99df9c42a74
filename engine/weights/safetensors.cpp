// Safetensors files, memory-mapped: one file, or shards listed by an index.
//
// A header is checked whole (safetensors_header.cpp) before its tensors are entered; an index only says which
// files to open and is then checked against what they hold. Tensor views point into the mappings, which stay
// where they are when a WeightFiles moves.
#include "engine/weights/safetensors.hpp"

#include "engine/error.hpp"
#include "engine/weights/safetensors_header.hpp"

#include <set>
#include <simdjson.h>
#include <system_error>

namespace dom = simdjson::dom;
namespace fs = std::filesystem;

namespace millrace
{

namespace
{

constexpr const char *kSingleFile = "model.safetensors";
constexpr const char *kIndexFile = "model.safetensors.index.json";
constexpr size_t kMaxIndexBytes = 256u << 20;

using WeightMap = std::map<std::string, std::string, std::less<>>; ///< tensor → shard

/// A shard is a plain name beside the index: an index must not reach other folders.
void
check_shard_name (const fs::path &index_file, std::string_view tensor, std::string_view shard)
{
  const bool plain = !shard.empty () && shard != "." && shard.find ("..") == std::string_view::npos &&
                     shard.find_first_of (std::string_view ("/\\\0", 3)) == std::string_view::npos;
  if (!plain)
    throw LoadError (index_file, printable (tensor),
                     "shard \"" + printable (shard) + "\" is not a plain file name; fetch the index again");
}

WeightMap
parse_index (const fs::path &index_file)
{
  const MappedFile file (index_file);
  const std::string_view text (reinterpret_cast<const char *> (file.bytes ().data ()), file.bytes ().size ());
  if (text.size () > kMaxIndexBytes)
    throw LoadError (index_file, "", "is larger than an index can be; is it the right file?");
  if (text.empty ())
    throw LoadError (index_file, "", "is empty, expected a JSON object; fetch it again");
  dom::parser parser;
  dom::element root;
  if (const auto error = parser.parse (text.data (), text.size ()).get (root))
    throw LoadError (index_file, "",
                     std::string ("is not valid JSON (") + simdjson::error_message (error) +
                         "); fetch it again");
  dom::object entries;
  if (root["weight_map"].get (entries))
    throw LoadError (index_file, "weight_map", "is missing or not an object; fetch the index again");

  WeightMap shards;
  for (const auto [tensor, value] : entries) {
    std::string_view shard;
    if (value.get (shard))
      throw LoadError (index_file, printable (tensor), "its shard is not a string; fetch the index again");
    check_shard_name (index_file, tensor, shard);
    if (!shards.emplace (tensor, shard).second)
      throw LoadError (index_file, printable (tensor), "is listed twice; fetch the index again");
  }
  if (shards.empty ())
    throw LoadError (index_file, "weight_map", "lists no tensors; fetch the index again");
  return shards;
}

} // namespace

WeightFiles
WeightFiles::open (const fs::path &directory)
{
  std::error_code error;
  const fs::file_status status = fs::status (directory, error);
  if (!fs::exists (status))
    throw LoadError (directory, "", "there is no such folder; give the folder of a checkpoint");
  if (!fs::is_directory (status))
    throw LoadError (directory, "",
                     "is not a folder; give the folder that holds " + std::string (kSingleFile));

  WeightFiles weights;
  weights.path_ = directory;
  if (fs::exists (directory / kSingleFile, error))
    weights.add_safetensors (directory / kSingleFile);
  else if (fs::exists (directory / kIndexFile, error))
    weights.add_shards (directory / kIndexFile);
  else
    throw LoadError (directory, "",
                     std::string ("holds neither ") + kSingleFile + " nor " + kIndexFile +
                         "; fetch the checkpoint's safetensors files");
  return weights;
}

void
WeightFiles::add_shards (const fs::path &index_file)
{
  const WeightMap shard_of = parse_index (index_file);
  std::set<std::string_view> shards;
  for (const auto &[tensor, shard] : shard_of)
    shards.insert (shard);
  std::error_code error;
  for (const std::string_view shard : shards) {
    if (!fs::exists (path_ / shard, error))
      throw LoadError (path_ / shard, "",
                       std::string ("is listed by ") + kIndexFile +
                           " but is not there; fetch it into this folder");
    add_safetensors (path_ / shard);
  }
  for (const auto &[tensor, shard] : shard_of) {
    const auto found = file_index_.find (tensor);
    if (found == file_index_.end () || files_[found->second].path () != path_ / shard)
      throw LoadError (path_ / shard, printable (tensor),
                       std::string ("is not in this shard, where ") + kIndexFile +
                           " says it is; fetch the shards and the index of one revision");
  }
}

void
WeightFiles::add_safetensors (const fs::path &file)
{
  files_.emplace_back (file);
  add_entries (parse_safetensors (file, files_.back ().bytes ()));
}

} // namespace millrace
