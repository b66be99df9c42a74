// Attention for AVX2 and FMA.
//
// Both products have the shape out[query][0 … 16) += Σ a[query][i] · b[i][0 … 16): scores with the keys of a
// block
// ([head_dim][16 positions]), then values with 16 of their elements ([positions][16]). A tile of up to 4
// queries × 16 columns holds 8 accumulators, two vectors of b and one broadcast: 8 multiply-adds of 6
// loads. Queries of a tile see different numbers of positions; those beyond the shortest are done one query
// at a time, so that nothing a query must not see is ever multiplied by zero. Contracts in kernels.hpp.
#if defined(__x86_64__) || defined(__i386__)

#include "engine/backend/cpu/kernels_avx2.hpp"
#include "engine/backend/cpu/vector_avx2.hpp"

namespace millrace::cpu::avx2
{

namespace
{

template <int Q>
void
outer (float *const *out, const float *const *a, const float *b, size_t b_stride, int count, bool accumulate)
{
  __m256 lanes[2 * Q];
#pragma GCC unroll 4
  for (int q = 0; q < Q; ++q) {
    lanes[2 * q] = accumulate ? _mm256_loadu_ps (out[q]) : _mm256_setzero_ps ();
    lanes[2 * q + 1] = accumulate ? _mm256_loadu_ps (out[q] + 8) : _mm256_setzero_ps ();
  }
  for (int i = 0; i < count; ++i) {
    const __m256 low = _mm256_loadu_ps (b + i * b_stride);
    const __m256 high = _mm256_loadu_ps (b + i * b_stride + 8);
#pragma GCC unroll 4
    for (int q = 0; q < Q; ++q) {
      const __m256 factor = _mm256_broadcast_ss (a[q] + i);
      lanes[2 * q] = _mm256_fmadd_ps (factor, low, lanes[2 * q]);
      lanes[2 * q + 1] = _mm256_fmadd_ps (factor, high, lanes[2 * q + 1]);
    }
  }
#pragma GCC unroll 4
  for (int q = 0; q < Q; ++q) {
    _mm256_storeu_ps (out[q], lanes[2 * q]);
    _mm256_storeu_ps (out[q] + 8, lanes[2 * q + 1]);
  }
}

void
outer (int queries, float *const *out, const float *const *a, const float *b, size_t b_stride, int count,
       bool accumulate)
{
  switch (queries) {
  case 1:
    outer<1> (out, a, b, b_stride, count, accumulate);
    break;
  case 2:
    outer<2> (out, a, b, b_stride, count, accumulate);
    break;
  case 3:
    outer<3> (out, a, b, b_stride, count, accumulate);
    break;
  default:
    outer<4> (out, a, b, b_stride, count, accumulate);
    break;
  }
}

const float *
block_floats (const AttentionArgs &args, int block, size_t offset)
{
  return reinterpret_cast<const float *> (
      args.kv + static_cast<size_t> (args.blocks[block]) * args.block_bytes + offset);
}

// Scores → unnormalized probabilities; the inverse of their sum. Lanes are positions modulo 8.
float
softmax (float *scores, int count, float scale)
{
  const __m256 scales = _mm256_set1_ps (scale);
  __m256 largest = _mm256_set1_ps (scores[0] * scale);
  for (int i = 0; i < count; i += 8) {
    const int left = count - i;
    const __m256i mask = first_lanes (left < 8 ? left : 8);
    const __m256 v = _mm256_mul_ps (_mm256_loadu_ps (scores + i), scales);
    _mm256_storeu_ps (scores + i, v);
    // Lanes beyond the end keep the largest so far.
    largest = _mm256_max_ps (_mm256_blendv_ps (largest, v, _mm256_castsi256_ps (mask)), largest);
  }
  __m128 top = _mm_max_ps (_mm256_castps256_ps128 (largest), _mm256_extractf128_ps (largest, 1));
  top = _mm_max_ps (top, _mm_movehl_ps (top, top));
  top = _mm_max_ss (top, _mm_movehdup_ps (top));
  largest = _mm256_set1_ps (_mm_cvtss_f32 (top));

  __m256 lanes = _mm256_setzero_ps ();
  for (int i = 0; i < count; i += 8) {
    const int left = count - i;
    const __m256 mask = _mm256_castsi256_ps (first_lanes (left < 8 ? left : 8));
    const __m256 v = _mm256_and_ps (exp_poly (_mm256_sub_ps (_mm256_loadu_ps (scores + i), largest)), mask);
    _mm256_storeu_ps (scores + i, v);
    lanes = _mm256_add_ps (lanes, v);
  }
  return 1.0f / sum_lanes (lanes);
}

// Adds the values of positions [begin, end) to `queries` rows of sums, in order of position.
void
add_values (const AttentionArgs &args, int queries, const float *const *scores, float *const *sums, int begin,
            int end)
{
  while (begin < end) {
    const int first = begin % kKvTokens;
    const int room = kKvTokens - first;
    const int count = end - begin < room ? end - begin : room;
    const float *values =
        block_floats (args, begin / kKvTokens, args.value_offset) + first * args.value_width;
    const float *weights[kQueryTile];
    float *out[kQueryTile];
    for (int q = 0; q < queries; ++q)
      weights[q] = scores[q] + begin;
    for (int column = 0; column < args.value_width; column += kValuePad) {
      for (int q = 0; q < queries; ++q)
        out[q] = sums[q] + column;
      outer (queries, out, weights, values + column, static_cast<size_t> (args.value_width), count, true);
    }
    begin += count;
  }
}

} // namespace

void
attention (const AttentionArgs &args)
{
  const int queries = args.queries;
  const int shortest = args.positions[0], longest = args.positions[queries - 1];
  float *scores[kQueryTile] = {}, *sums[kQueryTile] = {};
  for (int q = 0; q < queries; ++q) {
    scores[q] = args.scores + q * args.score_stride;
    sums[q] = args.values + q * args.value_width;
  }

  for (int begin = 0; begin < longest; begin += kKvTokens) {
    float *out[kQueryTile];
    for (int q = 0; q < queries; ++q)
      out[q] = scores[q] + begin;
    outer (queries, out, args.q, block_floats (args, begin / kKvTokens, args.key_offset), kKvTokens,
           args.head_dim, false);
  }

  float inverse[kQueryTile];
  for (int q = 0; q < queries; ++q) {
    inverse[q] = softmax (scores[q], args.positions[q], args.scale);
    for (int i = 0; i < args.value_width; i += 8)
      _mm256_storeu_ps (sums[q] + i, _mm256_setzero_ps ());
  }

  add_values (args, queries, scores, sums, 0, shortest);
  for (int q = 1; q < queries; ++q)
    add_values (args, 1, scores + q, sums + q, shortest, args.positions[q]);

  for (int q = 0; q < queries; ++q) {
    for (int i = 0; i < args.head_dim; ++i)
      args.out[q][i] = sums[q][i] * inverse[q];
  }
}

} // namespace millrace::cpu::avx2

#endif
