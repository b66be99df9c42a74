// Kernels that read a row of activations and write one, all in the first cache: GB/s count what is read and written.
#include "bench/kernels/kernels.hpp"

#include "engine/backend/cpu/formats.hpp"
#include "engine/backend/cpu/memory.hpp"

#include <functional>

namespace millrace::bench
{

namespace
{

using namespace cpu;

constexpr int kHidden = 1024, kIntermediate = 3072, kHeadDim = 128;

/// One row in, one row out, as `kernel` does it. `vectors` of `count` floats are read, and `written` bytes written.
void
add (const std::string &name, int count, int vectors, size_t written,
     std::function<void (const float *x, const float *other, void *out)> kernel, const Roofs &roofs)
{
  benchmark::RegisterBenchmark (
      (name + "/" + std::to_string (count)).c_str (),
      [count, vectors, written, kernel = std::move (kernel), roofs] (benchmark::State &state) {
        const auto x = random_floats (static_cast<size_t> (count));
        const auto other = random_floats (static_cast<size_t> (count));
        Memory out (written);
        for (auto _ : state) {
          kernel (x.data (), other.data (), out.data ());
          benchmark::ClobberMemory ();
        }
        count_work (state, {.bytes = 4.0 * vectors * count + double (written)}, roofs);
        state.counters.erase ("%read"); // of memory, which is not read here
      });
}

} // namespace

void
register_rows (const KernelTable &kernels, const Roofs &roofs)
{
  const auto name = [&] (const char *kernel) { return std::string (kernel) + "/" + kernels.name; };
  const auto bytes = [] (int count) { return static_cast<size_t> (count) * sizeof (float); };
  for (const int count : {kHeadDim, kHidden})
    add (
        name ("rms_norm"), count, 2, bytes (count),
        [&kernels, count] (const float *x, const float *weight, void *out) {
          kernels.rms_norm (x, weight, count, 1e-6f, static_cast<float *> (out));
        },
        roofs);
  const std::pair<const char *, decltype (kernels.silu)> activations[] = {
      {"silu", kernels.silu}, {"gelu_tanh", kernels.gelu_tanh}, {"gelu", kernels.gelu}};
  for (const auto &[kernel, function] : activations)
    add (
        name (kernel), kIntermediate, 2, bytes (kIntermediate),
        [function = function] (const float *gate, const float *up, void *out) {
          function (gate, up, kIntermediate, static_cast<float *> (out));
        },
        roofs);
  add (
      name ("rotate"), kHeadDim, 1, bytes (kHeadDim),
      [&kernels] (const float *cos, const float *sin, void *out) {
        kernels.rotate (static_cast<float *> (out), cos, sin, kHeadDim / 2);
      },
      roofs);
  static constexpr const char *kKinds[kActivations] = {"", "quantize_wide32", "quantize_byte32",
                                                       "quantize_byte256"};
  for (int kind = 1; kind < kActivations; kind++) {
    for (const int count : {kHidden, kIntermediate})
      add (
          name (kKinds[kind]), count, 1, activation_bytes (static_cast<Activations> (kind), count),
          [function = kernels.quantize[kind], count] (const float *x, const float *, void *out) {
            function (x, count, count, out);
          },
          roofs);
  }
}

} // namespace millrace::bench
