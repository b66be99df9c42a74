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

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

namespace millrace
{

class ThreadPool;
class WeightFiles;

using TokenId = int32_t;
using BlockId = int32_t;

constexpr int kBlockTokens = 16; ///< positions of a KV block
constexpr BlockId kNoBlock = -1; ///< in a block table: nothing is kept for these positions any more
constexpr int kMaxKvGroups = 4;  ///< kinds of layers that one model mixes

/// How keys and values are stored. Computation is in float32 whatever the type.
enum class KvType : uint8_t {
  kF32,
  kF16,
  kBF16,
  kQ8,   ///< 8 bits, symmetric; one float32 scale for each position of each head
  kK8V4, ///< keys as kQ8; values 4 bits with a float16 scale and minimum for each 32 of a position's head
};
constexpr int kKvTypes = 5;

/// "f32", "f16", "bf16", "q8", "k8v4".
const char *kv_type_name (KvType type);

/// Layers whose state lives and dies together share block ids and block tables.
struct KvGroup {
  enum class Kind : uint8_t {
    kPositional, ///< every position is read for as long as the sequence lives: full attention, latent (MLA)
    kWindow,     ///< a position is read by itself and by the `window` - 1 positions after it
    kRecurrent,  ///< one block holds the state after the last position, and nothing else is kept
  };
  Kind kind = Kind::kPositional;
  int window = 0;         ///< positions, kWindow only
  size_t block_bytes = 0; ///< one block, all layers of the group

  bool operator== (const KvGroup &) const = default;
};

/// Group 0 is positional, of 0 bytes when the model has no such layer; at most kMaxKvGroups.
using KvLayout = std::vector<KvGroup>;

/// One sequence's part of a forward pass. KV of positions [0, position) has been computed before.
struct Slice {
  std::span<const TokenId> tokens; ///< at positions position, position + 1, ...
  int position = 0;
  /// The sequence never has more positions; 0: as many as the model has. The same in all of a sequence's slices, and in
  /// those of sequences that share its blocks: some models embed positions of long sequences in another way.
  int max_positions = 0;
  /// Block table of each group. Positional and window groups: entry i holds positions
  /// [i · kBlockTokens, (i + 1) · kBlockTokens); it covers position + tokens.size () positions and may be
  /// kNoBlock where no token of the slice looks. Recurrent groups: the one block of the state, updated in place.
  std::array<std::span<const BlockId>, kMaxKvGroups> blocks;
  int scored = 0;          ///< logits are wanted for the last `scored` tokens
  float *logits = nullptr; ///< out, [scored × vocab] row-major; null when scored is 0
  float *hidden = nullptr; ///< out, [tokens × hidden] after the final norm; null: not wanted
};

/// Time that a kind of operation took.
struct OpTime {
  std::string_view name; ///< "linear", "attention", ...
  int64_t nanoseconds = 0;
  int64_t calls = 0;
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
  /// Of all passes so far; empty unless ContextOptions::measure.
  virtual std::vector<OpTime> op_times () const { return {}; }

  // Blocks as opaque bytes, for sharing and keeping them. Bytes mean the same in every context of an equal
  // CompiledModel::kv_identity () and type.
  virtual void copy_block (int group, BlockId from, BlockId to) = 0;
  /// Zeroes it: the state before the first token.
  virtual void clear_block (int group, BlockId block) = 0;
  /// `out` and `in` have the group's block_bytes.
  virtual void read_block (int group, BlockId block, std::span<std::byte> out) const = 0;
  virtual void write_block (int group, BlockId block, std::span<const std::byte> in) = 0;
};

struct ContextOptions {
  KvType kv_type = KvType::kF32;
  std::array<int, kMaxKvGroups> kv_blocks{}; ///< of each group of the layout, at least 1
  int max_tokens = 0;                        ///< tokens in one pass, at least 1
  bool measure = false;                      ///< op_times (): two clock readings for each operation
};

/// A program with its weights, ready to run. Immutable; any number of contexts at a time.
class CompiledModel
{
public:
  virtual ~CompiledModel () = default;

