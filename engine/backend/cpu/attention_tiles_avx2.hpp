// Register tiles of attention for AVX2 and FMA: see attention_avx2.cpp, the only file that includes this one.
#pragma once

#include "engine/backend/cpu/attention_rows_avx2.hpp"
#include "engine/backend/cpu/kernels.hpp"

namespace millrace::cpu::avx2
{

namespace
{

constexpr int kMostBlocks = 4;   ///< whose keys are multiplied at once
constexpr int kLine = 64;        ///< bytes of a cache line
constexpr int kRowsPerFetch = 4; ///< of keys; more lines at once keep loads waiting

inline int
least (int a, int b)
{
  return a < b ? a : b;
}

inline int
most (int a, int b)
{
  return a > b ? a : b;
}

// Bytes of up to kMostBlocks blocks that will be needed, asked for a few lines at a time.
struct Ahead {
  const char *data[kMostBlocks];
  int count = 0;
  size_t at = 0, bytes = 0, step = 0;

  void add (const char *block)
  {
    if (block)
      data[count++] = block;
  }
  /// Spreads `size` bytes of each over `steps` steps.
  void spread (size_t size, int steps)
  {
    at = 0;
    bytes = count > 0 ? size : 0;
    step = (size / static_cast<size_t> (most (1, steps)) + kLine - 1) / kLine * kLine;
  }
  void fetch ()
  {
    const size_t end = at + step < bytes ? at + step : bytes;
    for (; at < end; at += kLine) {
      for (int i = 0; i < count; ++i)
        _mm_prefetch (data[i] + at, _MM_HINT_T1);
    }
  }
};

// Scores of Q queries with the keys of B blocks, times `scale` and each key's own scale; blocks are kKvTokens apart in `out`. q is [head_dim][Q].
template <int Q, int B, typename Keys>
void
score_tile (const float *q, const Keys *blocks, const float *const *scales, float scale, int head_dim,
            float *out, Ahead &ahead)
{
  __m256 sums[Q][2 * B];
  Keys keys[B];
#pragma GCC unroll 8
  for (int b = 0; b < B; ++b)
    keys[b] = blocks[b];
#pragma GCC unroll 8
  for (int i = 0; i < Q; ++i) {
#pragma GCC unroll 8
    for (int b = 0; b < 2 * B; ++b)
      sums[i][b] = _mm256_setzero_ps ();
  }
  const auto add_row = [&] {
#pragma GCC unroll 8
    for (int b = 0; b < B; ++b) {
      const Vectors k = keys[b].load (0);
      keys[b].next ();
#pragma GCC unroll 8
      for (int i = 0; i < Q; ++i) {
        const __m256 factor = _mm256_broadcast_ss (q + i);
        sums[i][2 * b] = _mm256_fmadd_ps (factor, k.low, sums[i][2 * b]);
        sums[i][2 * b + 1] = _mm256_fmadd_ps (factor, k.high, sums[i][2 * b + 1]);
      }
    }
    q += Q;
  };
  int row = 0;
  for (; row + kRowsPerFetch <= head_dim; row += kRowsPerFetch) {
    ahead.fetch ();
#pragma GCC unroll 8
    for (int i = 0; i < kRowsPerFetch; ++i)
      add_row ();
  }
  for (; row < head_dim; ++row)
    add_row ();
#pragma GCC unroll 8
  for (int b = 0; b < B; ++b) {
    __m256 low = _mm256_set1_ps (scale), high = low;
    if (scales[b]) {
      low = _mm256_mul_ps (low, _mm256_loadu_ps (scales[b]));
      high = _mm256_mul_ps (high, _mm256_loadu_ps (scales[b] + 8));
    }
#pragma GCC unroll 8
    for (int i = 0; i < Q; ++i) {
      _mm256_storeu_ps (out + i * kAttentionChunk + b * kKvTokens, _mm256_mul_ps (sums[i][2 * b], low));
      _mm256_storeu_ps (out + i * kAttentionChunk + b * kKvTokens + 8,
                        _mm256_mul_ps (sums[i][2 * b + 1], high));
    }
  }
}

// Adds `count` rows of 16 · C values, times the weights of Q queries, to rows `stride` apart.
template <int Q, int C, typename Values>
void
value_tile (const float *weights, Values values, int count, float *out, size_t stride)
{
  __m256 sums[Q][2 * C];
#pragma GCC unroll 8
  for (int i = 0; i < Q; ++i) {
#pragma GCC unroll 8
    for (int c = 0; c < 2 * C; ++c)
      sums[i][c] = _mm256_loadu_ps (out + i * stride + c * 8);
  }
  for (int row = 0; row < count; ++row) {
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) {
      const Vectors v = values.load (c);
#pragma GCC unroll 8
      for (int i = 0; i < Q; ++i) {
        const __m256 factor = _mm256_broadcast_ss (weights + i * kAttentionChunk);
        sums[i][2 * c] = _mm256_fmadd_ps (factor, v.low, sums[i][2 * c]);
        sums[i][2 * c + 1] = _mm256_fmadd_ps (factor, v.high, sums[i][2 * c + 1]);
      }
    }
    values.next ();
    ++weights;
  }
#pragma GCC unroll 8
  for (int i = 0; i < Q; ++i) {
#pragma GCC unroll 8
    for (int c = 0; c < 2 * C; ++c)
      _mm256_storeu_ps (out + i * stride + c * 8, sums[i][c]);
  }
}

} // namespace

} // namespace millrace::cpu::avx2
