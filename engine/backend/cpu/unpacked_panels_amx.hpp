// Weights of two panels as tiles of AMX want them, and what becomes of the tiles' sums. Included through panels_amx.cpp only; everything
// is internal to it.
//
// A step is what is added to outputs at once: 64 columns of groups, or a super-block. Of a super-block scale · code is at most 13 bits
// wide: its lower 8 bits are one matrix, the upper ones another, so that the tiles multiply with the scales of sub-blocks, too.
// Lanes are 16 rows; sums of integers are exact, and floats are added as kernels.hpp says.
#pragma once

#include "engine/backend/cpu/tiles_amx.hpp"
#include "engine/backend/cpu/two_panels_avx512.hpp"

namespace millrace::cpu
{

namespace
{

constexpr int kTileRows = 16;
constexpr int kTileBytes = kTileRows * kLine;
constexpr int kPairTokens = 2 * kTileRows; ///< of a pair of tiles
constexpr int kSumsBytes = 4 * kTileBytes; ///< of one step and a pair

/// Two panels.
struct Packed {
  const char *panel;
  size_t stride; ///< to the next panel
  int columns;   ///< of a row
};

/// Unpacked weights of a step.
struct Unpacked {
  char *factors, *tiles;
};

/// A pair's sums of a step, to be added to its tokens' outputs.
struct StepSums {
  const char *factors = nullptr; ///< of the step; they are loaded for no tokens, too
  const char *sums = nullptr;    ///< [2][kPairTokens][16] int32
  const char *x = nullptr;       ///< first token's activations
  float *outputs = nullptr;      ///< [tokens][kRows]
  int column = 0;                ///< of the step
  int tokens = 0;                ///< 0: there are none
};

// Each type: kLeastTokens for which it is faster than AVX-512; a step's kColumns, kFactors and kTiles (bytes); kDepth columns of a
// tile of weights; unpack () the step from a column on; multiply () a quarter of its tiles for a pair of tiles of tokens, whose second begins `second` bytes behind the first; finish ()
// those sums of a pair's tokens [begin, end). Tiles: 0 to 3 sums, 4 and 5 activations of the pair, 6 and 7 weights.

/// Two groups of 32 columns. Tiles: 8 rows of each; factors: d of each.
template <typename Codes>
struct AmxGroups {
  static constexpr int kLeastTokens = 32;
  static constexpr int kColumns = 2 * kGroup, kDepth = kGroup, kFactors = 2 * kLine, kTiles = 2 * 8 * kLine;

  static void unpack (const Packed &packed, int column, const Unpacked &out)
  {
    for (int i = 0; i < 2; ++i) {
      const int group = column / kGroup + i;
      const char *scales = packed.panel + group * 2 * kPanelRows;
      const char *quants =
          packed.panel + scale_bytes (packed.columns) + group * Codes::kVectors * kVectorBytes;
      Codes::unpack (quants, packed.stride, out.tiles + i * 8 * kLine);
      store_floats (out.factors + i * kLine, TwoPanels::load_halves (scales, packed.stride));
    }
  }

  /// Sums: [group][token].
  template <int kQuarter>
  static void multiply (const char *tiles, const char *x, size_t x_stride, size_t second)
  {
    if constexpr (kQuarter == 0) {
      load_tile<6> (tiles, kLine);
      load_tile<4> (x, x_stride);
      clear_tile<0> ();
      add_signed<0, 4, 6> ();
    } else if constexpr (kQuarter == 1) {
      load_tile<5> (x + second, x_stride);
      clear_tile<1> ();
      add_signed<1, 5, 6> ();
    } else if constexpr (kQuarter == 2) {
      load_tile<7> (tiles + 8 * kLine, kLine);
      load_tile<4> (x + kGroup, x_stride);
      clear_tile<2> ();
      add_signed<2, 4, 7> ();
    } else {
      load_tile<5> (x + kGroup + second, x_stride);
      clear_tile<3> ();
      add_signed<3, 5, 7> ();
    }
  }

  static void finish (const StepSums &step, int columns, size_t x_stride, int begin, int end)
  {
    const __m512 first = load_floats (step.factors), second = load_floats (step.factors + kLine);
    const char *x = step.x + begin * x_stride + columns + step.column / kGroup * 4;
    const char *sums = step.sums + begin * kLine;
    float *out = step.outputs + begin * kRows;
    for (int token = begin; token < end; ++token) {
      const __m512 scale = _mm512_mul_ps (first, TwoPanels::broadcast_float (x)),
                   next_scale = _mm512_mul_ps (second, TwoPanels::broadcast_float (x + 4));
      __m512 sum = _mm512_load_ps (out);
      sum = _mm512_fmadd_ps (_mm512_cvtepi32_ps (load_ints (sums)), scale, sum);
      sum = _mm512_fmadd_ps (_mm512_cvtepi32_ps (load_ints (sums + kPairTokens * kLine)), next_scale, sum);
      _mm512_store_ps (out, sum);
      x += x_stride;
      sums += kLine;
      out += kRows;
    }
  }
};

struct SignedNibbles {
  static constexpr int kVectors = 4;

