// Products of many tokens for AVX-512 with VNNI: weights of two panels are unpacked once, to bytes and factors in vectors of 16
// rows, and meet all tokens from the first-level cache. Included by panels_avx512.cpp only; everything is internal to it.
//
// A stretch of kStretch columns is unpacked at a time, into about 20 KiB; sums of the tokens wait in memory for the next one. A
// tile is 16 rows × T tokens; the first one of a stretch unpacks. Registers for T = 12, of Intel: 12 accumulators of a
// sub-block, 12 of a super-block (or sums), a vector of weights, a factor: 26 of 32.
//
// Bound: instructions that multiply, of which Zen 4 starts one of 512 bits a cycle (all others find room beside them). For T tokens
// and 256 columns, 64 T dot products and more: 16 T with kQ4K (8 scales, 4 pairs of minima, 4 of floats), 16 T with kQ4 and kQ8
// (floats), 26 T with kQ6K (16 scales, 8 pairs of offsets, 2 of floats): 80, 80 and 71 % of the peak. Intel starts two of all kinds a
// cycle, additions and conversions among them, and takes two for a product of 32 bits: 24 T with kQ4 and kQ8, with kQ4K 24 T when
// sub-blocks are narrow (34 T else), 58 T with kQ6K: 73, 73 and 52 %.
#pragma once

#include "engine/backend/cpu/unpacked_tiles_avx512.hpp"

namespace millrace::cpu
{

namespace
{

constexpr int kBlockTokens = 128; ///< whose sums wait between stretches

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
// weights take to come. kTokens are of a tile; kBytes of kColumns columns are unpacked ones; part () says where a panel has them.

/// A part of a panel.
struct Part {
  size_t begin, bytes;
};

/// kQ4 and kQ8: vectors of 8 steps, then d. Fewer tokens leave Zen 4 registers to go ahead with, and what sums begin with costs it
/// nothing beside the products.
template <typename Codes, bool kIntel>
struct UnpackedGroups {
  static constexpr int kTokens = kIntel ? 12 : 8, kColumns = kGroup, kBytes = 9 * kLine, kParts = 2;

  static Part part (int index, int columns, int first, int count)
  {
    if (index == 0)
      return {static_cast<size_t> (first / kGroup * 2 * kPanelRows),
              static_cast<size_t> (count / kGroup * 2 * kPanelRows)};
    return {scale_bytes (columns) + static_cast<size_t> (first / kGroup * Codes::kVectors * kVectorBytes),
            static_cast<size_t> (count / kGroup * Codes::kVectors * kVectorBytes)};
  }

