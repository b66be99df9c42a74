// Products of panels by instructions that add four products of unsigned × signed bytes to 32 bits (VNNI). Included by
// panels_avxvnni.cpp and panels_avx512.cpp only; everything is internal to them.
//
// `V` is the vectors of an instruction set: one panel in 256 bits, or two neighbours in 512 (V::kPanels; the second is
// `stride` bytes behind the first). A tile is that × T tokens. Of each vector of weights, unpacked once, T dot products with
// broadcast activations are added to T accumulators; the bound is one such instruction for 32 (64) multiply-adds, two a
// cycle. A group's accumulators do not depend on those of the one before, so that few tokens hide the latency too.
//
// Weights must be unsigned. Those of kQ8 are by their highest bit turned over, q + 128, and 128 times the sum of the
// activations is what the accumulators start below zero; kQ4 starts 8 times that sum below.
#pragma once

#include "engine/backend/cpu/kernels.hpp"
#include "engine/backend/cpu/pages_ahead_x86.hpp"

#include <immintrin.h>

namespace millrace::cpu
{

namespace
{

constexpr int kVectorBytes = 32; ///< of a panel
constexpr int kGroups = kSuperBlock / kGroup;
constexpr int kAhead = 4096; ///< bytes from use that weights are asked for
/// With at most so many, one chain of dot products is longer than what else there is to do.
constexpr int kLatentTokens = 3;

/// One panel. `Dot` has the dot products of its instruction set.
template <typename Dot, int kTokens, bool kByPages = false>
struct OnePanel {
  using Ints = __m256i;
  using Floats = __m256;
  static constexpr int kPanels = 1;
  static constexpr int kTileTokens = kTokens;

  static Ints load (const char *data, size_t)
  {
    Ints value = _mm256_load_si256 (reinterpret_cast<const __m256i *> (data));
    // Or the compiler would load twice.
    __asm__("" : "+x"(value));
    return value;
  }
  static Ints load_unsigned_words (const char *bytes, size_t)
  {
    return _mm256_cvtepu8_epi16 (load_16 (bytes));
  }
  static Ints load_signed_words (const char *bytes, size_t) { return _mm256_cvtepi8_epi16 (load_16 (bytes)); }
  static Floats load_halves (const char *data, size_t) { return _mm256_cvtph_ps (load_16 (data)); }
  static Ints broadcast (const char *word)
  {
    Ints value;
    __asm__("vpbroadcastd %1, %0" : "=x"(value) : "m"(*reinterpret_cast<const int *> (word)));
    return value;
  }
  static Floats broadcast_float (const char *value)
  {
    return _mm256_broadcast_ss (reinterpret_cast<const float *> (value));
  }

  static Ints zero () { return _mm256_setzero_si256 (); }
  static Floats zero_floats () { return _mm256_setzero_ps (); }
  static Ints bytes (int value) { return _mm256_set1_epi8 (static_cast<char> (value)); }
  static Ints words (int value) { return _mm256_set1_epi16 (static_cast<short> (value)); }
  static Ints both (Ints a, Ints b) { return _mm256_and_si256 (a, b); }
  static Ints either (Ints a, Ints b) { return _mm256_or_si256 (a, b); }
  static Ints differing (Ints a, Ints b) { return _mm256_xor_si256 (a, b); }
  template <int kBits>
  static Ints words_up (Ints a)
  {
    return _mm256_slli_epi16 (a, kBits);
  }
  template <int kBits>
  static Ints words_down (Ints a)
  {
    return _mm256_srli_epi16 (a, kBits);
  }
  // Words of 32 bits as integers.
  static Ints low_words (Ints a) { return _mm256_srai_epi32 (_mm256_slli_epi32 (a, 16), 16); }
  static Ints high_words (Ints a) { return _mm256_srai_epi32 (a, 16); }
  static Ints add (Ints a, Ints b) { return _mm256_add_epi32 (a, b); }
  static Ints subtract (Ints a, Ints b) { return _mm256_sub_epi32 (a, b); }
  static Ints subtract_words (Ints a, Ints b) { return _mm256_sub_epi16 (a, b); }
  static Ints times (Ints a, Ints b) { return _mm256_mullo_epi32 (a, b); }
  static Ints times_16 (Ints a) { return _mm256_slli_epi32 (a, 4); }
  // With the 4 bytes, or the 2 words, at `x`.
  static Ints add_bytes (Ints sum, Ints weights, const char *x)
  {
    return Dot::bytes (sum, weights, broadcast (x));
  }
  static Ints add_words (Ints sum, Ints words, const char *x)
  {
    return Dot::words (sum, words, broadcast (x));
  }
  static Floats scaled (Ints dots, Floats scale, Floats x_scale, Floats sum)
  {
    return _mm256_fmadd_ps (_mm256_cvtepi32_ps (dots), _mm256_mul_ps (scale, x_scale), sum);
  }
  static Floats scaled_off (Ints dots, Floats scale, Floats x_scale, Floats sum)
  {
    return _mm256_fnmadd_ps (_mm256_cvtepi32_ps (dots), _mm256_mul_ps (scale, x_scale), sum);
  }
  /// Asks for kBytes, kAhead of `data`.
  template <int kBytes>
  static void prefetch (const char *data, size_t)
  {
    if constexpr (kByPages)
      return ask_for_next_window (data, kBytes);
#pragma GCC unroll 32
    for (int line = 0; line < kBytes; line += 64)
      _mm_prefetch (data + kAhead + line, _MM_HINT_T0);
  }

