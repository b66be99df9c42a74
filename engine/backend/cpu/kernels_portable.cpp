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
#include <initializer_list>
#include <limits>
#include <utility>

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

/// Where run `i` / kRun of a row begins in its panel, in elements.
size_t
run_at (int i, int row)
{
  return static_cast<size_t> (i / kRun * kPanelRows + row) * kRun;
}

void
expand_f32 (const void *panel, int row, int columns, float *out)
{
  for (int i = 0; i < columns; i += kRun)
    std::memcpy (out + i, static_cast<const float *> (panel) + run_at (i, row), kRun * sizeof (float));
}

void
expand_f16 (const void *panel, int row, int columns, float *out)
{
  for (int i = 0; i < columns; i += kRun) {
    const uint16_t *run = static_cast<const uint16_t *> (panel) + run_at (i, row);
    for (int j = 0; j < kRun; ++j)
      out[i + j] = f16_to_f32 (run[j]);
  }
}

void
expand_bf16 (const void *panel, int row, int columns, float *out)
{
  for (int i = 0; i < columns; i += kRun) {
    const uint16_t *run = static_cast<const uint16_t *> (panel) + run_at (i, row);
    for (int j = 0; j < kRun / 2; ++j) {
      out[i + j] = bf16_to_f32 (run[2 * j]);
      out[i + j + kRun / 2] = bf16_to_f32 (run[2 * j + 1]);
    }
  }
}

void
store (const LinearArgs &args, int token, int row, float value)
{
  float &y = args.y[token][args.y_offset + row];
  if (args.bias)
    value += args.bias[row];
  y = args.accumulate ? y + value : value;
}

template <void (*expand) (const void *, int, int, float *)>
void
linear (const LinearArgs &args)
{
  for (int row = 0; row < args.rows; ++row) {
    expand (offset<std::byte> (args.weights, static_cast<size_t> (row / kPanelRows) * args.panel_bytes),
            row % kPanelRows, args.columns, args.scratch);
    for (int token = 0; token < args.tokens; ++token)
      store (args, token, row,
             dot (args.scratch, offset<float> (args.x, token * args.x_row_bytes), args.columns));
  }
}

uint64_t
read (const void *data, size_t bytes)
{
  uint64_t sums[8] = {};
  for (size_t i = 0; i + sizeof sums <= bytes; i += sizeof sums) {
    uint64_t values[8];
    std::memcpy (values, static_cast<const std::byte *> (data) + i, sizeof values);
    for (size_t lane = 0; lane < 8; ++lane)
      sums[lane] += values[lane];
  }
  return sums[0] + sums[1] + sums[2] + sums[3] + sums[4] + sums[5] + sums[6] + sums[7];
}

void
halves (const float *x, int count, uint16_t *out)
{
  for (int i = 0; i < count; ++i)
    out[i] = f32_to_f16 (x[i]);
}

