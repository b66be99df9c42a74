// Sixteen lanes of attention, a KV block's positions or as many elements of a value, for AVX2 and FMA: pairs of vectors.
// What attention_x86.hpp computes with; attention_avx2.cpp is the only file that includes this one.
#pragma once

#include "engine/backend/cpu/vector_avx2.hpp"

#include <cstddef>
#include <cstdint>

namespace millrace::cpu
{

namespace
{

struct Avx2Lanes {
  struct Floats {
    __m256 low, high;
  };
  using Mask = Floats; ///< all ones or zeros

  static constexpr int kRegisters = 16; ///< of 8 lanes
  static constexpr int kDotQueries = 2; ///< whose integers are summed at once

  static Floats zero () { return {_mm256_setzero_ps (), _mm256_setzero_ps ()}; }
  static Floats set (float x) { return {_mm256_set1_ps (x), _mm256_set1_ps (x)}; }
  static Floats load (const float *x) { return {_mm256_loadu_ps (x), _mm256_loadu_ps (x + 8)}; }
  static void store (float *out, Floats x)
  {
    _mm256_storeu_ps (out, x.low);
    _mm256_storeu_ps (out + 8, x.high);
  }
  static Floats add (Floats a, Floats b)
  {
    return {_mm256_add_ps (a.low, b.low), _mm256_add_ps (a.high, b.high)};
  }
  static Floats subtract (Floats a, Floats b)
  {
    return {_mm256_sub_ps (a.low, b.low), _mm256_sub_ps (a.high, b.high)};
  }
  static Floats multiply (Floats a, Floats b)
  {
    return {_mm256_mul_ps (a.low, b.low), _mm256_mul_ps (a.high, b.high)};
  }
  static Floats divide (Floats a, Floats b)
  {
    return {_mm256_div_ps (a.low, b.low), _mm256_div_ps (a.high, b.high)};
  }
  static Floats multiply_add (Floats a, Floats b, Floats c)
  {
    return {_mm256_fmadd_ps (a.low, b.low, c.low), _mm256_fmadd_ps (a.high, b.high, c.high)};
  }
  static Floats add_multiple (const float *factor, Floats b, Floats c)
  {
    const __m256 factors = _mm256_broadcast_ss (factor);
    return {_mm256_fmadd_ps (factors, b.low, c.low), _mm256_fmadd_ps (factors, b.high, c.high)};
  }
  static Floats exponential (Floats x) { return {exp_poly (x.low), exp_poly (x.high)}; }
  /// The larger ones, those of b where an element of a is NaN.
  static Floats larger (Floats a, Floats b)
  {
    return {_mm256_max_ps (a.low, b.low), _mm256_max_ps (a.high, b.high)};
  }
  static float largest (Floats x)
  {
    const __m256 both = _mm256_max_ps (x.low, x.high);
    __m128 top = _mm_max_ps (_mm256_castps256_ps128 (both), _mm256_extractf128_ps (both, 1));
    top = _mm_max_ps (top, _mm_movehl_ps (top, top));
    return _mm_cvtss_f32 (_mm_max_ss (top, _mm_movehdup_ps (top)));
  }
  /// Adds lanes 0 … 7, then 8 … 15.
  static __m256 add_halves (__m256 sums, Floats x)
  {
    return _mm256_add_ps (_mm256_add_ps (sums, x.low), x.high);
  }

  /// Lanes [begin, end).
  static Mask between (int begin, int end)
  {
    const __m256i lanes = _mm256_setr_epi32 (0, 1, 2, 3, 4, 5, 6, 7);
    const auto half = [&] (int first) {
      return _mm256_castsi256_ps (
          _mm256_andnot_si256 (_mm256_cmpgt_epi32 (_mm256_set1_epi32 (begin - first), lanes),
                               _mm256_cmpgt_epi32 (_mm256_set1_epi32 (end - first), lanes)));
    };
    return {half (0), half (8)};
  }
  static Floats select (Mask mask, Floats x, Floats otherwise)
  {
    return {_mm256_blendv_ps (otherwise.low, x.low, mask.low),
            _mm256_blendv_ps (otherwise.high, x.high, mask.high)};
  }

  // Of memory.
  static Floats halves (const char *data)
  {
    return {_mm256_cvtph_ps (load_16_bytes (data)), _mm256_cvtph_ps (load_16_bytes (data + 16))};
  }
  static Floats bf16s (const char *data)
  {
    return {widen_bf16 (load_16_bytes (data)), widen_bf16 (load_16_bytes (data + 16))};
  }
  static Floats bytes (__m128i bytes)
  {
    return {_mm256_cvtepi32_ps (_mm256_cvtepi8_epi32 (bytes)),
            _mm256_cvtepi32_ps (_mm256_cvtepi8_epi32 (_mm_unpackhi_epi64 (bytes, bytes)))};
  }