  /// Rows from `row` on, as many as there are.
  static void store (const LinearArgs &args, Floats sums, int row, int token)
  {
    float *y = args.y[token] + args.y_offset + row;
    if (args.rows - row >= kPanelRows) { // masked stores take some twenty cycles
      if (args.bias)
        sums = _mm256_add_ps (sums, _mm256_loadu_ps (args.bias + row));
      if (args.accumulate)
        sums = _mm256_add_ps (_mm256_loadu_ps (y), sums);
      _mm256_storeu_ps (y, sums);
      return;
    }
    const __m256i rows = _mm256_set1_epi32 (args.rows - row);
    const __m256i mask = _mm256_cmpgt_epi32 (rows, _mm256_setr_epi32 (0, 1, 2, 3, 4, 5, 6, 7));
    if (args.bias)
      sums = _mm256_add_ps (sums, _mm256_maskload_ps (args.bias + row, mask));
    if (args.accumulate)
      sums = _mm256_add_ps (_mm256_maskload_ps (y, mask), sums);
    _mm256_maskstore_ps (y, mask, sums);
  }

private:
  static __m128i load_16 (const char *data)
  {
    return _mm_load_si128 (reinterpret_cast<const __m128i *> (data));
  }
};

/// Where a tile starts.
template <int T>
struct Tile {
  const char *panel;
  size_t stride;    ///< to the next panel
  const char *x[T]; ///< each token's activations
  int columns;
};

inline size_t
scale_bytes (int columns)
{
  return (static_cast<size_t> (columns / kGroup) * kPanelRows * 2 + 63) / 64 * 64;
}

/// Scales and quants are one stretch of memory, of which each group asks for an equal share ahead: what nobody asks for costs
/// more than all the rest.
template <typename V, int kGroupBytes, int T>
inline void
prefetch_group (const Tile<T> &tile, int group)
{
  V::template prefetch<kGroupBytes> (tile.panel + group * kGroupBytes, tile.stride);
}

template <typename V, int T>
inline void clear (typename V::Ints (&sums)[T])
{
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t)
    sums[t] = V::zero ();
}

template <typename V, int T>
inline void clear (typename V::Floats (&sums)[T])
{
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t)
    sums[t] = V::zero_floats ();
}

/// Adds a vector's products with four activations of each token, `at` bytes behind its first.
template <typename V, int T>
inline void
add_step (const Tile<T> &tile, typename V::Ints weights, size_t at, typename V::Ints (&dots)[T])
{
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t)
    dots[t] = V::add_bytes (dots[t], weights, tile.x[t] + at);
}

