// Products of panels for aarch64 with dot-product instructions (ARMv8.2 +dotprod). See panels_arm.hpp.
//
// An instruction adds four products to each of four rows, so that a step of a panel is two. Registers for T = 4: 8
// accumulators of a sub-block and 8 of a super-block, 8 of weights, one of activations: of 32. Bound: two instructions a
// cycle (32 multiply-adds) on cores that have two pipes.
#include "engine/backend/cpu/panel_products.hpp"

#if defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)

#include "engine/backend/cpu/panels_arm.hpp"

namespace millrace::cpu
{

namespace
{

struct Dotprod {
  using Sums = Ints;
  static constexpr int kTileTokens = 4;

  template <int kLane>
  static void add (Ints &sums, Bytes weights, int8x16_t x)
  {
    sums.low = vdotq_laneq_s32 (sums.low, weights.low, x, kLane);
    sums.high = vdotq_laneq_s32 (sums.high, weights.high, x, kLane);
  }
  static Ints total (const Ints &sums) { return sums; }

  /// Four steps of 8 bits × 8.
  template <int T>
  static void add_wide (const Tile<T> &tile, const Bytes (&weights)[4], size_t at, Ints (&dots)[T])
  {
    add_steps<Dotprod> (tile, weights, at, dots);
  }
};

} // namespace

const PanelProducts kDotprodPanels = {{nullptr, nullptr, nullptr, run_panels<Dotprod, Q8>,
                                       run_panels<Dotprod, Q4>, run_panels<Dotprod, Q4K>,
                                       run_panels<Dotprod, Q6K>}};

} // namespace millrace::cpu

#else

namespace millrace::cpu
{

const PanelProducts kDotprodPanels = {};

} // namespace millrace::cpu

#endif
