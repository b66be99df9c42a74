// Products of panels for aarch64. Included by panels_neon.cpp, panels_dotprod.cpp and panels_i8mm.cpp only; everything is
// internal to them.
//
// `Dot` adds products of signed bytes, eight rows × four columns a step, to accumulators of its own for the tokens of a tile
// (Dot::Sums<T>), which hold 8 steps of 4 bits × 8 or 4 of 6 bits; `total` makes 32 bits for each row of a token's.
// `add_wide` is for 8 bits × 8. A tile is one panel × T tokens. Of 6 bits 32 is subtracted, so that no offset is left; of
// kQ4 8 times the sum of the activations. Tiles of one token are Dot::Single's.
#pragma once

#include "engine/backend/cpu/kernels.hpp"

#include <arm_neon.h>

namespace millrace::cpu
{

namespace
{

constexpr int kVectorBytes = 32;
constexpr int kGroups = kSuperBlock / kGroup;

/// Of eight rows.
struct Bytes {
  int8x16_t low, high;
};
struct Ints {
  int32x4_t low, high;
};
struct Floats {
  float32x4_t low, high;
};

inline Bytes
load_vector (const uint8_t *data)
{
  return {vreinterpretq_s8_u8 (vld1q_u8 (data)), vreinterpretq_s8_u8 (vld1q_u8 (data + 16))};
}

inline Bytes
low_nibbles (Bytes pair)
{
  const int8x16_t mask = vdupq_n_s8 (15);
  return {vandq_s8 (pair.low, mask), vandq_s8 (pair.high, mask)};
}

inline int8x16_t
shift_down (int8x16_t a)
{
  return vreinterpretq_s8_u8 (vshrq_n_u8 (vreinterpretq_u8_s8 (a), 4));
}

inline Bytes
high_nibbles (Bytes pair)
{
  return {shift_down (pair.low), shift_down (pair.high)};
}

inline Floats
load_halves (const uint8_t *data)
{
  const auto *halves = reinterpret_cast<const uint16_t *> (data);
  return {vcvt_f32_f16 (vreinterpret_f16_u16 (vld1_u16 (halves))),
          vcvt_f32_f16 (vreinterpret_f16_u16 (vld1_u16 (halves + 4)))};
}

/// 16 bytes are two for each row: its first, or its second, as 32 bits.
inline Ints
firsts (uint8x16_t pairs)
{
  const uint16x8_t words = vandq_u16 (vreinterpretq_u16_u8 (pairs), vdupq_n_u16 (0xff));
  return {vreinterpretq_s32_u32 (vmovl_u16 (vget_low_u16 (words))),
          vreinterpretq_s32_u32 (vmovl_high_u16 (words))};
}

inline Ints
seconds (uint8x16_t pairs)
{
  const uint16x8_t words = vshrq_n_u16 (vreinterpretq_u16_u8 (pairs), 8);
  return {vreinterpretq_s32_u32 (vmovl_u16 (vget_low_u16 (words))),
          vreinterpretq_s32_u32 (vmovl_high_u16 (words))};
}

inline Ints
signed_firsts (int8x16_t pairs)
{
  const int16x8_t words = vshrq_n_s16 (vshlq_n_s16 (vreinterpretq_s16_s8 (pairs), 8), 8);
  return {vmovl_s16 (vget_low_s16 (words)), vmovl_high_s16 (words)};
}

inline Ints
signed_seconds (int8x16_t pairs)
{
  const int16x8_t words = vshrq_n_s16 (vreinterpretq_s16_s8 (pairs), 8);
  return {vmovl_s16 (vget_low_s16 (words)), vmovl_high_s16 (words)};
}

/// sum + a · b
inline Ints
add_times (Ints sum, Ints a, Ints b)
{
  return {vmlaq_s32 (sum.low, a.low, b.low), vmlaq_s32 (sum.high, a.high, b.high)};
}

/// sum + float (dots) · (scale · x_scale), rounded once
inline Floats
add_scaled (Floats sum, Ints dots, Floats scale, float x_scale)
{
  return {vfmaq_f32 (sum.low, vcvtq_f32_s32 (dots.low), vmulq_n_f32 (scale.low, x_scale)),
          vfmaq_f32 (sum.high, vcvtq_f32_s32 (dots.high), vmulq_n_f32 (scale.high, x_scale))};
}

inline Floats
subtract_scaled (Floats sum, Ints dots, Floats scale, float x_scale)
{
  return {vfmsq_f32 (sum.low, vcvtq_f32_s32 (dots.low), vmulq_n_f32 (scale.low, x_scale)),
          vfmsq_f32 (sum.high, vcvtq_f32_s32 (dots.high), vmulq_n_f32 (scale.high, x_scale))};
}

/// Adds bias and what y holds, and stores the rows from `row` on, as many as there are.
inline void
store_outputs (const LinearArgs &args, Floats sums, int row, int token)
{
  float *y = args.y[token] + args.y_offset + row;
  const int rows = args.rows - row;
  float values[kPanelRows];
  vst1q_f32 (values, sums.low);
  vst1q_f32 (values + 4, sums.high);
  for (int i = 0; i < kPanelRows && i < rows; ++i) {
    float value = values[i];
    if (args.bias)
      value += args.bias[row + i];
    y[i] = args.accumulate ? y[i] + value : value;
  }
}

template <typename T>
inline const T *
offset (const void *base, size_t bytes)
{
  return reinterpret_cast<const T *> (static_cast<const char *> (base) + bytes);
}

template <int T>
struct Tile {
  const uint8_t *panel;
  const int8_t *x[T]; ///< each token's activations
  int columns;
};

inline size_t
scale_bytes (int columns)
{
  return (static_cast<size_t> (columns / kGroup) * kPanelRows * 2 + 63) / 64 * 64;
}

/// Adds four steps, 16 columns from `at` on, token by token: weights[i] are those of step i. 16 activations are one
/// register, of which a step takes a lane.
template <typename Dot, int T>
inline void
add_lanes (const Tile<T> &tile, const Bytes (&weights)[4], size_t at, typename Dot::template Sums<T> &sums)
{
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t) {
    const int8x16_t x = vld1q_s8 (tile.x[t] + at);
    Dot::template add<0> (sums.of[t], weights[0], x);
    Dot::template add<1> (sums.of[t], weights[1], x);
    Dot::template add<2> (sums.of[t], weights[2], x);
    Dot::template add<3> (sums.of[t], weights[3], x);
  }
}

/// Adds those of 32 columns of nibbles.
template <typename Dot, int T>
inline void
add_nibbles (const Tile<T> &tile, const uint8_t *vectors, size_t at, typename Dot::template Sums<T> &sums)
{
  Bytes low[4], high[4];
#pragma GCC unroll 4
  for (int v = 0; v < 4; ++v) {
    const Bytes pair = load_vector (vectors + v * kVectorBytes);
    low[v] = low_nibbles (pair);
    high[v] = high_nibbles (pair);
  }
  Dot::add_steps (tile, low, at, sums);
  Dot::add_steps (tile, high, at + 16, sums);
}

struct Q8 {
  template <typename Dot, int T>
  static void product (const Tile<T> &tile, Floats (&sums)[T])
  {
    const uint8_t *scales = tile.panel, *quants = tile.panel + scale_bytes (tile.columns);
    const auto columns = static_cast<size_t> (tile.columns);
    for (size_t group = 0; group < columns / kGroup; ++group) {
      typename Dot::template WideSums<T> dots = {};
      for (size_t part = 0; part < kGroup; part += 16) {
        Bytes weights[4];
#pragma GCC unroll 4
        for (int step = 0; step < 4; ++step)
          weights[step] = load_vector (quants + step * kVectorBytes);
        quants += 4 * kVectorBytes;
        Dot::add_wide (tile, weights, group * kGroup + part, dots);
      }
      const Floats scale = load_halves (scales + group * 2 * kPanelRows);
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t)
        sums[t] =
            add_scaled (sums[t], Dot::total_wide (dots, t), scale, offset<float> (tile.x[t], columns)[group]);
    }
  }
};

