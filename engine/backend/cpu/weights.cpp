#include "engine/backend/cpu/weights.hpp"

#include "engine/backend/cpu/formats.hpp"
#include "engine/error.hpp"
#include "engine/tensor/dtype.hpp"
#include "engine/tensor/mapped_file.hpp"
#include "engine/weights/quantized_blocks.hpp"
#include "engine/weights/safetensors.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <set>

namespace millrace::cpu
{

namespace
{

constexpr size_t kLine = 64;
constexpr int kPackRows = 64; ///< rows of one part of the work of packing: whole panels
static_assert (kPackRows % kPanelRows == 0);

bool
is_float (DType dtype)
{
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
}

Format
stored_format (DType dtype)
{
  switch (dtype) {
  case DType::kF16:
    return Format::kF16;
  case DType::kBF16:
    return Format::kBF16;
  case DType::kQ8_0:
    return Format::kQ8;
  case DType::kQ4_0:
    return Format::kQ4;
  case DType::kQ4K:
    return Format::kQ4K;
  case DType::kQ6K:
    return Format::kQ6K;
  default:
    return Format::kF32;
  }
}

/// `edge`: embedding or head, whose errors no later layer evens out.
Format
chosen_format (WeightFormat wanted, DType stored, int inputs, bool edge)
{
  switch (wanted) {
  case WeightFormat::kF32:
    return Format::kF32;
  case WeightFormat::kF16:
    return Format::kF16;
  case WeightFormat::kBF16:
    return Format::kBF16;
  case WeightFormat::kInt8:
    return Format::kQ8;
  case WeightFormat::kInt4:
    if (stored == DType::kQ4_0 || stored == DType::kQ4K)
      break;
    if (inputs % kSuperBlock == 0)
      return edge ? Format::kQ6K : Format::kQ4K;
    return edge ? Format::kQ8 : Format::kQ4;
  case WeightFormat::kAuto:
    break;
  }
  return stored_format (stored);
}

template <typename T>
T
read (const std::byte *data, size_t index)
{
  T value;
  std::memcpy (&value, data + index * sizeof (T), sizeof (T)); // tensors in files need not be aligned
  return value;
}

/// Elements [first, first + count), which are whole blocks.
void
read_floats (const TensorView &tensor, size_t first, int count, float *out)
{
  const DTypeBlock block = dtype_block (tensor.dtype);
  const std::byte *data = tensor.data.data () + first / block.elements * block.bytes;
  if (is_block_type (tensor.dtype)) {
    dequantize_row (tensor.dtype, data, count, out);
    return;
  }
  for (int i = 0; i < count; ++i) {
    switch (tensor.dtype) {
    case DType::kBF16:
      out[i] = bf16_to_f32 (read<uint16_t> (data, static_cast<size_t> (i)));
      break;
    case DType::kF16:
      out[i] = f16_to_f32 (read<uint16_t> (data, static_cast<size_t> (i)));
      break;
    default:
      out[i] = read<float> (data, static_cast<size_t> (i));
      break;
    }
  }
}

/// Which of the file's outputs is output `index`: see WeightRef::paired.
int
file_row (int index, int paired)
{
  if (paired == 0)
    return index;
  const int half = paired / 2, in_head = index % paired;
  return index - in_head + (in_head < half ? 2 * in_head : 2 * (in_head - half) + 1);
}

/// Packs rows of one matrix. Each thread has its own; packing allocates nothing.
class RowPacker
{
public:
  RowPacker (const TensorView &tensor, const PackedWeight &weight, int paired)
      : tensor_ (tensor)
      , weight_ (weight)
      , paired_ (paired)
      , direct_ (is_quantized (weight.format) && tensor.dtype == block_type (weight.format))
  {
    if (!direct_)
      values_.resize (static_cast<size_t> (weight.columns));
    if (is_quantized (weight.format) && !direct_)
      blocks_.resize (block_row_bytes () * kPanelRows);
  }

  void pack (int begin, int end, std::byte *data)
  {
    for (int row = begin; row < end; row += kPanelRows) {
      std::byte *panel = data + static_cast<size_t> (row / kPanelRows) * weight_.panel_bytes;
      const int count = std::min (kPanelRows, end - row);
      const std::byte *rows[kPanelRows];
      for (int i = 0; i < count; ++i) {
        if (is_quantized (weight_.format)) {
          rows[i] = blocks_of_row (row + i, i);
        } else {
          read_row (row + i);
          pack_row (weight_.format, values_.data (), weight_.inputs, i, panel);
        }
      }
      if (is_quantized (weight_.format))
        pack_panel (weight_.format, rows, count, weight_.columns, panel);
    }
  }

private:
  size_t block_row_bytes () const
  {
    const DTypeBlock block = dtype_block (block_type (weight_.format));
    return static_cast<size_t> (weight_.columns) / block.elements * block.bytes;
  }

