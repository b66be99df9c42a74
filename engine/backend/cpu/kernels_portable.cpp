// The reference kernels: plain C++, obviously right, and written so that any compiler vectorizes the lanes.
//
// Used where no other set fits, and by tests as what the others are compared with. The order of every sum is
// the one that kernels.hpp promises. Expected bound: one 128-bit multiply and add per cycle, about a fifth
// of the AVX2 kernels.
#include "engine/backend/cpu/kernels_portable.hpp"

#include "engine/backend/cpu/vector_portable.hpp"
#if defined(__x86_64__) || defined(__i386__)
#include "engine/backend/cpu/kernels_avx2.hpp"
#endif
#include "engine/tensor/dtype.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace millrace::cpu
{

namespace
{

float
dot (const float *a, const float *b, int count)
{
  float lanes[kLanes] = {};
  for (int i = 0; i < count; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane)
      lanes[lane] += a[i + lane] * b[i + lane];
  }
  return sum_lanes (lanes);
}

template <typename T>
const T *
offset (const void *base, size_t bytes)
{
  return reinterpret_cast<const T *> (static_cast<const std::byte *> (base) + bytes);
}

void
expand_f32 (const void *row, int columns, float *out)
{
  std::memcpy (out, row, sizeof (float) * static_cast<size_t> (columns));
}

void
expand_f16 (const void *row, int columns, float *out)
{
  const auto *values = static_cast<const uint16_t *> (row);
  for (int i = 0; i < columns; ++i)
    out[i] = f16_to_f32 (values[i]);
}

void
expand_bf16 (const void *row, int columns, float *out)
{
  const auto *values = static_cast<const uint16_t *> (row);
  for (int i = 0; i < columns; i += 16) {
    for (int j = 0; j < 8; ++j) {
      out[i + j] = bf16_to_f32 (values[i + 2 * j]);
      out[i + 8 + j] = bf16_to_f32 (values[i + 2 * j + 1]);
    }
  }
}

void
expand_int8 (const void *row, int columns, float *out)
{
  const auto *values = static_cast<const int8_t *> (row);
  const auto *scales = offset<float> (row, static_cast<size_t> (columns));
  for (int i = 0; i < columns; ++i)
    out[i] = static_cast<float> (values[i]) * scales[i / kGroup];
}

void
store (const LinearArgs &args, int token, int row, float value)
{
  float &y = args.y[token][args.y_offset + row];
  if (args.bias)
    value += args.bias[row];
  y = args.accumulate ? y + value : value;
}

template <void (*expand) (const void *, int, float *)>
void
linear (const LinearArgs &args)
{
  for (int row = 0; row < args.rows; ++row) {
    expand (offset<std::byte> (args.weights, row * args.row_bytes), args.columns, args.scratch);
    for (int token = 0; token < args.tokens; ++token)
      store (args, token, row,
             dot (args.scratch, offset<float> (args.x, token * args.x_row_bytes), args.columns));
  }
}

// Lane l holds the integer sum of elements 4 l … 4 l + 3 of each group, which is exact.
float
dot_int8 (const void *a_row, const void *b_row, int columns)
{
  const auto *a = static_cast<const int8_t *> (a_row);
  const auto *b = static_cast<const int8_t *> (b_row);
  const auto *a_scales = offset<float> (a_row, static_cast<size_t> (columns));
  const auto *b_scales = offset<float> (b_row, static_cast<size_t> (columns));

  float lanes[kLanes] = {};
  for (int group = 0; group < columns / kGroup; ++group) {
    const float scale = a_scales[group] * b_scales[group];
    for (int lane = 0; lane < kLanes; ++lane) {
      int sum = 0;
      for (int i = 0; i < kGroup / kLanes; ++i) {
        const int at = group * kGroup + lane * (kGroup / kLanes) + i;
        sum += a[at] * b[at];
      }
      lanes[lane] += static_cast<float> (sum) * scale;
    }
  }
  return sum_lanes (lanes);
}

void
linear_int8 (const LinearArgs &args)
{
  for (int row = 0; row < args.rows; ++row) {
    const auto *weights = offset<std::byte> (args.weights, row * args.row_bytes);
    for (int token = 0; token < args.tokens; ++token)
      store (args, token, row,
             dot_int8 (weights, offset<std::byte> (args.x, token * args.x_row_bytes), args.columns));
  }
}

void
quantize_row (const float *x, int count, int columns, void *out)
{
  auto *values = static_cast<int8_t *> (out);
  auto *scales = reinterpret_cast<float *> (values + columns);
  for (int group = 0; group < columns / kGroup; ++group) {
    const int begin = group * kGroup;
    const int size = std::clamp (count - begin, 0, kGroup);
    float largest = 0;
    for (int i = 0; i < size; ++i)
      largest = std::max (largest, std::fabs (x[begin + i]));
    // Smaller than that, the inverse would overflow; such a group counts as zero.
    const bool zero = !(largest > 1e-30f);
    const float inverse = zero ? 0.0f : 127.0f / largest;
    scales[group] = zero ? 0.0f : largest / 127.0f;
    for (int i = 0; i < kGroup; ++i)
      values[begin + i] = i < size ? static_cast<int8_t> (std::lrint (x[begin + i] * inverse)) : int8_t{0};
  }
}

void
rms_norm (const float *x, const float *weight, int count, float epsilon, float *out)
{
  float lanes[kLanes] = {};
  int i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane)
      lanes[lane] += x[i + lane] * x[i + lane];
  }
  for (int lane = 0; i + lane < count; ++lane)
    lanes[lane] += x[i + lane] * x[i + lane];

  const float mean = sum_lanes (lanes) / static_cast<float> (count);
  const float scale = 1.0f / std::sqrt (mean + epsilon);
  for (i = 0; i < count; ++i)
    out[i] = x[i] * scale * weight[i];
}

