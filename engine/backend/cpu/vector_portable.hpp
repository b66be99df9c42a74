// Small helpers of the portable kernels. Included by *_portable.cpp only; static, so that each file's compiler
// inlines and vectorizes its own.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

namespace millrace::cpu
{

static inline float
sum_lanes (const float *v)
{
  return ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]));
}

// e^x to 2 units in the last place. 2^n · e^r with |r| <= ln 2 / 2; a polynomial of degree 6 for e^r.
// Coefficients: Cephes expf (S. Moshier), Cody-Waite reduction. Below -87.3 the result is e^-87.3, above
// 88 it is e^88: no subnormals, no infinities.
static inline float
exp_poly (float x)
{
  x = std::min (std::max (x, -87.3f), 88.0f); // in this order NaN passes
  const float shifter = 12582912.0f;          // 1.5 · 2^23: adding it leaves an integer in the low bits
  const float shifted = x * 1.44269504088896341f + shifter;
  const float n = shifted - shifter;
  float r = x - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const float e = (p * (r * r) + r) + 1.0f;
  return e * std::bit_cast<float> ((std::bit_cast<uint32_t> (shifted) + 127) << 23);
}

// cap · tanh (x / cap), to cap · 2e-7. tanh u = 1 - 2 / (e^2u + 1)
static inline float
softcap (float x, float cap)
{
  return cap - 2.0f * cap / (exp_poly (2.0f * (x / cap)) + 1.0f);
}

} // namespace millrace::cpu
