// Activations of products of panels for AVX2: the bits of the portable kernels. Contracts in kernels.hpp.
//
// Each group is read twice from the first-level cache: for its largest magnitude, and for its integers.
#if defined(__x86_64__) || defined(__i386__)

#include "engine/backend/cpu/kernels_avx2.hpp"
#include "engine/backend/cpu/vector_avx2.hpp"

namespace millrace::cpu::avx2
{

namespace
{

constexpr int kFloats = 8;

/// Elements [begin, begin + 8) of x; zeros from `count` on.
__m256
load_floats (const float *x, int begin, int count)
{
  const int left = count - begin;
  if (left >= kFloats)
    return _mm256_loadu_ps (x + begin);
  return left > 0 ? _mm256_maskload_ps (x + begin, first_lanes (left)) : _mm256_setzero_ps ();
}

struct Scaling {
  __m256 inverse;
  float scale;
};

/// Of elements [begin, begin + group). NaN when one is not finite.
Scaling
scaling_of (const float *x, int begin, int group, int count)
{
  const __m256 magnitude = _mm256_castsi256_ps (_mm256_set1_epi32 (0x7fffffff));
  const __m256 zero = _mm256_setzero_ps ();
  __m256 largest = zero, poison = zero;
  for (int i = begin; i < begin + group; i += kFloats) {
    const __m256 v = load_floats (x, i, count);
    largest = _mm256_max_ps (_mm256_and_ps (v, magnitude), largest);
    poison = _mm256_fmadd_ps (v, zero, poison);
  }
  __m128 top = _mm_max_ps (_mm256_castps256_ps128 (largest), _mm256_extractf128_ps (largest, 1));
  top = _mm_max_ps (top, _mm_movehl_ps (top, top));
  top = _mm_max_ss (top, _mm_movehdup_ps (top));
  const float amax = _mm_cvtss_f32 (top);
  // Smaller than that, the inverse would overflow; such a group counts as zero.
  const bool none = !(amax > 1e-30f);
  return {_mm256_set1_ps (none ? 0.0f : 127.0f / amax), (none ? 0.0f : amax / 127.0f) + sum_lanes (poison)};
}

/// 16 elements as 16 bits, in order; -127 … 127 for finite ones.
__m256i
words_of (const float *x, int begin, int count, __m256 inverse)
{
  const __m256i low = _mm256_cvtps_epi32 (_mm256_mul_ps (load_floats (x, begin, count), inverse));
  const __m256i high = _mm256_cvtps_epi32 (_mm256_mul_ps (load_floats (x, begin + kFloats, count), inverse));
  return _mm256_permute4x64_epi64 (_mm256_packs_epi32 (low, high), _MM_SHUFFLE (3, 1, 2, 0));
}

int
sum_words (__m256i words)
{
  const __m256i pairs = _mm256_madd_epi16 (words, _mm256_set1_epi16 (1));
  __m128i sums = _mm_add_epi32 (_mm256_castsi256_si128 (pairs), _mm256_extracti128_si256 (pairs, 1));
  sums = _mm_add_epi32 (sums, _mm_shuffle_epi32 (sums, _MM_SHUFFLE (1, 0, 3, 2)));
  return _mm_cvtsi128_si32 (_mm_add_epi32 (sums, _mm_shuffle_epi32 (sums, _MM_SHUFFLE (2, 3, 0, 1))));
}

/// 16 words as bytes; -128, which only comes of values that are not finite, would leave the products' range.
void
store_bytes (__m256i words, void *out)
{
  const __m128i bytes = _mm_packs_epi16 (_mm256_castsi256_si128 (words), _mm256_extracti128_si256 (words, 1));
  _mm_storeu_si128 (static_cast<__m128i *> (out), _mm_max_epi8 (bytes, _mm_set1_epi8 (-127)));
}

} // namespace

void
quantize_wide32 (const float *x, int count, int columns, void *out)
{
  auto *values = static_cast<int16_t *> (out);
  auto *scales = reinterpret_cast<float *> (values + columns);
  // Of each four words the inner two change places.
  const __m256i order = _mm256_setr_epi8 (0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15, 0, 1, 4, 5, 2,
                                          3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15);
  for (int begin = 0; begin < columns; begin += kGroup) {
    const Scaling scaling = scaling_of (x, begin, kGroup, count);
    scales[begin / kGroup] = scaling.scale;
    for (int i = begin; i < begin + kGroup; i += 16)
      _mm256_storeu_si256 (reinterpret_cast<__m256i *> (values + i),
                           _mm256_shuffle_epi8 (words_of (x, i, count, scaling.inverse), order));
  }
}

void
quantize_byte32 (const float *x, int count, int columns, void *out)
{
  auto *values = static_cast<int8_t *> (out);
  auto *scales = reinterpret_cast<float *> (values + columns);
  auto *sums = reinterpret_cast<int32_t *> (scales + columns / kGroup);
  for (int begin = 0; begin < columns; begin += kGroup) {
    const Scaling scaling = scaling_of (x, begin, kGroup, count);
    scales[begin / kGroup] = scaling.scale;
    const __m256i low = words_of (x, begin, count, scaling.inverse),
                  high = words_of (x, begin + 16, count, scaling.inverse);
    store_bytes (low, values + begin);
    store_bytes (high, values + begin + 16);
    sums[begin / kGroup] = 8 * sum_words (_mm256_add_epi16 (low, high));
  }
}

void
quantize_byte256 (const float *x, int count, int columns, void *out)
{
  auto *values = static_cast<int8_t *> (out);
  auto *scales = reinterpret_cast<float *> (values + columns);
  auto *sums16 = reinterpret_cast<int16_t *> (scales + columns / kSuperBlock);
  auto *sums32 = sums16 + columns / 16;
  for (int begin = 0; begin < columns; begin += kSuperBlock) {
    const Scaling scaling = scaling_of (x, begin, kSuperBlock, count);
    scales[begin / kSuperBlock] = scaling.scale;
    for (int i = begin; i < begin + kSuperBlock; i += kGroup) {
      const __m256i low = words_of (x, i, count, scaling.inverse),
                    high = words_of (x, i + 16, count, scaling.inverse);
      store_bytes (low, values + i);
      store_bytes (high, values + i + 16);
      const int first = sum_words (low), second = sum_words (high);
      sums16[i / 16] = static_cast<int16_t> (first);
      sums16[i / 16 + 1] = static_cast<int16_t> (second);
      sums32[i / kGroup] = static_cast<int16_t> (first + second);
    }
  }
}

} // namespace millrace::cpu::avx2

#endif