/// Adds those of 32 columns of nibbles.
template <typename V, int T>
inline void
add_nibbles (const Tile<T> &tile, const char *vectors, size_t at, typename V::Ints (&dots)[T])
{
  const auto mask = V::bytes (15);
  constexpr bool kTwoChains = T <= kLatentTokens;
  [[maybe_unused]] typename V::Ints others[T];
  if constexpr (kTwoChains)
    clear<V> (others);
#pragma GCC unroll 4
  for (int v = 0; v < 4; ++v) {
    const auto pair = V::load (vectors + v * kVectorBytes, tile.stride);
    add_step<V> (tile, V::both (pair, mask), at + 4 * v, dots);
    add_step<V> (tile, V::both (V::template words_down<4> (pair), mask), at + 4 * v + 16,
                 kTwoChains ? others : dots);
  }
  if constexpr (kTwoChains) {
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t)
      dots[t] = V::add (dots[t], others[t]);
  }
}

/// Adds products of pairs of words with the two at `at` of each token.
template <typename V, int T>
inline void
add_pairs (const Tile<T> &tile, typename V::Ints words, size_t at, typename V::Ints (&dots)[T])
{
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t)
    dots[t] = V::add_words (dots[t], words, tile.x[t] + at);
}

/// dots += products · scale, in each row.
template <typename V, int T>
inline void
add_times (const typename V::Ints (&products)[T], typename V::Ints scale, typename V::Ints (&dots)[T])
{
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t)
    dots[t] = V::add (dots[t], V::times (products[t], scale));
}

/// Adds integers to the outputs; each token's scale is at `at`.
template <typename V, int T>
inline void
add_scaled (const Tile<T> &tile, const typename V::Ints (&dots)[T], typename V::Floats scale, size_t at,
            typename V::Floats (&sums)[T])
{
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t)
    sums[t] = V::scaled (dots[t], scale, V::broadcast_float (tile.x[t] + at), sums[t]);
}

template <typename V>
struct Q8 {
  template <int T>
  static void product (const Tile<T> &tile, typename V::Floats (&sums)[T])
  {
    const int groups = tile.columns / kGroup;
    const char *scales = tile.panel, *quants = tile.panel + scale_bytes (tile.columns);
    size_t x = 0, x_scales = static_cast<size_t> (tile.columns), eights = x_scales + groups * sizeof (float);
    clear<V> (sums);
    for (int group = 0; group < groups; ++group) {
      prefetch_group<V, 8 * kVectorBytes + 2 * kPanelRows> (tile, group);
      typename V::Ints dots[T];
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t)
        dots[t] = V::subtract (V::zero (), V::times_16 (V::broadcast (tile.x[t] + eights)));
#pragma GCC unroll 8
      for (int step = 0; step < 8; ++step) {
        const auto weights = V::load (quants + step * kVectorBytes, tile.stride);
        add_step<V> (tile, V::differing (weights, V::bytes (0x80)), x + 4 * step, dots);
      }
      add_scaled<V> (tile, dots, V::load_halves (scales, tile.stride), x_scales, sums);
      quants += 8 * kVectorBytes;
      scales += 2 * kPanelRows;
      x += kGroup;
      x_scales += sizeof (float);
      eights += sizeof (int32_t);
    }
  }
};

template <typename V>
struct Q4 {
  template <int T>
  static void product (const Tile<T> &tile, typename V::Floats (&sums)[T])
  {
    const int groups = tile.columns / kGroup;
    const char *scales = tile.panel, *quants = tile.panel + scale_bytes (tile.columns);
    size_t x = 0, x_scales = static_cast<size_t> (tile.columns), eights = x_scales + groups * sizeof (float);
    clear<V> (sums);
    for (int group = 0; group < groups; ++group) {
      prefetch_group<V, 4 * kVectorBytes + 2 * kPanelRows> (tile, group);
      typename V::Ints dots[T];
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t)
        dots[t] = V::subtract (V::zero (), V::broadcast (tile.x[t] + eights));
      add_nibbles<V> (tile, quants, x, dots);
      add_scaled<V> (tile, dots, V::load_halves (scales, tile.stride), x_scales, sums);
      quants += 4 * kVectorBytes;
      scales += 2 * kPanelRows;
      x += kGroup;
      x_scales += sizeof (float);
      eights += sizeof (int32_t);
    }
  }
};

template <typename V>
struct Q4K {
  using Ints = typename V::Ints;

