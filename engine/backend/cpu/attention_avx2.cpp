// Attention for AVX2 and FMA.
//
// Both products have the shape out[query][0 … 16) += Σ a[query][i] · b[i][0 … 16): scores with the keys of a
// block ([head_dim][16 positions]), then values with 16 of their elements ([positions][16]). A tile of up to 4
// queries × 16 columns holds 8 accumulators, two vectors of b and one broadcast: 8 multiply-adds of 6
// loads. All tiles of a call work on a block while it is in the first-level cache: memory is read once for up to
// kQueryTile queries. Rows of b become floats in registers, by the conversions that expand_keys () and expand_values ()
// define (kv_storage.hpp): 2 to 6 operations for each vector, for all queries of the tile. Queries of a tile see
// different positions; those that not all of them see are done one query at a time, so that nothing a query
// must not see is ever multiplied by zero. Contracts in kernels.hpp.
#if defined(__x86_64__) || defined(__i386__)

#include "engine/backend/cpu/kernels_avx2.hpp"
#include "engine/backend/cpu/vector_avx2.hpp"

namespace millrace::cpu::avx2
{

namespace
{

constexpr int kRegisterQueries = 4; ///< of a tile
static_assert (kQueryTile % kRegisterQueries == 0);

// 16 numbers of a row.
struct Vectors {
  __m256 low, high;
};

__m128i
load_16_bytes (const char *data)
{
  return _mm_loadu_si128 (reinterpret_cast<const __m128i *> (data));
}

__m256
floats_of_8_bytes (const char *data)
{
  return _mm256_cvtepi32_ps (
      _mm256_cvtepi8_epi32 (_mm_loadl_epi64 (reinterpret_cast<const __m128i *> (data))));
}

// Rows of a block, `stride` bytes apart, and how each becomes floats. Of values, row 0 is any position's.
struct F32Rows {
  static constexpr int kBytes = 4;
  const char *data;
  size_t stride;

  Vectors load () const
  {
    const auto *row = reinterpret_cast<const float *> (data);
    return {_mm256_loadu_ps (row), _mm256_loadu_ps (row + 8)};
  }
  void next () { data += stride; }
};

struct F16Rows {
  static constexpr int kBytes = 2;
  const char *data;
  size_t stride;

  Vectors load () const
  {
    return {_mm256_cvtph_ps (load_16_bytes (data)), _mm256_cvtph_ps (load_16_bytes (data + 16))};
  }
  void next () { data += stride; }
};

struct BF16Rows {
  static constexpr int kBytes = 2;
  const char *data;
  size_t stride;

  static __m256 widen (__m128i halves)
  {
    return _mm256_castsi256_ps (_mm256_slli_epi32 (_mm256_cvtepu16_epi32 (halves), 16));
  }
  Vectors load () const { return {widen (load_16_bytes (data)), widen (load_16_bytes (data + 16))}; }
  void next () { data += stride; }
};

// Columns are positions, and so are the scales.
struct Q8Keys {
  const char *data;
  Vectors scales;

  Vectors load () const
  {
    const Vectors steps = {floats_of_8_bytes (data), floats_of_8_bytes (data + 8)};
    return {_mm256_mul_ps (steps.low, scales.low), _mm256_mul_ps (steps.high, scales.high)};
  }
  void next () { data += kKvTokens; }
};

struct Q8Values {
  const char *data;
  size_t stride;
  const float *scales;

  Vectors load () const
  {
    const Vectors steps = {floats_of_8_bytes (data), floats_of_8_bytes (data + 8)};
    const __m256 scale = _mm256_broadcast_ss (scales);
    return {_mm256_mul_ps (steps.low, scale), _mm256_mul_ps (steps.high, scale)};
  }
  void next ()
  {
    data += stride;
    ++scales;
  }
};

struct Q4Values {
  const char *data;
  size_t stride;
  const char *pairs; ///< float16 scale and minimum
  size_t pair_stride;
  __m128i shift; ///< to the half of a byte that holds these columns

