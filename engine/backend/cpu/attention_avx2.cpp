// Attention for AVX2 and FMA.
//
// Both products have the shape out[query][0 … 16) += Σ a[query][i] · b[i][0 … 16): scores with the keys of a
// block ([head_dim][16 positions]), then values with 16 of their elements ([positions][16]). The register tile is
// 6 queries × 16 columns: 12 accumulators, two vectors of b and one broadcast, so 12 multiply-adds of 8 loads
// and bound by multiply-adds. Two ways to feed it, of equal bits:
//   many queries   A block's keys, and then 16 columns of a chunk's values, become floats in scratch of 8 and 16 KiB once,
//                  and stay in the first-level cache for all register tiles.
//   one tile       Bound by memory: rows become floats in registers. Fewer queries take more columns at once (keys of
//                  several blocks, 32 or 64 elements of values), for 8 or more accumulators. All KV heads of a block are
//                  taken one after the other: they are neighbours in memory, where 4 KiB of one head at a time are
//                  read at half the speed. What comes kHeadsAhead heads later is fetched to the second level a few
//                  lines at a time; blocks lie anywhere, and no hardware knows where the next one is.
// Queries of a tile see different positions; those that not all of them see are done one query at a time, so that
// nothing a query must not see is ever multiplied by zero. Contracts in kernels.hpp.
#if defined(__x86_64__) || defined(__i386__)

#include "engine/backend/cpu/kernels_avx2.hpp"

#include "engine/backend/cpu/attention_tiles_avx2.hpp"

