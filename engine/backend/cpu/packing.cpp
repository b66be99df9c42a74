// Packing is bound by memory where the file's elements are those of the format: they are moved, never computed with.
//
// The work is cut into parts of about kPartBytes of the file, over all tensors, so that threads meet once, at the end.
// Which thread gets a part is a matter of chance, as it is which thread multiplies by it later: on a machine with
// several nodes of memory the pages are spread over the nodes of the threads, which is the best there is then.
#include "engine/backend/cpu/packing.hpp"

#include "engine/backend/cpu/affine_format.hpp"
#include "engine/backend/cpu/formats.hpp"
#include "engine/error.hpp"
#include "engine/tensor/mapped_file.hpp"
#include "engine/weights/float_rows.hpp"
#include "engine/weights/quantized_blocks.hpp"

#include <algorithm>
#include <atomic>
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
    size_t columns = 0, bytes = 0, turned = 0, tensor_columns = 0;
    for (const PackingJob &job : jobs) {
      const PackedWeight &weight = *job.weight;
      columns = std::max (columns, static_cast<size_t> (weight.columns));
      const auto type = block_type (weight.format);
      if (weight.columns > 0 && type)
        bytes = std::max (bytes, stored_bytes (*type, weight.columns));
      if (job.rows->coded)
        bytes = std::max (bytes, job.rows->coded->row_bytes ());
      if (job.rows->transposed) {
        turned =
            std::max (turned, static_cast<size_t> (weight.inputs) * static_cast<size_t> (weight.outputs));
        tensor_columns = std::max (tensor_columns, static_cast<size_t> (job.rows->values->columns ()));
      }
    }
    values_.resize (columns);
    blocks_.resize (bytes * kPanelRows);
    turned_.resize (turned);
    tensor_row_.resize (tensor_columns);
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
    if (job.rows->transposed)
      turn (job, begin, end);
    for (int row = begin; row < end; row += kPanelRows)
      pack_rows (job, row, std::min (kPanelRows, end - row),
                 job.out + static_cast<size_t> (row / kPanelRows) * weight.panel_bytes);
  }