  template <int T>
  static void product (const Tile<T> &tile, typename V::Floats (&sums)[T])
  {
    const char *block = tile.panel;
    const size_t blocks = static_cast<size_t> (tile.columns / kSuperBlock);
    size_t x = 0, x_scales = static_cast<size_t> (tile.columns);
    size_t x_sums = x_scales + blocks * (sizeof (float) + sizeof (int16_t) * (kSuperBlock / 16));
    clear<V> (sums);
    for (size_t b = 0; b < blocks; ++b) {
      subtract_minima (tile, block, x_sums, x_scales, sums);
      Ints dots[T];
      clear<V> (dots);
      for (int pair = 0; pair < kGroups / 2; ++pair) {
        V::template prefetch<kQ4KBytes / 4> (block + pair * (kQ4KBytes / 4), tile.stride);
        const char *vectors = block + 128 + pair * 8 * kVectorBytes;
        const Ints scales = Q4K::scales (block, tile.stride, pair);
        add_group (tile, vectors, x, V::low_words (scales), dots);
        add_group (tile, vectors + 4 * kVectorBytes, x + kGroup, V::high_words (scales), dots);
        x += 2 * kGroup;
      }
      add_scaled<V> (tile, dots, V::load_halves (block, tile.stride), x_scales, sums);
      block += kQ4KBytes;
      x_scales += sizeof (float);
      x_sums += sizeof (int16_t) * kGroups;
    }
  }

  /// Of sub-blocks 2 · pair and 2 · pair + 1, as words.
  static Ints scales (const char *block, size_t stride, int pair)
  {
    return V::both (V::load_unsigned_words (block + 32 + pair * 16, stride), V::words (63));
  }

  static Ints minima (const char *block, size_t stride, int pair)
  {
    const Ints low = V::load_unsigned_words (block + 96 + pair % 2 * 16, stride);
    const Ints top = V::load_unsigned_words (block + 32 + pair * 16, stride);
    return V::either (pair < 2 ? V::both (low, V::words (15)) : V::template words_down<4> (low),
                      V::both (V::template words_down<2> (top), V::words (0x30)));
  }

  template <int T>
  static void add_group (const Tile<T> &tile, const char *vectors, size_t x, Ints scale, Ints (&dots)[T])
  {
    Ints products[T];
    clear<V> (products);
    add_nibbles<V> (tile, vectors, x, products);
    add_times<V> (products, scale, dots);
  }

  template <int T>
  static void subtract_minima (const Tile<T> &tile, const char *block, size_t x_sums, size_t x_scales,
                               typename V::Floats (&sums)[T])
  {
    Ints dots[T];
    clear<V> (dots);
#pragma GCC unroll 4
    for (int pair = 0; pair < kGroups / 2; ++pair)
      add_pairs<V> (tile, minima (block, tile.stride, pair), x_sums + 4 * pair, dots);
    const auto d = V::load_halves (block + 2 * kPanelRows, tile.stride);
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t)
      sums[t] = V::scaled_off (dots[t], d, V::broadcast_float (tile.x[t] + x_scales), sums[t]);
  }
};

template <typename V>
struct Q6K {
  using Ints = typename V::Ints;
  static constexpr int kVectors = 6; ///< of 32 columns: nibbles, and two of upper bits

  template <int T>
  static void product (const Tile<T> &tile, typename V::Floats (&sums)[T])
  {
    const char *block = tile.panel;
    const size_t blocks = static_cast<size_t> (tile.columns / kSuperBlock);
    size_t x = 0, x_scales = static_cast<size_t> (tile.columns), x_sums = x_scales + blocks * sizeof (float);
    clear<V> (sums);
    for (size_t b = 0; b < blocks; ++b) {
      Ints dots[T];
      clear<V> (dots);
      for (int pair = 0; pair < kGroups; ++pair) {
        V::template prefetch<kQ6KBytes / 8> (block + pair * (kQ6KBytes / 8), tile.stride);
        const char *vectors = block + 160 + pair * kVectors * kVectorBytes;
        const Ints scales = V::load_signed_words (block + pair * 16, tile.stride);
        add_pairs<V> (tile, offsets (scales), x_sums + 4 * pair, dots);
        add_half<T, 0> (tile, vectors, x, V::low_words (scales), dots);
        add_half<T, 1> (tile, vectors, x + 16, V::high_words (scales), dots);
        x += kGroup;
      }
      add_scaled<V> (tile, dots, V::load_halves (block + 128, tile.stride), x_scales, sums);
      block += kQ6KBytes;
      x_scales += sizeof (float);
      x_sums += sizeof (int16_t) * (kSuperBlock / 16);
    }
  }

