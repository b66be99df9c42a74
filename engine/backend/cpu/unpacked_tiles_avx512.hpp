// The tiles of unpacked_panels_avx512.hpp: products of unpacked weights of 16 rows with up to twelve tokens, which stay in
// registers. Included through it only; everything is internal to its file.
//
// Dot products broadcast activations as they load them; each takes five cycles, of which Intel starts two a cycle, so that fewer
// than ten sums wait for each other.
#pragma once

#include "engine/backend/cpu/two_panels_avx512.hpp"

#include <type_traits>

namespace millrace::cpu
{

namespace
{

constexpr int kStretch = 1024; ///< columns; a multiple of kSuperBlock

/// Activations of T tokens from a column on. Twelve pointers would take all registers: of each four tokens the first has one,
/// and the others are one, two and three strides behind it.
template <int T>
struct Tokens {
  static constexpr int kFours = (T + 3) / 4;
  const char *x[kFours];
  size_t stride, three_strides; ///< bytes

  Tokens (const char *first, size_t row_bytes)
      : stride (row_bytes)
      , three_strides (3 * row_bytes)
  {
#pragma GCC unroll 3
    for (int i = 0; i < kFours; ++i)
      x[i] = first + static_cast<size_t> (4 * i) * row_bytes;
      // Values that the compiler does not see through: it would keep sums of them, too.
#pragma GCC unroll 3
    for (int i = 0; i < kFours; ++i)
      __asm__("" : "+r"(x[i]));
    __asm__("" : "+r"(stride), "+r"(three_strides));
  }
  void advance (size_t bytes)
  {
#pragma GCC unroll 3
    for (int i = 0; i < kFours; ++i)
      x[i] += bytes;
  }
  /// `bytes` behind the column of token `t`.
  const char *at (int t, size_t bytes) const
  {
    const char *four = x[t / 4] + bytes;
    return t % 4 == 3 ? four + three_strides : four + static_cast<size_t> (t % 4) * stride;
  }
};

/// Calls work.operator() <0> (), … <T - 1> ().
template <int T, int kFirst = 0, typename F>
[[gnu::always_inline]] inline void
for_tokens (const F &work)
{
  if constexpr (kFirst < T) {
    work.template operator()<kFirst> ();
    for_tokens<T, kFirst + 1> (work);
  }
}

// Instruction, sum and operand of dot products with four bytes (two words) of token t, kOffset behind its column. Written out
// because compilers keep a register for each such address, more than there are. Nothing here writes activations, and so no
// operand says that memory is read.
#define MILLRACE_DOT(instruction, sum, weights, tokens, t, offset)                                           \
  if constexpr (t % 4 == 0)                                                                                  \
    __asm__(instruction " %c3(%2)%{1to16%}, %1, %0"                                                          \
            : "+v"(sum)                                                                                      \
            : "v"(weights), "r"(tokens.x[t / 4]), "i"(offset));                                              \
  else if constexpr (t % 4 == 1)                                                                             \
    __asm__(instruction " %c4(%2,%3)%{1to16%}, %1, %0"                                                       \
            : "+v"(sum)                                                                                      \
            : "v"(weights), "r"(tokens.x[t / 4]), "r"(tokens.stride), "i"(offset));                          \
  else if constexpr (t % 4 == 2)                                                                             \
    __asm__(instruction " %c4(%2,%3,2)%{1to16%}, %1, %0"                                                     \
            : "+v"(sum)                                                                                      \
            : "v"(weights), "r"(tokens.x[t / 4]), "r"(tokens.stride), "i"(offset));                          \
  else                                                                                                       \
    __asm__(instruction " %c4(%2,%3)%{1to16%}, %1, %0"                                                       \
            : "+v"(sum)                                                                                      \
            : "v"(weights), "r"(tokens.x[t / 4]), "r"(tokens.three_strides), "i"(offset));

inline __m512
broadcast_float (const char *value)
{
  return _mm512_set1_ps (*reinterpret_cast<const float *> (value));
}

/// Adds products of kSteps vectors of weights with as many times four activations.
template <int kSteps, int T, int kStep = 0>
[[gnu::always_inline]] inline void
add_steps (const Tokens<T> &tokens, const char *weights, __m512i (&dots)[T])
{
  if constexpr (kStep < kSteps) {
    const __m512i vector = load_ints (weights + kStep * kLine);
    for_tokens<T> ([&]<int t> () __attribute__ ((always_inline)){
        MILLRACE_DOT ("vpdpbusd", dots[t], vector, tokens, t, 4 * kStep)});
    add_steps<kSteps, T, kStep + 1> (tokens, weights, dots);
  }
}

/// Adds products of kPairs vectors of pairs of words with sums of activations, where `sums_of` begins.
template <int kPairs, int T, int kPair = 0>
[[gnu::always_inline]] inline void
add_all_pairs (const Tokens<T> &sums_of, const char *words, __m512i (&dots)[T])
{
  if constexpr (kPair < kPairs) {
    const __m512i vector = load_ints (words + kPair * kLine);
    for_tokens<T> ([&]<int t> () __attribute__ ((always_inline)){
        MILLRACE_DOT ("vpdpwssd", dots[t], vector, sums_of, t, 4 * kPair)});
    add_all_pairs<kPairs, T, kPair + 1> (sums_of, words, dots);
  }
}

#undef MILLRACE_DOT

template <int T>
[[gnu::always_inline]] inline void
clear_dots (__m512i (&dots)[T])
{
#pragma GCC unroll 12
  for (int t = 0; t < T; ++t)
    dots[t] = _mm512_setzero_si512 ();
}

/// sum ± dots · factor · scale of the token.
template <bool kSubtract>
[[gnu::always_inline]] inline __m512
add_float (__m512i dots, __m512 factor, const char *x_scale, __m512 sum)
{
  const __m512 scale = _mm512_mul_ps (factor, broadcast_float (x_scale)), dot = _mm512_cvtepi32_ps (dots);
  return kSubtract ? _mm512_fnmadd_ps (dot, scale, sum) : _mm512_fmadd_ps (dot, scale, sum);
}

/// Of sums in memory: once a super-block, so that they need no registers.
template <bool kSubtract, int T>
[[gnu::always_inline]] inline void
add_floats (const Tokens<T> &tokens, const __m512i (&dots)[T], __m512 factor, size_t x_scales, float *sums)
{
#pragma GCC unroll 12
  for (int t = 0; t < T; ++t) {
    float *sum = sums + t * kRows;
    _mm512_store_ps (sum,
                     add_float<kSubtract> (dots[t], factor, tokens.at (t, x_scales), _mm512_load_ps (sum)));
  }
}

/// For each of T tokens what the sums of a stretch's groups begin with: in memory, so that to begin takes no instruction but a
/// load.
template <int T>
class Starts
{
public:
  static constexpr int kMost = kStretch / kGroup;

