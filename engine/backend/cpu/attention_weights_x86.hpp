// Scores that become weights, and floats that become the digits that bytes are multiplied with, for AVX2 and AVX-512.
// Included through attention_x86.hpp only; everything is internal to its file.
#pragma once

#include "engine/backend/cpu/attention_tiles_x86.hpp"
#include "engine/backend/cpu/vector_avx2.hpp"

namespace millrace::cpu
{

namespace
{

template <typename Lanes>
void
multiply (float *row, int count, float factor)
{
  for (int i = 0; i < count; i += 16)
    Lanes::store (row + i, Lanes::multiply (Lanes::load (row + i), Lanes::set (factor)));
}

// Scores of positions [begin, end) of a chunk, and of their neighbours in vectors. tanh u = 1 - 2 / (e^2u + 1)
template <typename Lanes>
void
cap_scores (float *scores, int begin, int end, float softcap)
{
  const auto cap = Lanes::set (softcap), twice = Lanes::set (2.0f), one = Lanes::set (1.0f);
  for (int i = begin / 16 * 16; i < end; i += 16) {
    const auto u = Lanes::divide (Lanes::load (scores + i), cap);
    const auto e = Lanes::exponential (Lanes::multiply (twice, u));
    Lanes::store (scores + i,
                  Lanes::subtract (cap, Lanes::divide (Lanes::multiply (twice, cap), Lanes::add (e, one))));
  }
}

// Scores of positions [begin, end) of a chunk → weights: e^(score - largest so far), 0 in the rest of their vectors. What the
// state holds is scaled to the new largest score. Sums are of positions modulo 8.
template <typename Lanes>
void
soften (float *scores, int begin, int end, float *state, int width)
{
  const int first = begin / 16 * 16;
  const auto is_whole = [&] (int i) { return i >= begin && i + 16 <= end; };
  const auto seen = [&] (int i) { return Lanes::between (begin - i, end - i); };
  float &largest = state[width], &sum = state[width + 1];

  // In this order of operands NaN is left out.
  auto tops = Lanes::set (largest);
  for (int i = first; i < end; i += 16) {
    const auto s = Lanes::load (scores + i);
    tops = Lanes::larger (is_whole (i) ? s : Lanes::select (seen (i), s, tops), tops);
  }
  const float now = Lanes::largest (tops);
  tops = Lanes::set (now);

  __m256 lanes = _mm256_setzero_ps ();
  for (int i = first; i < end; i += 16) {
    auto e = Lanes::exponential (Lanes::subtract (Lanes::load (scores + i), tops));
    if (!is_whole (i))
      e = Lanes::select (seen (i), e, Lanes::zero ());
    Lanes::store (scores + i, e);
    lanes = Lanes::add_halves (lanes, e);
  }
  if (now != largest) {
    const float factor =
        _mm256_cvtss_f32 (exp_poly (_mm256_sub_ps (_mm256_set1_ps (largest), _mm256_set1_ps (now))));
    multiply<Lanes> (state, width, factor);
    sum *= factor;
    largest = now;
  }
  sum += sum_lanes (lanes);
}

/// What integers stand for: each is multiplied by `step`, and `bias` is what bytes add that are 128 too large.
struct Digits {
  float step;
  int bias;
};

constexpr float kTiny = 1e-30f; ///< what is not larger has no digits

// `count` floats of a query → its digits, steps step_bytes apart, for a head of as many columns.
template <typename Lanes>
Digits
query_digits (const float *x, int count, char *out, size_t step_bytes)
{
  const auto load = [&] (int i) {
    float some[16] = {};
    if (i + 16 > count)
      __builtin_memcpy (some, x + i, static_cast<size_t> (count - i) * sizeof (float));
    return Lanes::load (i + 16 > count ? some : x + i);
  };
  auto tops = Lanes::zero (), poison = Lanes::zero ();
  for (int i = 0; i < count; i += 16) {
    const auto v = load (i);
    tops = Lanes::larger (Lanes::larger (v, Lanes::subtract (Lanes::zero (), v)), tops);
    poison = Lanes::multiply_add (v, Lanes::zero (), poison); // 0, or NaN when one is not finite
  }
  const auto limit = static_cast<float> (least (kMostDigit, 0x7fffffff / 128 / count));
  const float top = Lanes::largest (tops), bad = sum_lanes (Lanes::add_halves (_mm256_setzero_ps (), poison));
  const bool is_zero = bad != bad || top <= kTiny;
  const auto inverse = Lanes::set (is_zero ? 0.0f : limit / top);
  auto sums = Lanes::set_ints (0);
  for (int i = 0; i < count; i += 16) {
    const auto digits = Lanes::rounded (is_zero ? Lanes::zero () : Lanes::multiply (load (i), inverse));
    sums = Lanes::add_ints (sums, digits);
    char steps[4 * Lanes::kStepBytes];
    Lanes::store_digits (steps, digits);
    for (int j = 0; j < 16 && i + j < count; j += kDotColumns, out += step_bytes)
      __builtin_memcpy (out, steps + j / kDotColumns * Lanes::kStepBytes, Lanes::kStepBytes);
  }
  return {(is_zero ? 0.0f : top / limit) + bad, 128 * Lanes::sum_ints (sums)};
}

// Weights of positions [begin, end) of a chunk → their digits times the values' scales, in place; 0 for the other positions
// of blocks [first, last). scales (position) gives those of a block.
template <typename Lanes, typename Scales>
Digits
weight_digits (float *weights, int begin, int end, int first, int last, const Scales &scales)
{
  auto tops = Lanes::zero (), poison = Lanes::zero ();
  const int whole = begin / 16 * 16;
  for (int i = whole; i < end; i += 16) {
    auto w = Lanes::multiply (Lanes::load (weights + i), Lanes::load (scales (i)));
    if (i < begin || i + 16 > end)
      w = Lanes::select (Lanes::between (begin - i, end - i), w, Lanes::zero ());
    Lanes::store (weights + i, w);
    tops = Lanes::larger (w, tops);
    poison = Lanes::multiply_add (w, Lanes::zero (), poison);
  }
  const float top = Lanes::largest (tops), bad = sum_lanes (Lanes::add_halves (_mm256_setzero_ps (), poison));
  const bool is_zero = bad != bad || top <= kTiny;
  const auto inverse = Lanes::set (is_zero ? 0.0f : kMostDigit / top);
  auto sums = Lanes::set_ints (0);
  auto *out = reinterpret_cast<char *> (weights);
  // A block's digits end where the weights of the next one have not been overwritten.
  for (int i = first; i < last; i += 16) {
    const bool is_seen = !is_zero && i >= whole && i < end;
    const auto digits =
        Lanes::rounded (is_seen ? Lanes::multiply (Lanes::load (weights + i), inverse) : Lanes::zero ());
    sums = Lanes::add_ints (sums, digits);
    Lanes::store_digits (out + i / kDotColumns * Lanes::kStepBytes, digits);
  }
  return {(is_zero ? 0.0f : top / kMostDigit) + bad, 128 * Lanes::sum_ints (sums)};
}

} // namespace

} // namespace millrace::cpu