namespace millrace::cpu::avx2
{

namespace
{

constexpr int kTileQueries = 6; ///< of a register tile
constexpr int kHeadsAhead = 8;  ///< that memory is asked for before it is read
static_assert (kQueryTile % kTileQueries == 0 && kAttentionChunk % (kMostBlocks * kKvTokens) == 0);

// Calls work.operator() <count> ().
template <typename F>
void
with_queries (int count, F &&work)
{
  switch (count) {
  case 1:
    return work.template operator()<1> ();
  case 2:
    return work.template operator()<2> ();
  case 3:
    return work.template operator()<3> ();
  case 4:
    return work.template operator()<4> ();
  case 5:
    return work.template operator()<5> ();
  default:
    return work.template operator()<6> ();
  }
}

constexpr int
blocks_at_once (int queries)
{
  return queries == 1 ? 4 : queries <= 3 ? 2 : 1;
}

constexpr int
columns_at_once (int queries) // in 16
{
  return queries == 1 ? 4 : queries <= 3 ? 2 : 1;
}

void
multiply (float *row, int count, float factor)
{
  const __m256 factors = _mm256_set1_ps (factor);
  for (int i = 0; i < count; i += 8)
    _mm256_storeu_ps (row + i, _mm256_mul_ps (_mm256_loadu_ps (row + i), factors));
}

// Scores of positions [begin, end) of a chunk, and of their neighbours in vectors. tanh u = 1 - 2 / (e^2u + 1)
void
cap_scores (float *scores, int begin, int end, float softcap)
{
  const __m256 cap = _mm256_set1_ps (softcap), twice = _mm256_set1_ps (2.0f), one = _mm256_set1_ps (1.0f);
  for (int i = begin / 8 * 8; i < end; i += 8) {
    const __m256 u = _mm256_div_ps (_mm256_loadu_ps (scores + i), cap);
    const __m256 e = exp_poly (_mm256_mul_ps (twice, u));
    _mm256_storeu_ps (
        scores + i, _mm256_sub_ps (cap, _mm256_div_ps (_mm256_mul_ps (twice, cap), _mm256_add_ps (e, one))));
  }
}

// Scores of positions [begin, end) of a chunk → weights: e^(score - largest so far). What the state holds is
// scaled to the new largest score. Lanes are positions modulo 8.
void
soften (float *scores, int begin, int end, float *state, int width)
{
  const int first = begin / 8 * 8, whole = end / 8 * 8;
  const __m256 seen_first = _mm256_castsi256_ps (
                   _mm256_andnot_si256 (first_lanes (begin - first), first_lanes (least (8, end - first)))),
               seen_last = _mm256_castsi256_ps (first_lanes (end - whole));
  float &largest = state[width], &sum = state[width + 1];

  // Lanes of other positions keep the largest so far; in this order of operands NaN is left out.
  __m256 tops = _mm256_set1_ps (largest);
  tops = _mm256_max_ps (_mm256_blendv_ps (tops, _mm256_loadu_ps (scores + first), seen_first), tops);
  for (int i = first + 8; i < whole; i += 8)
    tops = _mm256_max_ps (_mm256_loadu_ps (scores + i), tops);
  const bool has_last = whole > first && whole < end;
  if (has_last)
    tops = _mm256_max_ps (_mm256_blendv_ps (tops, _mm256_loadu_ps (scores + whole), seen_last), tops);
  __m128 top = _mm_max_ps (_mm256_castps256_ps128 (tops), _mm256_extractf128_ps (tops, 1));
  top = _mm_max_ps (top, _mm_movehl_ps (top, top));
  top = _mm_max_ss (top, _mm_movehdup_ps (top));
  tops = _mm256_broadcastss_ps (top);

  __m256 lanes =
      _mm256_and_ps (exp_poly (_mm256_sub_ps (_mm256_loadu_ps (scores + first), tops)), seen_first);
  _mm256_storeu_ps (scores + first, lanes);
  for (int i = first + 8; i < whole; i += 8) {
    const __m256 e = exp_poly (_mm256_sub_ps (_mm256_loadu_ps (scores + i), tops));
    _mm256_storeu_ps (scores + i, e);
    lanes = _mm256_add_ps (lanes, e);
  }
  if (has_last) {
    const __m256 e =
        _mm256_and_ps (exp_poly (_mm256_sub_ps (_mm256_loadu_ps (scores + whole), tops)), seen_last);
    _mm256_storeu_ps (scores + whole, e);
    lanes = _mm256_add_ps (lanes, e);
  }

  const float now = _mm_cvtss_f32 (top);
  if (now != largest) {
    const float factor =
        _mm256_cvtss_f32 (exp_poly (_mm256_sub_ps (_mm256_set1_ps (largest), _mm256_set1_ps (now))));
    multiply (state, width, factor);
    sum *= factor;
    largest = now;
  }
  sum += sum_lanes (lanes);
}

/// Queries of a register tile that see positions of a chunk. Positions are the chunk's.
struct Tile {
  int first, count;
  int begin, end;         ///< what any of them sees
  int all_begin, all_end; ///< what all of them see
};

template <typename Format>
class Attention
{
public:
  explicit Attention (const AttentionArgs &args)
      : args_ (args)
      , width_ (static_cast<size_t> (args.value_width))
      , scores_ (args.scratch)
      , floats_ (scores_ + args.heads * args.queries * kAttentionChunk)
      , q_ (floats_ + kKvTokens * most (args.head_dim, kAttentionChunk))
  {
  }

  void run ()
  {
    // In order of position: the first queries may have ended before, the last ones begin later.
    while (from_ < args_.queries && args_.end[from_] <= args_.first)
      ++from_;
    to_ = from_;
    while (to_ < args_.queries && args_.begin[to_] < args_.last)
      ++to_;
    if (from_ == to_)
      return;
    prepare ();
    const int begin = most (args_.first, args_.begin[from_]), end = least (args_.last, args_.end[to_ - 1]);
    for (chunk_ = begin / kAttentionChunk * kAttentionChunk; chunk_ < end; chunk_ += kAttentionChunk)
      run_chunk ();
  }

private:
  // Empty states; queries of each head as tiles of [head_dim][count].
  void prepare ()
  {
    float *out = q_;
    for (head_ = 0; head_ < args_.heads; ++head_) {
      for (int query = from_; query < to_; ++query) {
        for (size_t i = 0; i < width_; i += 8)
          _mm256_storeu_ps (state (query) + i, _mm256_setzero_ps ());
        state (query)[width_] = -__builtin_inff ();
        state (query)[width_ + 1] = 0;
      }
      const float *const *q = args_.q + head_ * args_.queries;
      for (int first = from_; first < to_; first += kTileQueries) {
        with_queries (to_ - first,
                      [&]<int Q> () { out = lay_out_queries<Q> (q + first, args_.head_dim, out); });
      }
    }
  }

