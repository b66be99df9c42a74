// Vectors of AVX-512 with VNNI for products of panels: two neighbouring panels in 512 bits. See panels_vnni.hpp. Included by files
// of AVX-512 only; everything is internal to them.
#pragma once

#include "engine/backend/cpu/panels_vnni.hpp"

namespace millrace::cpu
{

namespace
{

constexpr int kTileTokens = 8;
constexpr int kRows = 2 * kPanelRows;
constexpr int kLine = 64; ///< bytes of a vector, too

inline __m512i
load_ints (const char *data)
{
  return _mm512_load_si512 (data);
}

inline __m512
load_floats (const char *data)
{
  return _mm512_load_ps (data);
}

inline void
store_ints (char *data, __m512i value)
{
  _mm512_store_si512 (data, value);
}

inline void
store_floats (char *data, __m512 value)
{
  _mm512_store_ps (data, value);
}

struct TwoPanels {
  using Ints = __m512i;
  using Floats = __m512;
  static constexpr int kPanels = 2;
  static constexpr int kTileTokens = cpu::kTileTokens;

  static Ints load (const char *data, size_t stride)
  {
    Ints value = _mm512_inserti64x4 (_mm512_castsi256_si512 (load_32 (data)), load_32 (data + stride), 1);
    // Or the compiler would load twice.
    __asm__("" : "+v"(value));
    return value;
  }
  static Ints load_unsigned_words (const char *bytes, size_t stride)
  {
    return _mm512_cvtepu8_epi16 (load_16s (bytes, stride));
  }
  static Ints load_signed_words (const char *bytes, size_t stride)
  {
    return _mm512_cvtepi8_epi16 (load_16s (bytes, stride));
  }
  static Floats load_halves (const char *data, size_t stride)
  {
    return _mm512_cvtph_ps (load_16s (data, stride));
  }
  static Ints broadcast (const char *word)
  {
    Ints value;
    __asm__("vpbroadcastd %1, %0" : "=v"(value) : "m"(*reinterpret_cast<const int *> (word)));
    return value;
  }
  static Floats broadcast_float (const char *value)
  {
    return _mm512_set1_ps (*reinterpret_cast<const float *> (value));
  }

  static Ints zero () { return _mm512_setzero_si512 (); }
  static Floats zero_floats () { return _mm512_setzero_ps (); }
  static Ints bytes (int value) { return _mm512_set1_epi8 (static_cast<char> (value)); }
  static Ints words (int value) { return _mm512_set1_epi16 (static_cast<short> (value)); }
  static Ints both (Ints a, Ints b) { return _mm512_and_si512 (a, b); }
  static Ints either (Ints a, Ints b) { return _mm512_or_si512 (a, b); }
  static Ints differing (Ints a, Ints b) { return _mm512_xor_si512 (a, b); }
  template <int kBits>
  static Ints words_up (Ints a)
  {
    return _mm512_slli_epi16 (a, kBits);
  }
  template <int kBits>
  static Ints words_down (Ints a)
  {
    return _mm512_srli_epi16 (a, kBits);
  }
  static Ints low_words (Ints a) { return _mm512_srai_epi32 (_mm512_slli_epi32 (a, 16), 16); }
  static Ints high_words (Ints a) { return _mm512_srai_epi32 (a, 16); }
  static Ints add (Ints a, Ints b) { return _mm512_add_epi32 (a, b); }
  static Ints subtract (Ints a, Ints b) { return _mm512_sub_epi32 (a, b); }
  static Ints subtract_words (Ints a, Ints b) { return _mm512_sub_epi16 (a, b); }
  static Ints times (Ints a, Ints b) { return _mm512_mullo_epi32 (a, b); }
  static Ints times_16 (Ints a) { return _mm512_slli_epi32 (a, 4); }
  // The compiler would broadcast by an instruction of its own.
  static Ints add_bytes (Ints sum, Ints weights, const char *x)
  {
    __asm__("vpdpbusd %2%{1to16%}, %1, %0"
            : "+v"(sum)
            : "v"(weights), "m"(*reinterpret_cast<const int *> (x)));
    return sum;
  }
  static Ints add_words (Ints sum, Ints words, const char *x)
  {
    __asm__("vpdpwssd %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(words), "m"(*reinterpret_cast<const int *> (x)));
    return sum;
  }
  static Floats scaled (Ints dots, Floats scale, Floats x_scale, Floats sum)
  {
    return _mm512_fmadd_ps (_mm512_cvtepi32_ps (dots), _mm512_mul_ps (scale, x_scale), sum);
  }
  static Floats scaled_off (Ints dots, Floats scale, Floats x_scale, Floats sum)
  {
    return _mm512_fnmadd_ps (_mm512_cvtepi32_ps (dots), _mm512_mul_ps (scale, x_scale), sum);
  }
  /// Asks for kBytes of each panel, kAhead of `data`.
  template <int kBytes>
  static void prefetch (const char *data, size_t stride)
  {
#pragma GCC unroll 32
    for (int line = 0; line < kBytes; line += 64) {
      _mm_prefetch (data + kAhead + line, _MM_HINT_T0);
      _mm_prefetch (data + stride + kAhead + line, _MM_HINT_T0);
    }
  }

  /// Rows from `row` on, as many as there are.
  static void store (const LinearArgs &args, Floats sums, int row, int token)
  {
    float *y = args.y[token] + args.y_offset + row;
    const int rows = args.rows - row;
    if (rows >= 2 * kPanelRows) { // masked stores take some twenty cycles
      if (args.bias)
        sums = _mm512_add_ps (sums, _mm512_loadu_ps (args.bias + row));
      if (args.accumulate)
        sums = _mm512_add_ps (_mm512_loadu_ps (y), sums);
      _mm512_storeu_ps (y, sums);
      return;
    }
    const auto mask = static_cast<__mmask16> ((1 << rows) - 1);
    if (args.bias)
      sums = _mm512_add_ps (sums, _mm512_maskz_loadu_ps (mask, args.bias + row));
    if (args.accumulate)
      sums = _mm512_add_ps (_mm512_maskz_loadu_ps (mask, y), sums);
    _mm512_mask_storeu_ps (y, mask, sums);
  }

private:
  static __m256i load_32 (const char *data)
  {
    return _mm256_load_si256 (reinterpret_cast<const __m256i *> (data));
  }
  /// 16 bytes of each panel.
  static __m256i load_16s (const char *data, size_t stride)
  {
    return _mm256_inserti128_si256 (
        _mm256_castsi128_si256 (_mm_load_si128 (reinterpret_cast<const __m128i *> (data))),
        _mm_load_si128 (reinterpret_cast<const __m128i *> (data + stride)), 1);
  }
};

} // namespace

} // namespace millrace::cpu
