#include "engine/backend/cpu/weights.hpp"

#include "engine/backend/cpu/affine_format.hpp"
#include "engine/backend/cpu/formats.hpp"
#include "engine/backend/cpu/packing.hpp"
#include "engine/backend/cpu/weight_cache.hpp"
#include "engine/backend/weight_roles.hpp"
#include "engine/error.hpp"
#include "engine/weights/coded_matrix.hpp"
#include "engine/weights/weight_files.hpp"

#include <algorithm>
#include <cerrno>
#include <new>
#include <set>
#include <sys/mman.h>
#include <sys/resource.h>
#include <system_error>

namespace millrace::cpu
{

namespace
{

constexpr size_t kLine = 64;

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
  default:
    return format_of_blocks (dtype).value_or (Format::kF32);
  }
}

/// Affine matrices have formats that hold exactly what the file holds.
Format
stored_format (const CodedMatrix::Form &form)
{
  if (!form.codes)
    return stored_format (form.type);
  const ScaleType scales = form.type == DType::kF16    ? ScaleType::kF16
                           : form.type == DType::kBF16 ? ScaleType::kBF16
                                                       : ScaleType::kF32;
  return affine_format ({form.codes->bits, form.codes->group, scales});
}

/// Of 4 bits or fewer, with their scales: Q4_1 has 5.
bool
is_small (const CodedMatrix::Form &form)
{
  if (form.codes)
    return form.codes->bits <= 4;
  const DTypeBlock block = dtype_block (form.type);
  return is_block_type (form.type) && 8 * block.bytes <= 5 * block.elements;
}

/// `sensitive`: see sensitive_weights ().
Format
chosen_format (WeightFormat wanted, const CodedMatrix::Form &stored, int inputs, bool sensitive)
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
    if (is_small (stored))
      break;
    if (inputs % kSuperBlock == 0)
      return sensitive ? Format::kQ6K : Format::kQ4K;
    return sensitive ? Format::kQ8 : Format::kQ4;
  case WeightFormat::kAuto:
    break;
  }
  return stored_format (stored);
}

/// A convolution's axes may be in another order.
const TensorView &
require_tensor (const WeightFiles &files, const WeightRef &ref)
{
  const Shape shape = ref.shape ();
  if (const TensorView *tensor = ref.taps > 0 ? files.find (ref.name) : nullptr;
      tensor && tensor->shape == Shape{shape[0], shape[2], 1})
    return *tensor;
  return files.require (ref.name, shape);
}

/// The part of a tensor of floats that a weight is.
TensorView
rows_of (const TensorView &tensor, const WeightRef &ref)
{
  if (const TensorPart &steps = ref.part; !steps.shape.empty ()) {
    const DTypeBlock block = dtype_block (tensor.dtype);
    const auto bytes = [&] (int64_t elements) {
      return static_cast<size_t> (elements) / block.elements * block.bytes;
    };
    const int64_t inputs = ref.is_matrix () ? ref.inputs : 1;
    const int64_t count = (ref.outputs - 1) * steps.output_step +
                          (steps.input_step == 1 ? inputs : (inputs - 1) * steps.input_step + 1);
    TensorView part = tensor;
    part.data = tensor.data.subspan (bytes (steps.first), bytes (count));
    return part;
  }
  if (ref.tensor_outputs == 0)
    return tensor;
  TensorView part = tensor;
  const size_t row_bytes = tensor.data.size () / static_cast<size_t> (ref.tensor_outputs);
  const int rows = ref.run > 0 ? (ref.outputs / ref.run - 1) * ref.stride + ref.run : ref.outputs;
  part.data = tensor.data.subspan (row_bytes * static_cast<size_t> (ref.first_output),
                                   row_bytes * static_cast<size_t> (rows));
  part.shape[0] = ref.outputs;
  return part;
}

} // namespace

PackedWeights::PackedWeights (const Program &program, const WeightFiles &files, const CompileOptions &options,
                              ThreadPool &pool)
{
  const std::vector<Source> sources = plan (program, files, options.weights);
  std::optional<WeightCache> cache;
  if (!options.weight_cache.empty () && bytes_ > 0) {
    cache.emplace (options.weight_cache, program, files, weights_, bytes_);
    mapped_ = cache->open (warning_);
  }
  if (mapped_) {
    if (options.stop.stop_requested ())
      throw LoadStopped ();
    data_ = cache->data (*mapped_);
    place ();
  } else {
    pack (program, files, sources, pool, options.stop);
    if (cache)
      cache->save ({data_, bytes_}, warning_);
  }
  if (options.lock_memory)
    lock (files);
}

