// Row-wise kernels for aarch64: norm, activation, expansion of F16.
//
// All of them are bound by loads and stores of rows that are in the first two caches; contracts in kernels.hpp.
#if defined(__aarch64__)

#include "engine/backend/cpu/kernels_neon.hpp"
#include "engine/backend/cpu/vector_neon.hpp"

#include <cmath>

namespace millrace::cpu::neon
{

namespace
{

float32x4_t
silu_of (float32x4_t gate, float32x4_t up)
{
  const float32x4_t e = exp_poly (vnegq_f32 (gate));
  return vmulq_f32 (vdivq_f32 (gate, vaddq_f32 (vdupq_n_f32 (1.0f), e)), up);
}

} // namespace

void
expand_f16 (const void *panel, int row, int columns, float *out)
{
  const uint16_t *run = static_cast<const uint16_t *> (panel) + row * kRun;
  for (int i = 0; i < columns; i += kRun, run += kPanelRows * kRun) {
    for (int j = 0; j < kRun; j += 4)
      vst1q_f32 (out + i + j, vcvt_f32_f16 (vreinterpret_f16_u16 (vld1_u16 (run + j))));
  }
}

void
rms_norm (const float *x, const float *weight, int count, float epsilon, float *out)
{
  Lanes lanes = {};
  const auto add_squares = [&] (const float *values) {
    const Lanes v = load_lanes (values);
    lanes = {vfmaq_f32 (lanes.low, v.low, v.low), vfmaq_f32 (lanes.high, v.high, v.high)};
  };
  int i = 0;
  for (; i + kLanes <= count; i += kLanes)
    add_squares (x + i);
  if (i < count) {
    float rest[kLanes] = {};
    for (int lane = 0; i + lane < count; ++lane)
      rest[lane] = x[i + lane];
    add_squares (rest);
  }
  const float mean = sum_lanes (lanes) / static_cast<float> (count);
  const float scale = 1.0f / std::sqrt (mean + epsilon);

  for (i = 0; i + 4 <= count; i += 4)
    vst1q_f32 (out + i, vmulq_f32 (vmulq_n_f32 (vld1q_f32 (x + i), scale), vld1q_f32 (weight + i)));
  for (; i < count; ++i)
    out[i] = x[i] * scale * weight[i];
}

void
silu (const float *gate, const float *up, int count, float *out)
{
  int i = 0;
  for (; i + 4 <= count; i += 4)
    vst1q_f32 (out + i, silu_of (vld1q_f32 (gate + i), vld1q_f32 (up + i)));
  for (; i < count; ++i)
    out[i] = vgetq_lane_f32 (silu_of (vdupq_n_f32 (gate[i]), vdupq_n_f32 (up[i])), 0);
}

} // namespace millrace::cpu::neon

#endif
