// Products of many tokens for AVX-512 with VNNI: weights of two panels are unpacked once, to bytes and factors in vectors of 16
// rows, and meet all tokens from the first-level cache. Included by panels_avx512.cpp only; everything is internal to it.
//
// A stretch of kStretch columns is unpacked at a time, into about 20 KiB; sums of the tokens wait in memory for the next one. A
// tile is 16 rows × T tokens; the first one of a stretch unpacks. Registers for T = 8: 8 accumulators of a sub-block, 8 of a
// super-block, 8 sums, a vector of weights, a factor: 26 of 32. Dot products broadcast activations as they load them.
//
// Bound: instructions that multiply, of which Zen 4 starts one of 512 bits a cycle (all others find room beside them). For T tokens
// and 256 columns, 64 T dot products and more: 16 T with kQ4K (8 scales, 4 pairs of minima, 4 of floats), 16 T with kQ4 and kQ8
// (floats), 26 T with kQ6K (16 scales, 8 pairs of offsets, 2 of floats): 80, 80 and 71 % of the peak.
#pragma once

#include "engine/backend/cpu/two_panels_avx512.hpp"

namespace millrace::cpu
{

namespace
{

constexpr int kStretch = 1024;    ///< columns; a multiple of kSuperBlock
constexpr int kBlockTokens = 128; ///< whose sums wait between stretches
constexpr int kRows = 2 * kPanelRows;
constexpr int kLine = 64; ///< bytes of a vector, too

inline __m512i
load_ints (const char *data)
{
  return _mm512_load_si512 (data);
}

inline __m512
load_floats (const char *data)
{
  return _mm512_load_ps (data);
}

inline void
store_ints (char *data, __m512i value)
{
  _mm512_store_si512 (data, value);
}

inline void
store_floats (char *data, __m512 value)
{
  _mm512_store_ps (data, value);
}

/// T tokens; pointers to their first activation.
template <int T>
struct Tokens {
  const char *x[T];
};

/// sum += products of a vector with the four bytes at x + at + kOffset. Written out because compilers keep a register for each
/// such sum of two registers and a constant, more than there are. Nothing here writes activations, and so no operand says that
/// memory is read.
template <int kOffset>
[[gnu::always_inline]] inline __m512i
add_bytes_at (__m512i sum, __m512i weights, const char *x, size_t at)
{
  __asm__("vpdpbusd %c4(%2,%3)%{1to16%}, %1, %0" : "+v"(sum) : "v"(weights), "r"(x), "r"(at), "i"(kOffset));
  return sum;
}

template <int kOffset>
[[gnu::always_inline]] inline __m512i
add_words_at (__m512i sum, __m512i words, const char *x, size_t at)
{
  __asm__("vpdpwssd %c4(%2,%3)%{1to16%}, %1, %0" : "+v"(sum) : "v"(words), "r"(x), "r"(at), "i"(kOffset));
  return sum;
}

inline __m512
broadcast_float (const char *value)
{
  return _mm512_set1_ps (*reinterpret_cast<const float *> (value));
}

/// Adds products of kSteps vectors of weights.
template <int kSteps, int T, int kStep = 0>
[[gnu::always_inline]] inline void
add_steps (const Tokens<T> &tokens, const char *weights, size_t x, __m512i (&dots)[T])
{
  if constexpr (kStep < kSteps) {
    const __m512i vector = load_ints (weights + kStep * kLine);
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t)
      dots[t] = add_bytes_at<4 * kStep> (dots[t], vector, tokens.x[t], x);
    add_steps<kSteps, T, kStep + 1> (tokens, weights, x, dots);
  }
}

/// Adds products of kPairs vectors of pairs of words with sums of activations.
template <int kPairs, int T, int kPair = 0>
[[gnu::always_inline]] inline void
add_all_pairs (const Tokens<T> &tokens, const char *words, size_t x_sums, __m512i (&dots)[T])
{
  if constexpr (kPair < kPairs) {
    const __m512i vector = load_ints (words + kPair * kLine);
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t)
      dots[t] = add_words_at<4 * kPair> (dots[t], vector, tokens.x[t], x_sums);
    add_all_pairs<kPairs, T, kPair + 1> (tokens, words, x_sums, dots);
  }
}

