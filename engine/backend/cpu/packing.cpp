// Packing is bound by memory where the file's elements are those of the format: they are moved, never computed with.
//
// The work is cut into parts of about kPartBytes of the file, over all tensors, so that threads meet once, at the end.
// Which thread gets a part is a matter of chance, as it is which thread multiplies by it later: on a machine with
// several nodes of memory the pages are spread over the nodes of the threads, which is the best there is then.
#include "engine/backend/cpu/packing.hpp"

#include "engine/backend/cpu/affine_format.hpp"
#include "engine/backend/cpu/formats.hpp"
#include "engine/tensor/mapped_file.hpp"
#include "engine/weights/float_rows.hpp"
#include "engine/weights/quantized_blocks.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

namespace millrace::cpu
{

namespace
{

constexpr size_t kPartBytes = size_t{1} << 20;
/// The kernel maps pages around the one that is asked for: 64 KiB, or as many as it keeps in one piece.
constexpr size_t kFaultAround = size_t{2} << 20;

/// Which of the file's outputs is output `index`: see WeightRef::paired and run.
int
file_row (int index, const PackingJob &job)
{
  if (job.paired > 0) {
    const int half = job.paired / 2, in_head = index % job.paired;
    index += (in_head < half ? 2 * in_head : 2 * (in_head - half) + 1) - in_head;
  }
  return job.run > 0 ? index / job.run * job.stride + index % job.run : index;
}

size_t
stored_bytes (DType dtype, int64_t count)
{
  const DTypeBlock block = dtype_block (dtype);
  return static_cast<size_t> (count) / block.elements * block.bytes;
}

/// Floats that are `step` elements apart.
void
read_apart (DType dtype, const std::byte *data, int64_t step, int count, float *out)
{
  const size_t bytes = stored_bytes (dtype, step);
  for (int i = 0; i < count; ++i, data += bytes)
    read_floats (dtype, data, 1, out + i);
}

/// Each thread has its own; packing allocates nothing.
class Packer
{
public:
  explicit Packer (std::span<const PackingJob> jobs)
  {
    size_t columns = 0, bytes = 0;
    for (const PackingJob &job : jobs) {
      const PackedWeight &weight = *job.weight;
      columns = std::max (columns, static_cast<size_t> (weight.columns));
      const auto type = block_type (weight.format);
      if (weight.columns > 0 && type)
        bytes = std::max (bytes, stored_bytes (*type, weight.columns));
    }
    values_.resize (columns);
    blocks_.resize (bytes * kPanelRows);
  }

  /// Outputs [begin, end); begin is a panel's first.
  void pack (const PackingJob &job, int begin, int end)
  {
    const PackedWeight &weight = *job.weight;
    if (weight.columns == 0) {
      for (int row = begin; row < end; ++row)
        read_floats (job.tensor->dtype, file_data (job, row), 1, reinterpret_cast<float *> (job.out) + row);
      return;
    }
    for (int row = begin; row < end; row += kPanelRows)
      pack_rows (job, row, std::min (kPanelRows, end - row),
                 job.out + static_cast<size_t> (row / kPanelRows) * weight.panel_bytes);
  }

private:
  static const std::byte *file_data (const PackingJob &job, int row)
  {
    if (job.affine)
      return job.tensor->data.data () + static_cast<size_t> (file_row (row, job)) * job.affine->row_bytes ();
    if (job.part)
      return job.tensor->data.data () +
             stored_bytes (job.tensor->dtype, static_cast<int64_t> (row) * job.part->output_step);
    const int width = job.weight->columns == 0 ? 1 : job.weight->inputs;
    return job.tensor->data.data () +
           static_cast<size_t> (file_row (row, job)) * stored_bytes (job.tensor->dtype, width);
  }

  /// Of the matrix, of which the job may have a part.
  static size_t affine_row (const PackingJob &job, int row)
  {
    return static_cast<size_t> (file_data (job, row) - job.affine->data.data ()) / job.affine->row_bytes ();
  }

  static void pack_affine_rows (const PackingJob &job, int row, int count, std::byte *panel)
  {
    AffineRow rows[kPanelRows];
    for (int i = 0; i < count; ++i) {
      const size_t scale_at = affine_row (job, row + i) * job.affine->scale_row_bytes ();
      rows[i] = {file_data (job, row + i), job.affine->scales.data () + scale_at,
                 job.affine->biases.data () + scale_at};
    }
    pack_affine (job.weight->format, rows, count, job.weight->columns, panel);
  }