  void run_chunk ()
  {
    lay_out_tiles ();
    if (begin_ >= end_)
      return;
    if (tile_count_ == 1) {
      score_from_memory ();
      for (head_ = 0; head_ < args_.heads; ++head_)
        soften_scores ();
      add_values_from_memory ();
      return;
    }
    for (head_ = 0; head_ < args_.heads; ++head_) {
      score_from_floats ();
      soften_scores ();
      add_values_from_floats ();
    }
  }

  void soften_scores ()
  {
    for (int query = from_; query < to_; ++query) {
      const int begin = begin_of (query), end = end_of (query);
      if (begin >= end)
        continue;
      if (args_.softcap > 0)
        cap_scores (scores (query), begin, end, args_.softcap);
      soften (scores (query), begin, end, state (query), args_.value_width);
      if constexpr (Format::kValueScales)
        scale_weights (scores (query), begin, end);
    }
  }

  void lay_out_tiles ()
  {
    tile_count_ = 0;
    begin_ = kAttentionChunk;
    end_ = 0;
    for (int first = from_; first < to_; first += kTileQueries) {
      Tile &tile = tiles_[tile_count_++] = {};
      for (int query = first; query < least (first + kTileQueries, to_); ++query) {
        const int begin = begin_of (query), end = end_of (query);
        if (begin >= end)
          continue;
        if (tile.count++ == 0)
          tile = {query, 1, begin, end, begin, end};
        tile.end = end;
        tile.all_begin = begin;
      }
      if (tile.count > 0) {
        begin_ = least (begin_, tile.begin);
        end_ = most (end_, tile.end);
      }
    }
  }

  void score_from_memory ()
  {
    with_queries (to_ - from_, [&]<int Q> () {
      constexpr int kBlocks = blocks_at_once (Q);
      int position = begin_ / kKvTokens * kKvTokens;
      for (; position + (kBlocks - 1) * kKvTokens < end_; position += kBlocks * kKvTokens)
        score_blocks<Q, kBlocks> (position);
      for (; kBlocks > 1 && position < end_; position += kKvTokens)
        score_blocks<Q, 1> (position);
    });
  }

  // Heads of a block one after the other: they are neighbours in memory.
  template <int Q, int B>
  void score_blocks (int position)
  {
    for (head_ = 0; head_ < args_.heads; ++head_) {
      typename Format::Keys keys[B];
      const float *scales[B];
      Ahead ahead;
      for (int b = 0; b < B; ++b) {
        const char *head = keys_at (position + b * kKvTokens);
        keys[b] = Format::keys (head);
        scales[b] = Format::key_scales (head, args_.head_dim);
        ahead.add (soon (position + b * kKvTokens, B, true));
      }
      ahead.spread (Format::key_bytes (args_.head_dim), args_.head_dim / kRowsPerFetch);
      score_tile<Q, B> (q_ + head_ * Q * args_.head_dim, keys, scales, args_.scale, args_.head_dim,
                        scores (from_) + position, ahead);
    }
  }

  void score_from_floats ()
  {
    for (int position = begin_ / kKvTokens * kKvTokens; position < end_; position += kKvTokens) {
      const char *head = keys_at (position);
      const float *scales = Format::key_scales (head, args_.head_dim);
      const F32Rows keys = key_floats (head);
      Ahead ahead;
      ahead.add (next_keys_at (position + kKvTokens));
      ahead.add (values_at (position));
      ahead.spread (Format::key_bytes (args_.head_dim), tile_count_);
      const float *q = q_ + head_ * (to_ - from_) * args_.head_dim;
      for (int t = 0; t < tile_count_; ++t) {
        const int first = from_ + t * kTileQueries, count = least (kTileQueries, to_ - first);
        ahead.fetch ();
        if (tiles_[t].begin < position + kKvTokens && tiles_[t].end > position) {
          with_queries (count, [&]<int Q> () {
            Ahead nothing;
            score_tile<Q, 1> (q, &keys, &scales, args_.scale, args_.head_dim, scores (first) + position,
                              nothing);
          });
        }
        q += count * args_.head_dim;
      }
    }
  }

