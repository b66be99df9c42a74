// Products of float matrices for aarch64.
//
// Register plan: a tile of R rows of a panel × T tokens has 2 R·T accumulators of 4 lanes (8×1, 4×2, 3×3 or 2×4: 16 or 18 of
// the 32 registers), R half vectors of weights and one of activations. With four tokens 8 multiply-adds need 6 loads. The
// order of a dot product is the same in every tile (kernels.hpp).
#if defined(__aarch64__)

#include "engine/backend/cpu/kernels_neon.hpp"
#include "engine/backend/cpu/vector_neon.hpp"

namespace millrace::cpu::neon
{

namespace
{

// A weight format: the first (half 0) or the last 8 floats of a run, in order.
struct F32 {
  static constexpr int kBytes = 4;
  static Lanes load (const char *run, int half)
  {
    return load_lanes (reinterpret_cast<const float *> (run) + 8 * half);
  }
};

struct F16 {
  static constexpr int kBytes = 2;
  static Lanes load (const char *run, int half)
  {
    const float16x8_t halves =
        vreinterpretq_f16_u16 (vld1q_u16 (reinterpret_cast<const uint16_t *> (run) + 8 * half));
    return {vcvt_f32_f16 (vget_low_f16 (halves)), vcvt_high_f32_f16 (halves)};
  }
};

// The first 8 are the lower halves of words and the others the upper.
struct BF16 {
  static constexpr int kBytes = 2;
  static Lanes load (const char *run, int half)
  {
    const auto *words = reinterpret_cast<const uint32_t *> (run);
    const uint32x4_t low = vld1q_u32 (words), high = vld1q_u32 (words + 4);
    if (half == 0)
      return {vreinterpretq_f32_u32 (vshlq_n_u32 (low, 16)), vreinterpretq_f32_u32 (vshlq_n_u32 (high, 16))};
    const uint32x4_t mask = vdupq_n_u32 (0xffff0000u);
    return {vreinterpretq_f32_u32 (vandq_u32 (low, mask)), vreinterpretq_f32_u32 (vandq_u32 (high, mask))};
  }
};

// Rows [row, row + R) of one panel.
template <typename W, int R, int T>
void
tile (const LinearArgs &args, int row, int token)
{
  constexpr size_t kRowBytes = kRun * W::kBytes;
  const char *w = static_cast<const char *> (args.weights) + row / kPanelRows * args.panel_bytes +
                  row % kPanelRows * kRowBytes;
  const char *x = static_cast<const char *> (args.x) + token * args.x_row_bytes;
  Lanes sums[R * T] = {};
  for (int k = 0; k < args.columns; k += kRun, w += kPanelRows * kRowBytes) {
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      Lanes weights[R];
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r)
        weights[r] = W::load (w + r * kRowBytes, half);
#pragma GCC unroll 4
      for (int t = 0; t < T; ++t) {
        const Lanes values =
            load_lanes (reinterpret_cast<const float *> (x + t * args.x_row_bytes) + k + 8 * half);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) {
          Lanes &sum = sums[r * T + t];
          sum = {vfmaq_f32 (sum.low, weights[r].low, values.low),
                 vfmaq_f32 (sum.high, weights[r].high, values.high)};
        }
      }
    }
  }
  const int last = R < args.rows - row ? R : args.rows - row; // a panel may have rows of padding
  for (int t = 0; t < T; ++t) {
    float *y = args.y[token + t] + args.y_offset + row;
    for (int r = 0; r < last; ++r) {
      float value = sum_lanes (sums[r * T + t]);
      if (args.bias)
        value += args.bias[row + r];
      y[r] = args.accumulate ? y[r] + value : value;
    }
  }
}

// All rows of the panel that begins at row `panel`.
template <typename W, int R, int T>
void
panel_rows (const LinearArgs &args, int panel, int token)
{
  constexpr int kLast = kPanelRows % R; // rows that are no whole tile
  int row = panel;
  for (; row + R <= panel + kPanelRows; row += R)
    tile<W, R, T> (args, row, token);
  if constexpr (kLast > 0)
    tile<W, kLast, T> (args, row, token);
}

template <typename W>
void
linear (const LinearArgs &args)
{
  for (int panel = 0; panel < args.rows; panel += kPanelRows) {
    int token = 0;
    for (; token + 4 <= args.tokens; token += 4)
      panel_rows<W, 2, 4> (args, panel, token);
    switch (args.tokens - token) {
    case 3:
      panel_rows<W, 3, 3> (args, panel, token);
      break;
    case 2:
      panel_rows<W, 4, 2> (args, panel, token);
      break;
    case 1:
      panel_rows<W, 8, 1> (args, panel, token);
      break;
    default:
      break;
    }
  }
}

} // namespace

void
linear_f32 (const LinearArgs &args)
{
  linear<F32> (args);
}

void
linear_f16 (const LinearArgs &args)
{
  linear<F16> (args);
}

void
linear_bf16 (const LinearArgs &args)
{
  linear<BF16> (args);
}

} // namespace millrace::cpu::neon

#endif
