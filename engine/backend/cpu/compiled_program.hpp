// A program with its packed weights, kernels and threads: what the contexts of one model share.
#pragma once

#include "engine/backend/cpu/kv_storage.hpp"
#include "engine/backend/cpu/weights.hpp"

#include <array>
#include <memory>
#include <string>

namespace millrace::cpu
{

/// Immutable.
struct CompiledProgram {
  CompiledProgram (const Program &program, const WeightFiles &files, const CompileOptions &options,
                   const KernelTable &kernels, std::shared_ptr<ThreadPool> pool);

  Program program;
  const KernelTable &kernels;
  std::shared_ptr<ThreadPool> pool;
  PackedWeights weights;
  std::array<KvPlan, kKvTypes> kv; ///< by KvType
};

/// CompiledModel::kv_identity (). Reads all weights.
std::string kv_identity (const CompiledProgram &compiled);

} // namespace millrace::cpu
