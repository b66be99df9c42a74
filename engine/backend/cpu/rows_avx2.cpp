// Row-wise kernels for AVX2, FMA and F16C: norm, activation, quantization, expansion of F16.
//
// All of them are bound by loads and stores of rows that are in L1 or L2; contracts in kernels.hpp.
#if defined(__x86_64__) || defined(__i386__)

#include "engine/backend/cpu/kernels_avx2.hpp"
#include "engine/backend/cpu/vector_avx2.hpp"

namespace millrace::cpu::avx2
{

void
expand_f16 (const void *row, int columns, float *out)
{
  const char *values = static_cast<const char *> (row);
  for (int i = 0; i < columns; i += 8)
    _mm256_storeu_ps (out + i,
                      _mm256_cvtph_ps (_mm_loadu_si128 (reinterpret_cast<const __m128i *> (values + 2 * i))));
}

void
quantize_row (const float *x, int count, int columns, void *out)
{
  char *values = static_cast<char *> (out);
  float *scales = reinterpret_cast<float *> (values + columns);
  const __m256 magnitude = _mm256_castsi256_ps (_mm256_set1_epi32 (0x7fffffff));

  for (int begin = 0, group = 0; begin < columns; begin += kGroup, ++group) {
    __m256 v[4];
    __m256 largest = _mm256_setzero_ps ();
    for (int i = 0; i < 4; ++i) {
      const int left = count - begin - 8 * i;
      if (left >= 8)
        v[i] = _mm256_loadu_ps (x + begin + 8 * i);
      else if (left > 0)
        v[i] = _mm256_maskload_ps (x + begin + 8 * i, first_lanes (left));
      else
        v[i] = _mm256_setzero_ps ();
      largest = _mm256_max_ps (_mm256_and_ps (v[i], magnitude), largest); // NaN does not count
    }
    __m128 top = _mm_max_ps (_mm256_castps256_ps128 (largest), _mm256_extractf128_ps (largest, 1));
    top = _mm_max_ps (top, _mm_movehl_ps (top, top));
    top = _mm_max_ss (top, _mm_movehdup_ps (top));
    const float amax = _mm_cvtss_f32 (top);
    // Smaller than that, the inverse would overflow; such a group counts as zero.
    const bool zero = !(amax > 1e-30f);
    const __m256 inverse = _mm256_set1_ps (zero ? 0.0f : 127.0f / amax);
    scales[group] = zero ? 0.0f : amax / 127.0f;

    __m256i q[4];
    for (int i = 0; i < 4; ++i)
      q[i] = _mm256_cvtps_epi32 (_mm256_mul_ps (v[i], inverse));
    // The packs interleave 128-bit halves; the permutation puts the groups of four back in order.
    const __m256i packed =
        _mm256_packs_epi16 (_mm256_packs_epi32 (q[0], q[1]), _mm256_packs_epi32 (q[2], q[3]));
    const __m256i order = _mm256_setr_epi32 (0, 4, 1, 5, 2, 6, 3, 7);
    // -128 only comes of values that are not finite; the products' range needs it gone.
    const __m256i clamped =
        _mm256_max_epi8 (_mm256_permutevar8x32_epi32 (packed, order), _mm256_set1_epi8 (-127));
    _mm256_storeu_si256 (reinterpret_cast<__m256i *> (values + begin), clamped);
  }
}

void
rms_norm (const float *x, const float *weight, int count, float epsilon, float *out)
{
  __m256 lanes = _mm256_setzero_ps ();
  int i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m256 v = _mm256_loadu_ps (x + i);
    lanes = _mm256_fmadd_ps (v, v, lanes);
  }
  if (i < count) {
    const __m256 v = _mm256_maskload_ps (x + i, first_lanes (count - i));
    lanes = _mm256_fmadd_ps (v, v, lanes);
  }
  const float mean = sum_lanes (lanes) / static_cast<float> (count);
  const float scale = 1.0f / _mm_cvtss_f32 (_mm_sqrt_ss (_mm_set_ss (mean + epsilon)));

  const __m256 scales = _mm256_set1_ps (scale);
  for (i = 0; i + 8 <= count; i += 8)
    _mm256_storeu_ps (out + i, _mm256_mul_ps (_mm256_mul_ps (_mm256_loadu_ps (x + i), scales),
                                              _mm256_loadu_ps (weight + i)));
  for (; i < count; ++i)
    out[i] = x[i] * scale * weight[i];
}

void
silu (const float *gate, const float *up, int count, float *out)
{
  const __m256 one = _mm256_set1_ps (1.0f);
  const __m256 sign = _mm256_set1_ps (-0.0f);
  for (int i = 0; i < count; i += 8) {
    const int left = count - i;
    const __m256i mask = first_lanes (left < 8 ? left : 8);
    const __m256 g = _mm256_maskload_ps (gate + i, mask);
    const __m256 u = _mm256_maskload_ps (up + i, mask);
    const __m256 e = exp_poly (_mm256_xor_ps (g, sign));
    _mm256_maskstore_ps (out + i, mask, _mm256_mul_ps (_mm256_div_ps (g, _mm256_add_ps (one, e)), u));
  }
}

} // namespace millrace::cpu::avx2

#endif
