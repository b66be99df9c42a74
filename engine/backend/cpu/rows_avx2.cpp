// Row-wise kernels for AVX2, FMA and F16C: norm, activation, expansion of F16.
//
// All of them are bound by loads and stores of rows that are in L1 or L2; contracts in kernels.hpp.
#if defined(__x86_64__) || defined(__i386__)

#include "engine/backend/cpu/kernels_avx2.hpp"
#include "engine/backend/cpu/vector_avx2.hpp"

namespace millrace::cpu::avx2
{

void
expand_f16 (const void *panel, int row, int columns, float *out)
{
  const char *run = static_cast<const char *> (panel) + row * kRun * 2;
  for (int i = 0; i < columns; i += kRun, run += kPanelRows * kRun * 2) {
    for (int j = 0; j < kRun; j += 8)
      _mm256_storeu_ps (out + i + j,
                        _mm256_cvtph_ps (_mm_loadu_si128 (reinterpret_cast<const __m128i *> (run + 2 * j))));
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