template <int T>
[[gnu::always_inline]] inline void
clear_dots (__m512i (&dots)[T])
{
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t)
    dots[t] = _mm512_setzero_si512 ();
}

/// sums ± dots · factor · scale of the token.
template <bool kSubtract, int T>
[[gnu::always_inline]] inline void
add_floats (const Tokens<T> &tokens, const __m512i (&dots)[T], __m512 factor, size_t x_scales,
            __m512 (&sums)[T])
{
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t) {
    const __m512 scale = _mm512_mul_ps (factor, broadcast_float (tokens.x[t] + x_scales));
    const __m512 dot = _mm512_cvtepi32_ps (dots[t]);
    sums[t] = kSubtract ? _mm512_fnmadd_ps (dot, scale, sums[t]) : _mm512_fmadd_ps (dot, scale, sums[t]);
  }
}

/// totals += scale · products of kSteps vectors: what a sub-block adds, whose scale is before its vectors.
template <int kSteps, int T>
[[gnu::always_inline]] inline void
add_block (const Tokens<T> &tokens, const char *block, size_t x, __m512i (&totals)[T])
{
  __m512i dots[T];
  clear_dots (dots);
  add_steps<kSteps> (tokens, block + kLine, x, dots);
  const __m512i scale = load_ints (block);
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t)
    totals[t] = _mm512_add_epi32 (totals[t], _mm512_mullo_epi32 (dots[t], scale));
}

/// A stretch of columns of two panels.
struct Stretch {
  const char *panel;
  size_t stride;          ///< to the next panel
  char *weights;          ///< unpacked
  int columns;            ///< of a row
  int column, count;      ///< of the stretch
  bool is_first, is_last; ///< of the row
};

// Each type: add () adds a stretch's products to sums; the first tile unpacks on the way, so that its products hide how long
// weights take to come. kBytes of kColumns columns are unpacked ones; part () says where a panel has them.

/// A part of a panel.
struct Part {
  size_t begin, bytes;
};

/// kQ4 and kQ8: vectors of 8 steps, then d.
template <typename Codes>
struct UnpackedGroups {
  static constexpr int kColumns = kGroup, kBytes = 9 * kLine, kParts = 2;

  static Part part (int index, int columns, int first, int count)
  {
    if (index == 0)
      return {static_cast<size_t> (first / kGroup * 2 * kPanelRows),
              static_cast<size_t> (count / kGroup * 2 * kPanelRows)};
    return {scale_bytes (columns) + static_cast<size_t> (first / kGroup * Codes::kVectors * kVectorBytes),
            static_cast<size_t> (count / kGroup * Codes::kVectors * kVectorBytes)};
  }

  template <bool kUnpack, int T>
  static void add (const Tokens<T> &tokens, const Stretch &stretch, __m512 (&sums)[T])
  {
    const int columns = stretch.columns, first = stretch.column / kGroup;
    const char *scales = stretch.panel + first * 2 * kPanelRows;
    const char *quants = stretch.panel + scale_bytes (columns) + first * Codes::kVectors * kVectorBytes;
    char *weights = stretch.weights;
    auto x = static_cast<size_t> (stretch.column), x_scales = static_cast<size_t> (columns + first * 4);
    size_t eights = x_scales + static_cast<size_t> (columns / kGroup) * sizeof (float);
    for (int group = 0; group < stretch.count / kGroup; ++group) {
      if constexpr (kUnpack) {
        Codes::unpack (quants, stretch.stride, weights);
        store_floats (weights + 8 * kLine, TwoPanels::load_halves (scales, stretch.stride));
        scales += 2 * kPanelRows;
        quants += Codes::kVectors * kVectorBytes;
      }
      __m512i dots[T];
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t)
        dots[t] = Codes::start (_mm512_set1_epi32 (*reinterpret_cast<const int *> (tokens.x[t] + eights)));
      add_steps<8> (tokens, weights, x, dots);
      add_floats<false> (tokens, dots, load_floats (weights + 8 * kLine), x_scales, sums);
      weights += kBytes;
      x += kGroup;
      x_scales += sizeof (float);
      eights += sizeof (int32_t);
    }
  }
};