  static void unpack (const char *quants, size_t stride, char *out)
  {
    const __m512i mask = _mm512_set1_epi8 (15), eight = _mm512_set1_epi8 (8);
    for (int v = 0; v < kVectors; ++v) {
      const __m512i pair = TwoPanels::load (quants + v * kVectorBytes, stride);
      store_ints (out + v * kLine, _mm512_sub_epi8 (_mm512_and_si512 (pair, mask), eight));
      store_ints (out + (v + 4) * kLine,
                  _mm512_sub_epi8 (_mm512_and_si512 (_mm512_srli_epi16 (pair, 4), mask), eight));
    }
  }
};

struct SignedBytes {
  static constexpr int kVectors = 8;

  static void unpack (const char *quants, size_t stride, char *out)
  {
    for (int v = 0; v < kVectors; ++v)
      store_ints (out + v * kLine, TwoPanels::load (quants + v * kVectorBytes, stride));
  }
};

/// A super-block. Tiles: of each 64 columns one with the lower bits, then one with the upper ones.
struct AmxBlocks {
  static constexpr int kColumns = kSuperBlock, kDepth = 64, kTiles = kSuperBlock / kDepth * 2 * kTileBytes;

  /// Sums: [lower, upper][token].
  template <int kQuarter>
  static void multiply (const char *tiles, const char *x, size_t x_stride, size_t second)
  {
    tiles += kQuarter * 2 * kTileBytes;
    x += kQuarter * kDepth;
    if constexpr (kQuarter == 0) {
      clear_tile<0> ();
      clear_tile<1> ();
      clear_tile<2> ();
      clear_tile<3> ();
    }
    load_tile<6> (tiles, kLine);
    load_tile<4> (x, x_stride);
    add_unsigned<0, 4, 6> ();
    load_tile<5> (x + second, x_stride);
    add_unsigned<1, 5, 6> ();
    load_tile<7> (tiles + kTileBytes, kLine);
    add_signed<2, 4, 7> ();
    add_signed<3, 5, 7> ();
  }

  /// Of both.
  static __m512i total (const char *sums)
  {
    return _mm512_add_epi32 (load_ints (sums), _mm512_slli_epi32 (load_ints (sums + kPairTokens * kLine), 8));
  }

  /// What `column` and three more are in the tiles: words of columns 0 and 2, and of 1 and 3.
  static void store_words (char *tiles, int column, __m512i even, __m512i odd)
  {
    constexpr __mmask64 kOdd = 0xaaaaaaaaaaaaaaaa;
    char *out = tiles + column / kDepth * 2 * kTileBytes + column % kDepth / 4 * kLine;
    store_ints (out, _mm512_mask_blend_epi8 (kOdd, even, _mm512_slli_epi16 (odd, 8)));
    store_ints (out + kTileBytes, _mm512_mask_blend_epi8 (kOdd, _mm512_srli_epi16 (even, 8), odd));
  }

  // Of pairs of scales one for both words.
  static __m512i low_scale (__m512i scales)
  {
    return _mm512_mask_blend_epi16 (0xaaaaaaaa, scales, _mm512_slli_epi32 (scales, 16));
  }
  static __m512i high_scale (__m512i scales)
  {
    return _mm512_mask_blend_epi16 (0xaaaaaaaa, _mm512_srli_epi32 (scales, 16), scales);
  }
};

/// Factors: 4 vectors of pairs of minima, dmin, d.
struct AmxQ4K : AmxBlocks {
  using Panels = Q4K<TwoPanels>;
  static constexpr int kLeastTokens = 48, kFactors = 6 * kLine;

  static void unpack (const Packed &packed, int column, const Unpacked &out)
  {
    const char *block = packed.panel + column / kSuperBlock * kQ4KBytes;
    const size_t stride = packed.stride;
    for (int pair = 0; pair < kGroups / 2; ++pair) {
      store_ints (out.factors + pair * kLine, Panels::minima (block, stride, pair));
      const __m512i scales = Panels::scales (block, stride, pair);
      const char *nibbles = block + 128 + pair * 8 * kVectorBytes;
      unpack_group (nibbles, stride, low_scale (scales), out.tiles, pair * 2 * kGroup);
      unpack_group (nibbles + 4 * kVectorBytes, stride, high_scale (scales), out.tiles,
                    pair * 2 * kGroup + kGroup);
    }
    store_floats (out.factors + 4 * kLine, TwoPanels::load_halves (block + 2 * kPanelRows, stride));
    store_floats (out.factors + 5 * kLine, TwoPanels::load_halves (block, stride));
  }