struct Q4 {
  template <typename Dot, int T>
  static void product (const Tile<T> &tile, Floats (&sums)[T])
  {
    const uint8_t *scales = tile.panel, *quants = tile.panel + scale_bytes (tile.columns);
    const auto columns = static_cast<size_t> (tile.columns), groups = columns / kGroup;
    for (size_t group = 0; group < groups; ++group) {
      typename Dot::template Sums<T> products = {};
      add_nibbles<Dot> (tile, quants + group * 4 * kVectorBytes, group * kGroup, products);
      const Floats scale = load_halves (scales + group * 2 * kPanelRows);
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        const auto *x_scales = offset<float> (tile.x[t], columns);
        const int32x4_t eights = vdupq_n_s32 (offset<int32_t> (x_scales, groups * sizeof (float))[group]);
        Ints dots = Dot::total (products, t);
        dots = {vsubq_s32 (dots.low, eights), vsubq_s32 (dots.high, eights)};
        sums[t] = add_scaled (sums[t], dots, scale, x_scales[group]);
      }
    }
  }
};

struct Q4K {
  template <typename Dot, int T>
  static void product (const Tile<T> &tile, Floats (&sums)[T])
  {
    const uint8_t *block = tile.panel;
    const auto columns = static_cast<size_t> (tile.columns), blocks = columns / kSuperBlock;
    const size_t to_sums = columns + blocks * (sizeof (float) + sizeof (int16_t) * (kSuperBlock / 16));
    const uint8x16_t six_bits = vdupq_n_u8 (63);
    for (size_t b = 0; b < blocks; ++b, block += kQ4KBytes) {
      subtract_minima (tile, block, to_sums + b * sizeof (int16_t) * kGroups, columns + b * sizeof (float),
                       sums);
      Ints dots[T] = {};
      for (size_t pair = 0; pair < kGroups / 2; ++pair) {
        const uint8_t *vectors = block + 128 + pair * 8 * kVectorBytes;
        const uint8x16_t scales = vandq_u8 (vld1q_u8 (block + 32 + pair * 16), six_bits);
        const size_t x = b * kSuperBlock + pair * 2 * kGroup;
        add_group<Dot> (tile, vectors, x, firsts (scales), dots);
        add_group<Dot> (tile, vectors + 4 * kVectorBytes, x + kGroup, seconds (scales), dots);
      }
      const Floats d = load_halves (block);
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t)
        sums[t] = add_scaled (sums[t], dots[t], d, offset<float> (tile.x[t], columns)[b]);
    }
  }

  template <typename Dot, int T>
  static void add_group (const Tile<T> &tile, const uint8_t *vectors, size_t at, Ints scale, Ints (&dots)[T])
  {
    typename Dot::template Sums<T> products = {};
    add_nibbles<Dot> (tile, vectors, at, products);
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t)
      dots[t] = add_times (dots[t], Dot::total (products, t), scale);
  }

  template <int T>
  static void subtract_minima (const Tile<T> &tile, const uint8_t *block, size_t x_sums, size_t x_scale,
                               Floats (&sums)[T])
  {
    const uint8x16_t nibble = vdupq_n_u8 (15), top_bits = vdupq_n_u8 (0x30);
    Ints dots[T] = {};
    for (size_t pair = 0; pair < kGroups / 2; ++pair) {
      const uint8x16_t both = vld1q_u8 (block + 96 + pair % 2 * 16);
      const uint8x16_t low = pair < 2 ? vandq_u8 (both, nibble) : vshrq_n_u8 (both, 4);
      const uint8x16_t top = vandq_u8 (vshrq_n_u8 (vld1q_u8 (block + 32 + pair * 16), 2), top_bits);
      const uint8x16_t minima = vorrq_u8 (low, top);
      const Ints first = firsts (minima), second = seconds (minima);
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        const auto *sums_of_pair = offset<int16_t> (tile.x[t], x_sums) + 2 * pair;
        const int32_t a = sums_of_pair[0], b = sums_of_pair[1];
        dots[t] = {vmlaq_n_s32 (dots[t].low, first.low, a), vmlaq_n_s32 (dots[t].high, first.high, a)};
        dots[t] = {vmlaq_n_s32 (dots[t].low, second.low, b), vmlaq_n_s32 (dots[t].high, second.high, b)};
      }
    }
    const Floats d = load_halves (block + 2 * kPanelRows);
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t)
      sums[t] = subtract_scaled (sums[t], dots[t], d, *offset<float> (tile.x[t], x_scale));
  }
};

