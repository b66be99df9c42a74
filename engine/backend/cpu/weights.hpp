// A program's weights in the CPU's layout: one block of memory, or a file of such a block (weight_cache.hpp), matrices on
// 64 bytes.
//
// Matrices are stored in panels as Format says, rows padded with zeros to kPad elements and panels with zero rows; vectors
// (norms, biases) as floats. Immutable after loading.
#pragma once

#include "engine/backend/backend.hpp"
#include "engine/backend/cpu/kernels.hpp"
#include "engine/backend/cpu/memory.hpp"
#include "engine/backend/cpu/stored_rows.hpp"
#include "engine/tensor/mapped_file.hpp"
#include "engine/tensor/thread_pool.hpp"

#include <optional>
#include <span>
#include <string>
#include <vector>

namespace millrace::cpu
{

struct PackedWeight {
  Format format = Format::kF32;
  int outputs = 0;
  int inputs = 0;  ///< of a vector: 0
  int columns = 0; ///< inputs, padded
  size_t panel_bytes = 0;
  size_t offset = 0; ///< of `data` in PackedWeights::data ()
  const std::byte *data = nullptr;

  /// The panel that holds output `index`.
  const std::byte *panel (int index) const
  {
    return data + static_cast<size_t> (index / kPanelRows) * panel_bytes;
  }
  const float *vector () const { return reinterpret_cast<const float *> (data); }
};

class PackedWeights
{
public:
  /// Throws LoadError for a tensor that is missing, misshapen or of a type that cannot be used, and when memory that is
  /// to be locked cannot be.
  PackedWeights (const Program &program, const WeightFiles &files, const CompileOptions &options,
                 ThreadPool &pool);

  /// Sizes and formats only: nothing is read but what `files` have checked, and there is no data. Throws LoadError likewise.
  PackedWeights (const Program &program, const WeightFiles &files, WeightFormat format)
  {
    plan (program, files, format);
  }

  const PackedWeight &operator[] (WeightId id) const { return weights_[static_cast<size_t> (id)]; }
  size_t bytes () const { return bytes_; }
  /// By format, in the order of first appearance; vectors are "f32".
  std::vector<WeightMemory> memory () const;
  std::span<const std::byte> data () const { return {data_, bytes_}; }
  /// What went wrong with the cache, for the user; empty mostly.
  const std::string &warning () const { return warning_; }
  /// "bf16", "mixed": the formats of the matrices.
  std::string description () const;

private:
  /// What a weight is made of.
  struct Source {
    TensorView tensor; ///< the part of it that the weight is, unless there are rows
    StoredRows rows;
  };
  std::vector<Source> plan (const Program &program, const WeightFiles &files, WeightFormat format);
  void pack (const Program &program, const WeightFiles &files, std::span<const Source> sources,
             ThreadPool &pool, const std::stop_token &stop);
  void place ();
  void lock (const WeightFiles &files) const;

  Memory memory_; ///< or:
  std::optional<MappedFile> mapped_;
  const std::byte *data_ = nullptr; ///< in one of them
  size_t bytes_ = 0;
  std::vector<PackedWeight> weights_;
  std::string warning_;
};

} // namespace millrace::cpu
