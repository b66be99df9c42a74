// How products of panels are cut into register tiles, for the formats' kernels. Included by *_avx2.cpp only; everything is
// static.
//
// A tile is one panel (8 rows) × T tokens: of each vector of weights, unpacked once, T products with broadcast activations
// are added to T accumulators. Registers for T = 6: 6 accumulators, 2 vectors of weights, a mask, a product; the 32-bit
// or float sums of the tokens, touched once a group, may be in memory. A tile of unpacked weights is two panels × 4
// tokens, which need half as many broadcasts. Bound: a multiply and an add for 32 multiply-adds;
// 1.6 such pairs a cycle were measured on Zen 4, whatever their order, of which tiles reach two thirds, the rest being
// unpacking and scaling. With many tokens a stretch of a panel is unpacked into the first-level cache first. With one token
// memory is the bound, and one stream of it is read: two panels at a time, which would share the activations, made it half
// as fast.
#pragma once

#include "engine/backend/cpu/kernels.hpp"
#include "engine/backend/cpu/pages_ahead_x86.hpp"

#include <immintrin.h>

#include <cstring>

namespace millrace::cpu
{

constexpr int kVectorBytes = 32;
constexpr int kStretchTokens = 128; ///< whose sums wait for the next stretch

static inline __m256i
load_vector (const void *data)
{
  __m256i value = _mm256_load_si256 (static_cast<const __m256i *> (data));
  // Or the compiler would load twice.
  __asm__("" : "+x"(value));
  return value;
}

/// 4 bytes of one token's activations for all rows.
static inline __m256i
broadcast_word (const void *data)
{
  __m256i value;
  __asm__("vpbroadcastd %1, %0" : "=x"(value) : "m"(*static_cast<const int *> (data)));
  return value;
}

/// Keeps additions in order: the compiler would make a tree of them and spill.
static inline void
keep (__m256i &value)
{
  __asm__("" : "+x"(value));
}

/// One token meets weights that come from memory, 20 GB/s of it for a core: this far ahead of their use they are asked for.
constexpr int kPrefetchBytes = 4096;

template <int kBytes>
static inline void
prefetch (const char *data, bool is_intel)
{
  if (is_intel)
    return ask_for_next_window (data, kBytes);
#pragma GCC unroll 32
  for (int at = 0; at < kBytes; at += 64)
    _mm_prefetch (data + kPrefetchBytes + at, _MM_HINT_T0);
}

static inline __m256
load_halves (const void *data)
{
  return _mm256_cvtph_ps (_mm_loadu_si128 (static_cast<const __m128i *> (data)));
}

/// Adds bias and what y holds, and stores `rows` (1 … 8) outputs of a token.
static inline void
store_outputs (const LinearArgs &args, __m256 sums, int row, int token)
{
  float *y = args.y[token] + args.y_offset + row;
  const int rows = args.rows - row;
  if (rows >= kPanelRows) {
    if (args.bias)
      sums = _mm256_add_ps (sums, _mm256_loadu_ps (args.bias + row));
    if (args.accumulate)
      sums = _mm256_add_ps (_mm256_loadu_ps (y), sums);
    _mm256_storeu_ps (y, sums);
    return;
  }
  float values[kPanelRows];
  _mm256_storeu_ps (values, sums);
  for (int i = 0; i < rows; ++i) {
    float value = values[i];
    if (args.bias)
      value += args.bias[row + i];
    y[i] = args.accumulate ? y[i] + value : value;
  }
}

/// Columns [begin, end) of a panel, whole groups, and the tokens they meet.
struct TileArgs {
  const char *panel;
  size_t panel_bytes;   ///< to the next one, of formats whose stretches are of several
  const char *unpacked; ///< the columns' weights as Format::unpack () leaves them, for product<T, true>
  const char *x;        ///< of the first token
  size_t x_stride;
  int columns; ///< of the panel
  int begin, end;
  Format format; ///< of the panel
  bool is_intel; ///< as the table says
};

template <typename Format, int T>
static void
run_tile (const LinearArgs &args, int row, int token)
{
  const TileArgs tile = {static_cast<const char *> (args.weights) + row / kPanelRows * args.panel_bytes,
                         args.panel_bytes,
                         nullptr,
                         static_cast<const char *> (args.x) + token * args.x_row_bytes,
                         args.x_row_bytes,
                         args.columns,
                         0,
                         args.columns,
                         args.format,
                         args.is_intel};
  __m256 sums[T];
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t)
    sums[t] = _mm256_setzero_ps ();
  Format::template product<T, false> (tile, sums);
  for (int t = 0; t < T; ++t)
    store_outputs (args, sums[t], row, token + t);
}