float
steps (const float *x, int count, int8_t *out)
{
  float largest = 0;
  bool finite = true;
  for (int i = 0; i < count; ++i) {
    finite = finite && std::isfinite (x[i]);
    largest = std::max (largest, std::fabs (x[i]));
  }
  const bool zero = !finite || largest <= 1e-30f;
  const float inverse = zero ? 0.0f : 127.0f / largest;
  for (int i = 0; i < count; ++i)
    out[i] = zero ? int8_t{0} : static_cast<int8_t> (std::lrint (x[i] * inverse));
  if (!finite)
    return std::numeric_limits<float>::quiet_NaN ();
  return zero ? 0.0f : largest / 127.0f;
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
sigmoid (const float *gate, const float *up, int count, float *out)
{
  for (int i = 0; i < count; ++i)
    out[i] = up[i] / (1.0f + exp_poly (-gate[i]));
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

/// Products of panels, with what every set shares: how their rows are expanded, and the activations they take.
struct PanelKernels {
  Format format;
  LinearKernel linear;
  ExpandKernel expand;
  Activations activations;
};

template <size_t... kIndices>
constexpr void
set_affine (KernelTable &table, LinearKernel linear, std::index_sequence<kIndices...>)
{
  const auto set = [&] (size_t at, ExpandKernel expand) {
    table.linear[at] = linear;
    table.expand[at] = expand;
    table.activations[at] = Activations::kByte32;
  };
  constexpr auto kFirst = static_cast<size_t> (Format::kAffine);
  (set (kFirst + kIndices, portable::expand_affine<static_cast<Format> (kFirst + kIndices)>), ...);
}

constexpr KernelTable
with_panels (KernelTable table, std::initializer_list<PanelKernels> panels, LinearKernel affine)
{
  for (const PanelKernels &kernels : panels) {
    const auto at = static_cast<size_t> (kernels.format);
    table.linear[at] = kernels.linear;
    table.expand[at] = kernels.expand;
    table.activations[at] = kernels.activations;
  }
  set_affine (table, affine, std::make_index_sequence<kAffineFormats> ());
  return table;
}

} // namespace

constinit const KernelTable kPortableKernels = with_panels (
    {
        .name = "portable",
        .is_intel = false,
        .tokens_at_once = 128,
        .linear = {linear<expand_f32>, linear<expand_f16>, linear<expand_bf16>},
        .activations = {},
        .expand = {expand_f32, expand_f16, expand_bf16},
        .quantize = {nullptr, portable::quantize_wide32, portable::quantize_byte32,
                     portable::quantize_byte256},
        .read = read,
        .halves = halves,
        .steps = steps,
        .rms_norm = rms_norm,
        .silu = silu,
        .gelu_tanh = gelu_tanh,
        .gelu = gelu,
        .sigmoid = sigmoid,
        .rotate = rotate,
        .attention = {portable::attention_f32, portable::attention_f16, portable::attention_bf16,
                      portable::attention_q8, portable::attention_k8v4},
        .convolution = portable::convolution,
        .recurrence = portable::recurrence,
    },
    {
        {Format::kQ8, portable::linear_q8, portable::expand_q8, Activations::kWide32},
        {Format::kQ4, portable::linear_q4, portable::expand_q4, Activations::kByte32},
        {Format::kQ4K, portable::linear_q4k, portable::expand_q4k, Activations::kByte256},
        {Format::kQ6K, portable::linear_q6k, portable::expand_q6k, Activations::kByte256},
        {Format::kQ5, portable::linear_q5, portable::expand_q5, Activations::kByte32},
        {Format::kIQ4NL, portable::linear_iq4nl, portable::expand_iq4nl, Activations::kByte32},
        {Format::kMXFP4, portable::linear_mxfp4, portable::expand_mxfp4, Activations::kByte32},
        {Format::kQ2K, portable::linear_q2k, portable::expand_q2k, Activations::kByte256},
        {Format::kQ3K, portable::linear_q3k, portable::expand_q3k, Activations::kByte256},
        {Format::kQ5K, portable::linear_q5k, portable::expand_q5k, Activations::kByte256},
    },
    portable::linear_affine);

#if defined(__x86_64__) || defined(__i386__)
// Where the portable kernel is already bound by memory, or rare, there is no other.
constinit const KernelTable kAvx2Kernels = with_panels (
    {
        .name = "avx2+fma",
        .is_intel = false,
        .tokens_at_once = 128,
        .linear = {avx2::linear_f32, avx2::linear_f16, avx2::linear_bf16},
        .activations = {},
        .expand = {expand_f32, avx2::expand_f16, expand_bf16},
        .quantize = {nullptr, avx2::quantize_wide32, avx2::quantize_byte32, avx2::quantize_byte256},
        .read = avx2::read,
        .halves = avx2::halves,
        .steps = avx2::steps,
        .rms_norm = avx2::rms_norm,
        .silu = avx2::silu,
        .gelu_tanh = gelu_tanh,
        .gelu = gelu,
        .sigmoid = sigmoid,
        .rotate = avx2::rotate,
        .attention = {avx2::attention_f32, avx2::attention_f16, avx2::attention_bf16, avx2::attention_q8,
                      avx2::attention_k8v4},
        .convolution = avx2::convolution,
        .recurrence = avx2::recurrence,
    },
    {
        {Format::kQ8, avx2::linear_q8, portable::expand_q8, Activations::kWide32},
        {Format::kQ4, avx2::linear_q4, portable::expand_q4, Activations::kByte32},
        {Format::kQ4K, avx2::linear_q4k, portable::expand_q4k, Activations::kByte256},
        {Format::kQ6K, avx2::linear_q6k, portable::expand_q6k, Activations::kByte256},
        {Format::kQ5, avx2::linear_q5, portable::expand_q5, Activations::kByte32},
        {Format::kIQ4NL, avx2::linear_iq4nl, portable::expand_iq4nl, Activations::kByte32},
        {Format::kMXFP4, avx2::linear_mxfp4, portable::expand_mxfp4, Activations::kByte32},
        {Format::kQ2K, avx2::linear_q2k, portable::expand_q2k, Activations::kByte256},
        {Format::kQ3K, avx2::linear_q3k, portable::expand_q3k, Activations::kByte256},
        {Format::kQ5K, avx2::linear_q5k, portable::expand_q5k, Activations::kByte256},
    },
    avx2::linear_affine);
#endif

} // namespace millrace::cpu
