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
constexpr int kGroup = 32; ///< elements that share a scale
constexpr int kRowsPerPart = 48;     ///< output rows of one part of work: a multiple of every tile's rows
constexpr int kQueryTile = 96;       ///< most queries that attention takes at once: KV is read once for them
constexpr int kLeastQueryTile = 6;   ///< fewer at once waste registers
constexpr int kAttentionChunk = 256; ///< positions [i · kAttentionChunk, …) whose softmax is taken at once
constexpr int kAttentionSplit = 1024; ///< positions [i · kAttentionSplit, …) that have a state of their own
constexpr int kStatePad = 16;         ///< floats beside the values of a state: attention.hpp
constexpr int kKvTokens = 16;         ///< positions in a KV block
constexpr int kSegmentBlocks = 16;    ///< KV blocks whose keys of a layer are neighbours, and their values
constexpr int kDotColumns = 4;   ///< of keys, or positions of values, in kQ8: neighbours in a row of bytes
constexpr int kDotRowBytes = 64; ///< such a row: of 16 positions, or elements of a value
constexpr int kDotPanel = 64;    ///< elements of values in kQ8 that lie together for all positions of a block
constexpr int kMostDigit = 127 * 256 + 127; ///< in two signed bytes
constexpr int kValuePad = 16;               ///< a position's values are padded to a multiple of this
constexpr int kStateLanes = 32;             ///< values of a recurrence that are computed at once
constexpr int kMostTaps = 16;               ///< of a convolution
constexpr int kKvFormats = 5;               ///< ways to store keys and values: KvType, see kv_storage.hpp

/// How a matrix is stored: in panels of kPanelRows rows, which are one stretch of memory, read once from its beginning to
/// its end: memory is fastest so.
///
/// Floats: 16 elements of the first row, 16 of the second, …, then the next 16 of each.
///   kF32, kF16  in order
///   kBF16       element i beside element i + 8, so that a shift and a mask of one 256-bit load give both halves in order
/// Of the others vectors of 32 bytes interleave the rows: bytes 4 r … 4 r + 3 belong to row r, so that a dot product needs
/// no sum across lanes and activations are broadcast. A step is 4 columns. [p][r][2]: for pair p of sub-blocks and row r
/// the values of sub-blocks 2 p and 2 p + 1.
///   kQ8    float16 d[columns / 32][8], padded to 64 bytes; then 8 steps of 32 bytes for each group of 32 columns:
///          int8 q.                                        w = d · q
///   kQ4    float16 d[columns / 32][8], padded to 64 bytes; then 4 vectors for each group of 32 columns: vector v has
///          step v in its low and step v + 4 in its high nibbles.   w = d · (nibble - 8)
///   kQ4K   for each 256 columns 1152 bytes: float16 d[8], dmin[8]; 64 bytes of 6-bit scales [4][8][2] whose upper two
///          bits are bits 4 and 5 of minima; 32 bytes with the lower 4 bits of minima: entry i of [4][8][2] in byte
///          i % 32, in its low nibble for i < 32; then nibbles as in kQ4 for each of 8 sub-blocks of 32 columns.
///                                                         w = d · scale · nibble - dmin · min
///   kQ6K   for each 256 columns 1696 bytes: int8 scales[8][8][2] of sub-blocks of 16; float16 d[8]; 16 bytes of padding;
///          for each 32 columns 4 vectors of nibbles as in kQ4, then 2 vectors: vector u has the upper 2 bits of
///          step 4 u + i in bits 2 i and 2 i + 1.            w = d · scale · (q - 32)
///
/// Codes of b bits for 32 columns are b vectors, in planes of 4, 2 and 1 bits (2, 2 + 1, 4, 4 + 1, 4 + 2), or bytes (8):
///   4 bits     4 vectors of nibbles as in kQ4
///   2 bits     2 vectors as in kQ6K: vector u has step 4 u + i in bits 2 i and 2 i + 1
///   1 bit      1 vector: step i in bit i; the last plane is the upper bits
///   8 bits     8 vectors, one for each step
///   kQ5        as kQ4, with codes of 5 bits.               w = d · (code - 16)
///   kIQ4NL     as kQ4.                                     w = d · kIq4NlValues[nibble] (quantized_blocks.hpp)
///   kMXFP4     as kQ4, with uint8 e[columns / 32][8] as scales, padded to 64 bytes.
///                                                         w = 2^(e - 128) · kMxfp4Values[nibble], NaN for e = 255
///   kQ2K       for each 256 columns 672 bytes: float16 d[8], dmin[8]; bytes [8][8][2] of sub-blocks of 16: scale in the
///              low, min in the high nibble; then codes of 2 bits for each 32 columns.
///                                                         w = d · scale · code - dmin · min
///   kQ3K       for each 256 columns 928 bytes: as kQ6K, with codes of 3 bits.   w = d · scale · (code - 4)
///   kQ5K       for each 256 columns 1408 bytes: as kQ4K, with codes of 5 bits.  w = d · scale · code - dmin · min
///   kAffine    and the formats after it, of each bits, group and type of scales (affine_format.hpp): for each `group`
///              columns scale d[8], bias m[8], of that type; then codes of `bits` bits for each 32 columns; padded to 64
///              bytes at its end.                          w = d · code + m
enum class Format : uint8_t {
  kF32,
  kF16,
  kBF16,
  kQ8,
  kQ4,
  kQ4K,
  kQ6K,
  kQ5,
  kIQ4NL,
  kMXFP4,
  kQ2K,
  kQ3K,
  kQ5K,
  kAffine, ///< the first of kAffineFormats
};
constexpr int kAffineFormats = 54;
constexpr int kFormats = 13 + kAffineFormats;
constexpr int kPanelRows = 8;
constexpr int kRun = 16;         ///< elements of a row of floats that are neighbours in a panel
constexpr int kSuperBlock = 256; ///< columns of a block of kQ2K … kQ6K
constexpr int kQ4KBytes = 1152, kQ6KBytes = 1696; ///< of a panel's super-block
constexpr int kQ2KBytes = 672, kQ3KBytes = 928, kQ5KBytes = 1408;

