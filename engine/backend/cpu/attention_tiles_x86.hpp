// Register tiles of attention for AVX2 and AVX-512: see attention_x86.hpp, the only file that includes this one.
#pragma once

#include "engine/backend/cpu/attention_ahead_x86.hpp"
#include "engine/backend/cpu/attention_rows_x86.hpp"
#include "engine/backend/cpu/kernels.hpp"

namespace millrace::cpu
{

namespace
{

constexpr int kMostBlocks = 4;   ///< whose keys are multiplied at once
constexpr int kRowsPerFetch = 4; ///< more lines at once keep loads waiting; to ask is as much work as a row

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

// Calls work.operator() <count> (), `count` being at most kMost.
template <int kMost, typename F>
void
with_queries (int count, F &&work)
{
  if constexpr (kMost > 1) {
    if (count < kMost)
      return with_queries<kMost - 1> (count, work);
  }
  work.template operator()<kMost> ();
}

template <typename Lanes>
constexpr int
blocks_at_once (int queries)
{
  return queries == 1 ? 4 : queries <= 3 || Lanes::kRegisters == 32 ? 2 : 1;
}

template <typename Lanes>
constexpr int
columns_at_once (int queries) // in 16
{
  // With enough registers a whole row: memory is fastest when it is read on.
  if (Lanes::kRegisters == 32)
    return queries <= 3 ? 8 : 4;
  return queries == 1 ? 4 : queries <= 3 ? 2 : 1;
}

/// Of 64 bytes each, with integers.
template <typename Lanes>
constexpr int
dot_columns_at_once (int queries)
{
  return Lanes::kRegisters == 16 ? 1 : queries <= 3 ? 4 : 2;
}

/// Rows of 8 numbers of Q ≤ 8 queries, as 8 columns whose elements from Q on are 0.
template <int Q>
inline void
transpose_8 (const float *const *q, int at, __m256 (&columns)[8])
{
  __m256 rows[8], pairs[8], fours[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i)
    rows[i] = i < Q ? _mm256_loadu_ps (q[i < Q ? i : 0] + at) : _mm256_setzero_ps ();
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    pairs[i] = _mm256_unpacklo_ps (rows[i], rows[i + 1]);
    pairs[i + 1] = _mm256_unpackhi_ps (rows[i], rows[i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
    fours[i] = _mm256_shuffle_ps (pairs[i], pairs[i + 2], _MM_SHUFFLE (1, 0, 1, 0));
    fours[i + 1] = _mm256_shuffle_ps (pairs[i], pairs[i + 2], _MM_SHUFFLE (3, 2, 3, 2));
    fours[i + 2] = _mm256_shuffle_ps (pairs[i + 1], pairs[i + 3], _MM_SHUFFLE (1, 0, 1, 0));
    fours[i + 3] = _mm256_shuffle_ps (pairs[i + 1], pairs[i + 3], _MM_SHUFFLE (3, 2, 3, 2));
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    columns[i] = _mm256_permute2f128_ps (fours[i], fours[i + 4], 0x20);
    columns[i + 4] = _mm256_permute2f128_ps (fours[i], fours[i + 4], 0x31);
  }
}

/// Q queries as [head_dim][Q]; returns what is behind them, of which up to 8 - Q numbers are overwritten.
template <int Q>
float *
lay_out_queries (const float *const *q, int head_dim, float *out)
{
  int i = 0;
  for (; i + 8 <= head_dim; i += 8) {
    if constexpr (Q == 1) {
      _mm256_storeu_ps (out, _mm256_loadu_ps (q[0] + i));
      out += 8;
    } else {
      __m256 columns[8];
      transpose_8<Q> (q, i, columns);
#pragma GCC unroll 8
      for (int j = 0; j < 8; ++j, out += Q)
        _mm256_storeu_ps (out, columns[j]); // each is cut by the next one
    }
  }
  for (; i < head_dim; ++i) {
    for (int query = 0; query < Q; ++query)
      *out++ = q[query][i];
  }
  return out;
}

// Scores of Q queries with the keys of B blocks, times `scale`; blocks are kKvTokens apart in `out`. q is [head_dim][Q].
template <typename Lanes, int Q, int B, typename Keys, typename Ahead>
void
score_tile (const float *q, const Keys *blocks, float scale, int head_dim, float *out, Ahead &&ahead)
{
  typename Lanes::Floats sums[Q][B];
  Keys keys[B];
#pragma GCC unroll 8
  for (int b = 0; b < B; ++b)
    keys[b] = blocks[b];
#pragma GCC unroll 8
  for (int i = 0; i < Q; ++i) {
#pragma GCC unroll 8
    for (int b = 0; b < B; ++b)
      sums[i][b] = Lanes::zero ();
  }
  const auto add_row = [&] {
#pragma GCC unroll 8
    for (int b = 0; b < B; ++b) {
      const auto k = keys[b].load (0);
      keys[b].next ();
#pragma GCC unroll 8
      for (int i = 0; i < Q; ++i)
        sums[i][b] = Lanes::add_multiple (q + i, k, sums[i][b]);
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
#pragma GCC unroll 8
    for (int i = 0; i < Q; ++i)
      Lanes::store (out + i * kAttentionChunk + b * kKvTokens,
                    Lanes::multiply (sums[i][b], Lanes::set (scale)));
  }
}

// Adds `count` rows of 16 · C values, times the weights of Q queries, to rows `stride` apart.
template <typename Lanes, int Q, int C, typename Values, typename Ahead>
void
value_tile (const float *weights, Values values, int count, float *out, size_t stride, Ahead &&ahead)
{
  typename Lanes::Floats sums[Q][C];
#pragma GCC unroll 8
  for (int i = 0; i < Q; ++i) {
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c)
      sums[i][c] = Lanes::load (out + i * stride + c * 16);
  }
  for (int row = 0; row < count; ++row) {
    if (row % kRowsPerFetch == 0)
      ahead.fetch ();
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) {
      const auto v = values.load (c);
#pragma GCC unroll 8
      for (int i = 0; i < Q; ++i)
        sums[i][c] = Lanes::add_multiple (weights + i * kAttentionChunk, v, sums[i][c]);
    }
    values.next ();
    ++weights;
  }
#pragma GCC unroll 8
  for (int i = 0; i < Q; ++i) {
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c)
      Lanes::store (out + i * stride + c * 16, sums[i][c]);
  }
}

// Adds `steps` rows of 64 · C bytes, `stride` apart, times digits of Q queries: those of a step are step_bytes after the one
// before, those of a query query_bytes.
template <typename Lanes, int Q, int C, typename Ahead>
void
dot_tile (const char *digits, size_t step_bytes, size_t query_bytes, const char *rows, size_t stride,
          int steps, typename Lanes::Sums (&sums)[Q][C], Ahead &&ahead)
{
#pragma GCC unroll 4
  for (int step = 0; step < steps; ++step) {
    if (step % kRowsPerFetch == 0)
      ahead.fetch ();
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c)
      Lanes::template add_row<Q, C> (digits, query_bytes, rows + c * kDotRowBytes, sums, c);
    digits += step_bytes;
    rows += stride;
  }
}

} // namespace

} // namespace millrace::cpu
