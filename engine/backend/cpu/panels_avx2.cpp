// Products of panels with one scale for 32 columns, for AVX2, FMA and F16C: kQ8 and kQ4. Contracts in kernels.hpp.
#if defined(__x86_64__) || defined(__i386__)

#include "engine/backend/cpu/kernels_avx2.hpp"
#include "engine/backend/cpu/panel_tiles_avx2.hpp"

namespace millrace::cpu::avx2
{

namespace
{

size_t
scale_bytes (int columns)
{
  return (static_cast<size_t> (columns / kGroup) * kPanelRows * 2 + 63) / 64 * 64;
}

// Where a group of a panel is. Scales and quants are one stretch of memory, of which each group asks for an equal share ahead.
template <int kGroupBytes>
void
prefetch_group (const TileArgs &tile, int group)
{
  prefetch<kGroupBytes> (tile.panel + group * kGroupBytes);
}

template <int T>
void
clear (__m256 (&sums)[T])
{
#pragma GCC unroll 6
  for (int i = 0; i < T; ++i)
    sums[i] = _mm256_setzero_ps ();
}

/// sums += dots · scale of the rows · scale of the token
template <int T>
void
add_scaled (const TileArgs &tile, const char *scales, const char *x_scales, const __m256i (&dots)[T],
            __m256 (&sums)[T])
{
  const __m256 scale = load_halves (scales);
#pragma GCC unroll 6
  for (int t = 0; t < T; ++t) {
    const __m256 x_scale =
        _mm256_broadcast_ss (reinterpret_cast<const float *> (x_scales + t * tile.x_stride));
    sums[t] = _mm256_fmadd_ps (_mm256_cvtepi32_ps (dots[t]), _mm256_mul_ps (scale, x_scale), sums[t]);
  }
}

// Bytes × bytes would not fit the 16 bits of the byte instruction's sums, and its help for that costs more than widening:
// of a vector the even and the odd columns become 16 bits, as the activations are stored.
struct Q8 {
  template <int T>
  static void product (const TileArgs &tile, __m256 (&sums)[T])
  {
    const char *scales = tile.panel, *quants = tile.panel + scale_bytes (tile.columns);
    const char *x = tile.x, *x_scales = tile.x + 2 * static_cast<size_t> (tile.columns);
    clear<T> (sums);
    for (int group = 0; group < tile.columns / kGroup; ++group) {
      prefetch_group<8 * kVectorBytes + 2 * kPanelRows> (tile, group);
      __m256i dots[T];
#pragma GCC unroll 8
      for (int step = 0; step < 8; ++step) {
        const __m256i bytes = load_vector (quants + step * kVectorBytes);
        const __m256i even = _mm256_srai_epi16 (_mm256_slli_epi16 (bytes, 8), 8);
        const __m256i odd = _mm256_srai_epi16 (bytes, 8);
        add<T> (even, x + 8 * step, tile.x_stride, step > 0, dots);
        add<T> (odd, x + 8 * step + 4, tile.x_stride, true, dots);
      }
      add_scaled<T> (tile, scales, x_scales, dots, sums);
      quants += 8 * kVectorBytes;
      scales += 2 * kPanelRows;
      x += 2 * kGroup;
      x_scales += sizeof (float);
    }
  }

  template <int T>
  static inline void add (__m256i weights, const char *x, size_t x_stride, bool to_sums, __m256i (&dots)[T])
  {
#pragma GCC unroll 6
    for (int t = 0; t < T; ++t) {
      const __m256i products = _mm256_madd_epi16 (weights, broadcast_word (x + t * x_stride));
      dots[t] = to_sums ? _mm256_add_epi32 (dots[t], products) : products;
      keep (dots[t]);
    }
  }
};

struct Q4 {
  template <int T>
  static void product (const TileArgs &tile, __m256 (&sums)[T])
  {
    const char *scales = tile.panel, *quants = tile.panel + scale_bytes (tile.columns);
    const char *x = tile.x, *x_scales = tile.x + tile.columns;
    const size_t to_eights = static_cast<size_t> (tile.columns / kGroup) * sizeof (float);
    const __m256i ones = _mm256_set1_epi16 (1);
    clear<T> (sums);
    for (int group = 0; group < tile.columns / kGroup; ++group) {
      prefetch_group<4 * kVectorBytes + 2 * kPanelRows> (tile, group);
      __m256i dots[T];
      nibble_products<T> (quants, x, tile.x_stride, dots);
#pragma GCC unroll 6
      for (int t = 0; t < T; ++t) {
        const __m256i eights = broadcast_word (x_scales + t * tile.x_stride + to_eights);
        dots[t] = _mm256_sub_epi32 (_mm256_madd_epi16 (dots[t], ones), eights);
      }
      add_scaled<T> (tile, scales, x_scales, dots, sums);
      quants += 4 * kVectorBytes;
      scales += 2 * kPanelRows;
      x += kGroup;
      x_scales += sizeof (float);
    }
  }
};

} // namespace

void
linear_q8 (const LinearArgs &args)
{
  panel_product<Q8> (args);
}

void
linear_q4 (const LinearArgs &args)
{
  panel_product<Q4> (args);
}

} // namespace millrace::cpu::avx2

#endif
