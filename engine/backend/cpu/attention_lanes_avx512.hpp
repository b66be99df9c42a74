// Sixteen lanes of attention, a KV block's positions or as many elements of a value, for AVX-512: one vector.
// What attention_x86.hpp computes with; attention_avx512.cpp is the only file that includes this one.
#pragma once

#include "engine/backend/cpu/vector_avx2.hpp"

#include <cstddef>
#include <cstdint>

namespace millrace::cpu
{

namespace
{

struct Avx512Lanes {
  using Floats = __m512;
  using Mask = __mmask16;

  static constexpr int kRegisters = 32; ///< of 16 lanes
  static constexpr int kDotQueries = 6; ///< whose integers are summed at once

  static Floats zero () { return _mm512_setzero_ps (); }
  static Floats set (float x) { return _mm512_set1_ps (x); }
  static Floats load (const float *x) { return _mm512_loadu_ps (x); }
  static void store (float *out, Floats x) { _mm512_storeu_ps (out, x); }
  static Floats add (Floats a, Floats b) { return _mm512_add_ps (a, b); }
  static Floats subtract (Floats a, Floats b) { return _mm512_sub_ps (a, b); }
  static Floats multiply (Floats a, Floats b) { return _mm512_mul_ps (a, b); }
  static Floats divide (Floats a, Floats b) { return _mm512_div_ps (a, b); }
  static Floats multiply_add (Floats a, Floats b, Floats c) { return _mm512_fmadd_ps (a, b, c); }
  static Floats add_multiple (const float *factor, Floats b, Floats c)
  {
    return _mm512_fmadd_ps (_mm512_set1_ps (*factor), b, c);
  }
  /// exp_poly () of vector_avx2.hpp.
  static Floats exponential (Floats x)
  {
    x = _mm512_max_ps (_mm512_set1_ps (-87.3f), x); // in this order NaN passes
    x = _mm512_min_ps (_mm512_set1_ps (88.0f), x);
    const __m512 shifter = _mm512_set1_ps (12582912.0f);
    const __m512 shifted = _mm512_fmadd_ps (x, _mm512_set1_ps (1.44269504088896341f), shifter);
    const __m512 n = _mm512_sub_ps (shifted, shifter);
    __m512 r = _mm512_fnmadd_ps (n, _mm512_set1_ps (0.693359375f), x);
    r = _mm512_fnmadd_ps (n, _mm512_set1_ps (-2.12194440e-4f), r);
    __m512 p = _mm512_set1_ps (1.9875691500e-4f);
    p = _mm512_fmadd_ps (p, r, _mm512_set1_ps (1.3981999507e-3f));
    p = _mm512_fmadd_ps (p, r, _mm512_set1_ps (8.3334519073e-3f));
    p = _mm512_fmadd_ps (p, r, _mm512_set1_ps (4.1665795894e-2f));
    p = _mm512_fmadd_ps (p, r, _mm512_set1_ps (1.6666665459e-1f));
    p = _mm512_fmadd_ps (p, r, _mm512_set1_ps (5.0000001201e-1f));
    const __m512 e = _mm512_add_ps (_mm512_fmadd_ps (p, _mm512_mul_ps (r, r), r), _mm512_set1_ps (1.0f));
    const __m512i power =
        _mm512_slli_epi32 (_mm512_add_epi32 (_mm512_castps_si512 (shifted), _mm512_set1_epi32 (127)), 23);
    return _mm512_mul_ps (e, _mm512_castsi512_ps (power));
  }
  /// The larger ones, those of b where an element of a is NaN.
  static Floats larger (Floats a, Floats b) { return _mm512_max_ps (a, b); }
  static float largest (Floats x)
  {
    const __m256 both = _mm256_max_ps (_mm512_castps512_ps256 (x), _mm512_extractf32x8_ps (x, 1));
    __m128 top = _mm_max_ps (_mm256_castps256_ps128 (both), _mm256_extractf128_ps (both, 1));
    top = _mm_max_ps (top, _mm_movehl_ps (top, top));
    return _mm_cvtss_f32 (_mm_max_ss (top, _mm_movehdup_ps (top)));
  }
  /// Adds lanes 0 … 7, then 8 … 15.
  static __m256 add_halves (__m256 sums, Floats x)
  {
    return _mm256_add_ps (_mm256_add_ps (sums, _mm512_castps512_ps256 (x)), _mm512_extractf32x8_ps (x, 1));
  }

