// GGUF → GGUF: metadata as they are, tensors in other types.
#include "engine/conversion/conversions.hpp"

#include "engine/error.hpp"
#include "engine/weights/gguf.hpp"
#include "engine/weights/gguf_fields.hpp"
#include "engine/weights/weight_files.hpp"

#include <algorithm>
#include <stdexcept>

namespace fs = std::filesystem;

namespace millrace
{

namespace
{

constexpr const char *kFileType = "general.file_type", *kVersion = "general.quantization_version";
constexpr uint32_t kQuantizationVersion = 2; ///< of the block types' layouts

/// What is of the file that was read, or of how it was made.
bool
is_dropped (std::string_view key)
{
  return key == kFileType || key == kVersion || key == "general.alignment" || key.starts_with ("split.") ||
         key.starts_with ("quantize.imatrix.");
}

/// The largest number of query heads that share keys.
int
query_groups (const GgufFields &fields, const std::string &architecture)
{
  const auto counts = [&] (const char *name) {
    const std::string key = architecture + name;
    const GgufValue *value = fields.find (key);
    return !value ? std::vector<int32_t>{}
           : value->type == GgufType::kArray
               ? fields.integers (key)
               : std::vector<int32_t>{static_cast<int32_t> (fields.integer (key, 0, INT32_MAX))};
  };
  const auto heads = counts (".attention.head_count"), kv_heads = counts (".attention.head_count_kv");
  int most = 1;
  for (size_t i = 0; i < std::max (heads.size (), kv_heads.size ()) && !heads.empty () && !kv_heads.empty ();
       ++i) {
    const int32_t kv = kv_heads[std::min (i, kv_heads.size () - 1)];
    if (kv > 0)
      most = std::max (most, heads[std::min (i, heads.size () - 1)] / kv);
  }
  return most;
}

/// In the order of the files.
std::vector<TensorEntry>
all_entries (const WeightFiles &files)
{
  std::vector<TensorEntry> entries;
  for (const MappedFile &file : files.files ()) {
    GgufHeader header = parse_gguf (file.path (), file.bytes ());
    std::ranges::move (header.tensors, std::back_inserter (entries));
  }
  return entries;
}

} // namespace

ConversionSummary
requantize_gguf (const fs::path &file, const ConversionRequest &request)
{
  const WeightFiles files = WeightFiles::open_file (file);
  const MappedFile &first = files.files ().front ();
  const GgufHeader header = parse_gguf (first.path (), first.bytes ());
  const GgufFields fields (first.path (), header.metadata);
  const std::string architecture (fields.text_or ("general.architecture", ""));

  GgufOutput output (request);
  for (const auto &[key, value] : header.metadata)
    if (!is_dropped (key))
      output.layout ().set (std::string (key), value);
  std::vector<GgufTensorFacts> facts;
  const std::vector<TensorEntry> entries = all_entries (files);
  for (const TensorEntry &entry : entries)
    facts.push_back ({entry.name, entry.shape});
  const int experts = static_cast<int> (fields.integer_or (architecture + ".expert_count", 0, INT32_MAX, 0));
  const GgufTypes types (facts, query_groups (fields, architecture), experts);
  for (size_t i = 0; i < entries.size (); ++i) {
    const TensorEntry &entry = entries[i];
    const DType type = output.chosen_type (types, facts[i], entry.dtype);
    if (!entry.dtype)
      throw LoadError (
          files.file_of (entry.name), printable (entry.name),
          "is of type " + entry.dtype_name +
              ", which cannot be read; use a file of F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q2_K to "
              "Q6_K, IQ4_NL and MXFP4 tensors");
    if (type == *entry.dtype)
      output.copy (entry.name, type, entry.shape, entry.data);
    else
      output.add (entry.name, type, entry.shape, float_rows (files, entry.name));
  }
  return output.write ();
}

} // namespace millrace