void
silu (const float *gate, const float *up, int count, float *out)
{
  for (int i = 0; i < count; ++i)
    out[i] = gate[i] / (1.0f + exp_poly (-gate[i])) * up[i];
}

// 0.5 x (1 + tanh u) = x / (1 + e^-2u)
void
gelu_tanh (const float *gate, const float *up, int count, float *out)
{
  for (int i = 0; i < count; ++i) {
    const float x = gate[i];
    const float u = 0.7978845608028654f * (x + 0.044715f * x * x * x);
    out[i] = x / (1.0f + exp_poly (-2.0f * u)) * up[i];
  }
}

void
gelu (const float *gate, const float *up, int count, float *out)
{
  for (int i = 0; i < count; ++i)
    out[i] = 0.5f * gate[i] * (1.0f + std::erf (gate[i] * 0.70710678118654752f)) * up[i];
}

void
rotate (float *x, const float *cos, const float *sin, int half)
{
  for (int i = 0; i < half; ++i) {
    const float a = x[i], b = x[i + half];
    x[i] = a * cos[i] - b * sin[i];
    x[i + half] = b * cos[i] + a * sin[i];
  }
}

} // namespace

const KernelTable kPortableKernels = {
    .name = "portable",
    .linear = {linear<expand_f32>, linear<expand_f16>, linear<expand_bf16>, linear_int8},
    .expand = {expand_f32, expand_f16, expand_bf16, expand_int8},
    .quantize_row = quantize_row,
    .rms_norm = rms_norm,
    .silu = silu,
    .gelu_tanh = gelu_tanh,
    .gelu = gelu,
    .rotate = rotate,
    .attention = {portable::attention_f32, portable::attention_f16, portable::attention_bf16,
                  portable::attention_q8, portable::attention_k8v4},
};

#if defined(__x86_64__) || defined(__i386__)
// Where the portable kernel is already bound by memory, or rare, there is no other.
const KernelTable kAvx2Kernels = {
    .name = "avx2+fma",
    .linear = {avx2::linear_f32, avx2::linear_f16, avx2::linear_bf16, avx2::linear_int8},
    .expand = {expand_f32, avx2::expand_f16, expand_bf16, expand_int8},
    .quantize_row = avx2::quantize_row,
    .rms_norm = avx2::rms_norm,
    .silu = avx2::silu,
    .gelu_tanh = gelu_tanh,
    .gelu = gelu,
    .rotate = rotate,
    .attention = {avx2::attention_f32, avx2::attention_f16, avx2::attention_bf16, avx2::attention_q8,
                  avx2::attention_k8v4},
};
#endif

} // namespace millrace::cpu