  template <bool kUnpack, int T>
  [[gnu::always_inline]] static void add (Tokens<T> tokens, const Stretch &stretch, float *all_sums)
  {
    __m512 sums[T];
#pragma GCC unroll 12
    for (int t = 0; t < T; ++t)
      sums[t] = _mm512_load_ps (all_sums + t * kRows);
    const int columns = stretch.columns, first = stretch.column / kGroup;
    const char *scales = stretch.panel + first * 2 * kPanelRows;
    const char *quants = stretch.panel + scale_bytes (columns) + first * Codes::kVectors * kVectorBytes;
    char *weights = stretch.weights;
    tokens.advance (static_cast<size_t> (stretch.column));
    // From the column on.
    auto x_scales = static_cast<size_t> (columns + first * 4 - stretch.column);
    const size_t scales_bytes = static_cast<size_t> (columns / kGroup) * sizeof (float);
    const Starts<T> starts (tokens, x_scales + scales_bytes, kIntel ? stretch.count / kGroup : 0,
                            [] (const char *eights, __mmask16 mask) {
                              return Codes::start (_mm512_maskz_loadu_epi32 (mask, eights));
                            });
    for (int group = 0; group < stretch.count / kGroup; ++group) {
      if constexpr (kUnpack) {
        Codes::unpack (quants, stretch.stride, weights);
        store_floats (weights + 8 * kLine, TwoPanels::load_halves (scales, stretch.stride));
        scales += 2 * kPanelRows;
        quants += Codes::kVectors * kVectorBytes;
      }
      __m512i dots[T];
      if constexpr (kIntel) {
        starts.set (group, dots);
      } else {
#pragma GCC unroll 12
        for (int t = 0; t < T; ++t)
          dots[t] = Codes::start (
              _mm512_set1_epi32 (*reinterpret_cast<const int *> (tokens.at (t, x_scales + scales_bytes))));
      }
      add_steps<8> (tokens, weights, dots);
      const __m512 factor = load_floats (weights + 8 * kLine);
#pragma GCC unroll 12
      for (int t = 0; t < T; ++t)
        sums[t] = add_float<false> (dots[t], factor, tokens.at (t, x_scales), sums[t]);
      weights += kBytes;
      tokens.advance (kGroup);
      x_scales -= kGroup - sizeof (float);
    }
#pragma GCC unroll 12
    for (int t = 0; t < T; ++t)
      _mm512_store_ps (all_sums + t * kRows, sums[t]);
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

/// 4 vectors of pairs of minima, dmin, d, then of each sub-block: its scale, vectors of 8 steps. Narrow: of each sub-block what
/// nibbles less 8 give, which has 16 bits, so that one instruction multiplies with the scale and adds; then 4 vectors of pairs of
/// scales times 8 for the rest.
template <bool kNarrow>
struct UnpackedQ4K : UnpackedBlocks<UnpackedQ4K<kNarrow>> {
  using Packed = Q4K<TwoPanels>;
  static constexpr int kTokens = kNarrow ? 12 : 8, kPacked = kQ4KBytes, kScales = 6 * kLine,
                       kHead = kScales + (kNarrow ? 4 : 0) * kLine, kSub = 9 * kLine,
                       kBytes = kHead + kGroups * kSub;
  static_assert (kGroup * 8 * 127 < 1 << 15);

  static void unpack_head (const char *block, size_t stride, char *out)
  {
    for (int pair = 0; pair < kGroups / 2; ++pair)
      store_ints (out + pair * kLine, Packed::minima (block, stride, pair));
    store_floats (out + 4 * kLine, TwoPanels::load_halves (block + 2 * kPanelRows, stride));
    store_floats (out + 5 * kLine, TwoPanels::load_halves (block, stride));
    for (int pair = 0; kNarrow && pair < kGroups / 2; ++pair)
      store_ints (out + kScales + pair * kLine,
                  TwoPanels::words_up<3> (Packed::scales (block, stride, pair)));
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
  [[gnu::always_inline]] static void add (Tokens<T> tokens, const Stretch &stretch, float *sums)
  {
    const auto blocks = static_cast<size_t> (stretch.columns / kSuperBlock),
               first = static_cast<size_t> (stretch.column / kSuperBlock);
    const char *block = stretch.panel + first * kPacked;
    char *weights = stretch.weights;
    tokens.advance (static_cast<size_t> (stretch.column));
    // From the column on.
    size_t x_scales = static_cast<size_t> (stretch.columns - stretch.column) + first * sizeof (float);
    size_t x_sums = static_cast<size_t> (stretch.columns - stretch.column) +
                    blocks * (sizeof (float) + sizeof (int16_t) * 16) + first * sizeof (int16_t) * kGroups;
    const Starts<T> starts (
        tokens, x_sums, kNarrow ? stretch.count / kGroup : 0,
        [] (const char *x_sum, __mmask16 mask) {
          const __m512i sums_32 = _mm512_cvtepi16_epi32 (_mm256_maskz_loadu_epi16 (mask, x_sum));
          return _mm512_sub_epi32 (_mm512_setzero_si512 (), _mm512_slli_epi32 (sums_32, 3));
        },
        std::integral_constant<int, sizeof (int16_t)> ());
    for (int b = 0; b < stretch.count / kSuperBlock; ++b) {
      if constexpr (kUnpack)
        unpack_head (block, stretch.stride, weights);
      __m512i totals[T];
      clear_dots (totals);
      Tokens<T> sums_of = tokens;
      sums_of.advance (x_sums);
      add_all_pairs<kGroups / 2> (sums_of, weights, totals);
      add_floats<true> (tokens, totals, load_floats (weights + 4 * kLine), x_scales, sums);
      const __m512 d = load_floats (weights + 5 * kLine);
      clear_dots (totals);
      if constexpr (kNarrow)
        add_all_pairs<kGroups / 2> (sums_of, weights + kScales, totals);
      weights += kHead;
      for (int group = 0; group < kGroups; ++group) {
        if constexpr (kUnpack) {
          if (group % 2 == 0)
            unpack_pair (block, stretch.stride, group / 2, weights);
        }
        if constexpr (kNarrow)
          add_narrow_block (tokens, weights, starts, b * kGroups + group, totals);
        else
          add_block<8> (tokens, weights, totals);
        weights += kSub;
        tokens.advance (kGroup);
      }
      x_scales -= kSuperBlock;
      add_floats<false> (tokens, totals, d, x_scales, sums);
      block += kPacked;
      x_scales += sizeof (float);
      x_sums -= kSuperBlock - sizeof (int16_t) * kGroups;
    }
  }
};

/// 8 vectors of pairs of offsets, d, then of each sub-block of 16: its scale, vectors of 4 steps.
struct UnpackedQ6K : UnpackedBlocks<UnpackedQ6K> {
  using Packed = Q6K<TwoPanels>;
  static constexpr int kTokens = 8, kPacked = kQ6KBytes, kHead = 9 * kLine, kSub = 5 * kLine;
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
  [[gnu::always_inline]] static void add (Tokens<T> tokens, const Stretch &stretch, float *sums)
  {
    const auto blocks = static_cast<size_t> (stretch.columns / kSuperBlock),
               first = static_cast<size_t> (stretch.column / kSuperBlock);
    const char *block = stretch.panel + first * kPacked;
    char *weights = stretch.weights;
    tokens.advance (static_cast<size_t> (stretch.column));
    // From the column on.
    size_t x_scales = static_cast<size_t> (stretch.columns - stretch.column) + first * sizeof (float);
    size_t x_sums = static_cast<size_t> (stretch.columns - stretch.column) + blocks * sizeof (float) +
                    first * sizeof (int16_t) * 2 * kGroups;
    for (int b = 0; b < stretch.count / kSuperBlock; ++b) {
      char *head = weights;
      weights += kHead;
      __m512i totals[T];
      clear_dots (totals);
      for (int pair = 0; pair < kGroups; ++pair) {
        if constexpr (kUnpack)
          unpack_pair (block, stretch.stride, pair, head, weights);
        add_block<4> (tokens, weights, totals);
        tokens.advance (kGroup / 2);
        add_block<4> (tokens, weights + kSub, totals);
        tokens.advance (kGroup / 2);
        weights += 2 * kSub;
      }
      x_scales -= kSuperBlock;
      x_sums -= kSuperBlock;
      Tokens<T> sums_of = tokens;
      sums_of.advance (x_sums);
      add_all_pairs<kGroups> (sums_of, head, totals);
      if constexpr (kUnpack)
        store_floats (head + 8 * kLine, TwoPanels::load_halves (block + 128, stretch.stride));
      add_floats<false> (tokens, totals, load_floats (head + 8 * kLine), x_scales, sums);
      block += kPacked;
      x_scales += sizeof (float);
      x_sums += sizeof (int16_t) * 2 * kGroups;
    }
  }
};

/// Sums of T tokens as outputs. Copies of what `args` says: stores may write anything, the compiler thinks.
template <int T>
inline void
store_outputs (const LinearArgs &args, const float *sums, int row, int token)
{
  const int rows = args.rows - row;
  const bool has_bias = args.bias != nullptr, accumulate = args.accumulate;
  const size_t offset = args.y_offset + static_cast<size_t> (row);
  float *const *const y = args.y + token;
  const auto store = [&] (auto load, auto store_one) {
    const __m512 bias = has_bias ? load (args.bias + row) : _mm512_setzero_ps ();
#pragma GCC unroll 12
    for (int t = 0; t < T; ++t) {
      __m512 sum = _mm512_load_ps (sums + t * kRows);
      if (has_bias)
        sum = _mm512_add_ps (sum, bias);
      if (accumulate)
        sum = _mm512_add_ps (load (y[t] + offset), sum);
      store_one (y[t] + offset, sum);
    }
  };
  if (rows >= kRows) { // masked stores take Zen 4 some twenty cycles
    store ([] (const float *from) { return _mm512_loadu_ps (from); },
           [] (float *to, __m512 sum) { _mm512_storeu_ps (to, sum); });
    return;
  }
  const auto mask = static_cast<__mmask16> ((1 << rows) - 1);
  store ([mask] (const float *from) { return _mm512_maskz_loadu_ps (mask, from); },
         [mask] (float *to, __m512 sum) { _mm512_mask_storeu_ps (to, mask, sum); });
}

template <typename Type, bool kUnpack, int T>
__attribute__ ((noinline)) void
run_unpacked_tile (const LinearArgs &args, const Stretch &stretch, int row, int token, float *partial)
{
  const Tokens<T> tokens (static_cast<const char *> (args.x) + static_cast<size_t> (token) * args.x_row_bytes,
                          args.x_row_bytes);
  const bool is_last = stretch.is_last;
  if (stretch.is_first) {
#pragma GCC unroll 12
    for (int t = 0; t < T; ++t)
      _mm512_store_ps (partial + t * kRows, _mm512_setzero_ps ());
  }
  if (is_last) {
#pragma GCC unroll 12
    for (int t = 0; t < T; ++t)
      prefetch_output (args, row, token + t);
  }
  Type::template add<kUnpack> (tokens, stretch, partial);
  if (is_last)
    store_outputs<T> (args, partial, row, token);
}

/// A tile of `count` (1 … T) tokens.
template <typename Type, bool kUnpack, int T = Type::kTokens>
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
  const int tiles = (tokens + Type::kTokens - 1) / Type::kTokens;
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