/// Adds a stretch's products to the sums of T tokens: of panel p and token t at [t · kPanels + p].
template <typename Format, int T>
static void
run_stretch (const TileArgs &tile, float *all_sums)
{
  constexpr int kSums = T * Format::kPanels;
  __m256 sums[kSums];
#pragma GCC unroll 8
  for (int i = 0; i < kSums; ++i)
    sums[i] = _mm256_load_ps (all_sums + i * kPanelRows);
  Format::template product<T, true> (tile, sums);
#pragma GCC unroll 8
  for (int i = 0; i < kSums; ++i)
    _mm256_store_ps (all_sums + i * kPanelRows, sums[i]);
}

/// Calls tile.run<T> (token) for tiles of as equal a size as can be.
template <int kMost, typename Tile>
static void
for_tiles (int tokens, const Tile &tile)
{
  const int tiles = (tokens + kMost - 1) / kMost;
  for (int i = 0, token = 0; i < tiles; ++i) {
    const int count = tokens / tiles + (i < tokens % tiles ? 1 : 0);
    switch (count) {
    case 1:
      tile.template run<1> (token);
      break;
    case 2:
      tile.template run<2> (token);
      break;
    case 3:
      tile.template run<3> (token);
      break;
    case 4:
      tile.template run<4> (token);
      break;
    default:
      if constexpr (kMost > 4) {
        if (count == 5)
          tile.template run<5> (token);
        else if (count == 6)
          tile.template run<6> (token);
        if constexpr (kMost > 6) {
          if (count == 7)
            tile.template run<7> (token);
          else if (count == 8)
            tile.template run<8> (token);
        }
      }
      break;
    }
    token += count;
  }
}

template <typename Format>
struct PanelTiles {
  const LinearArgs &args;
  int row;

  template <int T>
  void run (int token) const
  {
    run_tile<Format, T> (args, row, token);
  }
};

template <typename Format>
struct StretchTiles {
  const TileArgs &stretch; ///< for the first token
  float *sums;

  template <int T>
  void run (int token) const
  {
    TileArgs tile = stretch;
    tile.x += token * tile.x_stride;
    run_stretch<Format, T> (tile, sums + token * Format::kPanels * kPanelRows);
  }
};

/// Tokens [first, first + count) of Format::kPanels panels, stretch by stretch: the order of a token's sum is the same.
template <typename Format>
static void
unpacked_product (const LinearArgs &args, int row, int first, int count)
{
  constexpr int kPanels = Format::kPanels;
  alignas (64) char unpacked[Format::kStretch * kPanels * kPanelRows * Format::kUnpackedBytes];
  alignas (32) float sums[kStretchTokens * kPanels * kPanelRows] = {};
  TileArgs stretch = {static_cast<const char *> (args.weights) + row / kPanelRows * args.panel_bytes,
                      args.panel_bytes,
                      unpacked,
                      static_cast<const char *> (args.x) + first * args.x_row_bytes,
                      args.x_row_bytes,
                      args.columns,
                      0,
                      0,
                      args.format,
                      args.is_intel};
  for (; stretch.begin < args.columns; stretch.begin = stretch.end) {
    stretch.end =
        args.columns - stretch.begin < Format::kStretch ? args.columns : stretch.begin + Format::kStretch;
    Format::unpack (stretch, unpacked);
    for_tiles<Format::kStretchTile> (count, StretchTiles<Format>{stretch, sums});
  }
  for (int t = 0; t < count; ++t) {
    for (int p = 0; p < kPanels; ++p)
      store_outputs (args, _mm256_load_ps (sums + (t * kPanels + p) * kPanelRows), row + p * kPanelRows,
                     first + t);
  }
}

