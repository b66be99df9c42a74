#include "engine/weights/float_rows.hpp"

#include "engine/error.hpp"
#include "engine/weights/coded_matrix.hpp"
#include "engine/weights/quantized_blocks.hpp"
#include "engine/weights/tensor_entry.hpp"
#include "engine/weights/weight_files.hpp"

#include <cstring>

namespace millrace
{

namespace
{

int64_t
columns_of (const TensorView &tensor)
{
  return tensor.shape.empty () ? 1 : tensor.shape.back ();
}

int64_t
rows_of (const TensorView &tensor)
{
  const int64_t columns = columns_of (tensor);
  return columns == 0 ? 0 : tensor.element_count () / columns;
}

class PlainRows final : public FloatRows
{
public:
  explicit PlainRows (const TensorView &tensor)
      : tensor_ (tensor)
      , rows_ (rows_of (tensor))
      , row_bytes_ (rows_ == 0 ? 0 : tensor.data.size () / static_cast<size_t> (rows_))
  {
  }

  int64_t rows () const override { return rows_; }
  int64_t columns () const override { return columns_of (tensor_); }
  void read (int64_t row, float *out) const override
  {
    read_floats (tensor_.dtype, tensor_.data.data () + static_cast<size_t> (row) * row_bytes_, columns (),
                 out);
  }
  std::span<const std::byte> source (int64_t begin, int64_t end) const override
  {
    return tensor_.data.subspan (static_cast<size_t> (begin) * row_bytes_,
                                 static_cast<size_t> (end - begin) * row_bytes_);
  }

private:
  const TensorView &tensor_;
  int64_t rows_;
  size_t row_bytes_;
};

class AffineRows final : public FloatRows
{
public:
  AffineRows (const TensorView &tensor, const AffineTensor &affine)
      : affine_ (affine)
      , rows_ (rows_of (tensor))
  {
  }

  int64_t rows () const override { return rows_; }
  int64_t columns () const override { return affine_.inputs; }
  void read (int64_t row, float *out) const override
  {
    dequantize_affine_row (affine_, static_cast<size_t> (row), out);
  }
  std::span<const std::byte> source (int64_t begin, int64_t end) const override
  {
    return affine_.data.subspan (static_cast<size_t> (begin) * affine_.row_bytes (),
                                 static_cast<size_t> (end - begin) * affine_.row_bytes ());
  }

private:
  const AffineTensor &affine_;
  int64_t rows_;
};

} // namespace

bool
is_readable_as_floats (DType dtype)
{
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16 || is_block_type (dtype);
}

void
read_floats (DType dtype, const std::byte *data, int64_t count, float *out)
{
  if (is_block_type (dtype)) {
    dequantize_row (dtype, data, count, out);
  } else if (dtype == DType::kF32) {
    std::memcpy (out, data, static_cast<size_t> (count) * sizeof (float));
  } else {
    const bool wide = dtype == DType::kBF16;
    for (int64_t i = 0; i < count; ++i, data += sizeof (uint16_t)) {
      uint16_t half;
      std::memcpy (&half, data, sizeof half); // tensors in files need not be aligned
      out[i] = wide ? bf16_to_f32 (half) : f16_to_f32 (half);
    }
  }
}

std::shared_ptr<const FloatRows>
float_rows (const WeightFiles &files, std::string_view name)
{
  const TensorView *tensor = files.find (name);
  if (!tensor)
    throw LoadError (files.file_of (name), printable (name),
                     files.contains (name) ? "is of a type that cannot be read" : "is missing");
  if (const AffineTensor *affine = files.affine (name))
    return std::make_shared<AffineRows> (*tensor, *affine);
  if (const auto coded = files.share_coded (name))
    return coded;
  if (!is_readable_as_floats (tensor->dtype))
    throw LoadError (files.file_of (name), printable (name),
                     "has elements of type " + std::string (dtype_name (tensor->dtype)) +
                         ", which are no numbers that can be converted");
  return std::make_shared<PlainRows> (*tensor);
}

} // namespace millrace