/// What a product wants its other side as. Integers are q = round (x / scale), scale = largest |x| of the group / 127.
///   kFloat     floats
///   kWide32    int16 q[columns], each 4 of them in the order 0, 2, 1, 3; float scales[columns / 32]
///   kByte32    int8 q[columns]; float scales[columns / 32]; int32 8 · (sum of q of the group)[columns / 32]
///   kByte256   int8 q[columns]; float scales[columns / 256]; int16 sums of q of each 16 [columns / 16] and of each
///              32 [columns / 32]
enum class Activations : uint8_t { kFloat, kWide32, kByte32, kByte256 };
constexpr int kActivations = 4;

/// y[t][0 … rows) = W · x[t] + bias, for `tokens` rows of x.
///
/// Of panels each product of a group (or super-block) is an exact integer; these are converted, scaled and added with one
/// rounding, in ascending order: every instruction set gives the same bits.
///   kQ8, kQ4   y = fma (float (sum), d · x_scale, y)
///   kQ5, kIQ4NL, kMXFP4  as kQ8
///   kAffine    of each 32 columns: y = fma (fma (float (sum of code · x), d, float (8 · x_sum) · (m / 8)), x_scale, y)
///   kQ2K, kQ4K, kQ5K
///              y = fma (-float (sum of min · x_sum), dmin · x_scale, y), then fma (float (sum of scale · dot), d · x_scale, y)
///   kQ3K       y = fma (float (sum of scale · (dot - 4 · x_sum)), d · x_scale, y)
///   kQ6K       y = fma (float (sum of scale · (dot - 32 · x_sum)), d · x_scale, y)
struct LinearArgs {
  Format format;       ///< of the weights: one kernel serves many of kAffineFormats
  const void *weights; ///< first panel
  size_t panel_bytes;
  int rows;
  int columns;   ///< padded to kPad
  const void *x; ///< of the kind that the table says
  size_t x_row_bytes;
  int tokens;
  const float *bias; ///< of the first row, or null
  float *const *y;   ///< tokens pointers to rows of output
  size_t y_offset;   ///< of the first row in them
  bool accumulate;   ///< add to what y holds
  float *scratch;    ///< `columns` floats
  bool is_intel;     ///< as the table says
};