template <typename Format>
static void
panel_product (const LinearArgs &args)
{
  int row = 0;
  if (args.tokens >= Format::kUnpackFrom) {
    // The last panels may be fewer than a stretch has.
    for (; row + (Format::kPanels - 1) * kPanelRows < args.rows; row += Format::kPanels * kPanelRows) {
      for (int token = 0; token < args.tokens; token += kStretchTokens)
        unpacked_product<Format> (
            args, row, token, args.tokens - token < kStretchTokens ? args.tokens - token : kStretchTokens);
    }
  }
  for (; row < args.rows; row += kPanelRows)
    for_tiles<Format::kTile> (args.tokens, PanelTiles<Format>{args, row});
}

/// The nibbles of `count` vectors of each of P panels: of a vector the low ones of the panels, then the high ones.
template <int P>
static inline void
unpack_nibbles (const char *vectors, size_t panel_bytes, int count, char *out)
{
  const __m256i mask = _mm256_set1_epi8 (15);
  auto *at = reinterpret_cast<__m256i *> (out);
  for (int v = 0; v < count; ++v, at += 2 * P) {
#pragma GCC unroll 2
    for (int p = 0; p < P; ++p) {
      const __m256i both = load_vector (vectors + p * panel_bytes + v * kVectorBytes);
      _mm256_store_si256 (at + p, _mm256_and_si256 (both, mask));
      _mm256_store_si256 (at + P + p, _mm256_and_si256 (_mm256_srli_epi16 (both, 4), mask));
    }
  }
}

/// sums (+)= weights · x of P panels for T tokens, of panel p and token t at [t · P + p]: the panels share a token's
/// broadcast, as loads would be the bound.
template <int P, int T>
static inline void
add_nibbles (const __m256i (&weights)[P], const char *x, size_t x_stride, bool to_sums,
             __m256i (&sums)[T * P])
{
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t) {
    const __m256i values = broadcast_word (x + t * x_stride);
#pragma GCC unroll 2
    for (int p = 0; p < P; ++p) {
      __m256i &sum = sums[t * P + p];
      const __m256i product = _mm256_maddubs_epi16 (weights[p], values);
      sum = to_sums ? _mm256_add_epi16 (sum, product) : product;
      keep (sum);
    }
  }
}

/// The sums of 32 columns of nibbles of P panels for T tokens: unsigned nibbles × signed bytes, at most 16 · 15 · 127 in
/// 16 bits. `x` is the first token's activations of the columns. Packed vectors are of one panel.
template <int P, int T, bool kUnpacked>
static inline void
nibble_products (const char *vectors, const char *x, size_t x_stride, __m256i (&sums)[T * P])
{
  static_assert (kUnpacked || P == 1);
  [[maybe_unused]] const __m256i mask = _mm256_set1_epi8 (15);
#pragma GCC unroll 4
  for (int v = 0; v < 4; ++v) {
    __m256i low[P], high[P];
    if constexpr (kUnpacked) {
#pragma GCC unroll 2
      for (int p = 0; p < P; ++p) {
        low[p] = load_vector (vectors + (2 * v * P + p) * kVectorBytes);
        high[p] = load_vector (vectors + ((2 * v + 1) * P + p) * kVectorBytes);
      }
    } else {
      const __m256i both = load_vector (vectors + v * kVectorBytes);
      low[0] = _mm256_and_si256 (both, mask);
      high[0] = _mm256_and_si256 (_mm256_srli_epi16 (both, 4), mask);
    }
    add_nibbles<P, T> (low, x + 4 * v, x_stride, v > 0, sums);
    add_nibbles<P, T> (high, x + 4 * v + 16, x_stride, true, sums);
  }
}

} // namespace millrace::cpu
