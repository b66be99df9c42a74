// Where keys and values lie in the blocks of a KV group, and how they are stored there.
//
// Blocks come in segments of kSegmentBlocks. A segment holds, layer after layer, the keys of all its blocks, then their values:
// attention reads keys of kAttentionChunk positions, then their values, and where neighbours in a sequence are neighbours here
// that is one stretch of memory, of which a core reads 30 GB/s where of 16 KiB here and there it reads 18. A block has the keys
// (values) of all heads. One head's part:
//   kF32, kF16, kBF16  keys [head_dim][kKvTokens], so that scores of neighbouring positions are neighbours;
//                      values [kKvTokens][value_width]
//   kQ8                rows of bytes, steps + 128: keys [head_dim / 4][kKvTokens][4]; values in panels of kDotPanel elements (the
//                      last one may have less), [kKvTokens / 4][elements][4]: four of what is summed are neighbours.
//                      Then kKvTokens float scales
//   kK8V4              keys as kQ8. Values in groups of kKvGroup: 16 bytes with element j in the low and
//                      element j + 16 in the high half of byte j; [kKvTokens][groups] of them, then as many
//                      pairs of float16, scale and minimum
// A row is rounded when it is stored, never again, and by the same code for every instruction set; what
// attention computes with is what expand_… () gives, or of kQ8 (keys of kK8V4 too) the steps and scales. Pure functions; any
// thread.
#pragma once

#include "engine/backend/backend.hpp"
#include "engine/backend/cpu/kernels.hpp"

#include <cstddef>
#include <vector>

namespace millrace::cpu
{

constexpr int kStepBias = 128; ///< of bytes that are steps
constexpr int kKvGroup = 32;   ///< kK8V4: values that share a scale and a minimum

/// One layer's part of a segment.
struct KvPlace {
  int group = 0;
  int heads = 0;
  int value_width = 0;   ///< of a head, padded to kValuePad or kKvGroup
  size_t key_offset = 0; ///< of head 0 of the first block
  size_t key_bytes = 0;  ///< of one head
  size_t value_offset = 0;
  size_t value_bytes = 0;

  size_t key_block_bytes () const { return static_cast<size_t> (heads) * key_bytes; }
  size_t value_block_bytes () const { return static_cast<size_t> (heads) * value_bytes; }
};

/// Where the state of a StateLayer is: the convolution's inputs, oldest first, [taps - 1][channels]; then for each head its
/// matrix, in parts of kStateLanes values, [parts][keys][kStateLanes], the last one padded.
struct StatePlace {
  size_t inputs_offset = 0;
  size_t matrices_offset = 0;
  size_t matrix_bytes = 0; ///< of a head
};

struct KvPlan {
  KvLayout groups;
  std::vector<KvPlace> places; ///< of each layer
  std::vector<StatePlace> states;
  int state_group = 0; ///< where there are states
};

/// Group 0 has the layers without a window; each other window is a group, in order of first appearance; then states are one.
/// Throws std::invalid_argument when there are more than kMaxKvGroups.
KvPlan plan_kv (const Program &program, KvType type);

/// Bytes of `blocks` blocks, in whole segments where the group has any.
size_t group_bytes (const KvGroup &group, int blocks);

/// Of a block, from the beginning of its group's memory: keys and values of head 0.
size_t keys_of_block (const KvPlan &plan, const KvPlace &place, int32_t block);
size_t values_of_block (const KvPlan &plan, const KvPlace &place, int32_t block);

/// Where heads from `first_head` on lie: what `args` says of it but `kv`.
void describe_kv (const KvPlan &plan, const KvPlace &place, int first_head, AttentionArgs &args);

/// Stores one position's key or value. A row (kK8V4 values: a group) that is not finite, or not in the range of
/// its scale's type, reads as NaN.
void store_key (const KernelTable &kernels, KvType type, const float *key, int head_dim, int slot,
                std::byte *keys);
void store_value (const KernelTable &kernels, KvType type, const float *value, int head_dim, int value_width,
                  int slot, std::byte *values);

/// One head's keys as [head_dim][kKvTokens] floats: in `out`, or kF32 where they are.
const float *expand_keys (KvType type, const std::byte *keys, int head_dim, float *out);
/// One head's values as [kKvTokens][value_width] floats: in `out`, or kF32 where they are.
const float *expand_values (KvType type, const std::byte *values, int value_width, float *out);

/// One head's steps in kQ8, -127 … 127: of keys (kK8V4 too) as [head_dim][kKvTokens], of values as [kKvTokens][value_width].
void key_steps_of (const std::byte *keys, int head_dim, int16_t *out);
void value_steps_of (const std::byte *values, int value_width, int16_t *out);
/// Their scales, [kKvTokens].
const float *key_scales (const std::byte *keys, int head_dim);
const float *value_scales (const std::byte *values, int value_width);

} // namespace millrace::cpu
