// Folders of safetensors as mlx-lm writes them: shards and their index, config.json with `quantization`.
//
// Source of the form: mlx-lm's utils.py (save_model, quantize_model), MIT.
#include "engine/conversion/conversions.hpp"

#include "engine/json_text.hpp"
#include "engine/weights/affine_tensor.hpp"

#include <cerrno>
#include <cstdio>
#include <stdexcept>
#include <system_error>
#include <unistd.h>

namespace fs = std::filesystem;

namespace millrace
{

namespace
{

constexpr uint64_t kShardBytes = uint64_t{5} << 30;
constexpr std::string_view kWeight = ".weight", kScales = ".scales", kBiases = ".biases";
constexpr std::string_view kWords = "U32"; ///< what codes are kept in

std::string
module_of (const std::string &tensor)
{
  return tensor.substr (0, tensor.size () - kWeight.size ());
}

uint64_t
elements_of (const Shape &shape)
{
  uint64_t elements = 1;
  for (const int64_t size : shape)
    elements *= static_cast<uint64_t> (size);
  return elements;
}

constexpr AffineCodes kMxfp4Codes{4, 32};

/// Of the tensors of a matrix of codes.
Shape
words_shape (Shape shape, const AffineCodes &codes)
{
  shape.back () = shape.back () * codes.bits / 32;
  return shape;
}

Shape
groups_shape (Shape shape, const AffineCodes &codes)
{
  shape.back () /= codes.group;
  return shape;
}

/// Without a mode: of affine codes, which is what MLX takes it for.
std::string
codes_json (const TensorEncoding &encoding)
{
  const AffineCodes codes = encoding.codes.value_or (kMxfp4Codes);
  return "\"group_size\": " + std::to_string (codes.group) + ", \"bits\": " + std::to_string (codes.bits) +
         (encoding.codes ? "" : ", \"mode\": \"mxfp4\"");
}

} // namespace

TensorEncoding
folder_encoding (const WantedType &type)
{
  return type.is_blocks () ? kFolderMxfp4 : type.encoding;
}

FolderOutput::FolderOutput (const ConversionRequest &request)
    : request_ (request)
    , temporary_ (request.to.string () + ".tmp-" + std::to_string (getpid ()))
{
  const auto refuse_blocks = [] (const WantedType &type) {
    if (type.is_blocks () && type.name != "MXFP4")
      throw std::invalid_argument (type.name +
                                   " is a type of GGUF files; name a file that ends in .gguf, or a type of "
                                   "folders: affine4, MXFP4, F32, F16, BF16");
  };
  refuse_blocks (request.type);
  for (const TypeOverride &override : request.overrides)
    refuse_blocks (override.type);
  std::error_code error;
  if (fs::exists (request.to, error))
    throw std::system_error (EEXIST, std::generic_category (),
                             request.to.string () + ": is there; remove it or name another folder");
  fs::create_directories (temporary_);
}

FolderOutput::~FolderOutput ()
{
  shards_.clear ();
  std::error_code ignored;
  fs::remove_all (temporary_, ignored);
}

/// For a tensor, or for the three of a matrix of codes, which stay together.
void
FolderOutput::begin_shard (uint64_t bytes)
{
  if (shards_.empty () || (shards_.back ().layout.data_bytes () > 0 &&
                           shards_.back ().layout.data_bytes () + bytes > kShardBytes))
    shards_.emplace_back ();
}

void
FolderOutput::count (const std::string &type, const Shape &shape, uint64_t bytes)
{
  ConversionSummary::OfType &of_type = summary_.types[type];
  ++of_type.tensors;
  of_type.bytes += bytes;
  of_type.elements += elements_of (shape);
}

void
FolderOutput::add (const std::string &name, const TensorEncoding &encoding, const Shape &shape,
                   std::shared_ptr<const FloatRows> values)
{
  const int64_t columns = values->columns ();
  const auto rows = static_cast<uint64_t> (values->rows ());
  const uint64_t bytes = encoding.row_bytes (columns) * rows;
  const uint64_t scale_bytes = encoding.scale_row_bytes (columns) * rows;
  const uint64_t all_bytes = bytes + scale_bytes * (encoding.codes ? 2 : 1);
  begin_shard (all_bytes);
  SafetensorsLayout &layout = shards_.back ().layout;
  if (encoding.is_codes ()) {
    const std::string module = module_of (name);
    const AffineCodes codes = encoding.codes.value_or (kMxfp4Codes);
    const DType scale_type = encoding.codes ? encoding.type : DType::kU8;
    layout.add (name, kWords, sizeof (uint32_t), words_shape (shape, codes), bytes);
    layout.add (module + std::string (kScales), dtype_name (scale_type), dtype_bytes (scale_type),
                groups_shape (shape, codes), scale_bytes);
    if (encoding.codes)
      layout.add (module + std::string (kBiases), dtype_name (scale_type), dtype_bytes (scale_type),
                  groups_shape (shape, codes), scale_bytes);
    modules_.emplace_back (module, codes_json (encoding));
  } else {
    layout.add (name, dtype_name (encoding.type), dtype_bytes (encoding.type), shape, bytes);
  }
  shards_.back ().tensors.push_back (tensors_.size ());
  TensorOutput tensor;
  tensor.name = name;
  tensor.values = std::move (values);
  tensor.encoding = encoding;
  tensors_.push_back (std::move (tensor));
  count (encoding_name (encoding), shape, all_bytes);
}

void
FolderOutput::store (const std::string &name, std::string_view dtype, size_t element_bytes,
                     const Shape &shape, std::span<const std::byte> bytes)
{
  shards_.back ().layout.add (name, dtype, element_bytes, shape, bytes.size ());
  shards_.back ().tensors.push_back (tensors_.size ());
  TensorOutput tensor;
  tensor.name = name;
  tensor.stored = bytes;
  tensors_.push_back (std::move (tensor));
}

void
FolderOutput::copy (const std::string &name, DType dtype, const Shape &shape,
                    std::span<const std::byte> bytes)
{
  begin_shard (bytes.size ());
  store (name, dtype_name (dtype), dtype_bytes (dtype), shape, bytes);
  count (std::string (dtype_name (dtype)), shape, bytes.size ());
}

void
FolderOutput::copy_affine (const std::string &name, const Shape &shape, const AffineTensor &affine)
{
  const std::string module = module_of (name);
  const uint64_t bytes = affine.data.size () + affine.scales.size () + affine.biases.size ();
  const size_t scale_bytes = dtype_bytes (affine.scale_type);
  const Shape groups = groups_shape (shape, affine.codes);
  begin_shard (bytes);
  store (name, kWords, sizeof (uint32_t), words_shape (shape, affine.codes), affine.data);
  store (module + std::string (kScales), dtype_name (affine.scale_type), scale_bytes, groups, affine.scales);
  store (module + std::string (kBiases), dtype_name (affine.scale_type), scale_bytes, groups, affine.biases);
  const TensorEncoding encoding{affine.scale_type, affine.codes};
  modules_.emplace_back (module, codes_json (encoding));
  count (encoding_name (encoding), shape, bytes);
}

void
FolderOutput::add_file (const std::string &name, std::string contents)
{
  files_.emplace_back (name, std::move (contents));
}

std::string
FolderOutput::quantization () const
{
  if (modules_.empty ())
    return {};
  const TensorEncoding wanted = folder_encoding (request_.type);
  const std::string common = wanted.is_codes () ? codes_json (wanted) : modules_.front ().second;
  std::string json =
      "{" + common + (common.find ("mode") == std::string::npos ? ", \"mode\": \"affine\"" : "");
  for (const auto &[module, codes] : modules_) {
    if (codes == common)
      continue;
    json += ", ";
    append_json_string (json, module);
    json += ": {" + codes + "}";
  }
  return json + "}";
}

/// Which shard has what.
void
FolderOutput::add_index ()
{
  uint64_t total = 0;
  std::string map;
  for (const Shard &shard : shards_) {
    total += shard.layout.data_bytes ();
    for (const auto &[name, offset] : shard.layout.offsets ()) {
      map += map.empty () ? "\n    " : ",\n    ";
      append_json_string (map, name);
      map += ": ";
      append_json_string (map, shard.file->path ().filename ().string ());
    }
  }
  add_file ("model.safetensors.index.json", "{\n  \"metadata\": {\"total_size\": " + std::to_string (total) +
                                                "},\n  \"weight_map\": {" + map + "\n  }\n}\n");
}

ConversionSummary
FolderOutput::write ()
{
  for (size_t i = 0; i < shards_.size (); ++i) {
    char name[64] = "model.safetensors";
    if (shards_.size () > 1)
      std::snprintf (name, sizeof name, "model-%05zu-of-%05zu.safetensors", i + 1, shards_.size ());
    Shard &shard = shards_[i];
    shard.file.emplace (temporary_ / name);
    const std::string header = shard.layout.header (modules_.empty () ? "pt" : "mlx");
    shard.file->write (0, std::as_bytes (std::span (header)));
    for (const size_t index : shard.tensors) {
      TensorOutput &tensor = tensors_[index];
      tensor.data = {&*shard.file, shard.layout.offset (tensor.name)};
      if (!tensor.encoding.is_codes ())
        continue;
      tensor.scales = {&*shard.file, shard.layout.offset (module_of (tensor.name) + std::string (kScales))};
      if (tensor.encoding.codes)
        tensor.biases = {&*shard.file, shard.layout.offset (module_of (tensor.name) + std::string (kBiases))};
    }
  }
  if (shards_.size () > 1)
    add_index ();
  ThreadPool pool (request_.threads);
  write_tensors (tensors_, pool, request_.progress);
  for (Shard &shard : shards_)
    shard.file->commit ();
  for (const auto &[name, contents] : files_) {
    OutputFile file (temporary_ / name);
    file.write (0, std::as_bytes (std::span (contents)));
    file.commit ();
  }
  fs::rename (temporary_, request_.to);
  return std::move (summary_);
}

} // namespace millrace
