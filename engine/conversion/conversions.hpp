// The ways from one form of a model to another, and what they share.
//
// Private to engine/conversion. All throw what convert_model () does.
#pragma once

#include "engine/conversion/conversion.hpp"
#include "engine/conversion/gguf_mix.hpp"
#include "engine/weights/gguf_writer.hpp"
#include "engine/weights/safetensors_layout.hpp"

#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace millrace
{

struct AffineTensor;

ConversionSummary requantize_gguf (const std::filesystem::path &file, const ConversionRequest &request);
ConversionSummary requantize_folder (const std::filesystem::path &folder, const ConversionRequest &request);

/// A GGUF file on its way: metadata by layout (), tensors in the order of the file.
class GgufOutput
{
public:
  explicit GgufOutput (const ConversionRequest &request);

  GgufLayout &layout () { return layout_; }
  /// The type that a tensor gets, which is `stored` now; for one that is not quantized and whose type is not known, F32.
  DType chosen_type (const GgufTypes &types, const GgufTensorFacts &tensor,
                     std::optional<DType> stored) const;
  void add (const std::string &name, DType type, const Shape &shape, std::shared_ptr<const FloatRows> values);
  /// Bytes of such a type.
  void copy (const std::string &name, DType type, const Shape &shape, std::span<const std::byte> bytes);
  ConversionSummary write ();

private:
  const ConversionRequest &request_;
  GgufLayout layout_;
  std::vector<TensorOutput> tensors_;
  ConversionSummary summary_;
};

inline const TensorEncoding kFolderMxfp4{DType::kMXFP4, {}, true};

/// As folders have the type.
TensorEncoding folder_encoding (const WantedType &type);

/// A folder of safetensors on its way, in as many files as its size asks for.
class FolderOutput
{
public:
  explicit FolderOutput (const ConversionRequest &request);
  ~FolderOutput ();
  FolderOutput (const FolderOutput &) = delete;
  FolderOutput &operator= (const FolderOutput &) = delete;

  /// A matrix that is quantized has a name that ends in ".weight".
  void add (const std::string &name, const TensorEncoding &encoding, const Shape &shape,
            std::shared_ptr<const FloatRows> values);
  void copy (const std::string &name, DType type, const Shape &shape, std::span<const std::byte> bytes);
  /// Codes as they are.
  void copy_affine (const std::string &name, const Shape &shape, const AffineTensor &affine);
  /// A file of the folder beside the weights.
  void add_file (const std::string &name, std::string contents);
  void note (const std::string &line) { summary_.notes.push_back (line); }

  /// `quantization` of config.json: what is common, and what of the matrices differs from it. Empty where there are no codes.
  std::string quantization () const;
  ConversionSummary write ();

private:
  struct Shard {
    SafetensorsLayout layout;
    std::vector<size_t> tensors; ///< of tensors_
    std::optional<OutputFile> file;
  };
  void begin_shard (uint64_t bytes);
  void store (const std::string &name, std::string_view dtype, size_t element_bytes, const Shape &shape,
              std::span<const std::byte> bytes);
  void count (const std::string &type, const Shape &shape, uint64_t bytes);
  void add_index ();

  const ConversionRequest &request_;
  std::filesystem::path temporary_;
  std::vector<TensorOutput> tensors_;
  std::vector<Shard> shards_;
  std::vector<std::pair<std::string, std::string>> files_;   ///< name, contents
  std::vector<std::pair<std::string, std::string>> modules_; ///< of codes, which the JSON says
  ConversionSummary summary_;
};

} // namespace millrace
