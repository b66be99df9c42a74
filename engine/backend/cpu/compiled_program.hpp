// A program with its packed weights, kernels and threads: what the contexts of one model share.
#pragma once

#include "engine/backend/cpu/weights.hpp"

#include <memory>
#include <vector>

namespace millrace::cpu
{

/// Where one layer's keys and values lie in a KV block; layout in AttentionArgs.
struct KvPlace {
  int value_width = 0;   ///< head_dim padded to kValuePad
  size_t key_offset = 0; ///< of head 0
  size_t key_bytes = 0;  ///< of one head
  size_t value_offset = 0;
  size_t value_bytes = 0;
};

/// Immutable.
struct CompiledProgram {
  CompiledProgram (const Program &program, const WeightFiles &files, WeightFormat format,
                   const KernelTable &kernels, std::shared_ptr<ThreadPool> pool);

  Program program;
  const KernelTable &kernels;
  std::shared_ptr<ThreadPool> pool;
  PackedWeights weights;
  std::vector<KvPlace> kv_places;
  size_t kv_block_bytes = 0;
};

} // namespace millrace::cpu
