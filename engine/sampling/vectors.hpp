// Vectors of 16 bytes, as every 64-bit machine has them, and exp (x) for x <= 0 on them.
//
// The compilers' vector extension (GCC and Clang) instead of hope in the auto-vectorizer, which gives up on
// the selections below. The C library's exp differs between versions and instruction sets; this one is plain
// arithmetic (contraction is off, see the root CMakeLists.txt) and has the same bits everywhere. Source: x =
// n ln 2 + r with |r| <= ln 2 / 2, and e^r by its Taylor polynomial of degree 11, whose remainder is below
// 7e-15 of the result.
#pragma once

#include <cstdint>
#include <cstring>

namespace millrace
{

using Floats = float __attribute__ ((vector_size (16)));
using FloatMask = int32_t __attribute__ ((vector_size (16)));
using Doubles = double __attribute__ ((vector_size (16)));
using FloatPair = float __attribute__ ((vector_size (8)));
using IntPair = int32_t __attribute__ ((vector_size (8)));

template <typename Vector, typename Element>
inline Vector
load_vector (const Element *from)
{
  Vector vector;
  std::memcpy (&vector, from, sizeof vector);
  return vector;
}

template <typename Vector, typename Element>
inline void
store_vector (Element *to, Vector vector)
{
  std::memcpy (to, &vector, sizeof vector);
}

inline bool
any (FloatMask mask)
{
  int64_t halves[2];
  std::memcpy (halves, &mask, sizeof halves);
  return (halves[0] | halves[1]) != 0;
}

inline Doubles
broadcast (double value)
{
  return Doubles{value, value};
}

/// 0 from e^-708 down, where results would become subnormal.
inline Doubles
exp_nonpositive (Doubles x)
{
  using Bits = uint64_t __attribute__ ((vector_size (16)));
  constexpr double kLog2E = 0x1.71547652b82fep+0;
  // ln 2 in two parts; the first has 20 trailing zeros, so that n times it is exact.
  constexpr double kLn2High = 0x1.62e42feep-1, kLn2Low = 0x1.a39ef35793c76p-33;
  // Adding 1.5 * 2^52 rounds to an integer and leaves it in the low bits of the result.
  constexpr double kRound = 0x1.8p52;

  const auto in_range = x >= -708.0;
  const Doubles clamped = in_range ? x : broadcast (-708.0);
  const Doubles shifted = clamped * kLog2E + kRound;
  const Doubles n = shifted - kRound;
  const Doubles r = (clamped - n * kLn2High) - n * kLn2Low;
  const Doubles s = r * r;

  // Even and odd powers apart: two chains that run side by side.
  const Doubles even =
      ((((s * (1.0 / 3628800) + 1.0 / 40320) * s + 1.0 / 720) * s + 1.0 / 24) * s + 0.5) * s + 1.0;
  const Doubles odd =
      ((((s * (1.0 / 39916800) + 1.0 / 362880) * s + 1.0 / 5040) * s + 1.0 / 120) * s + 1.0 / 6) * s + 1.0;
  const Doubles power = even + r * odd;

  // 2^n: the integer moves from the low bits into the exponent; the bits of kRound fall off at the top.
  const Bits scale = ((Bits)shifted << 52) + (uint64_t{1023} << 52);
  return in_range ? power * (Doubles)scale : broadcast (0);
}

inline double
exp_nonpositive (double x)
{
  return exp_nonpositive (Doubles{x, 0})[0];
}

} // namespace millrace
