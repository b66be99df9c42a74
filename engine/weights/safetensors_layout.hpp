// The header of a safetensors file that is to be written, and where in the file its tensors' data go.
//
// Tensors are sorted as Hugging Face's own writer does it, by the size of their elements and then by name, so that all are
// aligned. Source: https://github.com/huggingface/safetensors#format
#pragma once

#include "engine/tensor/tensor_view.hpp"

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace millrace
{

class SafetensorsLayout
{
public:
  /// Names are distinct. `dtype` in the format's words, "BF16".
  void add (const std::string &name, std::string_view dtype, size_t element_bytes, const Shape &shape,
            uint64_t bytes);
  uint64_t data_bytes () const { return bytes_; }

  /// Of a file that says `format` ("pt", "mlx") of itself, with the length before it.
  std::string header (std::string_view format);
  /// Of a tensor's data in the file; after header ().
  uint64_t offset (const std::string &name) const { return offsets_.at (name); }
  /// Of all tensors, sorted by name; after header ().
  const std::map<std::string, uint64_t> &offsets () const { return offsets_; }

private:
  struct Tensor {
    std::string name, dtype;
    size_t element_bytes;
    Shape shape;
    uint64_t bytes;
  };
  std::vector<Tensor> tensors_;
  uint64_t bytes_ = 0;
  std::map<std::string, uint64_t> offsets_;
};

} // namespace millrace