  virtual KvLayout kv_layout (KvType type) const = 0;
  /// Equal for two models only if equal tokens give equal bits of KV: a digest of the program, the packed
  /// weights and the kernels' name. Reads all weights; computed once, by the first caller. Any thread.
  virtual std::string kv_identity () const = 0;
  virtual size_t weight_bytes () const = 0;
  /// Reads all weights once by all threads and does nothing else: a step with one token cannot take less time. For
  /// benchmarks; the result means nothing.
  virtual uint64_t read_weights () const { return 0; }
  virtual std::string description () const = 0; ///< "cpu avx2+fma, bf16 weights, 2 threads"
  /// What went wrong while loading but did not keep the model from running, for the user; empty mostly.
  virtual std::string load_warning () const { return {}; }
  /// The threads it computes with, for another model that runs in turn with it; null: none to share.
  virtual std::shared_ptr<ThreadPool> thread_pool () const { return nullptr; }
  /// Throws std::bad_alloc when the memory is not there, std::invalid_argument for counts below 1.
  virtual std::unique_ptr<ExecutionContext> create_context (const ContextOptions &options) const = 0;
};

enum class WeightFormat : uint8_t {
  kAuto, ///< as the file has them
  kF32,
  kF16,
  kBF16,
  // Norms and biases stay F32.
  kInt8, ///< 8 bits, symmetric, one float16 scale per group of 32 along the input (GGUF's Q8_0)
  kInt4, ///< GGUF's Q4_K; embedding, head and values Q6_K; rows that are not made of 256s: Q4_0 and Q8_0
};

struct CompileOptions {
  WeightFormat weights = WeightFormat::kAuto;
  /// A folder, made when it is missing, where packed weights are kept, so that the next compile () only maps them; empty:
  /// nothing is kept. Trouble with it costs time, and is told by CompiledModel::load_warning ().
  std::filesystem::path weight_cache{};
  bool lock_memory = false; ///< weights stay in RAM: mlock(2)
  std::stop_token
      stop{}; ///< compile () then throws LoadStopped, at the latest after the part of a matrix it is at
};

/// Memory of weights of one format.
struct WeightMemory {
  std::string format; ///< "bf16", "q4_k", …
  uint64_t bytes = 0;
};

class Backend
{
public:
  virtual ~Backend () = default;
  /// What compile () would need for weights, of which nothing is read. Throws LoadError as it does.
  virtual std::vector<WeightMemory> plan (const Program &program, const WeightFiles &files,
                                          WeightFormat weights) const = 0;
  /// CompiledModel::kv_layout () of what compile () would make.
  virtual KvLayout kv_layout (const Program &program, KvType type) const = 0;
  /// Throws LoadError for missing or misshapen tensors, and when memory cannot be locked; LoadStopped.
  virtual std::unique_ptr<CompiledModel> compile (const Program &program, const WeightFiles &files,
                                                  const CompileOptions &options) const = 0;
};

struct CpuOptions {
  int threads = 0; ///< 0: usable_cores ()
  /// Threads of another model instead: two that run in turn must not keep each other's idle threads spinning. Null: own.
  std::shared_ptr<ThreadPool> share{};
  /// kAuto: the best the host has, or what the environment variable MILLRACE_ISA (portable, avx2, avxvnni, avx512, amx,
  /// neon, dotprod, i8mm) says.
  enum class Isa : uint8_t {
    kAuto,
    kPortable,
    kAvx2,
    kAvxVnni,
    kAvx512,
    kAmx,
    kNeon,
    kDotprod,
    kI8mm
  } isa = Isa::kAuto;
};

/// Throws std::invalid_argument when the host cannot run options.isa, or MILLRACE_ISA is not a known name.
std::unique_ptr<Backend> create_cpu_backend (const CpuOptions &options);

} // namespace millrace