/// Where everything will be, and what it is made of.
std::vector<PackedWeights::Source>
PackedWeights::plan (const Program &program, const WeightFiles &files, WeightFormat format)
{
  const std::set<WeightId> sensitive = sensitive_weights (program), routers = router_weights (program);
  std::vector<Source> sources;
  for (const WeightRef &ref : program.weights) {
    const TensorView &tensor = require_tensor (files, ref);
    const bool is_codes = is_block_type (tensor.dtype) || files.affine (ref.name) || files.coded (ref.name);
    if (is_codes ? !ref.is_matrix () : !is_float (tensor.dtype))
      throw LoadError (files.file_of (ref.name), ref.name,
                       "has elements of type " + std::string (dtype_name (tensor.dtype)) +
                           (ref.is_matrix ()
                                ? "; matrices must be F32, F16, BF16, quantized blocks, or codes that "
                                  "config.json describes"
                                : "; norms and biases must be F32, F16 or BF16"));
    const StoredRows rows = stored_rows (files, tensor, ref);
    PackedWeight weight;
    weight.outputs = ref.outputs;
    weight.inputs = ref.inputs;
    weight.offset = bytes_;
    size_t bytes = 0;
    if (ref.is_matrix ()) {
      const auto id = static_cast<WeightId> (weights_.size ());
      CodedMatrix::Form form = rows.form (tensor.dtype);
      WeightFormat wanted = format;
      if (routers.contains (id)) { // exactly what the file has
        wanted = format == WeightFormat::kF32 ? format : WeightFormat::kAuto;
        if (rows.coded && is_float (form.type) && !form.codes)
          form.type = DType::kF32;
      }
      weight.format = chosen_format (wanted, form, ref.inputs, sensitive.contains (id));
      weight.columns = padded_columns (weight.format, ref.inputs);
      weight.panel_bytes = panel_bytes (weight.format, weight.columns);
      const int panels = (ref.outputs + kPanelRows - 1) / kPanelRows;
      bytes = round_up (checked_product (weight.panel_bytes, static_cast<size_t> (panels)), kLine);
    } else {
      bytes = round_up (sizeof (float) * static_cast<size_t> (ref.outputs), kLine);
    }
    sources.push_back ({rows.values ? tensor : rows_of (tensor, ref), rows});
    weights_.push_back (weight);
    if (__builtin_add_overflow (bytes_, bytes, &bytes_))
      throw std::bad_alloc ();
  }
  return sources;
}

void
PackedWeights::pack (const Program &program, const WeightFiles &files, std::span<const Source> sources,
                     ThreadPool &pool, const std::stop_token &stop)
{
  memory_ = Memory (bytes_, Memory::Pages::kHuge);
  data_ = memory_.data ();
  place ();
  std::vector<PackingJob> jobs;
  for (size_t i = 0; i < weights_.size (); ++i) {
    const WeightRef &ref = program.weights[i];
    const bool is_part = !sources[i].rows.values && !ref.part.shape.empty ();
    jobs.push_back ({&sources[i].tensor, &weights_[i], files.mapping_of (ref.name), ref.paired,
                     &sources[i].rows, is_part ? &ref.part : nullptr, memory_.data () + weights_[i].offset,
                     ref.run, ref.stride});
  }
  pack_weights (jobs, pool, stop);
  for (size_t i = 0; i < weights_.size (); ++i) {
    auto *values = reinterpret_cast<float *> (memory_.data () + weights_[i].offset);
    for (int j = 0; program.weights[i].offset != 0 && j < weights_[i].outputs; ++j)
      values[j] += program.weights[i].offset;
  }
}

void
PackedWeights::place ()
{
  for (PackedWeight &weight : weights_)
    weight.data = data_ + weight.offset;
}

/// The kernel reads what is not in memory yet, and unlocks when the mapping goes.
void
PackedWeights::lock (const WeightFiles &files) const
{
  if (bytes_ == 0 || mlock (data_, bytes_) == 0)
    return;
  const int error = errno;
  rlimit limit = {};
  getrlimit (RLIMIT_MEMLOCK, &limit);
  const std::string allowed = limit.rlim_cur == RLIM_INFINITY
                                  ? "any amount of memory"
                                  : std::to_string (limit.rlim_cur >> 10) + " KiB of memory in all";
  throw LoadError (files.path (), "",
                   "the weights, " + std::to_string (bytes_ >> 10) + " KiB, cannot be locked into memory: " +
                       std::generic_category ().message (error) + "; this process may lock " + allowed +
                       " (RLIMIT_MEMLOCK): raise that (ulimit -l, LimitMEMLOCK= of a systemd unit) or leave "
                       "lock-memory off");
}

std::vector<WeightMemory>
PackedWeights::memory () const
{
  std::vector<WeightMemory> memory;
  for (size_t i = 0; i < weights_.size (); ++i) {
    const size_t end = i + 1 < weights_.size () ? weights_[i + 1].offset : bytes_;
    const char *name =
        weights_[i].columns > 0 ? format_name (weights_[i].format) : format_name (Format::kF32);
    const auto known = std::ranges::find (memory, name, &WeightMemory::format);
    if (known == memory.end ())
      memory.push_back ({name, end - weights_[i].offset});
    else
      known->bytes += end - weights_[i].offset;
  }
  return memory;
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
