// Row-wise kernels for AVX2, FMA and F16C: norm, activation, rotation, conversions.
//
// All of them are bound by loads and stores of rows that are in L1 or L2; contracts in kernels.hpp.
#if defined(__x86_64__) || defined(__i386__)

#include "engine/backend/cpu/kernels_avx2.hpp"
#include "engine/backend/cpu/pages_ahead_x86.hpp"
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

namespace
{

template <bool kEarly>
uint64_t
read_all (const void *data, size_t bytes)
{
  const char *at = static_cast<const char *> (data);
  __m256i sums[4] = {};
  for (size_t i = 0; i + 128 <= bytes; i += 128) {
    if constexpr (kEarly) {
      ask_for (line_by_turns (at + i + kWindowBytes));
      ask_for (line_by_turns (at + i + kWindowBytes + kLineBytes));
    }
#pragma GCC unroll 4
    for (size_t j = 0; j < 4; ++j)
      sums[j] = _mm256_add_epi64 (sums[j],
                                  _mm256_loadu_si256 (reinterpret_cast<const __m256i *> (at + i + 32 * j)));
  }
  const __m256i sum =
      _mm256_add_epi64 (_mm256_add_epi64 (sums[0], sums[1]), _mm256_add_epi64 (sums[2], sums[3]));
  return static_cast<uint64_t> (_mm256_extract_epi64 (sum, 0) + _mm256_extract_epi64 (sum, 2));
}

} // namespace

uint64_t
read (const void *data, size_t bytes)
{
  return read_all<false> (data, bytes);
}

uint64_t
read_early (const void *data, size_t bytes)
{
  return read_all<true> (data, bytes);
}

void
halves (const float *x, int count, uint16_t *out)
{
  int i = 0;
  for (; i + 8 <= count; i += 8)
    _mm_storeu_si128 (reinterpret_cast<__m128i *> (out + i),
                      _mm256_cvtps_ph (_mm256_loadu_ps (x + i), _MM_FROUND_TO_NEAREST_INT));
  for (; i < count; ++i)
    out[i] = static_cast<uint16_t> (
        _mm_extract_epi16 (_mm_cvtps_ph (_mm_set_ss (x[i]), _MM_FROUND_TO_NEAREST_INT), 0));
}

float
steps (const float *x, int count, int8_t *out)
{
  const __m256 magnitude = _mm256_castsi256_ps (_mm256_set1_epi32 (0x7fffffff));
  __m256 largest = _mm256_setzero_ps (), poison = _mm256_setzero_ps ();
  const auto load = [&] (int i) {
    return count - i >= 8 ? _mm256_loadu_ps (x + i) : _mm256_maskload_ps (x + i, first_lanes (count - i));
  };
  for (int i = 0; i < count; i += 8) {
    const __m256 v = load (i);
    largest = _mm256_max_ps (_mm256_and_ps (v, magnitude), largest);
    poison = _mm256_fmadd_ps (v, _mm256_setzero_ps (), poison); // 0, or NaN when one is not finite
  }
  __m128 top = _mm_max_ps (_mm256_castps256_ps128 (largest), _mm256_extractf128_ps (largest, 1));
  top = _mm_max_ps (top, _mm_movehl_ps (top, top));
  const float most = _mm_cvtss_f32 (_mm_max_ss (top, _mm_movehdup_ps (top)));
  const float bad = sum_lanes (poison);
  const bool zero = bad != bad || most <= 1e-30f;
  const __m256 inverse = _mm256_set1_ps (zero ? 0.0f : 127.0f / most);
  for (int i = 0; i < count; i += 8) {
    const __m256 scaled = zero ? _mm256_setzero_ps () : _mm256_mul_ps (load (i), inverse);
    const __m256i words = _mm256_cvtps_epi32 (scaled);
    const __m128i halves =
        _mm_packs_epi32 (_mm256_castsi256_si128 (words), _mm256_extracti128_si256 (words, 1));
    const __m128i bytes = _mm_packs_epi16 (halves, halves);
    if (count - i >= 8) {
      _mm_storel_epi64 (reinterpret_cast<__m128i *> (out + i), bytes);
      continue;
    }
    int8_t rest[16];
    _mm_storeu_si128 (reinterpret_cast<__m128i *> (rest), bytes);
    for (int j = i; j < count; ++j)
      out[j] = rest[j - i];
  }
  return (zero ? 0.0f : most / 127.0f) + bad;
}

// As the portable kernel: products and sums are rounded one by one.
void
rotate (float *x, const float *cos, const float *sin, int half)
{
  int i = 0;
  for (; i + 8 <= half; i += 8) {
    const __m256 a = _mm256_loadu_ps (x + i), b = _mm256_loadu_ps (x + i + half);
    const __m256 c = _mm256_loadu_ps (cos + i), s = _mm256_loadu_ps (sin + i);
    _mm256_storeu_ps (x + i, _mm256_sub_ps (_mm256_mul_ps (a, c), _mm256_mul_ps (b, s)));
    _mm256_storeu_ps (x + i + half, _mm256_add_ps (_mm256_mul_ps (b, c), _mm256_mul_ps (a, s)));
  }
  for (; i < half; ++i) {
    const float a = x[i], b = x[i + half];
    x[i] = a * cos[i] - b * sin[i];
    x[i + half] = b * cos[i] + a * sin[i];
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
  const auto gated = [&] (__m256 g, __m256 u) {
    const __m256 e = exp_poly (_mm256_xor_ps (g, sign));
    return _mm256_mul_ps (_mm256_div_ps (g, _mm256_add_ps (one, e)), u);
  };
  int i = 0;
  for (; i + 8 <= count; i += 8)
    _mm256_storeu_ps (out + i, gated (_mm256_loadu_ps (gate + i), _mm256_loadu_ps (up + i)));
  if (i < count) { // masked stores take some twenty cycles
    const __m256i mask = first_lanes (count - i);
    _mm256_maskstore_ps (out + i, mask,
                         gated (_mm256_maskload_ps (gate + i, mask), _mm256_maskload_ps (up + i, mask)));
  }
}

} // namespace millrace::cpu::avx2

#endif
