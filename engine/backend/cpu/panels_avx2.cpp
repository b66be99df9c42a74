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

// Scales and quants are one stretch of memory, of which each group asks for an equal share ahead.
template <int kGroupBytes>
void
prefetch_group (const TileArgs &tile, int group)
{
  prefetch<kGroupBytes> (tile.panel + group * kGroupBytes, tile.is_intel);
}

/// sums += dots · scale of the rows · scale of the token; of panel p and token t at [t · P + p].
template <int P, int T>
void
add_scaled (const TileArgs &tile, const char *scales, const char *x_scales, const __m256i (&dots)[T * P],
            __m256 (&sums)[T * P])
{
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t) {
    const __m256 x_scale =
        _mm256_broadcast_ss (reinterpret_cast<const float *> (x_scales + t * tile.x_stride));
#pragma GCC unroll 2
    for (int p = 0; p < P; ++p)
      sums[t * P + p] = _mm256_fmadd_ps (_mm256_cvtepi32_ps (dots[t * P + p]),
                                         _mm256_mul_ps (load_halves (scales + p * tile.panel_bytes), x_scale),
                                         sums[t * P + p]);
  }
}

// Bytes × bytes would not fit the 16 bits of the byte instruction's sums, and its help for that costs more than widening:
// of a vector the even and the odd columns become 16 bits, as the activations are stored.
// Two products for 32 columns want twice the activations, and loads become the bound; when unpacked, two panels share them.
struct Q8 {
  static constexpr int kUnpackedBytes = 2; ///< of an element
  static constexpr int kUnpackFrom = 24, kTile = 8, kPanels = 2, kStretchTile = 4, kStretch = 512;
  static constexpr int kGroupVectors = 8;

  static const char *quants_of (const TileArgs &tile)
  {
    return tile.panel + scale_bytes (tile.columns) + static_cast<size_t> (tile.begin) * kPanelRows;
  }
  static __m256i even (__m256i bytes) { return _mm256_srai_epi16 (_mm256_slli_epi16 (bytes, 8), 8); }
  static __m256i odd (__m256i bytes) { return _mm256_srai_epi16 (bytes, 8); }

  /// Of each vector: even columns of the panels, odd columns of the panels.
  static void unpack (const TileArgs &tile, char *out)
  {
    const char *quants = quants_of (tile);
    auto *at = reinterpret_cast<__m256i *> (out);
    for (int i = 0; i < (tile.end - tile.begin) / kGroup * kGroupVectors; ++i, at += 2 * kPanels) {
      for (int p = 0; p < kPanels; ++p) {
        const __m256i bytes = load_vector (quants + p * tile.panel_bytes + i * kVectorBytes);
        _mm256_store_si256 (at + p, even (bytes));
        _mm256_store_si256 (at + kPanels + p, odd (bytes));
      }
    }
  }

  template <int T, bool kUnpacked>
  static void product (const TileArgs &tile, __m256 (&sums)[T * (kUnpacked ? kPanels : 1)])
  {
    constexpr int P = kUnpacked ? kPanels : 1;
    const char *quants = kUnpacked ? tile.unpacked : quants_of (tile);
    const char *x = tile.x + 2 * static_cast<size_t> (tile.begin);
    for (int group = tile.begin / kGroup; group < tile.end / kGroup; ++group) {
      if constexpr (!kUnpacked)
        prefetch_group<kGroupVectors * kVectorBytes + 2 * kPanelRows> (tile, group);
      __m256i dots[T * P];
#pragma GCC unroll 8
      for (int step = 0; step < kGroupVectors; ++step) {
        __m256i first[P], second[P];
        if constexpr (kUnpacked) {
#pragma GCC unroll 2
          for (int p = 0; p < P; ++p) {
            first[p] = load_vector (quants + (2 * step * P + p) * kVectorBytes);
            second[p] = load_vector (quants + ((2 * step + 1) * P + p) * kVectorBytes);
          }
        } else {
          const __m256i bytes = load_vector (quants + step * kVectorBytes);
          first[0] = even (bytes);
          second[0] = odd (bytes);
        }
        add<P, T> (first, x + 8 * step, tile.x_stride, step > 0, dots);
        add<P, T> (second, x + 8 * step + 4, tile.x_stride, true, dots);
      }
      const char *x_scales = tile.x + 2 * static_cast<size_t> (tile.columns) + group * sizeof (float);
      add_scaled<P, T> (tile, tile.panel + 2 * kPanelRows * group, x_scales, dots, sums);
      quants += kGroupVectors * kVectorBytes * (kUnpacked ? 2 * P : 1);
      x += 2 * kGroup;
    }
  }

  template <int P, int T>
  static inline void add (const __m256i (&weights)[P], const char *x, size_t x_stride, bool to_sums,
                          __m256i (&dots)[T * P])
  {
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      const __m256i values = broadcast_word (x + t * x_stride);
#pragma GCC unroll 2
      for (int p = 0; p < P; ++p) {
        __m256i &dot = dots[t * P + p];
        const __m256i products = _mm256_madd_epi16 (weights[p], values);
        dot = to_sums ? _mm256_add_epi32 (dot, products) : products;
        keep (dot);
      }
    }
  }
};

struct Q4 {
  static constexpr int kUnpackedBytes = 1; ///< of an element
  static constexpr int kUnpackFrom = 24, kTile = 6, kPanels = 2, kStretchTile = 4, kStretch = 1024;
  static constexpr int kGroupVectors = 4;

  static const char *quants_of (const TileArgs &tile)
  {
    return tile.panel + scale_bytes (tile.columns) + static_cast<size_t> (tile.begin) * kPanelRows / 2;
  }

  static void unpack (const TileArgs &tile, char *out)
  {
    unpack_nibbles<kPanels> (quants_of (tile), tile.panel_bytes,
                             (tile.end - tile.begin) / kGroup * kGroupVectors, out);
  }

  template <int T, bool kUnpacked>
  static void product (const TileArgs &tile, __m256 (&sums)[T * (kUnpacked ? kPanels : 1)])
  {
    constexpr int P = kUnpacked ? kPanels : 1;
    const char *quants = kUnpacked ? tile.unpacked : quants_of (tile);
    const char *x = tile.x + tile.begin;
    const size_t to_eights = static_cast<size_t> (tile.columns / kGroup) * sizeof (float);
    const __m256i ones = _mm256_set1_epi16 (1);
    for (int group = tile.begin / kGroup; group < tile.end / kGroup; ++group) {
      if constexpr (!kUnpacked)
        prefetch_group<kGroupVectors * kVectorBytes + 2 * kPanelRows> (tile, group);
      __m256i dots[T * P];
      nibble_products<P, T, kUnpacked> (quants, x, tile.x_stride, dots);
      const char *x_scales = tile.x + tile.columns + group * sizeof (float);
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        const __m256i eights = broadcast_word (x_scales + t * tile.x_stride + to_eights);
#pragma GCC unroll 2
        for (int p = 0; p < P; ++p) {
          __m256i &dot = dots[t * P + p];
          dot = _mm256_sub_epi32 (_mm256_madd_epi16 (dot, ones), eights);
        }
      }
      add_scaled<P, T> (tile, tile.panel + 2 * kPanelRows * group, x_scales, dots, sums);
      quants += kGroupVectors * kVectorBytes * (kUnpacked ? 2 * P : 1);
      x += kGroup;
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