/// Part of attention: what queries of one sequence see of positions [first, last). Of each of `heads` KV heads as many
/// queries, in ascending order of position, the same positions for each head; at most kQueryTile in all, one after the
/// other: query i of head h is q[h · queries + i], and so are states.
/// A state is a row of value_width + kStatePad floats: the values' sum weighted with e^(score - largest score), the largest
/// score, and the sum of weights. Chunks are taken in ascending order, each with the largest score up to its end. Queries
/// that see nothing there are left out. attention.hpp makes attention of states.
/// Bytes of kQ8 (keys of kK8V4 too) are multiplied with integers, which is exact: every instruction set gives the same sums.
///   keys    q as round (x · (n / largest |x|)), n = min (kMostDigit, (2^31 - 1) / 128 / head_dim rounded down);
///           score = float (sum) · (key's scale · (largest |x| / n · scale))
///   values  of each chunk and query: w = weight · value's scale as round (w · (kMostDigit / largest w));
///           state = float (sum) · (largest w / kMostDigit) + state
/// Floats each, and halves to even. Of what is not finite there are no steps, and no number comes out.
/// KV of block b: keys of head h at kv + b / kSegmentBlocks · segment_bytes + key_offset + b % kSegmentBlocks ·
/// key_block_bytes + h · key_bytes, values likewise, stored as kv_storage.hpp says.
struct AttentionArgs {
  int heads;
  int queries; ///< of a head
  const float *q[kQueryTile];
  int begin
      [kQueryTile]; ///< query i sees positions [begin[i], end[i]), at least one; neither decreases with i
  int end[kQueryTile];
  int first, last;
  int head_dim;
  int value_width; ///< head_dim, padded
  float scale;
  float softcap; ///< scores become softcap · tanh (score / softcap); 0: they stay
  const std::byte *kv;
  size_t segment_bytes;
  size_t key_offset, key_block_bytes, key_bytes;
  size_t value_offset, value_block_bytes, value_bytes;
  const int32_t *blocks; ///< those wholly before begin[0] are not looked at
  float *states;         ///< out
  float *scratch;        ///< attention_scratch () floats
  bool is_intel;         ///< as the table says
};

/// At most kStateLanes neighbouring channels of a convolution: ConvolutionOp without its SiLU, for the tokens of one slice.
struct ConvolutionArgs {
  int tokens;
  int channels;
  int taps; ///< at most kMostTaps
  float *x; ///< in place
  size_t x_stride;
  float
      *inputs; ///< before the first token, then before the one after the last; [taps - 1], input_stride apart
  size_t input_stride;
  const float *weight; ///< [channels][taps]
  const float *bias;   ///< or null
};

/// At most kStateLanes neighbouring values of one head: RecurrenceOp, for the tokens of one slice, each in turn:
/// S ← decay · S + k · change, with change = factor · (v - decay · Sᵀ k), or factor · v unless `delta`; out = Sᵀ q + skip · v.
/// Sums over keys are in ascending order.
struct RecurrenceArgs {
  bool delta;
  int tokens;
  int keys;
  int values;
  float *state;                            ///< [keys][kStateLanes]
  const float *q, *k, *v, *decay, *factor; ///< of the first token
  float *out;
  size_t q_stride, k_stride, v_stride, decay_stride, factor_stride, out_stride; ///< from a token to the next
  float skip;
};

using LinearKernel = void (*) (const LinearArgs &);
using ExpandKernel = void (*) (const void *panel, int row, int columns, float *out);

struct KernelTable {
  const char *name;
  /// Of two ways with the same bits kernels take that of Intel's processors: these read memory fastest when it is
  /// asked for several pages at a time (pages_ahead_x86.hpp), and multiply integers of 32 bits in two
  /// instructions.
  bool is_intel;
  /// Of many tokens how many a product is best given: activations of as many stay in the second-level cache, and what is
  /// unpacked of the weights is unpacked once for as many.
  int tokens_at_once;
  LinearKernel linear[kFormats];
  Activations activations[kFormats]; ///< what these take
  /// Row `row` (0 … 7) of a panel → floats.
  ExpandKernel expand[kFormats];
  /// `count` floats → `columns` activations of each kind but kFloat.
  void (*quantize[kActivations]) (const float *x, int count, int columns, void *out);
  /// Reads `bytes`, as fast as memory gives them; some sum of them.
  uint64_t (*read) (const void *data, size_t bytes);
  // For KV (kv_storage.hpp).
  /// → float16, as f32_to_f16 () does.
  void (*halves) (const float *x, int count, uint16_t *out);
  /// → round (x / step), step = largest |x| / 127, which is returned: NaN, and zeros, when an element is not finite; 0 when
  /// all are smaller than 1e-30.
  float (*steps) (const float *x, int count, int8_t *out);
  void (*rms_norm) (const float *x, const float *weight, int count, float epsilon, float *out);
  /// out = activation (gate) · up
  void (*silu) (const float *gate, const float *up, int count, float *out);
  void (*gelu_tanh) (const float *gate, const float *up, int count, float *out);
  void (*gelu) (const float *gate, const float *up, int count, float *out);
  void (*sigmoid) (const float *gate, const float *up, int count, float *out);
  /// x[i], x[i + half] rotated by the angle with cosine cos[i] and sine sin[i]
  void (*rotate) (float *x, const float *cos, const float *sin, int half);
  void (*attention[kKvFormats]) (const AttentionArgs &); ///< by KvType
  void (*convolution) (const ConvolutionArgs &);
  void (*recurrence) (const RecurrenceArgs &);
};

extern const KernelTable kPortableKernels;
#if defined(__x86_64__) || defined(__i386__)
extern const KernelTable kAvx2Kernels;
#endif

} // namespace millrace::cpu
