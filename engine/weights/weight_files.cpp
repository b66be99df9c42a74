// The tensors of a checkpoint by name.
//
// Here is what all formats share: one table of tensors, and the errors of looking them up. Opening is in safetensors.cpp
// and gguf_files.cpp. Tensor views point into the mappings, which stay where they are when a WeightFiles moves.
#include "engine/weights/weight_files.hpp"

#include "engine/error.hpp"
#include "engine/weights/coded_matrix.hpp"
#include "engine/weights/gguf.hpp"
#include "engine/weights/tensor_entry.hpp"

#include <algorithm>
#include <utility>

namespace fs = std::filesystem;

namespace millrace
{

namespace
{

/// Whether a GGUF file's tensor may stand for one of shape `expected`: its writers drop and add dimensions of 1, and make of a
/// vector a matrix with as many elements.
bool
fits_in_gguf (const TensorView &tensor, const Shape &expected)
{
  const auto without_ones = [] (Shape shape) {
    std::erase (shape, 1);
    return shape;
  };
  return without_ones (tensor.shape) == without_ones (expected) ||
         (expected.size () == 1 && tensor.element_count () == expected[0]);
}

} // namespace

WeightFiles
WeightFiles::open_file (const fs::path &file)
{
  WeightFiles weights;
  weights.path_ = file;
  MappedFile mapped (file);
  weights.gguf_ = is_gguf (mapped.bytes ());
  if (weights.gguf_)
    weights.add_gguf (std::move (mapped));
  else
    weights.add_safetensors (file);
  return weights;
}

/// Of the file that was added last.
void
WeightFiles::add_entries (std::vector<TensorEntry> entries)
{
  const size_t index = files_.size () - 1;
  for (TensorEntry &entry : entries) {
    const auto [known, inserted] = file_index_.emplace (entry.name, index);
    if (!inserted)
      throw LoadError (files_[index].path (), printable (entry.name),
                       "is also in " + files_[known->second].path ().string () +
                           (gguf_ ? "; fetch the parts of one revision"
                                  : "; fetch the shards and the index of one revision"));
    if (entry.dtype)
      tensors_.emplace (std::move (entry.name),
                        TensorView{*entry.dtype, std::move (entry.shape), entry.data});
    else
      unsupported_.emplace (std::move (entry.name), std::move (entry.dtype_name));
  }
}

const TensorView *
WeightFiles::find (std::string_view name) const
{
  const auto found = tensors_.find (name);
  return found == tensors_.end () ? nullptr : &found->second;
}

const TensorView &
WeightFiles::require (std::string_view name, const Shape &shape) const
{
  const TensorView *tensor = find (name);
  if (!tensor) {
    const auto unsupported = unsupported_.find (name);
    if (unsupported == unsupported_.end ())
      throw LoadError (file_of (name), printable (name),
                       gguf_ ? "is missing; fetch a file that holds the whole model its metadata describes"
                             : "is missing; fetch weights that belong to the config.json beside them");
    throw LoadError (file_of (name), printable (name),
                     "dtype " + unsupported->second +
                         (gguf_ ? " is not supported; use a file of F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, "
                                  "Q5_1, Q2_K to Q6_K, IQ4_NL and MXFP4 tensors (Q4_K_M files have only such)"
                                : " is not supported; use a BF16, F16 or F32 checkpoint"));
  }
  if (tensor->shape != shape && !(gguf_ && fits_in_gguf (*tensor, shape)))
    throw LoadError (file_of (name), printable (name),
                     "has shape " + to_string (tensor->shape) + ", expected " + to_string (shape) +
                         (gguf_ ? "; the file's metadata belongs to another model, fetch it again"
                                : "; use the config.json that belongs to these weights"));
  return *tensor;
}

void
WeightFiles::put_together (const std::string &name, const Shape &shape, const std::vector<std::string> &parts,
                           std::shared_ptr<const CodedMatrix> matrix)
{
  if (std::ranges::find (parts, name) == parts.end () && contains (name))
    throw LoadError (file_of (name), printable (name),
                     "is there as it is and as " + printable (parts.front ()) +
                         "; fetch the checkpoint again, into an empty folder");
  const TensorView first = tensors_.at (parts.front ());
  const size_t file = file_index_.find (parts.front ())->second;
  for (const std::string &part : parts)
    tensors_.erase (part);
  tensors_.insert_or_assign (name, TensorView{first.dtype, shape, first.data});
  file_index_.insert_or_assign (name, file);
  coded_.insert_or_assign (name, std::move (matrix));
}

const CodedMatrix *
WeightFiles::coded (std::string_view name) const
{
  const auto found = coded_.find (name);
  return found == coded_.end () ? nullptr : found->second.get ();
}

std::shared_ptr<const CodedMatrix>
WeightFiles::share_coded (std::string_view name) const
{
  const auto found = coded_.find (name);
  return found == coded_.end () ? nullptr : found->second;
}

std::span<const std::byte>
WeightFiles::mapping_of (std::string_view name) const
{
  const auto found = file_index_.find (name);
  return found == file_index_.end () ? std::span<const std::byte> () : files_[found->second].bytes ();
}

fs::path
WeightFiles::file_of (std::string_view name) const
{
  const auto found = file_index_.find (name);
  return found == file_index_.end () ? path_ : files_[found->second].path ();
}

} // namespace millrace
