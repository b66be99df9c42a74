// Products of panels of super-blocks, for AVX2, FMA and F16C: kQ4K and kQ6K. Contracts in kernels.hpp.
//
// Within a super-block everything is an integer: the 16-bit sums of a sub-block are multiplied by its scale and added to 32
// bits in one instruction. What does not depend on the sub-block's products (minima, offsets) comes from the activations'
// sums, two sub-blocks an instruction.
#if defined(__x86_64__) || defined(__i386__)

#include "engine/backend/cpu/kernels_avx2.hpp"
#include "engine/backend/cpu/panel_tiles_avx2.hpp"
#include "engine/backend/cpu/super_blocks_avx2.hpp"

namespace millrace::cpu::avx2
{

namespace
{

struct Q4K {
  static constexpr int kUnpackedBytes = 1; ///< of an element
  static constexpr int kUnpackFrom = 24, kTile = 8, kPanels = 2, kStretchTile = 4, kStretch = 1024;
  static constexpr int kHeader = 128, kVectors = 32;

  static void unpack (const TileArgs &tile, char *out)
  {
    const char *block = tile.panel + tile.begin / kSuperBlock * kQ4KBytes;
    for (int b = tile.begin; b < tile.end; b += kSuperBlock, block += kQ4KBytes) {
      unpack_nibbles<kPanels> (block + kHeader, tile.panel_bytes, kVectors, out);
      out += kPanels * 2 * kVectors * kVectorBytes;
    }
  }

  template <int T, bool kUnpacked>
  static void product (const TileArgs &tile, __m256 (&sums)[T * (kUnpacked ? kPanels : 1)])
  {
    constexpr int P = kUnpacked ? kPanels : 1;
    constexpr int kGroupBytes = 4 * kVectorBytes * (kUnpacked ? 2 * P : 1);
    const int blocks = tile.columns / kSuperBlock, first = tile.begin / kSuperBlock;
    const char *block = tile.panel + first * kQ4KBytes, *x = tile.x + tile.begin;
    const char *x_scales = tile.x + tile.columns + static_cast<size_t> (first) * sizeof (float);
    const char *x_sums =
        tile.x + tile.columns +
        static_cast<size_t> (blocks) * (sizeof (float) + sizeof (int16_t) * (kSuperBlock / 16)) +
        static_cast<size_t> (first) * sizeof (int16_t) * (kSuperBlock / kGroup);
    const char *unpacked = tile.unpacked;
    // The compilers leave these in memory, as they should: the products below need the registers.
    __m256 totals[T * P];
#pragma GCC unroll 8
    for (int i = 0; i < T * P; ++i)
      totals[i] = sums[i];

    for (int b = tile.begin; b < tile.end; b += kSuperBlock) {
      alignas (32) char scales[P][64];
#pragma GCC unroll 2
      for (int p = 0; p < P; ++p)
        subtract_minima<T, P> (block + p * tile.panel_bytes, x_sums, x_scales, tile.x_stride, scales[p],
                               totals, p);
      const char *vectors = kUnpacked ? unpacked : block + kHeader;
      __m256i dots[T * P];
      clear<T * P> (dots);
      for (int pair = 0; pair < 4; ++pair) {
        if constexpr (!kUnpacked)
          prefetch<kQ4KBytes / 4> (block + pair * (kQ4KBytes / 4), tile.is_intel);
        __m256i both[P];
#pragma GCC unroll 2
        for (int p = 0; p < P; ++p)
          both[p] = _mm256_cvtepu8_epi16 (
              _mm_load_si128 (reinterpret_cast<const __m128i *> (scales[p] + pair * 16)));
        __m256i products[T * P];
        nibble_products<P, T, kUnpacked> (vectors, x, tile.x_stride, products);
#pragma GCC unroll 2
        for (int p = 0; p < P; ++p)
          add_scaled<P, T> (products, firsts (both[p]), dots, p);
        nibble_products<P, T, kUnpacked> (vectors + kGroupBytes, x + kGroup, tile.x_stride, products);
#pragma GCC unroll 2
        for (int p = 0; p < P; ++p)
          add_scaled<P, T> (products, seconds (both[p]), dots, p);
        vectors += 2 * kGroupBytes;
        x += 2 * kGroup;
      }
#pragma GCC unroll 2
      for (int p = 0; p < P; ++p)
        add_block<T, P> (block + p * tile.panel_bytes, x_scales, tile.x_stride, dots, totals, p);
      block += kQ4KBytes;
      if constexpr (kUnpacked) // it is null otherwise
        unpacked += P * 2 * kVectors * kVectorBytes;
      x_scales += sizeof (float);
      x_sums += sizeof (int16_t) * (kSuperBlock / kGroup);
    }
#pragma GCC unroll 8
    for (int i = 0; i < T * P; ++i)
      sums[i] = totals[i];
  }

  /// Of panel p.
  template <int P, int T>
  static inline void add_scaled (const __m256i (&products)[T * P], __m256i scale, __m256i (&dots)[T * P],
                                 int p)
  {
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t)
      dots[t * P + p] = _mm256_add_epi32 (dots[t * P + p], _mm256_madd_epi16 (products[t * P + p], scale));
  }
};

struct Q6K {
  static constexpr int kUnpackedBytes = 1; ///< of an element
  static constexpr int kUnpackFrom = 24, kTile = 6, kPanels = 1, kStretchTile = 6, kStretch = 1024;
  static constexpr int kHeader = 160;
  static constexpr int kVectors = 6; ///< of 32 columns: nibbles, and two of upper bits
  static constexpr int kSteps = 8;   ///< of 32 columns: vectors when unpacked

