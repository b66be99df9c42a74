// Rows of keys and values as attention for AVX2 reads them: what each KV type stores, and how 16 numbers of it
// become floats. Layout: kv_storage.hpp. Included by attention_avx2.cpp only; everything is internal to it.
//
// Of kQ8 a row is its whole steps: attention multiplies scores by the scales of the keys, and probabilities by
// the scales of the values, once for each position instead of once for each element.
#pragma once

#include "engine/backend/cpu/vector_avx2.hpp"

#include <cstddef>

namespace millrace::cpu::avx2
{

namespace
{

// 16 numbers of a row.
struct Vectors {
  __m256 low, high;
};

inline __m128i
load_16_bytes (const char *data)
{
  return _mm_loadu_si128 (reinterpret_cast<const __m128i *> (data));
}

inline __m256
floats_of_8_bytes (const char *data)
{
  return _mm256_cvtepi32_ps (
      _mm256_cvtepi8_epi32 (_mm_loadl_epi64 (reinterpret_cast<const __m128i *> (data))));
}

// Rows `stride` bytes apart; load (i) gives columns [16 · i, 16 · i + 16).
struct F32Rows {
  static constexpr int kBytes = 4;
  const char *data;
  size_t stride;

  Vectors load (int i) const
  {
    const auto *row = reinterpret_cast<const float *> (data) + i * 16;
    return {_mm256_loadu_ps (row), _mm256_loadu_ps (row + 8)};
  }
  void next () { data += stride; }
};

struct F16Rows {
  static constexpr int kBytes = 2;
  const char *data;
  size_t stride;

  Vectors load (int i) const
  {
    return {_mm256_cvtph_ps (load_16_bytes (data + i * 32)),
            _mm256_cvtph_ps (load_16_bytes (data + i * 32 + 16))};
  }
  void next () { data += stride; }
};

struct BF16Rows {
  static constexpr int kBytes = 2;
  const char *data;
  size_t stride;

  static __m256 widen (__m128i halves)
  {
    return _mm256_castsi256_ps (_mm256_slli_epi32 (_mm256_cvtepu16_epi32 (halves), 16));
  }
  Vectors load (int i) const
  {
    return {widen (load_16_bytes (data + i * 32)), widen (load_16_bytes (data + i * 32 + 16))};
  }
  void next () { data += stride; }
};

struct StepRows {
  static constexpr int kBytes = 1;
  const char *data;
  size_t stride;

  Vectors load (int i) const
  {
    return {floats_of_8_bytes (data + i * 16), floats_of_8_bytes (data + i * 16 + 8)};
  }
  void next () { data += stride; }
};

struct Q4Rows {
  const char *data;
  size_t stride;
  const char *pairs; ///< float16 scale and minimum
  size_t pair_stride;
  int first; ///< half of a group that load (0) gives: 0 or 1

  Vectors load (int i) const
  {
    const int group = (first + i) / 2;
    const __m128i shift = _mm_cvtsi32_si128 ((first + i) % 2 == 0 ? 0 : 4);
    const __m128i bytes =
        _mm_and_si128 (_mm_srl_epi16 (load_16_bytes (data + group * 16), shift), _mm_set1_epi8 (15));
    const __m256 low = _mm256_cvtepi32_ps (_mm256_cvtepi8_epi32 (bytes));
    const __m256 high = _mm256_cvtepi32_ps (_mm256_cvtepi8_epi32 (_mm_unpackhi_epi64 (bytes, bytes)));
    const __m128 pair = _mm_cvtph_ps (_mm_loadu_si32 (pairs + group * 4));
    const __m256 scale = _mm256_broadcastss_ps (pair);
    const __m256 minimum = _mm256_broadcastss_ps (_mm_movehdup_ps (pair));
    // The product is exact, so this is the sum of the portable kernel.
    return {_mm256_fmadd_ps (low, scale, minimum), _mm256_fmadd_ps (high, scale, minimum)};
  }
  void next ()
  {
    data += stride;
    pairs += pair_stride;
  }
};

// A format: one head's keys of a block, its values from a position and a column on, and their sizes.
template <typename Rows>
struct Plain {
  using Keys = Rows;
  using Values = Rows;
  static constexpr bool kFloats = Rows::kBytes == 4, kValueScales = false;

  static Keys keys (const char *head) { return {head, size_t{kKvTokens} * Rows::kBytes}; }
  static const float *key_scales (const char *, int) { return nullptr; }
  static size_t key_bytes (int head_dim) { return static_cast<size_t> (head_dim) * kKvTokens * Rows::kBytes; }

  static Values values (const char *head, size_t width, int position, int column)
  {
    const size_t stride = width * Rows::kBytes;
    return {head + position * stride + column * size_t{Rows::kBytes}, stride};
  }
  static size_t value_bytes (size_t width) { return width * kKvTokens * Rows::kBytes; }
};

struct Q8 : Plain<StepRows> {
  static constexpr bool kValueScales = true;

  static const float *key_scales (const char *head, int head_dim)
  {
    return reinterpret_cast<const float *> (head + head_dim * size_t{kKvTokens});
  }
  static size_t key_bytes (int head_dim) { return value_bytes (static_cast<size_t> (head_dim)); }
  static const float *value_scales (const char *head, size_t width)
  {
    return reinterpret_cast<const float *> (head + width * kKvTokens);
  }
  static size_t value_bytes (size_t width) { return width * kKvTokens + kKvTokens * sizeof (float); }
};

struct K8V4 : Q8 {
  using Values = Q4Rows;
  static constexpr bool kValueScales = false;
  static constexpr int kGroupColumns = 32, kGroupBytes = 16, kPairBytes = 4;

  static Values values (const char *head, size_t width, int position, int column)
  {
    const size_t groups = width / kGroupColumns;
    const size_t at = position * groups + static_cast<size_t> (column / kGroupColumns);
    const char *pairs = head + groups * kGroupBytes * kKvTokens;
    return {head + at * kGroupBytes, groups * kGroupBytes, pairs + at * kPairBytes, groups * kPairBytes,
            column % kGroupColumns / 16};
  }
  static size_t value_bytes (size_t width)
  {
    return width / kGroupColumns * (kGroupBytes + kPairBytes) * kKvTokens;
  }
};

} // namespace

} // namespace millrace::cpu::avx2
