// What converters of checkpoints to GGUF do with the values of a tensor.
#pragma once

#include "engine/tensor/tensor_view.hpp"
#include "engine/weights/quantized_blocks.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

namespace millrace::testing
{

struct Values {
  Shape shape;
  std::vector<float> data;

  size_t rows () const { return static_cast<size_t> (shape.front ()); }
  /// Elements of a row: all dimensions but the first.
  size_t width () const { return rows () == 0 ? 0 : data.size () / rows (); }
};

inline Values
float_values (const TensorView &tensor)
{
  Values values{tensor.shape, std::vector<float> (static_cast<size_t> (tensor.element_count ()))};
  for (size_t i = 0; i < values.data.size (); ++i) {
    uint16_t half = 0;
    if (tensor.dtype == DType::kF32)
      std::memcpy (&values.data[i], tensor.data.data () + i * 4, 4);
    else
      std::memcpy (&half, tensor.data.data () + i * 2, 2);
    if (tensor.dtype != DType::kF32)
      values.data[i] = tensor.dtype == DType::kF16 ? f16_to_f32 (half) : bf16_to_f32 (half);
  }
  return values;
}

/// Row i is row order[i] of `values`.
inline Values
with_rows (const Values &values, const std::vector<size_t> &order)
{
  Values result{values.shape, {}};
  result.shape.front () = static_cast<int64_t> (order.size ());
  const size_t width = values.width ();
  for (const size_t row : order)
    result.data.insert (result.data.end (), values.data.begin () + static_cast<ptrdiff_t> (row * width),
                        values.data.begin () + static_cast<ptrdiff_t> ((row + 1) * width));
  return result;
}

inline Values
row_range (const Values &values, size_t first, size_t count)
{
  std::vector<size_t> order (count);
  std::iota (order.begin (), order.end (), first);
  return with_rows (values, order);
}

inline Values
transposed (const Values &values)
{
  const size_t rows = values.rows (), width = values.width ();
  Values result{{static_cast<int64_t> (width), static_cast<int64_t> (rows)},
                std::vector<float> (values.data.size ())};
  for (size_t i = 0; i < rows; ++i)
    for (size_t j = 0; j < width; ++j)
      result.data[j * rows + i] = values.data[i * width + j];
  return result;
}

/// Rows of each head in the order 0, half, 1, half + 1, …
inline Values
paired (const Values &values, size_t head)
{
  std::vector<size_t> order (values.rows ());
  for (size_t row = 0; row < order.size (); ++row) {
    const size_t in_head = row % head;
    order[row] = row - in_head + in_head / 2 + in_head % 2 * (head / 2);
  }
  return with_rows (values, order);
}

/// Heads of `head` rows from row `first` on, of which `shared` neighbours belong together, put so that they take turns.
inline Values
turning (const Values &values, size_t first, size_t head, size_t groups)
{
  std::vector<size_t> order (values.rows ());
  std::iota (order.begin (), order.end (), size_t{0});
  const size_t heads = (order.size () - first) / head, shared = heads / groups;
  for (size_t row = first; row < order.size (); ++row) {
    const size_t at = row - first, to = at / head;
    order[row] = first + (to % groups * shared + to / groups) * head + at % head;
  }
  return with_rows (values, order);
}

inline Values
without_ones (Values values)
{
  std::erase (values.shape, 1);
  return values;
}

inline Values
reshaped (Values values, Shape shape)
{
  values.shape = std::move (shape);
  return values;
}

inline Values
decay_rates (Values values)
{
  for (float &value : values.data)
    value = -std::exp (value);
  return values;
}

inline std::vector<std::byte>
encoded (DType type, const std::vector<float> &values)
{
  const DTypeBlock block = dtype_block (type);
  std::vector<std::byte> bytes (values.size () / block.elements * block.bytes);
  if (is_block_type (type)) {
    quantize_row (type, values.data (), static_cast<int64_t> (values.size ()), bytes.data ());
    return bytes;
  }
  for (size_t i = 0; i < values.size (); ++i) {
    const uint16_t half = type == DType::kF16 ? f32_to_f16 (values[i]) : f32_to_bf16 (values[i]);
    if (type == DType::kF32)
      std::memcpy (bytes.data () + i * 4, &values[i], 4);
    else
      std::memcpy (bytes.data () + i * 2, &half, 2);
  }
  return bytes;
}

} // namespace millrace::testing
