// Convolution and recurrence over positions, for any instruction set: vectors as the compiler has them.
//
// Included by recurrence_*.cpp only; static, so that each file's compiler makes its own. Products and sums are rounded one
// by one, so all sets give the same bits. A head's state, keys · kStateLanes floats, stays in the first-level cache while
// the tokens of a slice go by: expected bound, with 128 keys, one load for each multiply-add of the first pass over it and a
// load and a store for three of the second. Contracts in kernels.hpp.
#pragma once

#include "engine/backend/cpu/kernels.hpp"

#include <cstring>

namespace millrace::cpu
{

constexpr int kVectors = kStateLanes / kLanes;
/// Floats at any address, where it is named: `auto` drops the alignment.
typedef float Vector
    __attribute__ ((vector_size (kLanes * sizeof (float)), may_alias, aligned (alignof (float))));

static inline void
load_lanes (const float *x, int count, float *lanes)
{
  if (count == kStateLanes) {
    std::memcpy (lanes, x, kStateLanes * sizeof (float));
    return;
  }
  for (int i = 0; i < kStateLanes; ++i)
    lanes[i] = i < count ? x[i] : 0.0f;
}

static inline void
convolve_lanes (const ConvolutionArgs &args)
{
  const int past = args.taps - 1;
  float weight[kMostTaps][kStateLanes] = {}, inputs[kMostTaps][kStateLanes], bias[kStateLanes] = {};
  for (int channel = 0; channel < args.channels; ++channel) {
    for (int tap = 0; tap < args.taps; ++tap)
      weight[tap][channel] = args.weight[channel * args.taps + tap];
    bias[channel] = args.bias ? args.bias[channel] : 0.0f;
  }
  // A ring: the input of `token` is where that of token - taps was.
  for (int i = 0; i < past; ++i)
    load_lanes (args.inputs + static_cast<size_t> (i) * args.input_stride, args.channels, inputs[i]);
  int oldest = 0;
  for (int token = 0; token < args.tokens; ++token) {
    float *x = args.x + static_cast<size_t> (token) * args.x_stride;
    load_lanes (x, args.channels, inputs[(oldest + past) % args.taps]);
    float sum[kStateLanes];
    std::memcpy (sum, bias, sizeof sum);
    for (int tap = 0, at = oldest; tap < args.taps; ++tap, at = at + 1 == args.taps ? 0 : at + 1) {
      for (int i = 0; i < kStateLanes; ++i)
        sum[i] += weight[tap][i] * inputs[at][i];
    }
    oldest = oldest + 1 == args.taps ? 0 : oldest + 1;
    std::memcpy (x, sum, static_cast<size_t> (args.channels) * sizeof (float));
  }
  for (int i = 0; i < past; ++i)
    std::memcpy (args.inputs + static_cast<size_t> (i) * args.input_stride, inputs[(oldest + i) % args.taps],
                 static_cast<size_t> (args.channels) * sizeof (float));
}

template <bool kDelta>
static inline void
recur_lanes (const RecurrenceArgs &args)
{
  for (size_t token = 0; token < static_cast<size_t> (args.tokens); ++token) {
    const float *q = args.q + token * args.q_stride, *k = args.k + token * args.k_stride;
    const float decay = args.decay[token * args.decay_stride],
                factor = args.factor[token * args.factor_stride];
    alignas (64) float v[kStateLanes];
    load_lanes (args.v + token * args.v_stride, args.values, v);

    Vector change[kVectors], out[kVectors];
    for (int i = 0; i < kVectors; ++i) {
      change[i] = *reinterpret_cast<const Vector *> (v + i * kLanes);
      out[i] = change[i] * args.skip;
    }
    if constexpr (kDelta) {
      Vector known[kVectors] = {};
      for (int key = 0; key < args.keys; ++key) {
        const Vector *row = reinterpret_cast<const Vector *> (args.state + key * kStateLanes);
#pragma GCC unroll 4
        for (int i = 0; i < kVectors; ++i)
          known[i] += row[i] * k[key];
      }
      for (int i = 0; i < kVectors; ++i)
        change[i] -= known[i] * decay;
    }
    for (int i = 0; i < kVectors; ++i)
      change[i] *= factor;
    for (int key = 0; key < args.keys; ++key) {
      Vector *row = reinterpret_cast<Vector *> (args.state + key * kStateLanes);
#pragma GCC unroll 4
      for (int i = 0; i < kVectors; ++i) {
        const Vector value = row[i] * decay + change[i] * k[key];
        row[i] = value;
        out[i] += value * q[key];
      }
    }
    std::memcpy (v, out, sizeof v);
    std::memcpy (args.out + token * args.out_stride, v, static_cast<size_t> (args.values) * sizeof (float));
  }
}

} // namespace millrace::cpu
