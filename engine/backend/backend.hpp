// The seam between what is computed and how.
//
// The decoder (engine/model) turns an ArchitectureSpec into a Program, a flat list of operations over named
// weights. A Backend compiles the program once (weights into its own layout) and then runs it for the
// token rows of a step. Nothing above this header knows which backend runs, and no pointer to KV or
// activations leaves it.
//
// Promise of every backend: the numbers of a token row depend only on that sequence's tokens, never on the
// other slices of the pass, on how a prompt was cut into passes, or on the number of threads.
#pragma once

#include "engine/backend/program.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace millrace
{

class WeightFiles;

using TokenId = int32_t;
using BlockId = int32_t;

constexpr int kBlockTokens = 16; ///< tokens in a KV block

/// One sequence's part of a forward pass. KV of positions [0, position) has been computed before.
struct Slice {
  std::span<const TokenId> tokens; ///< at positions position, position + 1, ...
  int position = 0;
  std::span<const BlockId> blocks; ///< block table; covers position + tokens.size () positions
  int scored = 0;                  ///< logits are wanted for the last `scored` tokens
  float *logits = nullptr;         ///< out, [scored × vocab] row-major; null when scored is 0
  float *hidden = nullptr;         ///< out, [tokens × hidden] after the final norm; null: not wanted
};

/// KV blocks and activations of one scheduler. One thread at a time.
class ExecutionContext
{
public:
  virtual ~ExecutionContext () = default;

  /// Appends the slices' tokens to KV and computes the wanted outputs. Slices are of different sequences.
  /// Token ids must be in [0, vocab) and the token total at most max_tokens () (checked by the caller).
  /// No allocation once the largest pass has been seen.
  virtual void forward (std::span<const Slice> slices) = 0;
  virtual int max_tokens () const = 0; ///< tokens in one pass
  virtual int kv_blocks () const = 0;
};

/// A program with its weights, ready to run. Immutable; any number of contexts at a time.
class CompiledModel
{
public:
  virtual ~CompiledModel () = default;

  virtual size_t kv_block_bytes () const = 0; ///< one block, all layers
  virtual size_t weight_bytes () const = 0;
  virtual std::string description () const = 0; ///< "cpu avx2+fma, bf16 weights, 2 threads"
  /// Throws std::bad_alloc when the memory is not there.
  virtual std::unique_ptr<ExecutionContext> create_context (int kv_blocks, int max_tokens) const = 0;
};

enum class WeightFormat : uint8_t {
  kAuto, ///< as the file has them
  kF32,
  kF16,
  kBF16,
  kInt8, ///< 8 bits, symmetric, one scale per group of 32 along the input; norms and biases stay F32
};

struct CompileOptions {
  WeightFormat weights = WeightFormat::kAuto;
};

class Backend
{
public:
  virtual ~Backend () = default;
  /// Throws LoadError for missing or misshapen tensors.
  virtual std::unique_ptr<CompiledModel> compile (const Program &program, const WeightFiles &files,
                                                  const CompileOptions &options) const = 0;
};

struct CpuOptions {
  int threads = 0; ///< 0: usable_cores ()
  /// kAuto: the best the host has, or what the environment variable MILLRACE_ISA (portable, avx2) says.
  enum class Isa : uint8_t { kAuto, kPortable, kAvx2 } isa = Isa::kAuto;
};

/// Throws std::invalid_argument when the host cannot run options.isa, or MILLRACE_ISA is not a known name.
std::unique_ptr<Backend> create_cpu_backend (const CpuOptions &options);

} // namespace millrace