struct NibbleCodes {
  static constexpr int kVectors = 4;

  static void unpack (const char *quants, size_t stride, char *out)
  {
    const __m512i mask = _mm512_set1_epi8 (15);
    for (int v = 0; v < kVectors; ++v) {
      const __m512i pair = TwoPanels::load (quants + v * kVectorBytes, stride);
      store_ints (out + v * kLine, _mm512_and_si512 (pair, mask));
      store_ints (out + (v + 4) * kLine, _mm512_and_si512 (_mm512_srli_epi16 (pair, 4), mask));
    }
  }
  static __m512i start (__m512i eights) { return _mm512_sub_epi32 (_mm512_setzero_si512 (), eights); }
};

struct ByteCodes {
  static constexpr int kVectors = 8;

  static void unpack (const char *quants, size_t stride, char *out)
  {
    for (int v = 0; v < kVectors; ++v)
      store_ints (out + v * kLine, _mm512_xor_si512 (TwoPanels::load (quants + v * kVectorBytes, stride),
                                                     _mm512_set1_epi8 (-128)));
  }
  static __m512i start (__m512i eights)
  {
    return _mm512_sub_epi32 (_mm512_setzero_si512 (), _mm512_slli_epi32 (eights, 4));
  }
};

/// What both types of super-blocks share: kBytes of a panel hold one.
template <typename Type>
struct UnpackedBlocks {
  static constexpr int kColumns = kSuperBlock, kParts = 1;

  static Part part (int, int, int first, int count)
  {
    return {static_cast<size_t> (first / kSuperBlock * Type::kPacked),
            static_cast<size_t> (count / kSuperBlock * Type::kPacked)};
  }
};

/// 4 vectors of pairs of minima, dmin, d, then of each sub-block: its scale, vectors of 8 steps.
struct UnpackedQ4K : UnpackedBlocks<UnpackedQ4K> {
  using Packed = Q4K<TwoPanels>;
  static constexpr int kPacked = kQ4KBytes, kHead = 6 * kLine, kSub = 9 * kLine,
                       kBytes = kHead + kGroups * kSub;

  static void unpack_head (const char *block, size_t stride, char *out)
  {
    for (int pair = 0; pair < kGroups / 2; ++pair)
      store_ints (out + pair * kLine, Packed::minima (block, stride, pair));
    store_floats (out + 4 * kLine, TwoPanels::load_halves (block + 2 * kPanelRows, stride));
    store_floats (out + 5 * kLine, TwoPanels::load_halves (block, stride));
  }

  /// Two sub-blocks.
  static void unpack_pair (const char *block, size_t stride, int pair, char *out)
  {
    const __m512i scales = Packed::scales (block, stride, pair);
    const char *nibbles = block + 128 + pair * 8 * kVectorBytes;
    store_ints (out, TwoPanels::low_words (scales));
    NibbleCodes::unpack (nibbles, stride, out + kLine);
    store_ints (out + kSub, TwoPanels::high_words (scales));
    NibbleCodes::unpack (nibbles + 4 * kVectorBytes, stride, out + kSub + kLine);
  }

  template <bool kUnpack, int T>
  static void add (const Tokens<T> &tokens, const Stretch &stretch, __m512 (&sums)[T])
  {
    const auto blocks = static_cast<size_t> (stretch.columns / kSuperBlock),
               first = static_cast<size_t> (stretch.column / kSuperBlock);
    const char *block = stretch.panel + first * kPacked;
    char *weights = stretch.weights;
    auto x = static_cast<size_t> (stretch.column);
    size_t x_scales = static_cast<size_t> (stretch.columns) + first * sizeof (float);
    size_t x_sums = static_cast<size_t> (stretch.columns) +
                    blocks * (sizeof (float) + sizeof (int16_t) * 16) + first * sizeof (int16_t) * kGroups;
    for (int b = 0; b < stretch.count / kSuperBlock; ++b) {
      if constexpr (kUnpack)
        unpack_head (block, stretch.stride, weights);
      __m512i totals[T];
      clear_dots (totals);
      add_all_pairs<kGroups / 2> (tokens, weights, x_sums, totals);
      add_floats<true> (tokens, totals, load_floats (weights + 4 * kLine), x_scales, sums);
      const __m512 d = load_floats (weights + 5 * kLine);
      weights += kHead;
      clear_dots (totals);
      for (int group = 0; group < kGroups; ++group) {
        if constexpr (kUnpack) {
          if (group % 2 == 0)
            unpack_pair (block, stretch.stride, group / 2, weights);
        }
        add_block<8> (tokens, weights, x, totals);
        weights += kSub;
        x += kGroup;
      }
      add_floats<false> (tokens, totals, d, x_scales, sums);
      block += kPacked;
      x_scales += sizeof (float);
      x_sums += sizeof (int16_t) * kGroups;
    }
  }
};