  // Sums of products of bytes (0 … 255) with digits: 4 neighbouring bytes of a lane with the 4 of a step. Digits are int16.
  static constexpr int kStepBytes = 8;
  struct Sums {
    __m256i quarters[4]; ///< of 4 lanes, each in two parts
  };
  struct Ints {
    __m256i low, high;
  };

  static Sums no_sums ()
  {
    const __m256i zero = _mm256_setzero_si256 ();
    return {{zero, zero, zero, zero}};
  }
  /// 64 bytes with the steps of Q queries, `query_bytes` apart.
  template <int Q, int C>
  static void add_row (const char *digits, size_t query_bytes, const char *row, Sums (&sums)[Q][C], int c)
  {
    __m256i steps[Q];
#pragma GCC unroll 8
    for (int i = 0; i < Q; ++i)
      steps[i] = _mm256_castpd_si256 (
          _mm256_broadcast_sd (reinterpret_cast<const double *> (digits + i * query_bytes)));
#pragma GCC unroll 4
    for (int quarter = 0; quarter < 4; ++quarter) {
      const __m256i words = _mm256_cvtepu8_epi16 (load_16_bytes (row + quarter * 16));
#pragma GCC unroll 8
      for (int i = 0; i < Q; ++i)
        sums[i][c].quarters[quarter] =
            _mm256_add_epi32 (sums[i][c].quarters[quarter], _mm256_madd_epi16 (words, steps[i]));
    }
  }
  static Ints total (const Sums &sums)
  {
    const auto eight = [] (__m256i a, __m256i b) {
      return _mm256_permute4x64_epi64 (_mm256_hadd_epi32 (a, b), _MM_SHUFFLE (3, 1, 2, 0));
    };
    return {eight (sums.quarters[0], sums.quarters[1]), eight (sums.quarters[2], sums.quarters[3])};
  }
  static Ints set_ints (int x)
  {
    return {_mm256_set1_epi32 (x), _mm256_set1_epi32 (x)};
  }
  static Ints load_ints (const int32_t *x)
  {
    return {_mm256_loadu_si256 (reinterpret_cast<const __m256i *> (x)),
            _mm256_loadu_si256 (reinterpret_cast<const __m256i *> (x + 8))};
  }
  static void store_ints (int32_t *out, Ints x)
  {
    _mm256_storeu_si256 (reinterpret_cast<__m256i *> (out), x.low);
    _mm256_storeu_si256 (reinterpret_cast<__m256i *> (out + 8), x.high);
  }
  static Ints add_ints (Ints a, Ints b)
  {
    return {_mm256_add_epi32 (a.low, b.low), _mm256_add_epi32 (a.high, b.high)};
  }
  static int sum_ints (Ints x)
  {
    const __m256i both = _mm256_add_epi32 (x.low, x.high);
    __m128i sum = _mm_add_epi32 (_mm256_castsi256_si128 (both), _mm256_extracti128_si256 (both, 1));
    sum = _mm_add_epi32 (sum, _mm_shuffle_epi32 (sum, _MM_SHUFFLE (1, 0, 3, 2)));
    return _mm_cvtsi128_si32 (_mm_add_epi32 (sum, _mm_shuffle_epi32 (sum, _MM_SHUFFLE (2, 3, 0, 1))));
  }
  static Floats floats (Ints x)
  {
    return {_mm256_cvtepi32_ps (x.low), _mm256_cvtepi32_ps (x.high)};
  }
  /// Rounded; of what is not a number anything.
  static Ints rounded (Floats x)
  {
    return {_mm256_cvtps_epi32 (x.low), _mm256_cvtps_epi32 (x.high)};
  }
  /// Integers of 16 bits as the digits of 4 steps.
  static void store_digits (char *out, Ints x)
  {
    const __m256i words =
        _mm256_permute4x64_epi64 (_mm256_packs_epi32 (x.low, x.high), _MM_SHUFFLE (3, 1, 2, 0));
    _mm256_storeu_si256 (reinterpret_cast<__m256i *> (out), words);
  }

private:
  static __m128i load_16_bytes (const char *data)
  {
    return _mm_loadu_si128 (reinterpret_cast<const __m128i *> (data));
  }
  static __m256 widen_bf16 (__m128i halves)
  {
    return _mm256_castsi256_ps (_mm256_slli_epi32 (_mm256_cvtepu16_epi32 (halves), 16));
  }
};

} // namespace

} // namespace millrace::cpu
