// The tensors of a checkpoint by name: safetensors folders and files, GGUF files, memory-mapped.
//
// What the files say is checked whole before a tensor can be had (safetensors_header.hpp, gguf.hpp); shards of one
// checkpoint are one WeightFiles. A tensor of a type that DType lacks (F8_E5M2, IQ2_XS) is an error only when it is
// required: checkpoints carry tensors that nobody asks for. Errors name file and tensor.
#pragma once

#include "engine/tensor/mapped_file.hpp"
#include "engine/tensor/tensor_view.hpp"
#include "engine/weights/affine_tensor.hpp"

#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace millrace
{

class CodedMatrix;
struct TensorEntry;

/// Immutable once it is opened and apply () is done; any thread may read.
class WeightFiles
{
public:
  /// `directory` holds model.safetensors, or model.safetensors.index.json and its shards.
  /// Throws LoadError.
  static WeightFiles open (const std::filesystem::path &directory);
  /// One file by its own name, safetensors or GGUF, which its first bytes tell. Of a GGUF file in parts
  /// (NAME-00001-of-00003.gguf) the first is given and the others are opened too. Throws LoadError.
  static WeightFiles open_file (const std::filesystem::path &file);

  /// Null when there is no tensor of that name.
  const TensorView *find (std::string_view name) const;
  /// Throws LoadError naming file and tensor when it is missing, of an unsupported dtype, or its shape
  /// differs. The shape counts elements, of block types too.
  const TensorView &require (std::string_view name, const Shape &shape) const;
  /// Says how matrices of uint32 words are to be taken: from now on such a tensor has the shape of its matrix, and affine ()
  /// the rest; scales and biases are no tensors of their own any more. Throws LoadError when they are missing, or shapes do
  /// not fit.
  void apply (const AffineSettings &settings);
  /// The parts of an affine matrix; null for all other tensors.
  const AffineTensor *affine (std::string_view name) const;
  /// From now on there is a tensor `name` of this shape, which coded () has, in place of the tensors `parts` that it is made of.
  /// Its data are those of the first part, which lies in its file.
  void put_together (const std::string &name, const Shape &shape, const std::vector<std::string> &parts,
                     std::shared_ptr<const CodedMatrix> matrix);
  /// What a matrix of codes is made of (coded_matrix.hpp); null for all other tensors.
  const CodedMatrix *coded (std::string_view name) const;
  /// Shares it.
  std::shared_ptr<const CodedMatrix> share_coded (std::string_view name) const;
  /// Whether there is such a tensor, of whatever dtype, or was before it became a part of another.
  bool contains (std::string_view name) const { return file_index_.contains (name); }
  /// The file that holds a tensor (for error messages), or what was opened when there is none.
  std::filesystem::path file_of (std::string_view name) const;
  /// The mapping that a tensor's data lie in; empty when there is no such tensor.
  std::span<const std::byte> mapping_of (std::string_view name) const;
  bool of_gguf () const { return gguf_; }
  /// What was opened: a folder or a file.
  const std::filesystem::path &path () const { return path_; }
  /// In the order of opening: equal for equal checkpoints.
  const std::vector<MappedFile> &files () const { return files_; }

  const std::map<std::string, TensorView, std::less<>> &tensors () const { return tensors_; }

private:
  void add_safetensors (const std::filesystem::path &file);
  void add_shards (const std::filesystem::path &index_file);
  void add_gguf (MappedFile file);
  void add_entries (std::vector<TensorEntry> entries);
  void add_affine (const std::string &name, TensorView &words, const AffineCodes &codes);

  std::filesystem::path path_; ///< what was opened
  bool gguf_ = false;
  std::vector<MappedFile> files_;
  std::map<std::string, TensorView, std::less<>> tensors_;
  std::map<std::string, std::string, std::less<>> unsupported_; ///< tensor → name of its dtype
  std::map<std::string, size_t, std::less<>> file_index_;       ///< of both
  std::map<std::string, AffineTensor, std::less<>> affine_;     ///< of tensors_, those of codes
  std::map<std::string, std::shared_ptr<const CodedMatrix>, std::less<>> coded_; ///< likewise
};

} // namespace millrace
