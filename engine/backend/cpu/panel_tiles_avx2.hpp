// How products of panels are cut into register tiles, for the formats' kernels. Included by *_avx2.cpp only; everything is
// static.
//
// A tile is one panel (8 rows) × T tokens: of each vector of weights, unpacked once, T products with broadcast activations
// are added to T accumulators. Registers for T = 6: 6 accumulators, 2 vectors of weights, a mask, a product; the 32-bit
// or float sums of the tokens, touched once a group, may be in memory. Bound: of 4 vector operations a cycle a multiply and
// an add for 32 multiply-adds; 1.6 such pairs a cycle were measured on Zen 4, of which tiles reach about two thirds. With
// one token memory is the bound, and one stream of it is read: two panels at a time, which would share the activations,
// made it half as fast.
#pragma once

#include "engine/backend/cpu/kernels.hpp"

#include <immintrin.h>

#include <cstring>

namespace millrace::cpu
{

constexpr int kVectorBytes = 32;
constexpr int kTileTokens = 6;

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
prefetch (const char *data)
{
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

/// Where a tile starts.
struct TileArgs {
  const char *panel;
  const char *x; ///< of the first token
  size_t x_stride;
  int columns;
};

template <typename Format, int T>
static void
run_tile (const LinearArgs &args, int row, int token)
{
  const TileArgs tile = {static_cast<const char *> (args.weights) + row / kPanelRows * args.panel_bytes,
                         static_cast<const char *> (args.x) + token * args.x_row_bytes, args.x_row_bytes,
                         args.columns};
  __m256 sums[T];
  Format::template product<T> (tile, sums);
  for (int t = 0; t < T; ++t)
    store_outputs (args, sums[t], row, token + t);
}

/// All panels; the tokens of each in tiles of as equal a size as can be.
template <typename Format>
static void
panel_product (const LinearArgs &args)
{
  const int tiles = (args.tokens + kTileTokens - 1) / kTileTokens;
  for (int row = 0; row < args.rows; row += kPanelRows) {
    for (int i = 0, token = 0; i < tiles; ++i) {
      const int count = args.tokens / tiles + (i < args.tokens % tiles ? 1 : 0);
      switch (count) {
      case 1:
        run_tile<Format, 1> (args, row, token);
        break;
      case 2:
        run_tile<Format, 2> (args, row, token);
        break;
      case 3:
        run_tile<Format, 3> (args, row, token);
        break;
      case 4:
        run_tile<Format, 4> (args, row, token);
        break;
      case 5:
        run_tile<Format, 5> (args, row, token);
        break;
      default:
        run_tile<Format, 6> (args, row, token);
        break;
      }
      token += count;
    }
  }
}

/// The sums of 32 columns of nibbles for T tokens: unsigned nibbles × signed bytes, at most 16 · 15 · 127 in 16 bits. `x`
/// is the first token's activations of the columns.
template <int T>
static inline void
nibble_products (const char *vectors, const char *x, size_t x_stride, __m256i (&sums)[T])
{
  const __m256i mask = _mm256_set1_epi8 (15);
#pragma GCC unroll 4
  for (int v = 0; v < 4; ++v) {
    const __m256i both = load_vector (vectors + v * kVectorBytes);
    const __m256i low = _mm256_and_si256 (both, mask);
    const __m256i high = _mm256_and_si256 (_mm256_srli_epi16 (both, 4), mask);
#pragma GCC unroll 6
    for (int t = 0; t < T; ++t) {
      const __m256i product = _mm256_maddubs_epi16 (low, broadcast_word (x + t * x_stride + 4 * v));
      sums[t] = v == 0 ? product : _mm256_add_epi16 (sums[t], product);
      keep (sums[t]);
    }
#pragma GCC unroll 6
    for (int t = 0; t < T; ++t) {
      sums[t] = _mm256_add_epi16 (
          sums[t], _mm256_maddubs_epi16 (high, broadcast_word (x + t * x_stride + 4 * v + 16)));
      keep (sums[t]);
    }
  }
}

} // namespace millrace::cpu