  /// of (sum, mask) gives those of 16 groups, whose sums of activations, each of kBytes, begin at `sums` for the first.
  template <typename F, int kBytes = 4>
  Starts (const Tokens<T> &tokens, size_t sums, int groups, const F &of,
          std::integral_constant<int, kBytes> = {})
  {
    for (int t = 0; t < T; ++t) {
      const char *sum = tokens.at (t, sums);
      for (int i = 0; i < groups; i += 16, sum += 16 * kBytes) {
        const auto mask = static_cast<__mmask16> (groups - i >= 16 ? 0xffff : (1 << (groups - i)) - 1);
        _mm512_store_si512 (starts_[t] + i, of (sum, mask));
      }
    }
  }
  void set (int group, __m512i (&dots)[T]) const
  {
#pragma GCC unroll 12
    for (int t = 0; t < T; ++t)
      dots[t] = _mm512_set1_epi32 (starts_[t][group]);
  }

private:
  alignas (kLine) int32_t starts_[T][kMost];
};

/// totals += scale · products of kSteps vectors: what a sub-block adds, whose scale is before its vectors.
template <int kSteps, int T>
[[gnu::always_inline]] inline void
add_block (const Tokens<T> &tokens, const char *block, __m512i (&totals)[T])
{
  __m512i dots[T];
  clear_dots (dots);
  add_steps<kSteps> (tokens, block + kLine, dots);
  const __m512i scale = load_ints (block);
#pragma GCC unroll 12
  for (int t = 0; t < T; ++t)
    totals[t] = _mm512_add_epi32 (totals[t], _mm512_mullo_epi32 (dots[t], scale));
}

/// The same where the products, begun with `starts`, have 16 bits and the scale is a word beside a zero.
template <int T>
[[gnu::always_inline]] inline void
add_narrow_block (const Tokens<T> &tokens, const char *block, const Starts<T> &starts, int group,
                  __m512i (&totals)[T])
{
  __m512i dots[T];
  starts.set (group, dots);
  add_steps<8> (tokens, block + kLine, dots);
  const __m512i scale = load_ints (block);
#pragma GCC unroll 12
  for (int t = 0; t < T; ++t)
    totals[t] = _mm512_dpwssd_epi32 (totals[t], dots[t], scale);
}

} // namespace

} // namespace millrace::cpu
