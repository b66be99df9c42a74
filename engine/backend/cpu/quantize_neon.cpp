// Activations of products of panels for aarch64: the bits of the portable kernels. Contracts in kernels.hpp.
//
// Each group is read twice from the first-level cache: for its largest magnitude, and for its integers.
#if defined(__aarch64__)

#include "engine/backend/cpu/kernels_neon.hpp"

#include <arm_neon.h>

namespace millrace::cpu::neon
{

namespace
{

/// Elements [begin, begin + 4) of x; zeros from `count` on.
float32x4_t
load_floats (const float *x, int begin, int count)
{
  if (begin + 4 <= count)
    return vld1q_f32 (x + begin);
  float values[4] = {};
  for (int i = 0; begin + i < count; ++i)
    values[i] = x[begin + i];
  return vld1q_f32 (values);
}

struct Scaling {
  float inverse, scale;
};

/// Of elements [begin, begin + group). NaN when one is not finite.
Scaling
scaling_of (const float *x, int begin, int group, int count)
{
  const float32x4_t zero = vdupq_n_f32 (0);
  float32x4_t largest = zero, poison = zero;
  for (int i = begin; i < begin + group; i += 4) {
    const float32x4_t v = load_floats (x, i, count);
    largest = vmaxnmq_f32 (largest, vabsq_f32 (v)); // numbers before NaN
    poison = vfmaq_f32 (poison, v, zero);
  }
  const float amax = vmaxnmvq_f32 (largest);
  // Smaller than that, the inverse would overflow; such a group counts as zero.
  const bool none = !(amax > 1e-30f);
  return {none ? 0.0f : 127.0f / amax, (none ? 0.0f : amax / 127.0f) + vaddvq_f32 (poison)};
}

/// 8 elements as words; -127 … 127.
int16x8_t
words_of (const float *x, int begin, int count, float inverse)
{
  const int32x4_t low = vcvtnq_s32_f32 (vmulq_n_f32 (load_floats (x, begin, count), inverse));
  const int32x4_t high = vcvtnq_s32_f32 (vmulq_n_f32 (load_floats (x, begin + 4, count), inverse));
  return vcombine_s16 (vqmovn_s32 (low), vqmovn_s32 (high));
}

/// Stores 16 elements as bytes; returns their sum.
int
store_16 (const float *x, int begin, int count, float inverse, int8_t *out)
{
  const int16x8_t low = words_of (x, begin, count, inverse), high = words_of (x, begin + 8, count, inverse);
  vst1q_s8 (out, vmaxq_s8 (vcombine_s8 (vqmovn_s16 (low), vqmovn_s16 (high)), vdupq_n_s8 (-127)));
  return vaddlvq_s16 (vaddq_s16 (low, high));
}

} // namespace

void
quantize_byte32 (const float *x, int count, int columns, void *out)
{
  auto *values = static_cast<int8_t *> (out);
  auto *scales = reinterpret_cast<float *> (values + columns);
  auto *sums = reinterpret_cast<int32_t *> (scales + columns / kGroup);
  for (int begin = 0; begin < columns; begin += kGroup) {
    const Scaling scaling = scaling_of (x, begin, kGroup, count);
    scales[begin / kGroup] = scaling.scale;
    const int first = store_16 (x, begin, count, scaling.inverse, values + begin);
    sums[begin / kGroup] =
        8 * (first + store_16 (x, begin + 16, count, scaling.inverse, values + begin + 16));
  }
}

void
quantize_byte256 (const float *x, int count, int columns, void *out)
{
  auto *values = static_cast<int8_t *> (out);
  auto *scales = reinterpret_cast<float *> (values + columns);
  auto *sums16 = reinterpret_cast<int16_t *> (scales + columns / kSuperBlock);
  auto *sums32 = sums16 + columns / 16;
  for (int begin = 0; begin < columns; begin += kSuperBlock) {
    const Scaling scaling = scaling_of (x, begin, kSuperBlock, count);
    scales[begin / kSuperBlock] = scaling.scale;
    for (int i = begin; i < begin + kSuperBlock; i += kGroup) {
      const int first = store_16 (x, i, count, scaling.inverse, values + i);
      const int second = store_16 (x, i + 16, count, scaling.inverse, values + i + 16);
      sums16[i / 16] = static_cast<int16_t> (first);
      sums16[i / 16 + 1] = static_cast<int16_t> (second);
      sums32[i / kGroup] = static_cast<int16_t> (first + second);
    }
  }
}

} // namespace millrace::cpu::neon

#endif