  static void unpack_group (const char *nibbles, size_t stride, __m512i scale, char *tiles, int column)
  {
    const __m512i mask = _mm512_set1_epi16 (15);
    for (int v = 0; v < 4; ++v) {
      const __m512i pair = TwoPanels::load (nibbles + v * kVectorBytes, stride);
      const auto scaled = [&] (__m512i codes) {
        return _mm512_mullo_epi16 (_mm512_and_si512 (codes, mask), scale);
      };
      store_words (tiles, column + 4 * v, scaled (pair), scaled (_mm512_srli_epi16 (pair, 8)));
      store_words (tiles, column + 4 * v + 16, scaled (_mm512_srli_epi16 (pair, 4)),
                   scaled (_mm512_srli_epi16 (pair, 12)));
    }
  }

  static void finish (const StepSums &step, int columns, size_t x_stride, int begin, int end)
  {
    const __m512i minima[] = {load_ints (step.factors), load_ints (step.factors + kLine),
                              load_ints (step.factors + 2 * kLine), load_ints (step.factors + 3 * kLine)};
    const __m512 dmin = load_floats (step.factors + 4 * kLine), d = load_floats (step.factors + 5 * kLine);
    const int blocks = columns / kSuperBlock, block = step.column / kSuperBlock;
    const char *x = step.x + begin * x_stride + columns + block * 4;
    const int x_sums = (blocks - block) * 4 + (blocks * 16 + block * kGroups) * 2;
    const char *sums = step.sums + begin * kLine;
    float *out = step.outputs + begin * kRows;
    for (int token = begin; token < end; ++token) {
      __m512i dots = _mm512_setzero_si512 ();
#pragma GCC unroll 4
      for (int pair = 0; pair < kGroups / 2; ++pair)
        dots = TwoPanels::add_words (dots, minima[pair], x + x_sums + 4 * pair);
      const __m512 x_scale = TwoPanels::broadcast_float (x);
      __m512 sum = _mm512_load_ps (out);
      sum = _mm512_fnmadd_ps (_mm512_cvtepi32_ps (dots), _mm512_mul_ps (dmin, x_scale), sum);
      sum = _mm512_fmadd_ps (_mm512_cvtepi32_ps (total (sums)), _mm512_mul_ps (d, x_scale), sum);
      _mm512_store_ps (out, sum);
      x += x_stride;
      sums += kLine;
      out += kRows;
    }
  }
};

/// Factors: d. 32 are taken off the codes.
struct AmxQ6K : AmxBlocks {
  using Panels = Q6K<TwoPanels>;
  static constexpr int kLeastTokens = 32, kFactors = kLine;

  static void unpack (const Packed &packed, int column, const Unpacked &out)
  {
    const char *block = packed.panel + column / kSuperBlock * kQ6KBytes;
    const size_t stride = packed.stride;
    for (int group = 0; group < kGroups; ++group) {
      const char *vectors = block + 160 + group * Panels::kVectors * kVectorBytes;
      const __m512i scales = TwoPanels::load_signed_words (block + group * 16, stride);
      const __m512i low = TwoPanels::load (vectors + 4 * kVectorBytes, stride),
                    high = TwoPanels::load (vectors + 5 * kVectorBytes, stride);
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) {
        const __m512i nibbles = TwoPanels::load (vectors + v * kVectorBytes, stride);
        store_scaled (Panels::element<0> (nibbles, low, v), low_scale (scales), out.tiles,
                      group * kGroup + 4 * v);
        store_scaled (Panels::element<1> (nibbles, high, v), high_scale (scales), out.tiles,
                      group * kGroup + 16 + 4 * v);
      }
    }
    store_floats (out.factors, TwoPanels::load_halves (block + 128, stride));
  }

  static void store_scaled (__m512i codes, __m512i scale, char *tiles, int column)
  {
    const __m512i offset = _mm512_set1_epi16 (32), mask = _mm512_set1_epi16 (0xff);
    const auto scaled = [&] (__m512i words) {
      return _mm512_mullo_epi16 (_mm512_sub_epi16 (words, offset), scale);
    };
    store_words (tiles, column, scaled (_mm512_and_si512 (codes, mask)),
                 scaled (_mm512_srli_epi16 (codes, 8)));
  }

  static void finish (const StepSums &step, int columns, size_t x_stride, int begin, int end)
  {
    const __m512 d = load_floats (step.factors);
    const char *x = step.x + begin * x_stride + columns + step.column / kSuperBlock * 4;
    const char *sums = step.sums + begin * kLine;
    float *out = step.outputs + begin * kRows;
    for (int token = begin; token < end; ++token) {
      const __m512 scale = _mm512_mul_ps (d, TwoPanels::broadcast_float (x));
      _mm512_store_ps (out, _mm512_fmadd_ps (_mm512_cvtepi32_ps (total (sums)), scale, _mm512_load_ps (out)));
      x += x_stride;
      sums += kLine;
      out += kRows;
    }
  }
};

} // namespace

} // namespace millrace::cpu