struct Q6K {
  static constexpr int kVectors = 6; ///< of 32 columns: nibbles, and two of upper bits

  template <typename Dot, int T>
  static void product (const Tile<T> &tile, Floats (&sums)[T])
  {
    const uint8_t *block = tile.panel;
    const auto columns = static_cast<size_t> (tile.columns);
    for (size_t b = 0; b < columns / kSuperBlock; ++b, block += kQ6KBytes) {
      Ints dots[T] = {};
      for (size_t pair = 0; pair < kGroups; ++pair) {
        const uint8_t *vectors = block + 160 + pair * kVectors * kVectorBytes;
        const int8x16_t scales = vreinterpretq_s8_u8 (vld1q_u8 (block + pair * 16));
        const size_t x = b * kSuperBlock + pair * kGroup;
        add_half<Dot, T, 0> (tile, vectors, x, signed_firsts (scales), dots);
        add_half<Dot, T, 1> (tile, vectors, x + 16, signed_seconds (scales), dots);
      }
      const Floats d = load_halves (block + 128);
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t)
        sums[t] = add_scaled (sums[t], dots[t], d, offset<float> (tile.x[t], columns)[b]);
    }
  }

  /// 16 columns, those of the low (kHalf 0) or the high nibbles.
  template <typename Dot, int T, int kHalf>
  static void add_half (const Tile<T> &tile, const uint8_t *vectors, size_t at, Ints scale, Ints (&dots)[T])
  {
    const Bytes tops = load_vector (vectors + (4 + kHalf) * kVectorBytes);
    Bytes weights[4];
#pragma GCC unroll 4
    for (int step = 0; step < 4; ++step) {
      const Bytes pair = load_vector (vectors + step * kVectorBytes);
      const Bytes nibbles = kHalf == 0 ? low_nibbles (pair) : high_nibbles (pair);
      weights[step] = {element (nibbles.low, tops.low, step), element (nibbles.high, tops.high, step)};
    }
    typename Dot::template Sums<T> products = {};
    Dot::add_steps (tile, weights, at, products);
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t)
      dots[t] = add_times (dots[t], Dot::total (products, t), scale);
  }

  /// The upper bits of step `i` are at 2 · i and belong at 4. Less 32.
  static int8x16_t element (int8x16_t nibbles, int8x16_t tops, int i)
  {
    const uint8x16_t bits = vreinterpretq_u8_s8 (tops);
    const uint8x16_t shifted = i == 0   ? vshlq_n_u8 (bits, 4)
                               : i == 1 ? vshlq_n_u8 (bits, 2)
                               : i == 2 ? bits
                                        : vshrq_n_u8 (bits, 2);
    const uint8x16_t value = vorrq_u8 (vreinterpretq_u8_s8 (nibbles), vandq_u8 (shifted, vdupq_n_u8 (0x30)));
    return vsubq_s8 (vreinterpretq_s8_u8 (value), vdupq_n_s8 (32));
  }
};