  F32Rows key_floats (const char *head)
  {
    if constexpr (Format::kFloats)
      return Format::keys (head);
    else
      return floats_of (Format::keys (head), args_.head_dim, floats_);
  }

  // 16 columns of `count` rows.
  template <typename Rows>
  static F32Rows floats_of (Rows rows, int count, float *out)
  {
    for (int i = 0; i < count; ++i) {
      const Vectors v = rows.load (0);
      rows.next ();
      _mm256_storeu_ps (out + i * 16, v.low);
      _mm256_storeu_ps (out + i * 16 + 8, v.high);
    }
    return {reinterpret_cast<const char *> (out), 16 * sizeof (float)};
  }

  // A value's scale is one of its weight's factors.
  void scale_weights (float *weights, int begin, int end)
  {
    for (int position = begin / kKvTokens * kKvTokens; position < end; position += kKvTokens) {
      const float *scales = Format::value_scales (values_at (position), width_);
      for (int i = 0; i < kKvTokens; i += 8)
        _mm256_storeu_ps (weights + position + i, _mm256_mul_ps (_mm256_loadu_ps (weights + position + i),
                                                                 _mm256_loadu_ps (scales + i)));
    }
  }

  void add_values_from_memory ()
  {
    with_queries (tiles_[0].count, [&]<int Q> () {
      for (int position = begin_ / kKvTokens * kKvTokens; position < end_; position += kKvTokens) {
        for (head_ = 0; head_ < args_.heads; ++head_)
          add_block<Q> (position);
      }
    });
  }

  template <int Q>
  void add_block (int position)
  {
    constexpr int kColumns = columns_at_once (Q);
    const char *head = values_at (position);
    Ahead ahead;
    ahead.add (soon (position, 1, false));
    ahead.spread (Format::value_bytes (width_), args_.value_width / (16 * kColumns));
    int column = 0;
    const auto rows = [&] (int at) { return Format::values (head, width_, at - position, column); };
    for (; column + 16 * kColumns <= args_.value_width; column += 16 * kColumns) {
      ahead.fetch ();
      add_values<Q, kColumns> (tiles_[0], position, position + kKvTokens, column, rows);
    }
    for (; column < args_.value_width; column += 16)
      add_values<Q, 1> (tiles_[0], position, position + kKvTokens, column, rows);
  }

  void add_values_from_floats ()
  {
    const auto rows = [&] (int at) {
      return F32Rows{reinterpret_cast<const char *> (floats_ + at * 16), 16 * sizeof (float)};
    };
    for (int column = 0; column < args_.value_width; column += 16) {
      for (int position = begin_ / kKvTokens * kKvTokens; position < end_; position += kKvTokens)
        floats_of (Format::values (values_at (position), width_, 0, column), kKvTokens,
                   floats_ + position * 16);
      for (int t = 0; t < tile_count_; ++t) {
        if (tiles_[t].count > 0) {
          with_queries (tiles_[t].count,
                        [&]<int Q> () { add_values<Q, 1> (tiles_[t], begin_, end_, column, rows); });
        }
      }
    }
  }

  // Values of positions [begin, end), in order of position for each query: what it sees before the tile's common part,
  // that part, and the rest. rows (position) gives the columns' rows from there on.
  template <int Q, int C, typename Rows>
  void add_values (const Tile &tile, int begin, int end, int column, const Rows &rows)
  {
    const int all_begin = most (begin, tile.all_begin), all_end = least (end, tile.all_end);
    const bool differ = tile.begin < tile.all_begin || tile.end > tile.all_end;
    for (int query = tile.first; differ && query < tile.first + Q; ++query)
      add_part<1, C> (query, most (begin, begin_of (query)), least (all_begin, least (end, end_of (query))),
                      column, rows);
    add_part<Q, C> (tile.first, all_begin, all_end, column, rows);
    for (int query = tile.first; differ && query < tile.first + Q; ++query)
      add_part<1, C> (
          query, most (most (begin, begin_of (query)), most (all_begin < end ? all_begin : end, all_end)),
          least (end, end_of (query)), column, rows);
  }