  /// What values of q instead of q - 32 are too much.
  static Ints offsets (Ints scales)
  {
    return V::subtract_words (V::zero (), V::template words_up<5> (scales));
  }

  /// 16 columns, those of the low (kHalf 0) or the high nibbles.
  template <int T, int kHalf>
  static void add_half (const Tile<T> &tile, const char *vectors, size_t x, Ints scale, Ints (&dots)[T])
  {
    const Ints tops = V::load (vectors + (4 + kHalf) * kVectorBytes, tile.stride);
    Ints products[T];
    clear<V> (products);
#pragma GCC unroll 4
    for (int step = 0; step < 4; ++step) {
      const Ints nibbles = V::load (vectors + step * kVectorBytes, tile.stride);
      add_step<V> (tile, element<kHalf> (nibbles, tops, step), x + 4 * step, products);
    }
    add_times<V> (products, scale, dots);
  }

  /// The upper bits of step `i` are at 2 · i and belong at 4.
  template <int kHalf>
  static Ints element (Ints nibbles, Ints tops, int i)
  {
    const Ints low = V::both (kHalf == 0 ? nibbles : V::template words_down<4> (nibbles), V::bytes (15));
    const Ints shifted = i == 0   ? V::template words_up<4> (tops)
                         : i == 1 ? V::template words_up<2> (tops)
                         : i == 2 ? tops
                                  : V::template words_down<2> (tops);
    return V::either (low, V::both (shifted, V::bytes (0x30)));
  }
};

/// Of many tokens the outputs are in no near cache, and one store that waits for its line holds up all that follow.
inline void
prefetch_output (const LinearArgs &args, int row, int token)
{
  _mm_prefetch (reinterpret_cast<const char *> (args.y[token] + args.y_offset + row), _MM_HINT_T0);
}

template <typename V, typename Format, int T>
__attribute__ ((noinline)) void
run_tile (const LinearArgs &args, int row, int token)
{
  Tile<T> tile = {static_cast<const char *> (args.weights) + row / kPanelRows * args.panel_bytes,
                  args.panel_bytes,
                  {},
                  args.columns};
  for (int t = 0; t < T; ++t) {
    tile.x[t] = static_cast<const char *> (args.x) + (token + t) * args.x_row_bytes;
    // Pointers that the compiler does not see through: it would compute all sums of row and column beforehand, and spill.
    __asm__("" : "+r"(tile.x[t]));
    prefetch_output (args, row, token + t);
  }
  typename V::Floats sums[T];
  Format::product (tile, sums);
  for (int t = 0; t < T; ++t)
    V::store (args, sums[t], row, token + t);
}

/// A tile of `tokens` (1 … T) tokens.
template <typename V, typename Format, int T = V::kTileTokens>
inline void
run_tile_of (int tokens, const LinearArgs &args, int row, int token)
{
  if constexpr (T > 1) {
    if (tokens < T)
      return run_tile_of<V, Format, T - 1> (tokens, args, row, token);
  }
  run_tile<V, Format, T> (args, row, token);
}

/// The panels from `row` on that fill whole V; returns the row behind them. Tokens in tiles of as equal a size as can be.
template <typename V, template <typename> typename Format>
inline int
run_panels (const LinearArgs &args, int row)
{
  const int tiles = (args.tokens + V::kTileTokens - 1) / V::kTileTokens;
  for (; row + (V::kPanels - 1) * kPanelRows < args.rows; row += V::kPanels * kPanelRows) {
    int token = 0;
    for (int i = 0; i < tiles; ++i) {
      const int count = args.tokens / tiles + (i < args.tokens % tiles ? 1 : 0);
      run_tile_of<V, Format<V>> (count, args, row, token);
      token += count;
    }
  }
  return row;
}

} // namespace

} // namespace millrace::cpu