  /// Lanes [begin, end).
  static Mask between (int begin, int end)
  {
    const unsigned from = begin > 0 ? ~0u << begin : ~0u, to = end < 16 ? (1u << end) - 1 : ~0u;
    return static_cast<Mask> (from & to);
  }
  static Floats select (Mask mask, Floats x, Floats otherwise)
  {
    return _mm512_mask_blend_ps (mask, otherwise, x);
  }

  // Of memory.
  static Floats halves (const char *data) { return _mm512_cvtph_ps (load_32_bytes (data)); }
  static Floats bf16s (const char *data)
  {
    return _mm512_castsi512_ps (_mm512_slli_epi32 (_mm512_cvtepu16_epi32 (load_32_bytes (data)), 16));
  }
  static Floats bytes (__m128i bytes) { return _mm512_cvtepi32_ps (_mm512_cvtepi8_epi32 (bytes)); }

  // Sums of products of bytes (0 … 255) with digits: 4 neighbouring bytes of a lane with the 4 of a step. Digits are
  // int8: 4 upper ones, each times 256, then 4 lower ones.
  static constexpr int kStepBytes = 8;
  struct Sums {
    __m512i upper, lower;
  };
  using Ints = __m512i;

  static Sums no_sums () { return {_mm512_setzero_si512 (), _mm512_setzero_si512 ()}; }
  /// 64 bytes with the steps of Q queries, `query_bytes` apart.
  template <int Q, int C>
  static void add_row (const char *digits, size_t query_bytes, const char *row, Sums (&sums)[Q][C], int c)
  {
    const __m512i bytes = _mm512_loadu_si512 (row);
#pragma GCC unroll 8
    for (int i = 0; i < Q; ++i) {
      const auto *step = reinterpret_cast<const int *> (digits + i * query_bytes);
      sums[i][c].upper = _mm512_dpbusd_epi32 (sums[i][c].upper, bytes, _mm512_set1_epi32 (step[0]));
      sums[i][c].lower = _mm512_dpbusd_epi32 (sums[i][c].lower, bytes, _mm512_set1_epi32 (step[1]));
    }
  }
  static Ints total (const Sums &sums)
  {
    return _mm512_add_epi32 (_mm512_slli_epi32 (sums.upper, 8), sums.lower);
  }
  static Ints set_ints (int x)
  {
    return _mm512_set1_epi32 (x);
  }
  static Ints load_ints (const int32_t *x)
  {
    return _mm512_loadu_si512 (x);
  }
  static void store_ints (int32_t *out, Ints x)
  {
    _mm512_storeu_si512 (out, x);
  }
  static Ints add_ints (Ints a, Ints b)
  {
    return _mm512_add_epi32 (a, b);
  }
  static int sum_ints (Ints x)
  {
    return _mm512_reduce_add_epi32 (x);
  }
  static Floats floats (Ints x)
  {
    return _mm512_cvtepi32_ps (x);
  }
  /// Rounded; of what is not a number anything.
  static Ints rounded (Floats x)
  {
    return _mm512_cvtps_epi32 (x);
  }
  /// Integers of 16 bits, not above 127 · 256 + 127, as the digits of 4 steps.
  static void store_digits (char *out, Ints x)
  {
    const __m128i lower = _mm512_cvtepi32_epi8 (x); // their low bytes, as signed numbers
    const __m128i upper =
        _mm512_cvtepi32_epi8 (_mm512_srai_epi32 (_mm512_add_epi32 (x, _mm512_set1_epi32 (128)), 8));
    _mm_storeu_si128 (reinterpret_cast<__m128i *> (out), _mm_unpacklo_epi32 (upper, lower));
    _mm_storeu_si128 (reinterpret_cast<__m128i *> (out + 16), _mm_unpackhi_epi32 (upper, lower));
  }

private:
  static __m256i load_32_bytes (const char *data)
  {
    return _mm256_loadu_si256 (reinterpret_cast<const __m256i *> (data));
  }
};

} // namespace

} // namespace millrace::cpu
