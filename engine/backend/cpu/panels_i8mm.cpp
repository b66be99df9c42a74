// Products of panels for aarch64 with matrix products of bytes (ARMv8.6 +i8mm). See panels_arm.hpp.
//
// An instruction multiplies 2 rows × 8 columns by 8 columns × 2 tokens, twice the work of a dot product. Two steps of a panel
// are zipped into rows of 8 columns, once for all tokens of a tile. Registers for T = 8: 16 accumulators, 4 of weights, one of
// activations: of 32. An odd token's other half is itself again. Of one token, half of each product would be lost:
// dot products are for it.
#include "engine/backend/cpu/panel_products.hpp"

#if defined(__aarch64__) && defined(__ARM_FEATURE_MATMUL_INT8) && defined(__ARM_FEATURE_DOTPROD)

#include "engine/backend/cpu/dot_products_arm.hpp"

namespace millrace::cpu
{

namespace
{

struct MatrixProduct {
  using Single = Dotprod;
  /// Of each pair of tokens (a, b) and of rows (r, r + 1): r a, r b, (r + 1) a, (r + 1) b.
  template <int T>
  struct Sums {
    int32x4_t of[(T + 1) / 2][kPanelRows / 2];
  };
  template <int T>
  using WideSums = Sums<T>;
  static constexpr int kTileTokens = 8;

  template <int T>
  static void add_steps (const Tile<T> &tile, const Bytes (&weights)[4], size_t at, Sums<T> &sums)
  {
#pragma GCC unroll 2
    for (size_t half = 0; half < 2; ++half) {
      const Bytes &a = weights[2 * half], &b = weights[2 * half + 1];
      const int8x16_t rows[kPanelRows / 2] = {zip<0> (a.low, b.low), zip<1> (a.low, b.low),
                                              zip<0> (a.high, b.high), zip<1> (a.high, b.high)};
#pragma GCC unroll 4
      for (int pair = 0; pair < (T + 1) / 2; ++pair) {
        const int first = 2 * pair, second = 2 * pair + 1 < T ? 2 * pair + 1 : first;
        const int8x16_t x =
            vcombine_s8 (vld1_s8 (tile.x[first] + at + 8 * half), vld1_s8 (tile.x[second] + at + 8 * half));
#pragma GCC unroll 4
        for (int i = 0; i < kPanelRows / 2; ++i)
          sums.of[pair][i] = vmmlaq_s32 (sums.of[pair][i], rows[i], x);
      }
    }
  }

  template <int T>
  static Ints total (const Sums<T> &sums, int token)
  {
    return of_token (sums.of[token / 2], token % 2 == 1);
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

private:
  static Ints of_token (const int32x4_t (&rows)[kPanelRows / 2], bool second)
  {
    if (second)
      return {vuzp2q_s32 (rows[0], rows[1]), vuzp2q_s32 (rows[2], rows[3])};
    return {vuzp1q_s32 (rows[0], rows[1]), vuzp1q_s32 (rows[2], rows[3])};
  }

  /// Of four rows × four columns each: rows 0 and 1 (kHalf 0), or 2 and 3, × eight columns.
  template <int kHalf>
  static int8x16_t zip (int8x16_t a, int8x16_t b)
  {
    const int32x4_t first = vreinterpretq_s32_s8 (a), second = vreinterpretq_s32_s8 (b);
    return vreinterpretq_s8_s32 (kHalf == 0 ? vzip1q_s32 (first, second) : vzip2q_s32 (first, second));
  }
};

} // namespace

const PanelProducts kI8mmPanels = {{nullptr, nullptr, nullptr, run_panels<MatrixProduct, Q8>,
                                    run_panels<MatrixProduct, Q4>, run_panels<MatrixProduct, Q4K>,
                                    run_panels<MatrixProduct, Q6K>}};

} // namespace millrace::cpu

#else

namespace millrace::cpu
{

const PanelProducts kI8mmPanels = {};

} // namespace millrace::cpu

#endif