  Vectors load () const
  {
    const __m128i bytes = _mm_and_si128 (_mm_srl_epi16 (load_16_bytes (data), shift), _mm_set1_epi8 (15));
    const __m256 low = _mm256_cvtepi32_ps (_mm256_cvtepi8_epi32 (bytes));
    const __m256 high = _mm256_cvtepi32_ps (_mm256_cvtepi8_epi32 (_mm_unpackhi_epi64 (bytes, bytes)));
    const __m128 pair = _mm_cvtph_ps (_mm_loadu_si32 (pairs));
    const __m256 scale = _mm256_broadcastss_ps (pair);
    const __m256 minimum = _mm256_broadcastss_ps (_mm_movehdup_ps (pair));
    // The product is exact, so this is the sum of the portable kernel.
    return {_mm256_fmadd_ps (low, scale, minimum), _mm256_fmadd_ps (high, scale, minimum)};
  }
  void next ()
  {
    data += stride;
    pairs += pair_stride;
  }
};

// A format: the rows of one head's keys, and of 16 columns of its values from a position on.
template <typename Rows>
struct Plain {
  static Rows keys (const char *head, int) { return {head, size_t{kKvTokens} * Rows::kBytes}; }
  static Rows values (const char *head, size_t width, int position, int column)
  {
    const size_t stride = width * Rows::kBytes;
    return {head + position * stride + column * size_t{Rows::kBytes}, stride};
  }
};

struct Q8 {
  static Q8Keys keys (const char *head, int head_dim)
  {
    const auto *scales = reinterpret_cast<const float *> (head + head_dim * size_t{kKvTokens});
    return {head, {_mm256_loadu_ps (scales), _mm256_loadu_ps (scales + 8)}};
  }
  static Q8Values values (const char *head, size_t width, int position, int column)
  {
    const auto *scales = reinterpret_cast<const float *> (head + width * kKvTokens);
    return {head + position * width + column, width, scales + position};
  }
};

struct K8V4 {
  static constexpr int kGroupColumns = 32, kGroupBytes = 16, kPairBytes = 4;

