// Tensors of a checkpoint as floats, row by row, whatever they are stored as: floats, quantized blocks, affine codes,
// matrices of several tensors.
//
// A row is the innermost dimension; the other dimensions are one after the other. Immutable; any thread.
#pragma once

#include "engine/tensor/tensor_view.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

namespace millrace
{

class WeightFiles;

/// Rows of floats that are somewhere.
class FloatRows
{
public:
  virtual ~FloatRows () = default;

  virtual int64_t rows () const = 0;
  virtual int64_t columns () const = 0;
  /// `out` has columns () floats.
  virtual void read (int64_t row, float *out) const = 0;
  /// The bytes of a mapped file that rows [begin, end) are read from, which may be let go of afterwards; may be empty.
  virtual std::span<const std::byte> source (int64_t begin, int64_t end) const = 0;
};

/// F32, F16, BF16, or blocks.
bool is_readable_as_floats (DType dtype);

/// `count` elements of such a type, whole blocks, at any address.
void read_floats (DType dtype, const std::byte *data, int64_t count, float *out);

/// Of a tensor of `files`, which must live longer. Throws LoadError when it is missing or of another type.
std::shared_ptr<const FloatRows> float_rows (const WeightFiles &files, std::string_view name);

} // namespace millrace