template <typename Dot, typename Format, int T>
__attribute__ ((noinline)) void
run_tile (const LinearArgs &args, int row, int token)
{
  Tile<T> tile = {offset<uint8_t> (args.weights, row / kPanelRows * args.panel_bytes), {}, args.columns};
  for (int t = 0; t < T; ++t) {
    tile.x[t] = offset<int8_t> (args.x, (token + t) * args.x_row_bytes);
    // Or the compiler would compute all sums of row and column beforehand, and spill.
    __asm__("" : "+r"(tile.x[t]));
  }
  Floats sums[T] = {};
  Format::template product<Dot> (tile, sums);
  for (int t = 0; t < T; ++t)
    store_outputs (args, sums[t], row, token + t);
}

/// A tile of `tokens` (1 … T) tokens.
template <typename Dot, typename Format, int T = Dot::kTileTokens>
inline void
run_tile_of (int tokens, const LinearArgs &args, int row, int token)
{
  if constexpr (T > 1) {
    if (tokens < T)
      return run_tile_of<Dot, Format, T - 1> (tokens, args, row, token);
    run_tile<Dot, Format, T> (args, row, token);
  } else {
    run_tile<typename Dot::Single, Format, 1> (args, row, token);
  }
}

/// All panels; the tokens of each in tiles of as equal a size as can be.
template <typename Dot, typename Format>
void
run_panels (const LinearArgs &args)
{
  const int tiles = (args.tokens + Dot::kTileTokens - 1) / Dot::kTileTokens;
  for (int row = 0; row < args.rows; row += kPanelRows) {
    int token = 0;
    for (int i = 0; i < tiles; ++i) {
      const int count = args.tokens / tiles + (i < args.tokens % tiles ? 1 : 0);
      run_tile_of<Dot, Format> (count, args, row, token);
      token += count;
    }
  }
}

} // namespace

} // namespace millrace::cpu