  void pack_rows (const PackingJob &job, int row, int count, std::byte *panel)
  {
    const PackedWeight &weight = *job.weight;
    if (is_affine (weight.format) && job.affine)
      return pack_affine_rows (job, row, count, panel);
    const DType dtype = job.tensor->dtype;
    const bool quantized = is_quantized (weight.format);
    const bool apart = job.part && job.part->input_step != 1;
    const bool direct =
        !apart && (quantized ? dtype == block_type (weight.format) : same_floats (weight.format, dtype));
    const std::byte *rows[kPanelRows];
    for (int i = 0; i < count; ++i) {
      rows[i] = file_data (job, row + i);
      if (direct)
        continue;
      if (job.affine)
        dequantize_affine_row (*job.affine, affine_row (job, row + i), values_.data ());
      else if (apart)
        read_apart (dtype, rows[i], job.part->input_step, weight.inputs, values_.data ());
      else
        read_floats (dtype, rows[i], weight.inputs, values_.data ());
      if (!quantized) {
        pack_row (weight.format, values_.data (), weight.inputs, i, panel);
        continue;
      }
      std::fill (values_.begin () + weight.inputs, values_.begin () + weight.columns, 0.0f);
      const DType type = *block_type (weight.format);
      std::byte *blocks = blocks_.data () + static_cast<size_t> (i) * stored_bytes (type, weight.columns);
      quantize_row (type, values_.data (), weight.columns, blocks);
      rows[i] = blocks;
    }
    if (quantized)
      pack_panel (weight.format, rows, count, weight.columns, panel);
    else if (direct)
      pack_floats (weight.format, rows, count, weight.inputs, panel);
  }

  std::vector<float> values_; ///< a row with its padding
  std::vector<std::byte> blocks_;
};

struct Part {
  const PackingJob *job;
  int begin, end;
};

std::vector<Part>
cut (std::span<const PackingJob> jobs)
{
  std::vector<Part> parts;
  for (const PackingJob &job : jobs) {
    const auto outputs = static_cast<size_t> (job.weight->outputs);
    if (outputs == 0)
      continue;
    const size_t row_bytes = std::max (size_t{1}, job.tensor->data.size () / outputs);
    const size_t rows = std::max (size_t{1}, kPartBytes / row_bytes / kPanelRows) * kPanelRows;
    for (size_t begin = 0; begin < outputs; begin += rows)
      parts.push_back ({&job, static_cast<int> (begin), static_cast<int> (std::min (outputs, begin + rows))});
  }
  return parts;
}

/// Of `data`, which `outputs` share, what belongs to outputs [begin, end). What lies around goes too: it has been mapped along
/// with it, and whoever still needs it gets it back.
void
release_rows (std::span<const std::byte> file, std::span<const std::byte> data, size_t outputs, int begin,
              int end)
{
  const size_t row_bytes = data.size () / outputs;
  const auto tensor_at = static_cast<size_t> (data.data () - file.data ());
  const size_t from = tensor_at + static_cast<size_t> (begin) * row_bytes;
  const size_t to = tensor_at + static_cast<size_t> (end) * row_bytes;
  const size_t first = from > kFaultAround ? from - kFaultAround : 0;
  MappedFile::release_pages (file.subspan (first, std::min (file.size (), to + kFaultAround) - first));
}

void
release (const Part &part)
{
  const PackingJob &job = *part.job;
  const auto outputs = static_cast<size_t> (job.weight->outputs);
  release_rows (job.file, job.tensor->data, outputs, part.begin, part.end);
  if (job.affine) {
    const size_t rows = job.affine->data.size () / job.affine->row_bytes ();
    release_rows (job.affine->scales_mapping, job.affine->scales, rows, part.begin, part.end);
    release_rows (job.affine->biases_mapping, job.affine->biases, rows, part.begin, part.end);
  }
}

} // namespace

void
pack_weights (std::span<const PackingJob> jobs, ThreadPool &pool)
{
  const std::vector<Part> parts = cut (jobs);
  std::vector<Packer> packers (static_cast<size_t> (pool.size ()), Packer (jobs));
  pool.run (static_cast<int> (parts.size ()), [&] (int index, int lane) {
    const Part &part = parts[static_cast<size_t> (index)];
    packers[static_cast<size_t> (lane)].pack (*part.job, part.begin, part.end);
    release (part);
  });
  for (const PackingJob &job : jobs) { // of outputs that are paired, some were read with other parts
    MappedFile::release_pages (job.tensor->data);
    if (job.affine) {
      MappedFile::release_pages (job.affine->scales);
      MappedFile::release_pages (job.affine->biases);
    }
  }
}

} // namespace millrace::cpu