/// 8 vectors of pairs of offsets, d, then of each sub-block of 16: its scale, vectors of 4 steps.
struct UnpackedQ6K : UnpackedBlocks<UnpackedQ6K> {
  using Packed = Q6K<TwoPanels>;
  static constexpr int kPacked = kQ6KBytes, kHead = 9 * kLine, kSub = 5 * kLine;
  static constexpr int kBytes = kHead + 2 * kGroups * kSub;

  /// The two sub-blocks of 32 columns.
  static void unpack_pair (const char *block, size_t stride, int pair, char *offsets, char *out)
  {
    const char *vectors = block + 160 + pair * Packed::kVectors * kVectorBytes;
    const __m512i scales = TwoPanels::load_signed_words (block + pair * 16, stride);
    store_ints (offsets + pair * kLine, Packed::offsets (scales));
    store_ints (out, TwoPanels::low_words (scales));
    store_ints (out + kSub, TwoPanels::high_words (scales));
    const __m512i low = TwoPanels::load (vectors + 4 * kVectorBytes, stride),
                  high = TwoPanels::load (vectors + 5 * kVectorBytes, stride);
#pragma GCC unroll 4
    for (int step = 0; step < 4; ++step) {
      const __m512i nibbles = TwoPanels::load (vectors + step * kVectorBytes, stride);
      store_ints (out + (1 + step) * kLine, Packed::element<0> (nibbles, low, step));
      store_ints (out + kSub + (1 + step) * kLine, Packed::element<1> (nibbles, high, step));
    }
  }

  template <bool kUnpack, int T>
  static void add (const Tokens<T> &tokens, const Stretch &stretch, __m512 (&sums)[T])
  {
    const auto blocks = static_cast<size_t> (stretch.columns / kSuperBlock),
               first = static_cast<size_t> (stretch.column / kSuperBlock);
    const char *block = stretch.panel + first * kPacked;
    char *weights = stretch.weights;
    auto x = static_cast<size_t> (stretch.column);
    size_t x_scales = static_cast<size_t> (stretch.columns) + first * sizeof (float);
    size_t x_sums = static_cast<size_t> (stretch.columns) + blocks * sizeof (float) +
                    first * sizeof (int16_t) * 2 * kGroups;
    for (int b = 0; b < stretch.count / kSuperBlock; ++b) {
      char *head = weights;
      weights += kHead;
      __m512i totals[T];
      clear_dots (totals);
      for (int pair = 0; pair < kGroups; ++pair) {
        if constexpr (kUnpack)
          unpack_pair (block, stretch.stride, pair, head, weights);
        add_block<4> (tokens, weights, x, totals);
        add_block<4> (tokens, weights + kSub, x + kGroup / 2, totals);
        weights += 2 * kSub;
        x += kGroup;
      }
      add_all_pairs<kGroups> (tokens, head, x_sums, totals);
      if constexpr (kUnpack)
        store_floats (head + 8 * kLine, TwoPanels::load_halves (block + 128, stretch.stride));
      add_floats<false> (tokens, totals, load_floats (head + 8 * kLine), x_scales, sums);
      block += kPacked;
      x_scales += sizeof (float);
      x_sums += sizeof (int16_t) * 2 * kGroups;
    }
  }
};

