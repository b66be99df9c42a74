// Rows of keys and values as attention for AVX2 and AVX-512 reads them: what each KV type stores, and how 16 numbers of it
// become floats. Layout: kv_storage.hpp. Included through attention_x86.hpp only; everything is internal to its file.
#pragma once

#include "engine/backend/cpu/kernels.hpp"

#include <immintrin.h>

#include <cstddef>

namespace millrace::cpu
{

namespace
{

inline size_t
block_of (const AttentionArgs &args, int position)
{
  return static_cast<size_t> (args.blocks[position / kKvTokens]);
}

inline const char *
keys_of (const AttentionArgs &args, int position, int head)
{
  const size_t block = block_of (args, position);
  return reinterpret_cast<const char *> (args.kv) + block / kSegmentBlocks * args.segment_bytes +
         args.key_offset + block % kSegmentBlocks * args.key_block_bytes +
         static_cast<size_t> (head) * args.key_bytes;
}

inline const char *
values_of (const AttentionArgs &args, int position, int head)
{
  const size_t block = block_of (args, position);
  return reinterpret_cast<const char *> (args.kv) + block / kSegmentBlocks * args.segment_bytes +
         args.value_offset + block % kSegmentBlocks * args.value_block_bytes +
         static_cast<size_t> (head) * args.value_bytes;
}

// Rows `stride` bytes apart; load (i) gives columns [16 · i, 16 · i + 16).
template <typename Lanes>
struct F32Rows {
  static constexpr int kBytes = 4;
  const char *data;
  size_t stride;

  typename Lanes::Floats load (int i) const
  {
    return Lanes::load (reinterpret_cast<const float *> (data) + i * 16);
  }
  void next () { data += stride; }
};

template <typename Lanes>
struct F16Rows {
  static constexpr int kBytes = 2;
  const char *data;
  size_t stride;

  typename Lanes::Floats load (int i) const { return Lanes::halves (data + i * 32); }
  void next () { data += stride; }
};

template <typename Lanes>
struct BF16Rows {
  static constexpr int kBytes = 2;
  const char *data;
  size_t stride;

  typename Lanes::Floats load (int i) const { return Lanes::bf16s (data + i * 32); }
  void next () { data += stride; }
};

template <typename Lanes>
struct Q4Rows {
  const char *data;
  size_t stride;
  const char *pairs; ///< float16 scale and minimum
  size_t pair_stride;
  int first; ///< half of a group that load (0) gives: 0 or 1

  typename Lanes::Floats load (int i) const
  {
    const int group = (first + i) / 2;
    const __m128i shift = _mm_cvtsi32_si128 ((first + i) % 2 == 0 ? 0 : 4);
    const __m128i both = _mm_loadu_si128 (reinterpret_cast<const __m128i *> (data + group * 16));
    const __m128i nibbles = _mm_and_si128 (_mm_srl_epi16 (both, shift), _mm_set1_epi8 (15));
    const __m128 pair = _mm_cvtph_ps (_mm_loadu_si32 (pairs + group * 4));
    // The product is exact, so this is the sum of the portable kernel.
    return Lanes::multiply_add (Lanes::bytes (nibbles), Lanes::set (_mm_cvtss_f32 (pair)),
                                Lanes::set (_mm_cvtss_f32 (_mm_movehdup_ps (pair))));
  }
  void next ()
  {
    data += stride;
    pairs += pair_stride;
  }
};

// A format: one head's keys of a block, its values from a position and a column on, and their sizes. `kByte…`: steps of
// whole rows, whose products are sums of integers.
template <typename L, template <typename> typename RowsOf>
struct Plain {
  using Lanes = L;
  using Rows = RowsOf<L>;
  static constexpr bool kFloats = Rows::kBytes == 4, kByteKeys = false, kByteValues = false;

  static Rows keys (const char *head) { return {head, size_t{kKvTokens} * Rows::kBytes}; }
  static size_t key_bytes (int head_dim) { return static_cast<size_t> (head_dim) * kKvTokens * Rows::kBytes; }

  static Rows values (const char *head, size_t width, int position, int column)
  {
    const size_t stride = width * Rows::kBytes;
    return {head + position * stride + column * size_t{Rows::kBytes}, stride};
  }
  static size_t value_bytes (size_t width) { return width * kKvTokens * Rows::kBytes; }
};

template <typename L>
struct Q8 {
  using Lanes = L;
  static constexpr bool kByteKeys = true, kByteValues = true;

  static const float *key_scales (const char *head, int head_dim)
  {
    return reinterpret_cast<const float *> (head + key_steps (head_dim));
  }
  static size_t key_bytes (int head_dim) { return key_steps (head_dim) + kKvTokens * sizeof (float); }
  static const float *value_scales (const char *head, size_t width)
  {
    return reinterpret_cast<const float *> (head + width * kKvTokens);
  }
  static size_t value_bytes (size_t width) { return width * kKvTokens + kKvTokens * sizeof (float); }

private:
  static size_t key_steps (int head_dim)
  {
    return static_cast<size_t> ((head_dim + kDotColumns - 1) / kDotColumns * kDotColumns * kKvTokens);
  }
};

template <typename L>
struct K8V4 : Q8<L> {
  static constexpr bool kByteValues = false;
  static constexpr int kGroupColumns = 32, kGroupBytes = 16, kPairBytes = 4;

  static Q4Rows<L> values (const char *head, size_t width, int position, int column)
  {
    const size_t groups = width / kGroupColumns;
    const size_t at = position * groups + static_cast<size_t> (column / kGroupColumns);
    const char *pairs = head + groups * kGroupBytes * kKvTokens;
    return {head + at * kGroupBytes, groups * kGroupBytes, pairs + at * kPairBytes, groups * kPairBytes,
            column % kGroupColumns / 16};
  }
  static size_t value_bytes (size_t width)
  {
    return width / kGroupColumns * (kGroupBytes + kPairBytes) * kKvTokens;
  }
};

} // namespace

} // namespace millrace::cpu
