// Products of kQ5, kIQ4NL, kMXFP4 and the affine formats, for AVX2, FMA and F16C. Contracts in kernels.hpp.
#if defined(__x86_64__) || defined(__i386__)

#include "engine/backend/cpu/affine_format.hpp"
#include "engine/backend/cpu/kernels_avx2.hpp"
#include "engine/backend/cpu/panel_codes_avx2.hpp"

#include <type_traits>

namespace millrace::cpu::avx2
{

namespace
{

template <int T>
void
clear_dots (__m256i (&dots)[T])
{
#pragma GCC unroll 8
  for (int t = 0; t < T; ++t)
    dots[t] = _mm256_setzero_si256 ();
}

/// What code · x of 32 columns come to. Products of nibbles all fit 16 bits.
template <typename Codes, int T, bool kUnpacked>
void
code_products (const char *codes, const char *x, size_t x_stride, __m256i (&dots)[T])
{
  const __m256i ones = _mm256_set1_epi16 (1);
  if constexpr (std::is_same_v<Codes, PlaneCodes<4>>) {
    nibble_products<1, T, kUnpacked> (codes, x, x_stride, dots);
#pragma GCC unroll 8
    for (int t = 0; t < T; ++t)
      dots[t] = _mm256_madd_epi16 (dots[t], ones);
  } else {
    clear_dots<T> (dots);
    add_codes<Codes, T, kUnpacked> (codes, x, x_stride, ones, ones, dots);
  }
}

/// For code_products () when unpacked.
template <typename Codes>
void
unpack_group (const char *codes, char *out)
{
  if constexpr (std::is_same_v<Codes, PlaneCodes<4>>)
    unpack_nibbles<1> (codes, 0, Codes::kVectors, out);
  else
    unpack_codes<Codes> (codes, out);
}

/// 8 · the sum of a token's values of a group.
__m256i
eights_of (const TileArgs &tile, int group, int token)
{
  return broadcast_word (tile.x + token * tile.x_stride + tile.columns +
                         static_cast<size_t> (tile.columns / kGroup + group) * sizeof (float));
}

__m256
x_scale_of (const TileArgs &tile, int group, int token)
{
  return _mm256_broadcast_ss (
      reinterpret_cast<const float *> (tile.x + token * tile.x_stride + tile.columns) + group);
}

size_t
padded (size_t bytes)
{
  return (bytes + 63) / 64 * 64;
}

// Types with one scale for 32 columns: scales of a group, and the offset of codes times a token's sum.

struct Halves {
  static constexpr int kBytes = 2 * kPanelRows;
  static __m256 load (const char *scales) { return load_halves (scales); }
};

/// 2^(e - 128), NaN for e = 255.
struct Exponents {
  static constexpr int kBytes = kPanelRows;
  static __m256 load (const char *scales)
  {
    const __m256i e = _mm256_cvtepu8_epi32 (_mm_loadl_epi64 (reinterpret_cast<const __m128i *> (scales)));
    const __m256i normal = _mm256_slli_epi32 (_mm256_sub_epi32 (e, _mm256_set1_epi32 (1)), 23);
    const __m256i small = _mm256_sllv_epi32 (_mm256_set1_epi32 (0x00200000), e);
    const __m256i finite = _mm256_blendv_epi8 (normal, small, _mm256_cmpgt_epi32 (_mm256_set1_epi32 (2), e));
    const __m256i none = _mm256_cmpeq_epi32 (e, _mm256_set1_epi32 (255));
    return _mm256_castsi256_ps (_mm256_blendv_epi8 (finite, _mm256_set1_epi32 (0x7fc00000), none));
  }
};

struct Q5 {
  using Codes = PlaneCodes<5>;
  using Scales = Halves;
  static __m256i offset (__m256i eights) { return _mm256_slli_epi32 (eights, 1); } // 16
};

struct IQ4NL {
  using Codes = TableCodes<kIq4NlValues, 128>;
  using Scales = Halves;
  static __m256i offset (__m256i eights) { return _mm256_slli_epi32 (eights, 4); }
};

struct MXFP4 {
  using Codes = TableCodes<kMxfp4Values, 12>;
  using Scales = Exponents;
  static __m256i offset (__m256i eights) { return _mm256_add_epi32 (eights, _mm256_srai_epi32 (eights, 1)); }
};

template <typename Type>
struct Scaled {
  using Codes = typename Type::Codes;
  static constexpr int kUnpackedBytes = Codes::kParts; ///< of an element
  static constexpr int kUnpackFrom = 24, kPanels = 1;
  static constexpr int kTile = kTileTokens<Codes>, kStretchTile = kTileTokens<Codes>;
  static constexpr int kStretch = 1024 / Codes::kParts;
  static constexpr int kGroupBytes = Codes::kVectors * kVectorBytes;

  static const char *codes_of (const TileArgs &tile)
  {
    return tile.panel + padded (static_cast<size_t> (tile.columns / kGroup) * Type::Scales::kBytes) +
           static_cast<size_t> (tile.begin / kGroup) * kGroupBytes;
  }

  static void unpack (const TileArgs &tile, char *out)
  {
    const char *codes = codes_of (tile);
    for (int i = tile.begin; i < tile.end; i += kGroup, codes += kGroupBytes) {
      unpack_group<Codes> (codes, out);
      out += kUnpackedVectors<Codes> * kVectorBytes;
    }
  }

