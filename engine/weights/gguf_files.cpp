// GGUF files as WeightFiles, in one part or several.
//
// A model in parts is NAME-00001-of-00003.gguf and so on: the first part has the metadata, each says which it is
// (split.no, from 0) and of how many (split.count). Source: ggml's gguf-split.
#include "engine/error.hpp"
#include "engine/weights/gguf_fields.hpp"
#include "engine/weights/weight_files.hpp"

#include <cstdio>
#include <system_error>

namespace fs = std::filesystem;

namespace millrace
{

namespace
{

constexpr const char *kPartKey = "split.no";
constexpr const char *kPartsKey = "split.count";
constexpr const char *kTensorsKey = "split.tensors.count";
constexpr int64_t kMaxParts = 99999; // what the file names have room for

int64_t
parts_of (const GgufFields &fields)
{
  return fields.integer_or (kPartsKey, 0, kMaxParts, 1);
}

std::string
part_suffix (int64_t part, int64_t parts)
{
  char text[64];
  std::snprintf (text, sizeof text, "-%05lld-of-%05lld.gguf", static_cast<long long> (part + 1),
                 static_cast<long long> (parts));
  return text;
}

/// What the names of all parts begin with.
std::string
stem_of (const GgufFields &first, int64_t parts)
{
  if (first.integer (kPartKey, 0, kMaxParts) != 0)
    first.fail (kPartKey, "this is not the first part of the model; open NAME" + part_suffix (0, parts));
  const std::string name = first.file ().filename ().string ();
  const std::string suffix = part_suffix (0, parts);
  if (!name.ends_with (suffix))
    first.fail (kPartsKey, "is " + std::to_string (parts) + " but the file's name does not end in " + suffix +
                               ", by which the other parts are found; give the files their names back");
  return name.substr (0, name.size () - suffix.size ());
}

void
check_part (const GgufFields &fields, int64_t part, int64_t parts)
{
  const int64_t number = fields.integer (kPartKey, 0, kMaxParts);
  if (number != part || parts_of (fields) != parts)
    fields.fail (kPartKey, "is part " + std::to_string (number + 1) + " of " +
                               std::to_string (parts_of (fields)) + ", expected part " +
                               std::to_string (part + 1) + " of " + std::to_string (parts) +
                               "; fetch the parts of one revision");
}

} // namespace

void
WeightFiles::add_gguf (MappedFile file)
{
  files_.push_back (std::move (file));
  GgufHeader header = parse_gguf (path_, files_.back ().bytes ());
  const GgufFields first (path_, header.metadata);
  add_entries (std::move (header.tensors));
  const int64_t parts = parts_of (first);
  if (parts <= 1)
    return;
  const std::string stem = stem_of (first, parts);
  for (int64_t part = 1; part < parts; ++part) {
    const fs::path name = path_.parent_path () / (stem + part_suffix (part, parts));
    std::error_code error;
    if (!fs::exists (name, error))
      throw LoadError (name, "",
                       "is a part of " + path_.filename ().string () +
                           " but is not there; fetch it into this folder");
    files_.emplace_back (name);
    GgufHeader other = parse_gguf (name, files_.back ().bytes ());
    check_part (GgufFields (name, other.metadata), part, parts);
    add_entries (std::move (other.tensors));
  }
  const int64_t tensors = static_cast<int64_t> (file_index_.size ());
  if (first.integer_or (kTensorsKey, 0, INT64_MAX, tensors) != tensors)
    first.fail (kTensorsKey, "is " + GgufFields::shown (*first.find (kTensorsKey)) + " but the parts hold " +
                                 std::to_string (tensors) + " tensors; fetch the parts of one revision");
}

} // namespace millrace
