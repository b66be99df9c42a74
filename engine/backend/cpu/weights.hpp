// A program's weights in the CPU's layout: one block of memory, matrices on 64 bytes.
//
// Matrices are stored in panels as Format says, rows padded with zeros to kPad elements and panels with zero rows; vectors
// (norms, biases) as floats. Immutable after loading.
#pragma once

#include "engine/backend/backend.hpp"
#include "engine/backend/cpu/kernels.hpp"
#include "engine/backend/cpu/memory.hpp"
#include "engine/tensor/thread_pool.hpp"

#include <span>
#include <vector>

namespace millrace::cpu
{

struct PackedWeight {
  Format format = Format::kF32;
  int outputs = 0;
  int inputs = 0;  ///< of a vector: 0
  int columns = 0; ///< inputs, padded
  size_t panel_bytes = 0;
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
  /// Throws LoadError for a tensor that is missing, misshapen or of a type that cannot be used.
  PackedWeights (const Program &program, const WeightFiles &files, WeightFormat format, ThreadPool &pool);

  const PackedWeight &operator[] (WeightId id) const { return weights_[static_cast<size_t> (id)]; }
  size_t bytes () const { return memory_.size (); }
  std::span<const std::byte> data () const { return {memory_.data (), memory_.size ()}; }
  /// "bf16", "mixed": the formats of the matrices.
  std::string description () const;

private:
  Memory memory_;
  std::vector<PackedWeight> weights_;
};

} // namespace millrace::cpu