  void read_row (int row)
  {
    const auto first = static_cast<size_t> (file_row (row, paired_)) * static_cast<size_t> (weight_.inputs);
    read_floats (tensor_, first, weight_.inputs, values_.data ());
  }

  const std::byte *blocks_of_row (int row, int slot)
  {
    const size_t bytes = block_row_bytes ();
    if (direct_)
      return tensor_.data.data () + static_cast<size_t> (file_row (row, paired_)) * bytes;
    read_row (row);
    std::byte *out = blocks_.data () + static_cast<size_t> (slot) * bytes;
    quantize_row (block_type (weight_.format), values_.data (), weight_.columns, out);
    return out;
  }

  const TensorView &tensor_;
  const PackedWeight &weight_;
  int paired_;
  bool direct_;               ///< the file has the blocks that panels are made of
  std::vector<float> values_; ///< a row with its padding
  std::vector<std::byte> blocks_;
};

std::set<WeightId>
edge_weights (const Program &program)
{
  std::set<WeightId> ids;
  for (const Op &op : program.ops) {
    if (const auto *embed = std::get_if<EmbedOp> (&op))
      ids.insert (embed->weight);
    if (const auto *head = std::get_if<HeadOp> (&op))
      ids.insert (head->weight);
  }
  return ids;
}

} // namespace

PackedWeights::PackedWeights (const Program &program, const WeightFiles &files, WeightFormat format,
                              ThreadPool &pool)
{
  const std::set<WeightId> edges = edge_weights (program);
  std::vector<const TensorView *> tensors;
  std::vector<size_t> offsets;
  size_t total = 0;
  for (const WeightRef &ref : program.weights) {
    const TensorView &tensor = files.require (ref.name, ref.shape ());
    if (!is_float (tensor.dtype) && !(is_block_type (tensor.dtype) && ref.is_matrix ()))
      throw LoadError (files.file_of (ref.name), ref.name,
                       "has elements of type " + std::string (dtype_name (tensor.dtype)) +
                           (ref.is_matrix () ? "; matrices must be F32, F16, BF16, Q8_0, Q4_0, Q4_K or Q6_K"
                                             : "; norms and biases must be F32, F16 or BF16"));

    PackedWeight weight;
    weight.outputs = ref.outputs;
    weight.inputs = ref.inputs;
    size_t bytes = 0;
    if (ref.is_matrix ()) {
      const bool edge = edges.contains (static_cast<WeightId> (weights_.size ()));
      weight.format = chosen_format (format, tensor.dtype, ref.inputs, edge);
      weight.columns = padded_columns (weight.format, ref.inputs);
      weight.panel_bytes = panel_bytes (weight.format, weight.columns);
      const int panels = (ref.outputs + kPanelRows - 1) / kPanelRows;
      bytes = round_up (checked_product (weight.panel_bytes, static_cast<size_t> (panels)), kLine);
    } else {
      bytes = round_up (sizeof (float) * static_cast<size_t> (ref.outputs), kLine);
    }
    tensors.push_back (&tensor);
    offsets.push_back (total);
    weights_.push_back (weight);
    if (__builtin_add_overflow (total, bytes, &total))
      throw std::bad_alloc ();
  }

  memory_ = Memory (total, Memory::Pages::kHuge);
  for (size_t i = 0; i < weights_.size (); ++i) {
    PackedWeight &weight = weights_[i];
    const TensorView &tensor = *tensors[i];
    const int paired = program.weights[i].paired;
    std::byte *out = memory_.data () + offsets[i];
    weight.data = out;
    if (weight.columns == 0) {
      for (int row = 0; row < weight.outputs; ++row)
        read_floats (tensor, static_cast<size_t> (file_row (row, paired)), 1,
                     reinterpret_cast<float *> (out) + row);
      continue;
    }
    std::vector<RowPacker> packers (static_cast<size_t> (pool.size ()), RowPacker (tensor, weight, paired));
    pool.run ((weight.outputs + kPackRows - 1) / kPackRows, [&] (int part, int lane) {
      packers[static_cast<size_t> (lane)].pack (part * kPackRows,
                                                std::min (weight.outputs, (part + 1) * kPackRows), out);
    });
    MappedFile::release_pages (tensor.data);
  }
}

std::string
PackedWeights::description () const
{
  int used[kFormats] = {};
  for (const PackedWeight &weight : weights_) {
    if (weight.columns > 0)
      ++used[static_cast<int> (weight.format)];
  }
  const char *name = nullptr;
  for (int i = 0; i < kFormats; ++i) {
    if (used[i] > 0)
      name = name ? "mixed" : format_name (static_cast<Format> (i));
  }
  return name ? name : "no";
}

} // namespace millrace::cpu
