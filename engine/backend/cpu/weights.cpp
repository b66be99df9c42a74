#include "engine/backend/cpu/weights.hpp"

#include "engine/error.hpp"
#include "engine/tensor/dtype.hpp"
#include "engine/weights/safetensors.hpp"

#include <algorithm>
#include <cstring>
#include <limits>

namespace millrace::cpu
{

namespace
{

constexpr size_t kLine = 64;
constexpr size_t kVector = 32; ///< rows start on one, so that no load crosses a line
constexpr int kPackRows = 64;  ///< rows of one part of the work of packing

Format
format_of (WeightFormat wanted, DType stored)
{
  switch (wanted) {
  case WeightFormat::kF32:
    return Format::kF32;
  case WeightFormat::kF16:
    return Format::kF16;
  case WeightFormat::kBF16:
    return Format::kBF16;
  case WeightFormat::kInt8:
    return Format::kInt8;
  case WeightFormat::kAuto:
    break;
  }
  return stored == DType::kF16 ? Format::kF16 : stored == DType::kBF16 ? Format::kBF16 : Format::kF32;
}

bool
is_float (DType dtype)
{
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
}

template <typename T>
T
read (const std::byte *data, size_t index)
{
  T value;
  std::memcpy (&value, data + index * sizeof (T), sizeof (T)); // tensors in files need not be aligned
  return value;
}

void
read_floats (const TensorView &tensor, size_t first, int count, float *out)
{
  const std::byte *data = tensor.data.data () + first * dtype_bytes (tensor.dtype);
  for (int i = 0; i < count; ++i) {
    switch (tensor.dtype) {
    case DType::kBF16:
      out[i] = bf16_to_f32 (read<uint16_t> (data, i));
      break;
    case DType::kF16:
      out[i] = f16_to_f32 (read<uint16_t> (data, i));
      break;
    default:
      out[i] = read<float> (data, i);
      break;
    }
  }
}

void
write (std::byte *out, size_t index, uint16_t value)
{
  std::memcpy (out + 2 * index, &value, sizeof value);
}

// Where element i of a BF16 row is stored: see Format.
size_t
bf16_index (int i)
{
  const int in_group = i % 16;
  return static_cast<size_t> (i - in_group + (in_group < 8 ? 2 * in_group : 2 * (in_group - 8) + 1));
}

} // namespace

size_t
row_bytes (Format format, int columns)
{
  const auto count = static_cast<size_t> (columns);
  size_t bytes = 0;
  switch (format) {
  case Format::kF32:
    bytes = 4 * count;
    break;
  case Format::kF16:
  case Format::kBF16:
    bytes = 2 * count;
    break;
  case Format::kInt8:
    bytes = count + count / kGroup * sizeof (float);
    break;
  }
  bytes = round_up (bytes, kVector);
  // Rows a whole page apart would share cache sets.
  return bytes % 4096 == 0 ? bytes + kLine : bytes;
}

void
pack_row (Format format, const float *values, int count, int columns, std::byte *out)
{
  switch (format) {
  case Format::kF32:
    std::memcpy (out, values, sizeof (float) * static_cast<size_t> (count));
    break;
  case Format::kF16:
    for (int i = 0; i < count; ++i)
      write (out, static_cast<size_t> (i), f32_to_f16 (values[i]));
    break;
  case Format::kBF16:
    for (int i = 0; i < count; ++i)
      write (out, bf16_index (i), f32_to_bf16 (values[i]));
    break;
  case Format::kInt8:
    kPortableKernels.quantize_row (values, count, columns, out);
    break;
  }
}

PackedWeights::PackedWeights (const Program &program, const WeightFiles &files, WeightFormat format,
                              ThreadPool &pool)
{
  std::vector<const TensorView *> tensors;
  std::vector<size_t> offsets;
  size_t total = 0;
  int widest = 0;
  for (const WeightRef &ref : program.weights) {
    const TensorView &tensor = files.require (ref.name, ref.shape ());
    if (!is_float (tensor.dtype))
      throw LoadError (files.file_of (ref.name), ref.name,
                       "has elements of type " + std::string (dtype_name (tensor.dtype)) +
                           "; weights must be F32, F16 or BF16");

    PackedWeight weight;
    weight.outputs = ref.outputs;
    weight.inputs = ref.inputs;
    size_t bytes = 0;
    if (ref.is_matrix ()) {
      weight.format = format_of (format, tensor.dtype);
      weight.columns = static_cast<int> (round_up (static_cast<size_t> (ref.inputs), kPad));
      weight.row_bytes = row_bytes (weight.format, weight.columns);
      bytes = round_up (checked_product (weight.row_bytes, static_cast<size_t> (ref.outputs)), kLine);
    } else {
      bytes = round_up (sizeof (float) * static_cast<size_t> (ref.outputs), kLine);
    }
    widest = std::max ({widest, ref.inputs, ref.outputs});
    tensors.push_back (&tensor);
    offsets.push_back (total);
    weights_.push_back (weight);
    if (__builtin_add_overflow (total, bytes, &total))
      throw std::bad_alloc ();
  }

  memory_ = Memory (total, Memory::Pages::kHuge);
  Memory scratch (
      checked_product (sizeof (float) * static_cast<size_t> (widest), static_cast<size_t> (pool.size ())));
  for (size_t i = 0; i < weights_.size (); ++i) {
    PackedWeight &weight = weights_[i];
    const TensorView &tensor = *tensors[i];
    std::byte *out = memory_.data () + offsets[i];
    weight.data = out;
    if (weight.columns == 0) {
      read_floats (tensor, 0, weight.outputs, reinterpret_cast<float *> (out));
      continue;
    }
    const int inputs = weight.inputs;
    pool.run ((weight.outputs + kPackRows - 1) / kPackRows, [&] (int part, int lane) {
      float *values = scratch.floats () + static_cast<size_t> (lane) * static_cast<size_t> (widest);
      const int end = std::min (weight.outputs, (part + 1) * kPackRows);
      for (int row = part * kPackRows; row < end; ++row) {
        read_floats (tensor, static_cast<size_t> (row) * static_cast<size_t> (inputs), inputs, values);
        pack_row (weight.format, values, inputs, weight.columns,
                  out + static_cast<size_t> (row) * weight.row_bytes);
      }
    });
  }
}

std::string
PackedWeights::description () const
{
  static constexpr const char *kNames[kFormats] = {"f32", "f16", "bf16", "int8"};
  int used[kFormats] = {};
  for (const PackedWeight &weight : weights_) {
    if (weight.columns > 0)
      ++used[static_cast<int> (weight.format)];
  }
  const char *name = nullptr;
  for (int i = 0; i < kFormats; ++i) {
    if (used[i] > 0)
      name = name ? "mixed" : kNames[i];
  }
  return name ? name : "no";
}

} // namespace millrace::cpu
