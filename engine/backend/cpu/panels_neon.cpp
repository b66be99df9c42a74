// Products of panels for every aarch64 machine. See panels_arm.hpp.
//
// Products of bytes are 16 bits, of two columns of a row beside each other: 8 steps of 4 bits × 8 (15240 at most), 4 of
// 6 bits less 32 × 8 (16256) and 2 of 8 bits × 8 (32512) fit, before pairs are added to 32 bits. Registers for T = 2: 8
// accumulators of words, 4 of a super-block, 8 of weights, activations: of 32. Bound: one multiplication of 8 bytes a
// cycle.
#include "engine/backend/cpu/panel_products.hpp"

#if defined(__aarch64__)

#include "engine/backend/cpu/panels_arm.hpp"

namespace millrace::cpu
{

namespace
{

struct Neon {
  using Single = Neon;
  /// Of a token, two rows in each: row 2 i in the lower four words, 2 i + 1 in the upper.
  struct Words {
    int16x8_t rows[4];
  };
  template <int T>
  struct Sums {
    Words of[T];
  };
  template <int T>
  struct WideSums {
    Ints of[T];
  };
  static constexpr int kTileTokens = 2;

  template <int T>
  static void add_steps (const Tile<T> &tile, const Bytes (&weights)[4], size_t at, Sums<T> &sums)
  {
    add_lanes<Neon> (tile, weights, at, sums);
  }

  template <int kLane>
  static void add (Words &sums, Bytes weights, int8x16_t x)
  {
    const int8x16_t words = vreinterpretq_s8_s32 (vdupq_laneq_s32 (vreinterpretq_s32_s8 (x), kLane));
    sums.rows[0] = vmlal_s8 (sums.rows[0], vget_low_s8 (weights.low), vget_low_s8 (words));
    sums.rows[1] = vmlal_high_s8 (sums.rows[1], weights.low, words);
    sums.rows[2] = vmlal_s8 (sums.rows[2], vget_low_s8 (weights.high), vget_low_s8 (words));
    sums.rows[3] = vmlal_high_s8 (sums.rows[3], weights.high, words);
  }

  template <int T>
  static Ints total (const Sums<T> &sums, int token)
  {
    return total_words (sums.of[token]);
  }
  template <int T>
  static Ints total_wide (const WideSums<T> &sums, int token)
  {
    return sums.of[token];
  }

  static Ints total_words (const Words &sums)
  {
    return {vpaddq_s32 (vpaddlq_s16 (sums.rows[0]), vpaddlq_s16 (sums.rows[1])),
            vpaddq_s32 (vpaddlq_s16 (sums.rows[2]), vpaddlq_s16 (sums.rows[3]))};
  }

  /// Four steps of 8 bits × 8.
  template <int T>
  static void add_wide (const Tile<T> &tile, const Bytes (&weights)[4], size_t at, WideSums<T> &sums)
  {
#pragma GCC unroll 2
    for (int t = 0; t < T; ++t) {
      const int8x16_t x = vld1q_s8 (tile.x[t] + at);
      Words first = {}, second = {};
      add<0> (first, weights[0], x);
      add<1> (first, weights[1], x);
      add<2> (second, weights[2], x);
      add<3> (second, weights[3], x);
      const Ints a = total_words (first), b = total_words (second);
      Ints &dots = sums.of[t];
      dots = {vaddq_s32 (dots.low, vaddq_s32 (a.low, b.low)),
              vaddq_s32 (dots.high, vaddq_s32 (a.high, b.high))};
    }
  }
};

} // namespace

const PanelProducts kNeonPanels = {{nullptr, nullptr, nullptr, run_panels<Neon, Q8>, run_panels<Neon, Q4>,
                                    run_panels<Neon, Q4K>, run_panels<Neon, Q6K>}};

} // namespace millrace::cpu

#else

namespace millrace::cpu
{

const PanelProducts kNeonPanels = {};

} // namespace millrace::cpu

#endif
