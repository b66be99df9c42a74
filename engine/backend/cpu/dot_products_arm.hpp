// Products of bytes by the dot-product instructions (ARMv8.2 +dotprod). Included by panels_dotprod.cpp and panels_i8mm.cpp
// only; everything is internal to them.
//
// An instruction adds four products to each of four rows, so that a step of a panel is two. Registers for T = 4: 8
// accumulators of a sub-block and 8 of a super-block, 8 of weights, one of activations: of 32. Bound: two instructions a
// cycle (32 multiply-adds) on cores that have two pipes.
#pragma once

#include "engine/backend/cpu/panels_arm.hpp"

namespace millrace::cpu
{

namespace
{

struct Dotprod {
  using Single = Dotprod;
  template <int T>
  struct Sums {
    Ints of[T];
  };
  template <int T>
  using WideSums = Sums<T>;
  static constexpr int kTileTokens = 4;

  template <int kLane>
  static void add (Ints &sums, Bytes weights, int8x16_t x)
  {
    sums.low = vdotq_laneq_s32 (sums.low, weights.low, x, kLane);
    sums.high = vdotq_laneq_s32 (sums.high, weights.high, x, kLane);
  }

  template <int T>
  static void add_steps (const Tile<T> &tile, const Bytes (&weights)[4], size_t at, Sums<T> &sums)
  {
    add_lanes<Dotprod> (tile, weights, at, sums);
  }
  template <int T>
  static Ints total (const Sums<T> &sums, int token)
  {
    return sums.of[token];
  }

  /// Four steps of 8 bits × 8.
  template <int T>
  static void add_wide (const Tile<T> &tile, const Bytes (&weights)[4], size_t at, WideSums<T> &sums)
  {
    add_steps (tile, weights, at, sums);
  }
  template <int T>
  static Ints total_wide (const WideSums<T> &sums, int token)
  {
    return total (sums, token);
  }
};

} // namespace

} // namespace millrace::cpu
