#include "engine/weights/tensor_output.hpp"

#include "engine/tensor/mapped_file.hpp"
#include "engine/weights/affine_quantizer.hpp"
#include "engine/weights/mxfp4_matrix.hpp"
#include "engine/weights/quantized_blocks.hpp"

#include <algorithm>
#include <cstring>
#include <system_error>

namespace millrace
{

namespace
{

constexpr int64_t kPartElements = 256 << 10;
constexpr int64_t kStoredPart = 1 << 20; ///< bytes that are copied at a time

/// Rows of one tensor, or bytes of one that is copied.
struct Part {
  const TensorOutput *tensor;
  int64_t begin, end;
};

/// How many elements, or bytes, a row counts for.
int64_t
row_weight (const TensorOutput &tensor)
{
  return tensor.values ? std::max<int64_t> (tensor.values->columns (), 1) : 1;
}

std::vector<Part>
parts_of (std::span<const TensorOutput> tensors)
{
  std::vector<Part> parts;
  for (const TensorOutput &tensor : tensors) {
    const int64_t rows =
        tensor.values ? tensor.values->rows () : static_cast<int64_t> (tensor.stored.size ());
    const int64_t step =
        tensor.values ? std::max<int64_t> (kPartElements / row_weight (tensor), 1) : kStoredPart;
    for (int64_t row = 0; row < rows; row += step)
      parts.push_back ({&tensor, row, std::min (row + step, rows)});
  }
  return parts;
}

void
encode_row (const TensorEncoding &encoding, const float *values, int64_t count, std::byte *out)
{
  if (is_block_type (encoding.type))
    return quantize_row (encoding.type, values, count, out);
  if (encoding.type == DType::kF32) {
    std::memcpy (out, values, static_cast<size_t> (count) * sizeof (float));
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    const uint16_t bits = encoding.type == DType::kF16 ? f32_to_f16 (values[i]) : f32_to_bf16 (values[i]);
    std::memcpy (out + i * 2, &bits, sizeof bits);
  }
}

/// Of one thread: room for a part.
class Encoder
{
public:
  /// Reads, encodes and writes; the number of an error or 0.
  int write (const Part &part)
  {
    const TensorOutput &tensor = *part.tensor;
    if (!tensor.values)
      return tensor.data.file->write_at (tensor.data.offset + static_cast<uint64_t> (part.begin),
                                         tensor.stored.subspan (static_cast<size_t> (part.begin),
                                                                static_cast<size_t> (part.end - part.begin)));
    const int64_t columns = tensor.values->columns (), rows = part.end - part.begin;
    const size_t row_bytes = tensor.encoding.row_bytes (columns);
    const size_t scale_bytes = tensor.encoding.scale_row_bytes (columns);
    values_.resize (static_cast<size_t> (columns));
    data_.resize (row_bytes * static_cast<size_t> (rows));
    scales_.resize (scale_bytes * static_cast<size_t> (rows));
    biases_.resize (tensor.encoding.codes ? scales_.size () : 0);
    blocks_.resize (tensor.encoding.scales_apart ? row_bytes + scale_bytes : 0);
    for (int64_t row = 0; row < rows; ++row) {
      const auto at = static_cast<size_t> (row);
      tensor.values->read (part.begin + row, values_.data ());
      if (tensor.encoding.codes)
        quantize_affine_row (*tensor.encoding.codes, tensor.encoding.type, values_.data (), columns,
                             data_.data () + at * row_bytes, scales_.data () + at * scale_bytes,
                             biases_.data () + at * scale_bytes);
      else if (tensor.encoding.scales_apart) {
        encode_row (tensor.encoding, values_.data (), columns, blocks_.data ());
        take_mxfp4_apart (blocks_, data_.data () + at * row_bytes, scales_.data () + at * scale_bytes);
      } else
        encode_row (tensor.encoding, values_.data (), columns, data_.data () + at * row_bytes);
    }
    MappedFile::release_pages (tensor.values->source (part.begin, part.end));
    const auto put = [&] (const TensorOutput::Place &place, const std::vector<std::byte> &bytes) {
      const size_t each = bytes.size () / static_cast<size_t> (rows);
      return bytes.empty ()
                 ? 0
                 : place.file->write_at (place.offset + static_cast<uint64_t> (part.begin) * each, bytes);
    };
    for (const int error :
         {put (tensor.data, data_), put (tensor.scales, scales_), put (tensor.biases, biases_)})
      if (error != 0)
        return error;
    return 0;
  }

private:
  std::vector<float> values_;
  std::vector<std::byte> data_, scales_, biases_, blocks_;
};

} // namespace

size_t
TensorEncoding::row_bytes (int64_t columns) const
{
  if (codes)
    return static_cast<size_t> (columns) * static_cast<size_t> (codes->bits) / 8;
  const DTypeBlock block = dtype_block (type);
  return static_cast<size_t> (columns) / block.elements * block.bytes - scale_row_bytes (columns);
}

size_t
TensorEncoding::scale_row_bytes (int64_t columns) const
{
  if (scales_apart)
    return static_cast<size_t> (columns) / dtype_block (type).elements;
  return codes ? static_cast<size_t> (columns / codes->group) * dtype_bytes (type) : 0;
}

bool
TensorEncoding::fits (int64_t columns) const
{
  const auto elements = codes ? codes->group : static_cast<int64_t> (dtype_block (type).elements);
  return columns % elements == 0;
}

void
write_tensors (std::span<const TensorOutput> tensors, ThreadPool &pool, const OutputProgress &progress)
{
  const std::vector<Part> parts = parts_of (tensors);
  const auto weight = [] (const Part &part) {
    return static_cast<uint64_t> ((part.end - part.begin) * row_weight (*part.tensor));
  };
  uint64_t total = 0;
  for (const Part &part : parts)
    total += weight (part);
  std::vector<Encoder> encoders (static_cast<size_t> (pool.size ()));
  std::atomic<uint64_t> done = 0;
  std::atomic<int> error = 0;
  std::atomic<const TensorOutput *> failed = nullptr;
  const auto is_over = [&] { return error != 0 || (progress.cancelled && *progress.cancelled); };
  pool.run (static_cast<int> (parts.size ()), [&] (int index, int lane) {
    const Part &part = parts[static_cast<size_t> (index)];
    if (is_over ())
      return;
    if (const int problem = encoders[static_cast<size_t> (lane)].write (part); problem != 0) {
      failed = part.tensor;
      error = problem;
      return;
    }
    const uint64_t now = done += weight (part);
    if (progress.report)
      progress.report (now, total, part.tensor->name);
  });
  if (error != 0)
    throw std::system_error (error, std::generic_category (),
                             failed.load ()->data.file->path ().string () + ": cannot be written");
  if (is_over ())
    throw Cancelled ();
}

} // namespace millrace