template <typename Type, bool kUnpack, int T>
__attribute__ ((noinline)) void
run_unpacked_tile (const LinearArgs &args, const Stretch &stretch, int row, int token, float *partial)
{
  Tokens<T> tokens;
  for (int t = 0; t < T; ++t) {
    tokens.x[t] = static_cast<const char *> (args.x) + (token + t) * args.x_row_bytes;
    __asm__("" : "+r"(tokens.x[t])); // or sums of it and an index would be kept, too
  }
  __m512 sums[T];
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t)
    sums[t] = stretch.is_first ? _mm512_setzero_ps () : _mm512_load_ps (partial + t * kRows);
  for (int t = 0; stretch.is_last && t < T; ++t)
    prefetch_output (args, row, token + t);
  Type::template add<kUnpack> (tokens, stretch, sums);
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t) {
    if (stretch.is_last)
      TwoPanels::store (args, sums[t], row, token + t);
    else
      _mm512_store_ps (partial + t * kRows, sums[t]);
  }
}

/// A tile of `count` (1 … T) tokens.
template <typename Type, bool kUnpack, int T = kTileTokens>
inline void
run_unpacked_tile_of (int count, const LinearArgs &args, const Stretch &stretch, int row, int token,
                      float *partial)
{
  if constexpr (T > 1) {
    if (count < T)
      return run_unpacked_tile_of<Type, kUnpack, T - 1> (count, args, stretch, row, token, partial);
  }
  run_unpacked_tile<Type, kUnpack, T> (args, stretch, row, token, partial);
}

/// Asks for what unpacking [column, column + count) will read: share `index` of `shares`.
template <typename Type>
inline void
prefetch_share (const LinearArgs &args, const char *panel, int column, int count, int index, int shares)
{
  for (int i = 0; i < Type::kParts; ++i) {
    const Part part = Type::part (i, args.columns, column, count);
    const size_t lines = part.bytes / kLine + 1;
    const size_t end = lines * static_cast<size_t> (index + 1) / static_cast<size_t> (shares);
    for (size_t line = lines * static_cast<size_t> (index) / static_cast<size_t> (shares); line < end;
         ++line) {
      _mm_prefetch (panel + part.begin + line * kLine, _MM_HINT_T0);
      _mm_prefetch (panel + args.panel_bytes + part.begin + line * kLine, _MM_HINT_T0);
    }
  }
}

/// Rows [row, row + kRows) of at most kBlockTokens tokens from `first` on.
template <typename Type>
void
run_unpacked_rows (const LinearArgs &args, int row, int first, int tokens)
{
  alignas (kLine) char weights[kStretch / Type::kColumns * Type::kBytes];
  alignas (kLine) float partial[kBlockTokens * kRows];
  const char *panel = static_cast<const char *> (args.weights) + row / kPanelRows * args.panel_bytes;
  const int tiles = (tokens + kTileTokens - 1) / kTileTokens;
  for (int column = 0; column < args.columns; column += kStretch) {
    const int left = args.columns - column, count = left < kStretch ? left : kStretch;
    const Stretch stretch = {panel, args.panel_bytes, weights,         args.columns, column,
                             count, column == 0,      left <= kStretch};
    const char *next = stretch.is_last ? panel + 2 * args.panel_bytes : panel;
    const int next_column = stretch.is_last ? 0 : column + kStretch;
    for (int i = 0, token = 0; i < tiles; ++i) {
      const int size = tokens / tiles + (i < tokens % tiles ? 1 : 0);
      prefetch_share<Type> (args, next, next_column, count, i, tiles);
      float *sums = partial + token * kRows;
      if (i == 0)
        run_unpacked_tile_of<Type, true> (size, args, stretch, row, first + token, sums);
      else
        run_unpacked_tile_of<Type, false> (size, args, stretch, row, first + token, sums);
      token += size;
    }
  }
}

/// The pairs of panels; returns the row behind them.
template <typename Type>
int
run_unpacked (const LinearArgs &args)
{
  int row = 0;
  for (; row + kPanelRows < args.rows; row += kRows) {
    for (int first = 0; first < args.tokens; first += kBlockTokens) {
      const int left = args.tokens - first;
      run_unpacked_rows<Type> (args, row, first, left < kBlockTokens ? left : kBlockTokens);
    }
  }
  return row;
}

} // namespace

} // namespace millrace::cpu
