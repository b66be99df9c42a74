// Products of kQ2K, kQ3K and kQ5K, for AVX2, FMA and F16C. Contracts in kernels.hpp; see kquants_avx2.cpp.
#if defined(__x86_64__) || defined(__i386__)

#include "engine/backend/cpu/kernels_avx2.hpp"
#include "engine/backend/cpu/panel_codes_avx2.hpp"
#include "engine/backend/cpu/super_blocks_avx2.hpp"

namespace millrace::cpu::avx2
{

namespace
{

constexpr int kGroups = kSuperBlock / kGroup;
constexpr int kSums16Bytes = sizeof (int16_t) * (kSuperBlock / 16), kSums32Bytes = sizeof (int16_t) * kGroups;

/// Where a token's scale and sums of a super-block are, of the first token of a tile.
struct BlockActivation {
  const char *scale, *sums16, *sums32;
  size_t stride;
};

__m256i
load_pair_bytes (const char *bytes)
{
  return _mm256_cvtepu8_epi16 (_mm_load_si128 (reinterpret_cast<const __m128i *> (bytes)));
}

// Each type: begin () does what comes before a block's codes; scales () gives the scales of both halves of 32 columns, and
// takes from the dots what does not depend on codes.

struct Q2K {
  using Codes = PlaneCodes<2>;
  static constexpr int kBytes = kQ2KBytes, kCodes = 160, kD = 0;

  template <int T>
  static inline void begin (const char *block, const BlockActivation &x, char *, __m256 (&totals)[T])
  {
    __m256i sums[T];
    clear<T> (sums);
    for (int group = 0; group < kGroups; ++group) {
      const __m256i minima =
          _mm256_srli_epi16 (load_pair_bytes (block + 4 * kPanelRows + 2 * kPanelRows * group), 4);
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t)
        sums[t] = _mm256_add_epi32 (
            sums[t], _mm256_madd_epi16 (minima, broadcast_word (x.sums16 + t * x.stride + 4 * group)));
    }
    const __m256 dmin = load_halves (block + 2 * kPanelRows);
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t) {
      const __m256 x_scale = _mm256_broadcast_ss (reinterpret_cast<const float *> (x.scale + t * x.stride));
      totals[t] = _mm256_fnmadd_ps (_mm256_cvtepi32_ps (sums[t]), _mm256_mul_ps (dmin, x_scale), totals[t]);
    }
  }

  template <int T>
  static inline void scales (const char *block, const char *, int group, const BlockActivation &,
                             __m256i (&)[T], __m256i &first, __m256i &second)
  {
    const __m256i both = _mm256_and_si256 (load_pair_bytes (block + 4 * kPanelRows + 2 * kPanelRows * group),
                                           _mm256_set1_epi16 (15));
    first = firsts (both);
    second = seconds (both);
  }
};

struct Q3K {
  using Codes = PlaneCodes<3>;
  static constexpr int kBytes = kQ3KBytes, kCodes = 160, kD = 128;

  template <int T>
  static inline void begin (const char *, const BlockActivation &, char *, __m256 (&)[T])
  {
  }

  template <int T>
  static inline void scales (const char *block, const char *, int group, const BlockActivation &x,
                             __m256i (&dots)[T], __m256i &first, __m256i &second)
  {
    const __m256i both = _mm256_cvtepi8_epi16 (
        _mm_load_si128 (reinterpret_cast<const __m128i *> (block + 2 * kPanelRows * group)));
    const __m256i offsets = _mm256_slli_epi16 (both, 2);
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t)
      dots[t] = _mm256_sub_epi32 (
          dots[t], _mm256_madd_epi16 (offsets, broadcast_word (x.sums16 + t * x.stride + 4 * group)));
    first = firsts (both);
    second = seconds (both);
  }
};

struct Q5K {
  using Codes = PlaneCodes<5>;
  static constexpr int kBytes = kQ5KBytes, kCodes = 128, kD = 0;

