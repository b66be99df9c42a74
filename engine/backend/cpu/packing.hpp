// Tensors of a checkpoint → weights in the CPU's layout, by all threads of a pool.
#pragma once

#include "engine/backend/cpu/weights.hpp"
#include "engine/tensor/tensor_view.hpp"

#include <span>
#include <stop_token>

namespace millrace::cpu
{

/// One weight to pack: `out` has its bytes, which are zeros.
struct PackingJob {
  const TensorView *tensor;
  const PackedWeight *weight;
  std::span<const std::byte> file; ///< the mapping that the tensor is in
  int paired;                      ///< WeightRef::paired
  const StoredRows *rows;
  const TensorPart
      *part; ///< WeightRef::part, or null: steps between outputs and inputs of `tensor`; not with rows
  std::byte *out;
  int run = 0, stride = 0; ///< WeightRef::run, stride
};

/// Does all jobs in one go. The memory of `out` is touched first by the threads that fill it; pages of files that have
/// been used up are let go of at once, so that no more than a few MiB of them count as this process's memory at a time.
/// Throws LoadStopped soon after `stop` was asked for.
void pack_weights (std::span<const PackingJob> jobs, ThreadPool &pool, const std::stop_token &stop);

} // namespace millrace::cpu
