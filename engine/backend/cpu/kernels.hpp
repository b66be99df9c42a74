// The CPU's kernels behind one dispatch table: a portable reference, and one set of files per instruction
// set.
//
// Promise of every entry: an output element depends on its own inputs only. A dot product is accumulated in
// kLanes lanes over the input in steps of kLanes, then summed as ((0+1)+(2+3)) + ((4+5)+(6+7)), whatever
// the register tile; so tiles of different shapes give the same bits. Two tables need not agree bit for bit.
//
// This header is also read by files that are compiled for an instruction set which the host may lack:
// it holds declarations only, no inline functions, nothing the linker could pick for portable callers.
// Kernels keep no state; any thread.
#pragma once

#include <cstddef>
#include <cstdint>

namespace millrace::cpu
{

constexpr int kLanes = 8;
constexpr int kPad = 32;   ///< rows of weights and activations are padded with zeros to a multiple of this
constexpr int kGroup = 32; ///< int8: elements that share a scale
constexpr int kRowsPerPart = 48; ///< output rows of one part of work: a multiple of every tile's rows
constexpr int kQueryTile =
    16; ///< queries that attention takes at once: keys and values are read once for them
constexpr int kLeastQueryTile = 4; ///< fewer at once waste registers
constexpr int kKvTokens = 16;      ///< positions in a KV block
constexpr int kValuePad = 16;      ///< a position's values are padded to a multiple of this
constexpr int kKvFormats = 5;      ///< ways to store keys and values: KvType, see kv_storage.hpp

/// How a weight row is stored.
///   kF32, kF16  in order
///   kBF16       in groups of 16: element i beside element i + 8, so that a shift and a mask of one 256-bit
///   load
///               give both halves in order
///   kInt8       `columns` values, then columns / 32 float scales
enum class Format : uint8_t { kF32, kF16, kBF16, kInt8 };
constexpr int kFormats = 4;

/// y[t][0 … rows) = W · x[t] + bias, for `tokens` rows of x.
struct LinearArgs {
  const void *weights; ///< first row
  size_t row_bytes;
  int rows;
  int columns;   ///< padded to kPad
  const void *x; ///< floats; for kInt8 rows made by quantize_row
  size_t x_row_bytes;
  int tokens;
  const float *bias; ///< of the first row, or null
  float *const *y;   ///< tokens pointers to rows of output
  size_t y_offset;   ///< of the first row in them
  bool accumulate;   ///< add to what y holds
  float *scratch;    ///< `columns` floats
};

/// Up to kQueryTile queries of one sequence that share a KV head, in ascending order of position.
/// KV of block b: keys at kv + b · block_bytes + key_offset, values at value_offset, stored as kv_storage.hpp says.
struct AttentionArgs {
  int queries;
  const float *q[kQueryTile];
  float *out[kQueryTile];
  int begin
      [kQueryTile]; ///< query i sees positions [begin[i], end[i]), at least one; neither decreases with i
  int end[kQueryTile];
  int head_dim;
  int value_width; ///< head_dim, padded
  float scale;
  const std::byte *kv;
  size_t block_bytes, key_offset, value_offset;
  const int32_t *blocks; ///< those wholly before begin[0] are not looked at
  float *scores;         ///< scratch: kQueryTile rows
  size_t score_stride;   ///< floats, at least kKvTokens for each block that is looked at
  float *values;         ///< scratch: kQueryTile rows of value_width
  float *block;          ///< scratch: one head's keys or values of a block as floats
};

struct KernelTable {
  const char *name;
  void (*linear[kFormats]) (const LinearArgs &);
  /// Weight row → floats.
  void (*expand[kFormats]) (const void *row, int columns, float *out);
  /// `count` floats → `columns` int8 values and their scales, as a kInt8 row.
  void (*quantize_row) (const float *x, int count, int columns, void *out);
  void (*rms_norm) (const float *x, const float *weight, int count, float epsilon, float *out);
  /// out = activation (gate) · up
  void (*silu) (const float *gate, const float *up, int count, float *out);
  void (*gelu_tanh) (const float *gate, const float *up, int count, float *out);
  void (*gelu) (const float *gate, const float *up, int count, float *out);
  /// x[i], x[i + half] rotated by the angle with cosine cos[i] and sine sin[i]
  void (*rotate) (float *x, const float *cos, const float *sin, int half);
  void (*attention[kKvFormats]) (const AttentionArgs &); ///< by KvType
};

extern const KernelTable kPortableKernels;
#if defined(__x86_64__) || defined(__i386__)
extern const KernelTable kAvx2Kernels;
#endif

} // namespace millrace::cpu