  template <int T>
  static inline void begin (const char *block, const BlockActivation &x, char *scales, __m256 (&totals)[T])
  {
    subtract_minima<T> (block, x.sums32, x.scale, x.stride, scales, totals);
  }

  template <int T>
  static inline void scales (const char *, const char *scales, int group, const BlockActivation &,
                             __m256i (&)[T], __m256i &first, __m256i &second)
  {
    const __m256i both = load_pair_bytes (scales + group / 2 * 16);
    first = second = group % 2 == 0 ? firsts (both) : seconds (both);
  }
};

template <typename Type>
struct Super {
  using Codes = typename Type::Codes;
  static constexpr int kUnpackedBytes = 1; ///< of an element
  static constexpr int kUnpackFrom = 24, kTile = 6, kPanels = 1, kStretchTile = 6, kStretch = 1024;
  static constexpr int kGroupBytes = Codes::kVectors * kVectorBytes;
  static constexpr int kUnpackedGroup = kUnpackedVectors<Codes> * kVectorBytes;

  static void unpack (const TileArgs &tile, char *out)
  {
    const char *block = tile.panel + tile.begin / kSuperBlock * Type::kBytes;
    for (int b = tile.begin; b < tile.end; b += kSuperBlock, block += Type::kBytes) {
      for (int group = 0; group < kGroups; ++group, out += kUnpackedGroup)
        unpack_codes<Codes> (block + Type::kCodes + group * kGroupBytes, out);
    }
  }

  template <int T, bool kUnpacked>
  static void product (const TileArgs &tile, __m256 (&sums)[T])
  {
    const int blocks = tile.columns / kSuperBlock, at = tile.begin / kSuperBlock;
    const char *block = tile.panel + at * Type::kBytes, *values = tile.x + tile.begin;
    const char *unpacked = tile.unpacked;
    BlockActivation x = {};
    const char *scales = tile.x + tile.columns;
    const char *sums16 = scales + static_cast<size_t> (blocks) * sizeof (float);
    x.scale = scales + static_cast<size_t> (at) * sizeof (float);
    x.sums16 = sums16 + at * kSums16Bytes;
    x.sums32 = sums16 + blocks * kSums16Bytes + at * kSums32Bytes;
    x.stride = tile.x_stride;
    __m256 totals[T];
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t)
      totals[t] = sums[t];

    for (int b = tile.begin; b < tile.end; b += kSuperBlock) {
      alignas (32) char sub_scales[64];
      Type::template begin<T> (block, x, sub_scales, totals);
      __m256i dots[T];
      clear<T> (dots);
#pragma GCC unroll 2
      for (int group = 0; group < kGroups; ++group) {
        if constexpr (!kUnpacked)
          prefetch<Type::kBytes / kGroups> (block + group * (Type::kBytes / kGroups), tile.is_intel);
        __m256i first, second;
        Type::template scales<T> (block, sub_scales, group, x, dots, first, second);
        const char *codes =
            kUnpacked ? unpacked + group * kUnpackedGroup : block + Type::kCodes + group * kGroupBytes;
        add_codes<Codes, T, kUnpacked> (codes, values, tile.x_stride, first, second, dots);
        values += kGroup;
      }
      add_block<T> (block + Type::kD, x.scale, tile.x_stride, dots, totals);
      block += Type::kBytes;
      if constexpr (kUnpacked) // it is null otherwise
        unpacked += kGroups * kUnpackedGroup;
      x.scale += sizeof (float);
      x.sums16 += kSums16Bytes;
      x.sums32 += kSums32Bytes;
    }
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t)
      sums[t] = totals[t];
  }
};

} // namespace

void
linear_q2k (const LinearArgs &args)
{
  panel_product<Super<Q2K>> (args);
}

void
linear_q3k (const LinearArgs &args)
{
  panel_product<Super<Q3K>> (args);
}

void
linear_q5k (const LinearArgs &args)
{
  panel_product<Super<Q5K>> (args);
}

} // namespace millrace::cpu::avx2

#endif
