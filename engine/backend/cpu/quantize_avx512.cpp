// Activations of products of panels for AVX-512: the bits of the portable kernels. Contracts in kernels.hpp.
//
// A block of kByte256, or four groups of kByte32, stays in registers between its largest magnitude and its integers. A row with
// a number that is not finite is left to the AVX2 kernels.
#include "engine/backend/cpu/panel_products.hpp"

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__) &&       \
    defined(__AVX512VNNI__)

#include "engine/backend/cpu/kernels_avx2.hpp"

#include <immintrin.h>

#include <cstring>

namespace millrace::cpu
{

namespace
{

constexpr int kFloats = 16;      ///< of a vector
constexpr float kLeast = 1e-30f; ///< of what is not larger the inverse would overflow: it counts as zero
constexpr int kGroupsAtOnce = 4;

/// Elements [begin, begin + 16) of x; zeros from `count` on.
inline __m512
load_floats (const float *x, int begin, int count)
{
  const int left = count - begin;
  if (left >= kFloats)
    return _mm512_loadu_ps (x + begin);
  return left > 0 ? _mm512_maskz_loadu_ps (static_cast<__mmask16> ((1 << left) - 1), x + begin)
                  : _mm512_setzero_ps ();
}

/// The 4 × 4 words of 32 bits with rows and columns changed.
inline __m512i
transposed (__m512i x)
{
  return _mm512_permutexvar_epi32 (_mm512_setr_epi32 (0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15),
                                   x);
}

/// 64 elements as bytes; -127 … 127 for finite ones.
inline __m512i
bytes_of (const __m512 (&x)[4], const __m512 (&inverse)[4])
{
  __m512i q[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i)
    q[i] = _mm512_cvtps_epi32 (_mm512_mul_ps (x[i], inverse[i]));
  return transposed (_mm512_packs_epi16 (_mm512_packs_epi32 (q[0], q[1]), _mm512_packs_epi32 (q[2], q[3])));
}

/// Of each four bytes.
inline __m512i
sums_of_four (__m512i bytes)
{
  return _mm512_dpbusd_epi32 (_mm512_setzero_si512 (), _mm512_set1_epi8 (1), bytes);
}

/// Lane by lane the sums of a, b, c and d.
inline __m512i
lane_sums (__m512i a, __m512i b, __m512i c, __m512i d)
{
  const __m512i ab = _mm512_add_epi32 (_mm512_unpacklo_epi32 (a, b), _mm512_unpackhi_epi32 (a, b));
  const __m512i cd = _mm512_add_epi32 (_mm512_unpacklo_epi32 (c, d), _mm512_unpackhi_epi32 (c, d));
  return _mm512_add_epi32 (_mm512_unpacklo_epi64 (ab, cd), _mm512_unpackhi_epi64 (ab, cd));
}

/// In each lane the largest ones of a, b, c and d.
inline __m512
largest_of (__m512 a, __m512 b, __m512 c, __m512 d)
{
  const __m512d ab = _mm512_castps_pd (_mm512_max_ps (_mm512_unpacklo_ps (a, b), _mm512_unpackhi_ps (a, b)));
  const __m512d cd = _mm512_castps_pd (_mm512_max_ps (_mm512_unpacklo_ps (c, d), _mm512_unpackhi_ps (c, d)));
  __m512 top = _mm512_max_ps (_mm512_castpd_ps (_mm512_unpacklo_pd (ab, cd)),
                              _mm512_castpd_ps (_mm512_unpackhi_pd (ab, cd)));
  top = _mm512_max_ps (top, _mm512_shuffle_f32x4 (top, top, _MM_SHUFFLE (1, 0, 3, 2)));
  return _mm512_max_ps (top, _mm512_shuffle_f32x4 (top, top, _MM_SHUFFLE (2, 3, 0, 1)));
}

/// Adds what is not a number when one of x is not finite.
inline __m512
poisoned (__m512 x, __m512 poison)
{
  return _mm512_fmadd_ps (x, _mm512_setzero_ps (), poison);
}

inline bool
is_finite (__m512 poison)
{
  return _mm512_cmp_ps_mask (poison, poison, _CMP_UNORD_Q) == 0;
}

/// Four groups from `begin` on; false when a number is not finite.
bool
quantize_groups (const float *x, int begin, int count, int8_t *values, float *scales, int32_t *sums)
{
  __m512 v[2 * kGroupsAtOnce], tops[kGroupsAtOnce], poison = _mm512_setzero_ps ();
#pragma GCC unroll 8
  for (int i = 0; i < 2 * kGroupsAtOnce; ++i) {
    v[i] = load_floats (x, begin + i * kFloats, count);
    poison = poisoned (v[i], poison);
  }
  if (!is_finite (poison))
    return false;
#pragma GCC unroll 4
  for (int i = 0; i < kGroupsAtOnce; ++i)
    tops[i] = _mm512_max_ps (_mm512_abs_ps (v[2 * i]), _mm512_abs_ps (v[2 * i + 1]));
  const __m512 top = largest_of (tops[0], tops[1], tops[2], tops[3]);
  const __mmask16 some = _mm512_cmp_ps_mask (top, _mm512_set1_ps (kLeast), _CMP_GT_OQ);
  const __m512 steps = _mm512_set1_ps (127.0f);
  const __m512 inverses = _mm512_maskz_div_ps (some, steps, top);
  _mm_storeu_ps (scales, _mm512_castps512_ps128 (_mm512_maskz_div_ps (some, top, steps)));

  const __m512 a = _mm512_permute_ps (inverses, 0x00), b = _mm512_permute_ps (inverses, 0x55),
               c = _mm512_permute_ps (inverses, 0xaa), d = _mm512_permute_ps (inverses, 0xff);
  const __m512i first = bytes_of ({v[0], v[1], v[2], v[3]}, {a, a, b, b}),
                last = bytes_of ({v[4], v[5], v[6], v[7]}, {c, c, d, d});
  _mm512_storeu_si512 (values, first);
  _mm512_storeu_si512 (values + 64, last);
  // Lane by lane: of `first`, of `last`, zeros; a group is two lanes.
  const __m512i none = _mm512_setzero_si512 ();
  const __m512i lanes = lane_sums (sums_of_four (first), sums_of_four (last), none, none);
  const __m512i pairs =
      _mm512_add_epi32 (lanes, _mm512_shuffle_i32x4 (lanes, lanes, _MM_SHUFFLE (2, 3, 0, 1)));
  const __m512i order = _mm512_setr_epi32 (0, 8, 1, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
  const __m128i groups = _mm512_castsi512_si128 (_mm512_permutexvar_epi32 (order, pairs));
  _mm_storeu_si128 (reinterpret_cast<__m128i *> (sums), _mm_slli_epi32 (groups, 3));
  return true;
}

void
quantize_byte32 (const float *x, int count, int columns, void *out)
{
  constexpr int kColumns = kGroupsAtOnce * kGroup;
  auto *values = static_cast<int8_t *> (out);
  auto *scales = reinterpret_cast<float *> (values + columns);
  auto *sums = reinterpret_cast<int32_t *> (scales + columns / kGroup);
  int begin = 0;
  for (; begin + kColumns <= columns; begin += kColumns) {
    if (!quantize_groups (x, begin, count, values + begin, scales + begin / kGroup, sums + begin / kGroup))
      return avx2::quantize_byte32 (x, count, columns, out);
  }
  if (begin == columns)
    return;
  int8_t last_values[kColumns];
  float last_scales[kGroupsAtOnce];
  int32_t last_sums[kGroupsAtOnce];
  if (!quantize_groups (x, begin, count, last_values, last_scales, last_sums))
    return avx2::quantize_byte32 (x, count, columns, out);
  const auto left = static_cast<size_t> (columns - begin);
  std::memcpy (values + begin, last_values, left);
  std::memcpy (scales + begin / kGroup, last_scales, left / kGroup * sizeof (float));
  std::memcpy (sums + begin / kGroup, last_sums, left / kGroup * sizeof (int32_t));
}

void
quantize_byte256 (const float *x, int count, int columns, void *out)
{
  constexpr int kVectors = kSuperBlock / kFloats, kFours = kVectors / 4;
  auto *values = static_cast<int8_t *> (out);
  auto *scales = reinterpret_cast<float *> (values + columns);
  auto *sums16 = reinterpret_cast<int16_t *> (scales + columns / kSuperBlock);
  auto *sums32 = sums16 + columns / 16;
  for (int begin = 0; begin < columns; begin += kSuperBlock) {
    __m512 v[kFours][4], tops[4] = {}, poison = _mm512_setzero_ps ();
#pragma GCC unroll 16
    for (int i = 0; i < kVectors; ++i) {
      const __m512 some = load_floats (x, begin + i * kFloats, count);
      v[i / 4][i % 4] = some;
      poison = poisoned (some, poison);
      tops[i % 4] = _mm512_max_ps (_mm512_abs_ps (some), tops[i % 4]);
    }
    if (!is_finite (poison))
      return avx2::quantize_byte256 (x, count, columns, out);
    const float top = _mm512_reduce_max_ps (
        _mm512_max_ps (_mm512_max_ps (tops[0], tops[1]), _mm512_max_ps (tops[2], tops[3])));
    const bool none = !(top > kLeast);
    scales[begin / kSuperBlock] = none ? 0.0f : top / 127.0f;
    const __m512 inverse = _mm512_set1_ps (none ? 0.0f : 127.0f / top);
    __m512i fours[kFours];
#pragma GCC unroll 4
    for (int i = 0; i < kFours; ++i) {
      const __m512i bytes = bytes_of (v[i], {inverse, inverse, inverse, inverse});
      _mm512_storeu_si512 (values + begin + i * 64, bytes);
      fours[i] = sums_of_four (bytes);
    }
    const __m256i of_16 =
        _mm512_cvtepi32_epi16 (transposed (lane_sums (fours[0], fours[1], fours[2], fours[3])));
    _mm256_storeu_si256 (reinterpret_cast<__m256i *> (sums16 + begin / 16), of_16);
    _mm_storeu_si128 (reinterpret_cast<__m128i *> (sums32 + begin / kGroup),
                      _mm256_cvtepi32_epi16 (_mm256_madd_epi16 (of_16, _mm256_set1_epi16 (1))));
  }
}

} // namespace

const QuantizeKernels kAvx512Quantize = {{nullptr, nullptr, quantize_byte32, quantize_byte256}};

} // namespace millrace::cpu

#else

namespace millrace::cpu
{

const QuantizeKernels kAvx512Quantize = {};

} // namespace millrace::cpu

#endif