  static void unpack (const TileArgs &tile, char *out)
  {
    const char *block = tile.panel + tile.begin / kSuperBlock * kQ6KBytes;
    for (int b = tile.begin; b < tile.end; b += kSuperBlock, block += kQ6KBytes) {
      for (int group = 0; group < kSuperBlock / kGroup; ++group, out += kSteps * kVectorBytes) {
        const char *vectors = block + kHeader + group * kVectors * kVectorBytes;
        auto *at = reinterpret_cast<__m256i *> (out);
#pragma GCC unroll 4
        for (int step = 0; step < 4; ++step) {
          _mm256_store_si256 (at + step, element<0> (vectors, step));
          _mm256_store_si256 (at + 4 + step, element<1> (vectors, step));
        }
      }
    }
  }

  template <int T, bool kUnpacked>
  static void product (const TileArgs &tile, __m256 (&sums)[T])
  {
    constexpr int kGroupBytes = (kUnpacked ? kSteps : kVectors) * kVectorBytes;
    const int blocks = tile.columns / kSuperBlock, first = tile.begin / kSuperBlock;
    const char *block = tile.panel + first * kQ6KBytes, *x = tile.x + tile.begin;
    const char *x_scales = tile.x + tile.columns + static_cast<size_t> (first) * sizeof (float);
    const char *x_sums = tile.x + tile.columns + static_cast<size_t> (blocks) * sizeof (float) +
                         static_cast<size_t> (first) * sizeof (int16_t) * (kSuperBlock / 16);
    const char *unpacked = tile.unpacked;
    __m256 totals[T];
#pragma GCC unroll 8
    for (int i = 0; i < T; ++i)
      totals[i] = sums[i];

    for (int b = tile.begin; b < tile.end; b += kSuperBlock) {
      const char *vectors = kUnpacked ? unpacked : block + kHeader;
      __m256i dots[T];
      clear<T> (dots);
      for (int pair = 0; pair < 8; ++pair) {
        if constexpr (!kUnpacked)
          prefetch<kQ6KBytes / 8> (block + pair * (kQ6KBytes / 8), tile.is_intel);
        const __m256i scales =
            _mm256_cvtepi8_epi16 (_mm_load_si128 (reinterpret_cast<const __m128i *> (block + pair * 16)));
        // The offset of 32, times 32 afterwards: shifts are cheaper than multiplications.
        const __m256i offsets = _mm256_slli_epi16 (scales, 5);
#pragma GCC unroll 8
        for (int t = 0; t < T; ++t)
          dots[t] = _mm256_sub_epi32 (
              dots[t], _mm256_madd_epi16 (offsets, broadcast_word (x_sums + t * tile.x_stride + 4 * pair)));
        add_scaled<T, 0, kUnpacked> (vectors, x, tile.x_stride, firsts (scales), dots);
        add_scaled<T, 1, kUnpacked> (vectors, x + 16, tile.x_stride, seconds (scales), dots);
        vectors += kGroupBytes;
        x += kGroup;
      }
      add_block<T> (block + 128, x_scales, tile.x_stride, dots, totals);
      block += kQ6KBytes;
      if constexpr (kUnpacked) // it is null otherwise
        unpacked += 8 * kSteps * kVectorBytes;
      x_scales += sizeof (float);
      x_sums += sizeof (int16_t) * (kSuperBlock / 16);
    }
    for (int i = 0; i < T; ++i)
      sums[i] = totals[i];
  }

  /// 16 columns, those of the low (kHalf 0) or the high nibbles. Two products of 6 bits × 8 fit 16 bits, four do not.
  template <int T, int kHalf, bool kUnpacked>
  static inline void add_scaled (const char *vectors, const char *x, size_t x_stride, __m256i scale,
                                 __m256i (&dots)[T])
  {
#pragma GCC unroll 2
    for (int step = 0; step < 4; step += 2) {
      __m256i first, second;
      if constexpr (kUnpacked) {
        first = load_vector (vectors + (4 * kHalf + step) * kVectorBytes);
        second = load_vector (vectors + (4 * kHalf + step + 1) * kVectorBytes);
      } else {
        first = element<kHalf> (vectors, step);
        second = element<kHalf> (vectors, step + 1);
      }
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        const char *at = x + t * x_stride + 4 * step;
        const __m256i products = _mm256_add_epi16 (_mm256_maddubs_epi16 (first, broadcast_word (at)),
                                                   _mm256_maddubs_epi16 (second, broadcast_word (at + 4)));
        dots[t] = _mm256_add_epi32 (dots[t], _mm256_madd_epi16 (products, scale));
        keep (dots[t]);
      }
    }
  }

  /// Step `i` of the low or the high nibbles, with its upper bits, which are at 2 · i and belong at 4.
  template <int kHalf>
  static inline __m256i element (const char *vectors, int i)
  {
    const __m256i nibbles = load_vector (vectors + i * kVectorBytes);
    const __m256i tops = load_vector (vectors + (4 + kHalf) * kVectorBytes);
    const __m256i low =
        _mm256_and_si256 (kHalf == 0 ? nibbles : _mm256_srli_epi16 (nibbles, 4), _mm256_set1_epi8 (15));
    const __m256i shifted = i == 0   ? _mm256_slli_epi16 (tops, 4)
                            : i == 1 ? _mm256_slli_epi16 (tops, 2)
                            : i == 2 ? tops
                                     : _mm256_srli_epi16 (tops, 2);
    return _mm256_or_si256 (low, _mm256_and_si256 (shifted, _mm256_set1_epi8 (0x30)));
  }
};

} // namespace

void
linear_q4k (const LinearArgs &args)
{
  panel_product<Q4K> (args);
}

void
linear_q6k (const LinearArgs &args)
{
  panel_product<Q6K> (args);
}

} // namespace millrace::cpu::avx2

#endif