  static Q8Keys keys (const char *head, int head_dim) { return Q8::keys (head, head_dim); }
  static Q4Values values (const char *head, size_t width, int position, int column)
  {
    const size_t groups = width / kGroupColumns, group = static_cast<size_t> (column / kGroupColumns);
    const char *pairs = head + groups * kGroupBytes * kKvTokens;
    return {head + (position * groups + group) * kGroupBytes, groups * kGroupBytes,
            pairs + (position * groups + group) * kPairBytes, groups * kPairBytes,
            _mm_cvtsi32_si128 (column % kGroupColumns == 0 ? 0 : 4)};
  }
};

template <int Q, typename Rows>
void
outer (float *const *out, const float *const *a, Rows b, int count, bool accumulate)
{
  __m256 lanes[2 * Q];
#pragma GCC unroll 4
  for (int q = 0; q < Q; ++q) {
    lanes[2 * q] = accumulate ? _mm256_loadu_ps (out[q]) : _mm256_setzero_ps ();
    lanes[2 * q + 1] = accumulate ? _mm256_loadu_ps (out[q] + 8) : _mm256_setzero_ps ();
  }
  // With two queries a loop of single rows is bound by its own counting.
#pragma GCC unroll 4
  for (int i = 0; i < count; ++i) {
    const Vectors row = b.load ();
    b.next ();
#pragma GCC unroll 4
    for (int q = 0; q < Q; ++q) {
      const __m256 factor = _mm256_broadcast_ss (a[q] + i);
      lanes[2 * q] = _mm256_fmadd_ps (factor, row.low, lanes[2 * q]);
      lanes[2 * q + 1] = _mm256_fmadd_ps (factor, row.high, lanes[2 * q + 1]);
    }
  }
#pragma GCC unroll 4
  for (int q = 0; q < Q; ++q) {
    _mm256_storeu_ps (out[q], lanes[2 * q]);
    _mm256_storeu_ps (out[q] + 8, lanes[2 * q + 1]);
  }
}

template <typename Rows>
void
outer (int queries, float *const *out, const float *const *a, Rows b, int count, bool accumulate)
{
  switch (queries) {
  case 1:
    outer<1> (out, a, b, count, accumulate);
    break;
  case 2:
    outer<2> (out, a, b, count, accumulate);
    break;
  case 3:
    outer<3> (out, a, b, count, accumulate);
    break;
  default:
    outer<4> (out, a, b, count, accumulate);
    break;
  }
}

const char *
block_at (const AttentionArgs &args, int position, size_t offset)
{
  return reinterpret_cast<const char *> (
      args.kv + static_cast<size_t> (args.blocks[position / kKvTokens]) * args.block_bytes + offset);
}

// Scores → unnormalized probabilities; the inverse of their sum. Lanes are positions modulo 8: scores[0] is of
// the first position of a block.
float
softmax (float *scores, int begin, int end, float scale)
{
  const int first = begin / 8 * 8;
  // Lanes of [begin, end) in the vector at i.
  const __m256i before = first_lanes (begin - first);
  const auto seen = [&] (int i) {
    const __m256i within = first_lanes (end - i);
    return _mm256_castsi256_ps (i == first ? _mm256_andnot_si256 (before, within) : within);
  };
  const __m256 scales = _mm256_set1_ps (scale);
  __m256 largest = _mm256_set1_ps (scores[begin] * scale);
  for (int i = first; i < end; i += 8) {
    const __m256 v = _mm256_mul_ps (_mm256_loadu_ps (scores + i), scales);
    _mm256_storeu_ps (scores + i, v);
    // Lanes of other positions keep the largest so far.
    largest = _mm256_max_ps (_mm256_blendv_ps (largest, v, seen (i)), largest);
  }
  __m128 top = _mm_max_ps (_mm256_castps256_ps128 (largest), _mm256_extractf128_ps (largest, 1));
  top = _mm_max_ps (top, _mm_movehl_ps (top, top));
  top = _mm_max_ss (top, _mm_movehdup_ps (top));
  largest = _mm256_set1_ps (_mm_cvtss_f32 (top));

  __m256 lanes = _mm256_setzero_ps ();
  for (int i = first; i < end; i += 8) {
    const __m256 e = exp_poly (_mm256_sub_ps (_mm256_loadu_ps (scores + i), largest));
    const __m256 v = _mm256_and_ps (e, seen (i));
    _mm256_storeu_ps (scores + i, v);
    lanes = _mm256_add_ps (lanes, v);
  }
  return 1.0f / sum_lanes (lanes);
}

// Adds the values of positions [begin, end) to `queries` rows of sums, in order of position. scores[q][0] is of
// position `first`.
template <typename Format>
void
add_values (const AttentionArgs &args, int queries, const float *const *scores, float *const *sums, int first,
            int begin, int end)
{
  while (begin < end) {
    const int in_block = begin % kKvTokens;
    const int room = kKvTokens - in_block;
    const int count = end - begin < room ? end - begin : room;
    const char *values = block_at (args, begin, args.value_offset);
    const float *weights[kRegisterQueries];
    float *out[kRegisterQueries];
    for (int q = 0; q < queries; ++q)
      weights[q] = scores[q] + begin - first;
    for (int column = 0; column < args.value_width; column += kValuePad) {
      for (int q = 0; q < queries; ++q)
        out[q] = sums[q] + column;
      outer (queries, out, weights,
             Format::values (values, static_cast<size_t> (args.value_width), in_block, column), count, true);
    }
    begin += count;
  }
}

/// Queries that share accumulators: [first, first + count), and the positions that all of them see.
struct Tile {
  int first, count;
  int begin, end;
};

template <typename Format>
void
attention (const AttentionArgs &args)
{
  const int queries = args.queries;
  const int first = args.begin[0] / kKvTokens * kKvTokens; // whose score is scores[0]
  const int last = args.end[queries - 1];
  float *scores[kQueryTile] = {}, *sums[kQueryTile] = {};
  for (int q = 0; q < queries; ++q) {
    scores[q] = args.scores + q * args.score_stride;
    sums[q] = args.values + q * args.value_width;
  }
  Tile tiles[kQueryTile / kRegisterQueries];
  int tile_count = 0;
  for (int q = 0; q < queries; q += kRegisterQueries) {
    const int count = queries - q < kRegisterQueries ? queries - q : kRegisterQueries;
    tiles[tile_count++] = {q, count, args.begin[q + count - 1], args.end[q]};
  }

  for (int position = first; position < last; position += kKvTokens) {
    const char *keys = block_at (args, position, args.key_offset);
    for (int t = 0; t < tile_count; ++t) {
      const Tile &tile = tiles[t];
      if (position + kKvTokens <= args.begin[tile.first] || position >= args.end[tile.first + tile.count - 1])
        continue;
      float *out[kRegisterQueries];
      for (int q = 0; q < tile.count; ++q)
        out[q] = scores[tile.first + q] + position - first;
      outer (tile.count, out, args.q + tile.first, Format::keys (keys, args.head_dim), args.head_dim, false);
    }
  }

  float inverse[kQueryTile];
  for (int q = 0; q < queries; ++q) {
    inverse[q] = softmax (scores[q], args.begin[q] - first, args.end[q] - first, args.scale);
    for (int i = 0; i < args.value_width; i += 8)
      _mm256_storeu_ps (sums[q] + i, _mm256_setzero_ps ());
  }

  // In order of position for each query: what it sees before its tile's common part, that part, and the rest.
  int done[kQueryTile] = {};
  for (int t = 0; t < tile_count; ++t) {
    for (int q = tiles[t].first; q < tiles[t].first + tiles[t].count; ++q) {
      done[q] = tiles[t].begin < args.end[q] ? tiles[t].begin : args.end[q];
      add_values<Format> (args, 1, scores + q, sums + q, first, args.begin[q], done[q]);
    }
  }
  for (int position = first; position < last; position += kKvTokens) {
    for (int t = 0; t < tile_count; ++t) {
      const Tile &tile = tiles[t];
      const int begin = tile.begin > position ? tile.begin : position;
      const int end = tile.end < position + kKvTokens ? tile.end : position + kKvTokens;
      if (begin < end)
        add_values<Format> (args, tile.count, scores + tile.first, sums + tile.first, first, begin, end);
    }
  }
  for (int t = 0; t < tile_count; ++t) {
    for (int q = tiles[t].first; q < tiles[t].first + tiles[t].count; ++q)
      add_values<Format> (args, 1, scores + q, sums + q, first,
                          done[q] > tiles[t].end ? done[q] : tiles[t].end, args.end[q]);
  }

  for (int q = 0; q < queries; ++q) {
    for (int i = 0; i < args.head_dim; ++i)
      args.out[q][i] = sums[q][i] * inverse[q];
  }
}

} // namespace

void
attention_f32 (const AttentionArgs &args)
{
  attention<Plain<F32Rows>> (args);
}

void
attention_f16 (const AttentionArgs &args)
{
  attention<Plain<F16Rows>> (args);
}

void
attention_bf16 (const AttentionArgs &args)
{
  attention<Plain<BF16Rows>> (args);
}

void
attention_q8 (const AttentionArgs &args)
{
  attention<Q8> (args);
}

void
attention_k8v4 (const AttentionArgs &args)
{
  attention<K8V4> (args);
}

} // namespace millrace::cpu::avx2

#endif
