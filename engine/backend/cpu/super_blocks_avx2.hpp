// What kernels of super-blocks share: scales of sub-blocks, and what a whole block adds. Included by *_avx2.cpp only;
// everything is static.
#pragma once

#include "engine/backend/cpu/panel_tiles_avx2.hpp"

namespace millrace::cpu
{

/// Of pairs (a, b) of 16 bits: (a, a) and (b, b).
static inline __m256i
firsts (__m256i pairs)
{
  const __m256i order = _mm256_setr_epi8 (0, 1, 0, 1, 4, 5, 4, 5, 8, 9, 8, 9, 12, 13, 12, 13, 0, 1, 0, 1, 4,
                                          5, 4, 5, 8, 9, 8, 9, 12, 13, 12, 13);
  return _mm256_shuffle_epi8 (pairs, order);
}

static inline __m256i
seconds (__m256i pairs)
{
  const __m256i order = _mm256_setr_epi8 (2, 3, 2, 3, 6, 7, 6, 7, 10, 11, 10, 11, 14, 15, 14, 15, 2, 3, 2, 3,
                                          6, 7, 6, 7, 10, 11, 10, 11, 14, 15, 14, 15);
  return _mm256_shuffle_epi8 (pairs, order);
}

/// totals += dots · d of the rows · scale of the token, for panel p of P; of token t both are at [t · P + p].
template <int T, int P = 1>
static inline void
add_block (const char *d, const char *x_scales, size_t x_stride, const __m256i (&dots)[T * P],
           __m256 (&totals)[T * P], int p = 0)
{
  const __m256 row_scales = load_halves (d);
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t) {
    const __m256 x_scale = _mm256_broadcast_ss (reinterpret_cast<const float *> (x_scales + t * x_stride));
    __m256 &total = totals[t * P + p];
    total =
        _mm256_fmadd_ps (_mm256_cvtepi32_ps (dots[t * P + p]), _mm256_mul_ps (row_scales, x_scale), total);
  }
}

template <int T>
static inline void
clear (__m256i (&dots)[T])
{
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t)
    dots[t] = _mm256_setzero_si256 ();
}

/// Of kQ4K and kQ5K: totals -= minima · sums of x, for panel p of P; a token's are at [t · P + p]. Also takes scales and
/// minima apart: the scales are for later.
template <int T, int P = 1>
static inline void
subtract_minima (const char *block, const char *x_sums, const char *x_scales, size_t x_stride, char *scales,
                 __m256 (&totals)[T * P], int p = 0)
{
  const __m256i nibbles = _mm256_set1_epi8 (15), six_bits = _mm256_set1_epi8 (63),
                top_bits = _mm256_set1_epi8 (0x30);
  const __m256i first = load_vector (block + 32), second = load_vector (block + 64),
                low = load_vector (block + 96);
  auto *out = reinterpret_cast<__m256i *> (scales);
  _mm256_store_si256 (out, _mm256_and_si256 (first, six_bits));
  _mm256_store_si256 (out + 1, _mm256_and_si256 (second, six_bits));
  const __m256i minima_0 = _mm256_or_si256 (_mm256_and_si256 (low, nibbles),
                                            _mm256_and_si256 (_mm256_srli_epi16 (first, 2), top_bits));
  const __m256i minima_1 = _mm256_or_si256 (_mm256_and_si256 (_mm256_srli_epi16 (low, 4), nibbles),
                                            _mm256_and_si256 (_mm256_srli_epi16 (second, 2), top_bits));
  const __m256i minima[4] = {_mm256_cvtepu8_epi16 (_mm256_castsi256_si128 (minima_0)),
                             _mm256_cvtepu8_epi16 (_mm256_extracti128_si256 (minima_0, 1)),
                             _mm256_cvtepu8_epi16 (_mm256_castsi256_si128 (minima_1)),
                             _mm256_cvtepu8_epi16 (_mm256_extracti128_si256 (minima_1, 1))};
  const __m256 d = load_halves (block + 2 * kPanelRows);
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t) {
    const char *sums = x_sums + t * x_stride;
    __m256i sum = _mm256_madd_epi16 (minima[0], broadcast_word (sums));
#pragma GCC unroll 3
    for (int pair = 1; pair < 4; ++pair)
      sum = _mm256_add_epi32 (sum, _mm256_madd_epi16 (minima[pair], broadcast_word (sums + 4 * pair)));
    const __m256 x_scale = _mm256_broadcast_ss (reinterpret_cast<const float *> (x_scales + t * x_stride));
    __m256 &total = totals[t * P + p];
    total = _mm256_fnmadd_ps (_mm256_cvtepi32_ps (sum), _mm256_mul_ps (d, x_scale), total);
  }
}

} // namespace millrace::cpu