private:
  static const std::byte *file_data (const PackingJob &job, int row)
  {
    if (job.part)
      return job.tensor->data.data () +
             stored_bytes (job.tensor->dtype, static_cast<int64_t> (row) * job.part->output_step);
    const int width = job.weight->columns == 0 ? 1 : job.weight->inputs;
    return job.tensor->data.data () +
           static_cast<size_t> (file_row (row, job)) * stored_bytes (job.tensor->dtype, width);
  }

  /// Of the tensor, where outputs are its rows.
  static int64_t stored_row (const PackingJob &job, int row)
  {
    return job.rows->first + file_row (row, job) * job.rows->step;
  }

  static void pack_affine_rows (const PackingJob &job, int row, int count, std::byte *panel)
  {
    const AffineTensor &affine = *job.rows->affine;
    AffineRow rows[kPanelRows];
    for (int i = 0; i < count; ++i) {
      const auto at = static_cast<size_t> (stored_row (job, row + i));
      const size_t scale_at = at * affine.scale_row_bytes ();
      rows[i] = {affine.data.data () + at * affine.row_bytes (), affine.scales.data () + scale_at,
                 affine.biases.data () + scale_at};
    }
    pack_affine (job.weight->format, rows, count, job.weight->columns, panel);
  }

  /// Rows in the form that they are kept in, which is the weight's.
  void pack_coded_rows (const PackingJob &job, int row, int count, std::byte *panel)
  {
    const PackedWeight &weight = *job.weight;
    const CodedMatrix &coded = *job.rows->coded;
    const CodedMatrix::Form form = coded.form ();
    const size_t bytes = coded.row_bytes ();
    const std::byte *rows[kPanelRows];
    AffineRow affine_rows[kPanelRows];
    for (int i = 0; i < count; ++i) {
      std::byte *out = blocks_.data () + static_cast<size_t> (i) * bytes;
      coded.encode (stored_row (job, row + i), out);
      rows[i] = out;
      if (form.codes) {
        const size_t codes = static_cast<size_t> (weight.inputs) * static_cast<size_t> (form.codes->bits) / 8;
        affine_rows[i] = {out, out + codes, out + (codes + bytes) / 2};
      }
    }
    if (form.codes)
      pack_affine (weight.format, affine_rows, count, weight.columns, panel);
    else
      pack_panel (weight.format, rows, count, weight.columns, panel);
  }

  static bool is_kept_as_coded (const PackingJob &job)
  {
    if (!job.rows->coded || job.rows->transposed)
      return false;
    const CodedMatrix::Form form = job.rows->coded->form ();
    return form.codes ? is_affine (job.weight->format)
                      : is_block_type (form.type) && block_type (job.weight->format) == form.type;
  }

  /// Outputs [begin, end) of a transposed matrix, row by row.
  void turn (const PackingJob &job, int begin, int end)
  {
    const StoredRows &rows = *job.rows;
    const auto inputs = static_cast<size_t> (job.weight->inputs);
    for (size_t k = 0; k < inputs; ++k) {
      rows.values->read (rows.first + static_cast<int64_t> (k) * rows.step, tensor_row_.data ());
      for (int output = begin; output < end; ++output)
        turned_[static_cast<size_t> (output - begin) * inputs + k] =
            tensor_row_[static_cast<size_t> (rows.first_column + output * rows.column_step)];
    }
    turned_from_ = begin;
  }

  /// Output `row` as floats.
  void read_row (const PackingJob &job, int row)
  {
    const size_t inputs = static_cast<size_t> (job.weight->inputs);
    if (job.rows->transposed)
      std::copy_n (turned_.data () + static_cast<size_t> (row - turned_from_) * inputs, inputs,
                   values_.data ());
    else if (job.rows->values)
      job.rows->values->read (stored_row (job, row), values_.data ());
    else if (job.part && job.part->input_step != 1)
      read_apart (job.tensor->dtype, file_data (job, row), job.part->input_step, job.weight->inputs,
                  values_.data ());
    else
      read_floats (job.tensor->dtype, file_data (job, row), job.weight->inputs, values_.data ());
  }

  void pack_rows (const PackingJob &job, int row, int count, std::byte *panel)
  {
    const PackedWeight &weight = *job.weight;
    if (is_affine (weight.format) && job.rows->affine)
      return pack_affine_rows (job, row, count, panel);
    if (is_kept_as_coded (job))
      return pack_coded_rows (job, row, count, panel);
    const DType dtype = job.tensor->dtype;
    const bool quantized = is_quantized (weight.format);
    const bool apart = job.rows->values || (job.part && job.part->input_step != 1);
    const bool direct =
        !apart && (quantized ? dtype == block_type (weight.format) : same_floats (weight.format, dtype));
    const std::byte *rows[kPanelRows];
    for (int i = 0; i < count; ++i) {
      if (direct) {
        rows[i] = file_data (job, row + i);
        continue;
      }
      read_row (job, row + i);
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
  std::vector<float> turned_; ///< outputs from turned_from_ on of a transposed matrix
  int turned_from_ = 0;
  std::vector<float> tensor_row_; ///< of its tensor
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
    const size_t rows = job.rows->transposed // each part reads all rows of the tensor
                            ? outputs
                            : std::max (size_t{1}, kPartBytes / row_bytes / kPanelRows) * kPanelRows;
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

/// Rows [begin, end) of a matrix of codes.
void
release_coded (const StoredRows &rows, int64_t begin, int64_t end)
{
  const std::span<const std::byte> source = rows.coded->source (begin, end);
  if (source.empty ())
    return;
  const CodedMatrix::Part codes = rows.coded->parts ().front ();
  release_rows (codes.mapping, codes.data, static_cast<size_t> (rows.coded->rows ()),
                static_cast<int> (begin), static_cast<int> (end));
}

void
release (const Part &part)
{
  const PackingJob &job = *part.job;
  const StoredRows &rows = *job.rows;
  if (rows.transposed)
    return;
  if (!rows.values) {
    release_rows (job.file, job.tensor->data, static_cast<size_t> (job.weight->outputs), part.begin,
                  part.end);
    return;
  }
  const int64_t begin = rows.first + part.begin * rows.step, end = rows.first + part.end * rows.step;
  if (rows.coded)
    return release_coded (rows, begin, end);
  const AffineTensor &affine = *rows.affine;
  const size_t count = affine.data.size () / affine.row_bytes ();
  release_rows (job.file, affine.data, count, static_cast<int> (begin), static_cast<int> (end));
  release_rows (affine.scales_mapping, affine.scales, count, static_cast<int> (begin),
                static_cast<int> (end));
  release_rows (affine.biases_mapping, affine.biases, count, static_cast<int> (begin),
                static_cast<int> (end));
}

/// All that a job has read.
void
release_all (const PackingJob &job)
{
  MappedFile::release_pages (job.tensor->data);
  if (const AffineTensor *affine = job.rows->affine) {
    MappedFile::release_pages (affine->scales);
    MappedFile::release_pages (affine->biases);
  }
  if (job.rows->coded)
    for (const CodedMatrix::Part &part : job.rows->coded->parts ())
      MappedFile::release_pages (part.data);
}

/// A matrix whose rows are columns of the file is let go of when the last of them has been read.
bool
is_read_across (const PackingJob &job)
{
  return job.rows->coded && job.rows->coded->source (0, 1).empty ();
}

} // namespace

void
pack_weights (std::span<const PackingJob> jobs, ThreadPool &pool, const std::stop_token &stop)
{
  const std::vector<Part> parts = cut (jobs);
  std::vector<Packer> packers (static_cast<size_t> (pool.size ()), Packer (jobs));
  std::vector<std::atomic<int>> parts_left (jobs.size ());
  for (const Part &part : parts)
    ++parts_left[static_cast<size_t> (part.job - jobs.data ())];
  pool.run (static_cast<int> (parts.size ()), [&] (int index, int lane) {
    if (stop.stop_requested ())
      return;
    const Part &part = parts[static_cast<size_t> (index)];
    packers[static_cast<size_t> (lane)].pack (*part.job, part.begin, part.end);
    release (part);
    if (--parts_left[static_cast<size_t> (part.job - jobs.data ())] == 0 && is_read_across (*part.job))
      release_all (*part.job);
  });
  if (stop.stop_requested ())
    throw LoadStopped ();
  for (const PackingJob &job : jobs) // of outputs that are paired, some were read with other parts
    release_all (job);
}

} // namespace millrace::cpu
