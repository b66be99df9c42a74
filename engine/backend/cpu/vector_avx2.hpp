// Small helpers of the AVX2 kernels. Included by *_avx2.cpp and float_stretches_x86.hpp only; everything is static, so that nothing
// compiled for AVX2 can be picked by the linker for other callers.
#pragma once

#include <immintrin.h>

namespace millrace::cpu
{

/// The four sums ((0+1)+(2+3)) + ((4+5)+(6+7)) of a, b, c, d.
static inline __m128
sum_lanes_4 (__m256 a, __m256 b, __m256 c, __m256 d)
{
  const __m256 pairs = _mm256_hadd_ps (_mm256_hadd_ps (a, b), _mm256_hadd_ps (c, d));
  return _mm_add_ps (_mm256_castps256_ps128 (pairs), _mm256_extractf128_ps (pairs, 1));
}

/// The same sum of one vector.
static inline float
sum_lanes (__m256 a)
{
  return _mm_cvtss_f32 (sum_lanes_4 (a, a, a, a));
}

/// e^x, see exp_poly in kernels_portable.cpp: the same polynomial with fused multiply-adds.
static inline __m256
exp_poly (__m256 x)
{
  x = _mm256_max_ps (_mm256_set1_ps (-87.3f), x); // in this order NaN passes
  x = _mm256_min_ps (_mm256_set1_ps (88.0f), x);
  const __m256 shifter = _mm256_set1_ps (12582912.0f);
  const __m256 shifted = _mm256_fmadd_ps (x, _mm256_set1_ps (1.44269504088896341f), shifter);
  const __m256 n = _mm256_sub_ps (shifted, shifter);
  __m256 r = _mm256_fnmadd_ps (n, _mm256_set1_ps (0.693359375f), x);
  r = _mm256_fnmadd_ps (n, _mm256_set1_ps (-2.12194440e-4f), r);
  __m256 p = _mm256_set1_ps (1.9875691500e-4f);
  p = _mm256_fmadd_ps (p, r, _mm256_set1_ps (1.3981999507e-3f));
  p = _mm256_fmadd_ps (p, r, _mm256_set1_ps (8.3334519073e-3f));
  p = _mm256_fmadd_ps (p, r, _mm256_set1_ps (4.1665795894e-2f));
  p = _mm256_fmadd_ps (p, r, _mm256_set1_ps (1.6666665459e-1f));
  p = _mm256_fmadd_ps (p, r, _mm256_set1_ps (5.0000001201e-1f));
  const __m256 e = _mm256_add_ps (_mm256_fmadd_ps (p, _mm256_mul_ps (r, r), r), _mm256_set1_ps (1.0f));
  const __m256i power =
      _mm256_slli_epi32 (_mm256_add_epi32 (_mm256_castps_si256 (shifted), _mm256_set1_epi32 (127)), 23);
  return _mm256_mul_ps (e, _mm256_castsi256_ps (power));
}

/// All ones in the first `count` (1 … 8) lanes.
static inline __m256i
first_lanes (int count)
{
  return _mm256_cmpgt_epi32 (_mm256_set1_epi32 (count), _mm256_setr_epi32 (0, 1, 2, 3, 4, 5, 6, 7));
}

} // namespace millrace::cpu