  template <int T, bool kUnpacked>
  static void product (const TileArgs &tile, __m256 (&sums)[T])
  {
    const char *codes = kUnpacked ? tile.unpacked : codes_of (tile);
    const char *x = tile.x + tile.begin;
    for (int group = tile.begin / kGroup; group < tile.end / kGroup; ++group, x += kGroup) {
      if constexpr (!kUnpacked)
        prefetch<kGroupBytes + Type::Scales::kBytes> (
            tile.panel + group * (kGroupBytes + Type::Scales::kBytes), tile.is_intel);
      __m256i dots[T];
      code_products<Codes, T, kUnpacked> (codes, x, tile.x_stride, dots);
      const __m256 scale = Type::Scales::load (tile.panel + group * Type::Scales::kBytes);
#pragma GCC unroll 8
      for (int t = 0; t < T; ++t) {
        const __m256i dot = _mm256_sub_epi32 (dots[t], Type::offset (eights_of (tile, group, t)));
        sums[t] = _mm256_fmadd_ps (_mm256_cvtepi32_ps (dot),
                                   _mm256_mul_ps (scale, x_scale_of (tile, group, t)), sums[t]);
      }
      codes += kUnpacked ? kUnpackedVectors<Codes> * kVectorBytes : kGroupBytes;
    }
  }
};

/// 8 scales of one type.
__m256
load_scales (ScaleType type, const char *scales)
{
  if (type == ScaleType::kF16)
    return load_halves (scales);
  if (type == ScaleType::kBF16)
    return _mm256_castsi256_ps (_mm256_slli_epi32 (
        _mm256_cvtepu16_epi32 (_mm_loadu_si128 (reinterpret_cast<const __m128i *> (scales))), 16));
  return _mm256_loadu_ps (reinterpret_cast<const float *> (scales));
}

// Groups and types of scales are told apart at run time: once a group, always alike.
template <typename CodesOf>
struct Affine {
  using Codes = CodesOf;
  static constexpr int kUnpackedBytes = Codes::kParts;
  static constexpr int kUnpackFrom = 24, kPanels = 1;
  static constexpr int kTile = kTileTokens<Codes>, kStretchTile = kTileTokens<Codes>;
  static constexpr int kStretch = 1024 / Codes::kParts;
  static constexpr int kCodesBytes = Codes::kVectors * kVectorBytes; ///< of 32 columns

  /// Bytes of a group's scales and biases.
  static int header_bytes (const AffineFormat &affine) { return 2 * kPanelRows * scale_size (affine.scales); }

  static const char *group_at (const TileArgs &tile, const AffineFormat &affine)
  {
    return tile.panel + static_cast<size_t> (tile.begin / affine.group) *
                            static_cast<size_t> (header_bytes (affine) + affine.group / kGroup * kCodesBytes);
  }

  static void unpack (const TileArgs &tile, char *out)
  {
    const AffineFormat affine = affine_of (tile.format);
    const char *at = group_at (tile, affine);
    for (int begin = tile.begin; begin < tile.end; begin += affine.group) {
      at += header_bytes (affine);
      for (int i = 0; i < affine.group; i += kGroup, at += kCodesBytes) {
        unpack_group<Codes> (at, out);
        out += kUnpackedVectors<Codes> * kVectorBytes;
      }
    }
  }

  template <int T, bool kUnpacked>
  static void product (const TileArgs &tile, __m256 (&sums)[T])
  {
    const AffineFormat affine = affine_of (tile.format);
    const char *at = group_at (tile, affine), *unpacked = tile.unpacked, *x = tile.x + tile.begin;
    int group = tile.begin / kGroup;
    for (int begin = tile.begin; begin < tile.end; begin += affine.group) {
      const __m256 d = load_scales (affine.scales, at);
      const __m256 m = _mm256_mul_ps (load_scales (affine.scales, at + header_bytes (affine) / 2),
                                      _mm256_set1_ps (0.125f));
      at += header_bytes (affine);
      for (int i = 0; i < affine.group; i += kGroup, ++group, x += kGroup, at += kCodesBytes) {
        const char *codes = kUnpacked ? unpacked : at;
        if constexpr (!kUnpacked) {
          if (i == 0)
            prefetch<kCodesBytes + 64> (at - header_bytes (affine), tile.is_intel);
          else
            prefetch<kCodesBytes> (at, tile.is_intel);
        }
        __m256i dots[T];
        code_products<Codes, T, kUnpacked> (codes, x, tile.x_stride, dots);
#pragma GCC unroll 8
        for (int t = 0; t < T; ++t) {
          const __m256 low = _mm256_mul_ps (_mm256_cvtepi32_ps (eights_of (tile, group, t)), m);
          sums[t] = _mm256_fmadd_ps (_mm256_fmadd_ps (_mm256_cvtepi32_ps (dots[t]), d, low),
                                     x_scale_of (tile, group, t), sums[t]);
        }
        if constexpr (kUnpacked) // it is null otherwise
          unpacked += kUnpackedVectors<Codes> * kVectorBytes;
      }
    }
  }
};

} // namespace

void
linear_q5 (const LinearArgs &args)
{
  panel_product<Scaled<Q5>> (args);
}

void
linear_iq4nl (const LinearArgs &args)
{
  panel_product<Scaled<IQ4NL>> (args);
}

void
linear_mxfp4 (const LinearArgs &args)
{
  panel_product<Scaled<MXFP4>> (args);
}

void
linear_affine (const LinearArgs &args)
{
  switch (affine_of (args.format).bits) {
  case 2:
    return panel_product<Affine<PlaneCodes<2>>> (args);
  case 3:
    return panel_product<Affine<PlaneCodes<3>>> (args);
  case 4:
    return panel_product<Affine<PlaneCodes<4>>> (args);
  case 5:
    return panel_product<Affine<PlaneCodes<5>>> (args);
  case 6:
    return panel_product<Affine<PlaneCodes<6>>> (args);
  default:
    return panel_product<Affine<ByteCodes>> (args);
  }
}

} // namespace millrace::cpu::avx2

#endif