  template <int Q, int C, typename Rows>
  void add_part (int query, int begin, int end, int column, const Rows &rows)
  {
    if (begin < end)
      value_tile<Q, C> (scores (query) + begin, rows (begin), end - begin, state (query) + column,
                        width_ + kStatePad);
  }

  // What will be read kHeadsAhead heads after this one, `blocks` being taken at once: of keys, then of values, then
  // of the next chunk's keys.
  const char *soon (int position, int blocks, bool keys) const
  {
    const int head = head_ + kHeadsAhead;
    const auto part = static_cast<size_t> (head % args_.heads);
    position += head / args_.heads * blocks * kKvTokens;
    if (position >= end_) {
      if (!keys) {
        position += kAttentionChunk - (end_ + kKvTokens - 1) / kKvTokens * kKvTokens;
        if (chunk_ + position >= args_.end[args_.queries - 1])
          return nullptr;
      } else {
        position -= (end_ - begin_) / kKvTokens * kKvTokens;
        if (position >= end_)
          return nullptr;
      }
      keys = !keys;
    }
    return keys ? block_at (position) + args_.key_offset + part * args_.key_bytes
                : block_at (position) + args_.value_offset + part * args_.value_bytes;
  }

  int begin_of (int query) const { return most (0, most (args_.begin[query], args_.first) - chunk_); }
  int end_of (int query) const
  {
    return least (kAttentionChunk, least (args_.end[query], args_.last) - chunk_);
  }
  float *scores (int query) const { return scores_ + (head_ * args_.queries + query) * kAttentionChunk; }
  float *state (int query) const
  {
    return args_.states + static_cast<size_t> (head_ * args_.queries + query) * (width_ + kStatePad);
  }
  const char *block_at (int position) const
  {
    return reinterpret_cast<const char *> (
        args_.kv + static_cast<size_t> (args_.blocks[(chunk_ + position) / kKvTokens]) * args_.block_bytes);
  }
  const char *keys_at (int position) const
  {
    return block_at (position) + args_.key_offset + static_cast<size_t> (head_) * args_.key_bytes;
  }
  const char *values_at (int position) const
  {
    return block_at (position) + args_.value_offset + static_cast<size_t> (head_) * args_.value_bytes;
  }
  const char *next_keys_at (int position) const
  {
    return chunk_ + position < args_.end[args_.queries - 1] ? keys_at (position) : nullptr;
  }

  const AttentionArgs &args_;
  const size_t width_;
  float *const scores_; ///< [heads][queries][kAttentionChunk], then weights
  float *const floats_; ///< [head_dim][kKvTokens] of keys, or [kAttentionChunk][16] of values
  float *const q_;
  int from_ = 0, to_ = 0; ///< queries
  int head_ = 0;          ///< whose scores, states, keys and values are meant
  int chunk_ = 0;         ///< its first position
  int begin_ = 0, end_ = 0;
  Tile tiles_[kQueryTile / kTileQueries];
  int tile_count_ = 0;
};

} // namespace

void
attention_f32 (const AttentionArgs &args)
{
  Attention<Plain<F32Rows>> (args).run ();
}

void
attention_f16 (const AttentionArgs &args)
{
  Attention<Plain<F16Rows>> (args).run ();
}

void
attention_bf16 (const AttentionArgs &args)
{
  Attention<Plain<BF16Rows>> (args).run ();
}

void
attention_q8 (const AttentionArgs &args)
{
  Attention<Q8> (args).run ();
}

void
attention_k8v4 (const AttentionArgs &args)
{
  Attention<K8V4> (args).run ();
}

} // namespace millrace::cpu::avx2

#endif
