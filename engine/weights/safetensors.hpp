// Safetensors files, memory-mapped: one file, or shards listed by model.safetensors.index.json.
//
// Every length and offset is checked before it is used: header length within the file, header valid JSON,
// shape non-negative without overflow, byte range = shape × dtype, ranges inside the data section, not
// overlapping and without holes. Errors name file and tensor. A tensor of a dtype that DType lacks (F8_E4M3)
// is an error only when it is required: checkpoints carry tensors that nobody asks for.
// Source: safetensors format, https://github.com/huggingface/safetensors#format
#pragma once

#include "engine/tensor/mapped_file.hpp"
#include "engine/tensor/tensor_view.hpp"

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace millrace
{

/// Immutable after construction; any thread may read.
class WeightFiles
{
public:
  /// `directory` holds model.safetensors, or model.safetensors.index.json and its shards.
  /// Throws LoadError.
  static WeightFiles open (const std::filesystem::path &directory);
  /// One file by its own name. Throws LoadError.
  static WeightFiles open_file (const std::filesystem::path &file);

  /// Null when there is no tensor of that name.
  const TensorView *find (std::string_view name) const;
  /// Throws LoadError naming file and tensor when it is missing, of an unsupported dtype, or its shape
  /// differs.
  const TensorView &require (std::string_view name, const Shape &shape) const;
  /// The file that holds a tensor (for error messages), or the directory when there is none.
  std::filesystem::path file_of (std::string_view name) const;

  const std::map<std::string, TensorView, std::less<>> &tensors () const { return tensors_; }

private:
  void add_file (const std::filesystem::path &file);
  void add_shards (const std::filesystem::path &index_file);

  std::filesystem::path directory_;
  std::vector<MappedFile> files_;
  std::map<std::string, TensorView, std::less<>> tensors_;
  std::map<std::string, std::string, std::less<>> unsupported_; ///< tensor → name of its dtype
  std::map<std::string, size_t, std::less<>> file_index_;       ///< of both
};

} // namespace millrace
