// Small helpers of the NEON kernels. Included by *_neon.cpp only.
#pragma once

#include <arm_neon.h>

namespace millrace::cpu
{

/// kLanes lanes.
struct Lanes {
  float32x4_t low, high;
};

static inline Lanes
load_lanes (const float *x)
{
  return {vld1q_f32 (x), vld1q_f32 (x + 4)};
}

/// ((0+1)+(2+3)) + ((4+5)+(6+7))
static inline float
sum_lanes (Lanes a)
{
  const float32x4_t pairs = vpaddq_f32 (a.low, a.high);
  const float32x4_t fours = vpaddq_f32 (pairs, pairs);
  return vgetq_lane_f32 (fours, 0) + vgetq_lane_f32 (fours, 1);
}

/// e^x, see exp_poly in vector_portable.hpp: the same polynomial with fused multiply-adds.
static inline float32x4_t
exp_poly (float32x4_t x)
{
  x = vmaxq_f32 (x, vdupq_n_f32 (-87.3f)); // NaN passes
  x = vminq_f32 (x, vdupq_n_f32 (88.0f));
  const float32x4_t shifter = vdupq_n_f32 (12582912.0f);
  const float32x4_t shifted = vfmaq_n_f32 (shifter, x, 1.44269504088896341f);
  const float32x4_t n = vsubq_f32 (shifted, shifter);
  float32x4_t r = vfmsq_n_f32 (x, n, 0.693359375f);
  r = vfmsq_n_f32 (r, n, -2.12194440e-4f);
  float32x4_t p = vdupq_n_f32 (1.9875691500e-4f);
  p = vfmaq_f32 (vdupq_n_f32 (1.3981999507e-3f), p, r);
  p = vfmaq_f32 (vdupq_n_f32 (8.3334519073e-3f), p, r);
  p = vfmaq_f32 (vdupq_n_f32 (4.1665795894e-2f), p, r);
  p = vfmaq_f32 (vdupq_n_f32 (1.6666665459e-1f), p, r);
  p = vfmaq_f32 (vdupq_n_f32 (5.0000001201e-1f), p, r);
  const float32x4_t e = vaddq_f32 (vfmaq_f32 (r, p, vmulq_f32 (r, r)), vdupq_n_f32 (1.0f));
  const int32x4_t power = vshlq_n_s32 (vaddq_s32 (vreinterpretq_s32_f32 (shifted), vdupq_n_s32 (127)), 23);
  return vmulq_f32 (e, vreinterpretq_f32_s32 (power));
}

} // namespace millrace::cpu
