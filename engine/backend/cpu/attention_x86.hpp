// Attention for AVX2 and AVX-512, whose 16 lanes are given: attention_lanes_avx2.hpp, attention_lanes_avx512.hpp.
//
// Both products have the shape out[query][0 … 16) += Σ a[query][i] · b[i][0 … 16): scores with the keys of a
// block ([head_dim][16 positions]), then values with 16 of their elements ([positions][16]). The register tile is
// 6 queries × 16 columns: with AVX2 12 accumulators, two vectors of b and one broadcast, so 12 multiply-adds of 8 loads
// and bound by multiply-adds. Two ways to feed it, of equal bits:
//   many queries   A block's keys, and then 16 columns of a chunk's values, become floats in scratch of 8 and 16 KiB once,
//                  and stay in the first-level cache for all register tiles.
//   one tile       Bound by memory: rows become floats in registers. Fewer queries take more columns at once (keys of
//                  several blocks, 32 or 64 elements of values), for 8 or more accumulators. All KV heads of a block are
//                  taken one after the other: they are neighbours in memory, where 4 KiB of one head at a time are
//                  read at half the speed. What comes next is asked for before: attention_ahead_x86.hpp.
// Bytes stay bytes: queries, and weights of a chunk, become integers of 16 bits, and 64 bytes are 4 columns of 16 lanes, so
// that two dot products of AVX-512 (four of AVX2, of words) take what were 8 conversions and 4 multiply-adds.
// Queries of a tile see different positions; those that not all of them see are done one query at a time, so that
// nothing a query must not see is ever multiplied by zero, but for integers, of which zero times any is zero.
// Contracts in kernels.hpp. Included by attention_avx2.cpp and attention_avx512.cpp; everything is internal to them.
#pragma once

#include "engine/backend/cpu/attention_tiles_x86.hpp"
#include "engine/backend/cpu/attention_weights_x86.hpp"

namespace millrace::cpu
{

namespace
{

constexpr int kTileQueries = 6;                        ///< of a register tile
constexpr int kRowsPerBlock = kKvTokens / kDotColumns; ///< of 64 bytes
static_assert (kQueryTile % kTileQueries == 0 && kAttentionChunk % (kMostBlocks * kKvTokens) == 0);

/// Queries of a register tile that see positions of a chunk. Positions are the chunk's.
struct Tile {
  int first, count;
  int begin, end;         ///< what any of them sees
  int all_begin, all_end; ///< what all of them see
};

template <typename Format>
class Attention
{
  using Lanes = typename Format::Lanes;
  using F32 = F32Rows<Lanes>;
  static constexpr bool kByteKeys = Format::kByteKeys, kByteValues = Format::kByteValues;

public:
  explicit Attention (const AttentionArgs &args)
      : args_ (args)
      , width_ (static_cast<size_t> (args.value_width))
      , key_steps_ ((args.head_dim + kDotColumns - 1) / kDotColumns)
      , scores_ (args.scratch)
      , floats_ (scores_ + args.heads * args.queries * kAttentionChunk)
      , q_ (floats_ + kKvTokens * most (args.head_dim, kAttentionChunk))
      , sums_ (reinterpret_cast<int32_t *> (q_ + args.heads * args.queries * key_steps_ * kDotColumns))
      , key_digits_ (
            reinterpret_cast<Digits *> (sums_ + static_cast<size_t> (args.heads * args.queries) * width_))
      , weight_digits_ (key_digits_ + args.heads * args.queries)
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
    is_one_tile_ = to_ - from_ <= kTileQueries;
    const int begin = most (args_.first, args_.begin[from_]), end = least (args_.last, args_.end[to_ - 1]);
    if (is_one_tile_)
      ahead_.start (begin, args_.end[args_.queries - 1], kByteKeys ? 1 : blocks_at_once<Lanes> (to_ - from_));
    for (chunk_ = begin / kAttentionChunk * kAttentionChunk; chunk_ < end; chunk_ += kAttentionChunk)
      run_chunk ();
  }

private:
  // Empty states; queries of each head as tiles of [head_dim][count], or of steps of digits.
  void prepare ()
  {
    float *out = q_;
    for (head_ = 0; head_ < args_.heads; ++head_) {
      for (int query = from_; query < to_; ++query) {
        for (size_t i = 0; i < width_; i += 16)
          Lanes::store (state (query) + i, Lanes::zero ());
        state (query)[width_] = -__builtin_inff ();
        state (query)[width_ + 1] = 0;
      }
      for (int first = from_; first < to_; first += kTileQueries) {
        const int count = least (kTileQueries, to_ - first);
        lay_out (first, count, out);
        out += tile_floats (count);
      }
    }
  }

  void lay_out (int first, int count, float *out)
  {
    const float *const *q = args_.q + head_ * args_.queries + first;
    if constexpr (kByteKeys) {
      auto *steps = reinterpret_cast<char *> (out);
      for (int i = 0; i < count; ++i) {
        Digits digits = query_digits<Lanes> (q[i], args_.head_dim, steps + i * Lanes::kStepBytes,
                                             static_cast<size_t> (count * Lanes::kStepBytes));
        digits.step *= args_.scale;
        key_digits_[row (first + i)] = digits;
      }
    } else {
      with_queries<kTileQueries> (count, [&]<int Q> () { cpu::lay_out_queries<Q> (q, args_.head_dim, out); });
    }
  }

  /// Of the queries of a tile. A step of digits is of kDotColumns floats.
  int tile_floats (int count) const
  {
    static_assert (Lanes::kStepBytes <= kDotColumns * sizeof (float));
    return count * (kByteKeys ? key_steps_ * Lanes::kStepBytes / int{sizeof (float)} : args_.head_dim);
  }

  void run_chunk ()
  {
    lay_out_tiles ();
    if (begin_ >= end_)
      return;
    if (is_one_tile_) {
      score_from_memory ();
      for (head_ = 0; head_ < args_.heads; ++head_)
        soften_scores ();
      add_values_from_memory ();
      return;
    }
    for (head_ = 0; head_ < args_.heads; ++head_) {
      score_from_cache ();
      soften_scores ();
      if constexpr (kByteValues)
        add_bytes_from_cache ();
      else
        add_values_from_floats ();
    }
  }

  void soften_scores ()
  {
    for (int query = from_; query < to_; ++query) {
      const int begin = begin_of (query), end = end_of (query);
      if (begin >= end)
        continue;
      if (is_one_tile_)
        ahead_.fetch_more (kSoftenLines);
      if (args_.softcap > 0)
        cap_scores<Lanes> (scores (query), begin, end, args_.softcap);
      soften<Lanes> (scores (query), begin, end, state (query), args_.value_width);
      if constexpr (kByteValues)
        weight_digits_[row (query)] =
            weight_digits<Lanes> (scores (query), begin, end, first_block (), end_, [&] (int position) {
              return Format::value_scales (values_at (position), width_);
            });
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
    if constexpr (kByteKeys) {
      for (int position = first_block (); position < end_; position += kKvTokens)
        score_bytes_from_memory (position);
    } else {
      with_queries<kTileQueries> (to_ - from_, [&]<int Q> () {
        constexpr int kBlocks = blocks_at_once<Lanes> (Q);
        int position = first_block ();
        for (; position + (kBlocks - 1) * kKvTokens < end_; position += kBlocks * kKvTokens)
          score_blocks<Q, kBlocks> (position);
        for (; kBlocks > 1 && position < end_; position += kKvTokens)
          score_blocks<Q, 1> (position);
      });
    }
  }

  // Heads of a block one after the other: they are neighbours in memory.
  template <int Q, int B>
  void score_blocks (int position)
  {
    for (head_ = 0; head_ < args_.heads; ++head_) {
      decltype (Format::keys (nullptr)) keys[B];
      for (int b = 0; b < B; ++b)
        keys[b] = Format::keys (keys_at (position + b * kKvTokens));
      ahead_.read (B * args_.key_bytes, args_.head_dim / kRowsPerFetch);
      score_tile<Lanes, Q, B> (q_ + head_ * Q * args_.head_dim, keys, args_.scale, args_.head_dim,
                               scores (from_) + position, ahead_);
    }
  }

  void score_bytes_from_memory (int position)
  {
    const int count = to_ - from_;
    for (head_ = 0; head_ < args_.heads; ++head_) {
      ahead_.read (args_.key_bytes, key_steps_ / kRowsPerFetch);
      // Scales of all values are wanted before the first value.
      if constexpr (kByteValues)
        _mm_prefetch (reinterpret_cast<const char *> (Format::value_scales (values_at (position), width_)),
                      _MM_HINT_T1);
      score_bytes (position, from_, count, q_ + head_ * tile_floats (count), ahead_);
    }
  }

  // A block with the queries of a tile.
  template <typename Ahead>
  void score_bytes (int position, int first, int count, const float *q, Ahead &&ahead)
  {
    const char *head = keys_at (position);
    const auto scales = Lanes::load (Format::key_scales (head, args_.head_dim));
    const auto *steps = reinterpret_cast<const char *> (q);
    for (int i = 0; i < count; i += Lanes::kDotQueries) {
      with_queries<Lanes::kDotQueries> (least (Lanes::kDotQueries, count - i), [&]<int Q> () {
        typename Lanes::Sums sums[Q][1];
        clear (sums);
        dot_tile<Lanes, Q, 1> (steps + i * Lanes::kStepBytes, static_cast<size_t> (count) * Lanes::kStepBytes,
                               Lanes::kStepBytes, head, kDotRowBytes, key_steps_, sums, ahead);
#pragma GCC unroll 8
        for (int query = 0; query < Q; ++query) {
          const Digits &digits = key_digits_[row (first + i + query)];
          const auto dots = Lanes::floats (without_bias (sums[query][0], digits));
          Lanes::store (scores (first + i + query) + position,
                        Lanes::multiply (dots, Lanes::multiply (scales, Lanes::set (digits.step))));
        }
      });
    }
  }

  void score_from_cache ()
  {
    for (int position = first_block (); position < end_; position += kKvTokens) {
      const char *head = keys_at (position);
      BlocksAhead ahead;
      ahead.add (next_keys_at (position + kKvTokens));
      ahead.add (values_at (position));
      ahead.spread (Format::key_bytes (args_.head_dim), tile_count_);
      const float *q = q_ + head_ * tile_floats (to_ - from_);
      [[maybe_unused]] F32 keys{};
      if constexpr (!kByteKeys)
        keys = key_floats (head);
      for (int t = 0; t < tile_count_; ++t) {
        const int first = from_ + t * kTileQueries, count = least (kTileQueries, to_ - first);
        ahead.fetch ();
        if (tiles_[t].begin < position + kKvTokens && tiles_[t].end > position) {
          if constexpr (kByteKeys)
            score_bytes (position, first, count, q, NotAhead ());
          else
            with_queries<kTileQueries> (count, [&]<int Q> () {
              score_tile<Lanes, Q, 1> (q, &keys, args_.scale, args_.head_dim, scores (first) + position,
                                       NotAhead ());
            });
        }
        q += tile_floats (count);
      }
    }
  }

  F32 key_floats (const char *head)
  {
    if constexpr (Format::kFloats)
      return Format::keys (head);
    else
      return floats_of (Format::keys (head), args_.head_dim, floats_);
  }

  // 16 columns of `count` rows.
  template <typename Rows>
  static F32 floats_of (Rows rows, int count, float *out)
  {
    for (int i = 0; i < count; ++i) {
      Lanes::store (out + i * 16, rows.load (0));
      rows.next ();
    }
    return {reinterpret_cast<const char *> (out), 16 * sizeof (float)};
  }

  void add_values_from_memory ()
  {
    if constexpr (kByteValues) {
      start_sums ();
      for (int position = first_block (); position < end_; position += kKvTokens) {
        for (head_ = 0; head_ < args_.heads; ++head_)
          add_bytes (position);
      }
      finish_sums ();
    } else {
      with_queries<kTileQueries> (tiles_[0].count, [&]<int Q> () {
        for (int position = first_block (); position < end_; position += kKvTokens) {
          for (head_ = 0; head_ < args_.heads; ++head_)
            add_block<Q> (position);
        }
      });
    }
  }

  template <int Q>
  void add_block (int position)
  {
    constexpr int kColumns = columns_at_once<Lanes> (Q);
    const char *head = values_at (position);
    ahead_.read (args_.value_bytes, args_.value_width / (16 * kColumns) * kKvTokens / kRowsPerFetch);
    int column = 0;
    const auto rows = [&] (int at) { return Format::values (head, width_, at - position, column); };
    for_columns<kColumns> (column, [&]<int C> () {
      add_values<Q, C> (tiles_[0], position, position + kKvTokens, column, rows, ahead_);
    });
  }

  // Calls work.operator() <C> () for columns [column, column + 16 · C) until the last, as many at once as can be.
  template <int C, typename F>
  void for_columns (int &column, F &&work) const
  {
    for (; column + 16 * C <= args_.value_width; column += 16 * C)
      work.template operator()<C> ();
    if constexpr (C > 1)
      for_columns<C / 2> (column, work);
  }

  // Of a chunk, bytes of values with the weights of each head and query, less the bias of bytes.
  void start_sums ()
  {
    for (head_ = 0; head_ < args_.heads; ++head_) {
      for (int query = tiles_[0].first; query < tiles_[0].first + tiles_[0].count; ++query) {
        for (size_t i = 0; i < width_; i += 16)
          Lanes::store_ints (sums (query) + i, Lanes::set_ints (-weight_digits_[row (query)].bias));
      }
    }
  }

  void finish_sums ()
  {
    for (head_ = 0; head_ < args_.heads; ++head_) {
      for (int query = tiles_[0].first; query < tiles_[0].first + tiles_[0].count; ++query) {
        const auto step = Lanes::set (weight_digits_[row (query)].step);
        for (size_t i = 0; i < width_; i += 16)
          add_to_state (query, i, Lanes::load_ints (sums (query) + i), step);
      }
    }
  }

  void add_to_state (int query, size_t column, typename Lanes::Ints sum, typename Lanes::Floats step)
  {
    float *out = state (query) + column;
    Lanes::store (out, Lanes::multiply_add (Lanes::floats (sum), step, Lanes::load (out)));
  }

  void add_bytes (int position)
  {
    const int steps = args_.value_width / (16 * dot_columns_at_once<Lanes> (tiles_[0].count));
    ahead_.read (args_.value_bytes, steps * kRowsPerBlock / kRowsPerFetch);
    for (int i = 0; i < tiles_[0].count; i += Lanes::kDotQueries) {
      with_queries<Lanes::kDotQueries> (least (Lanes::kDotQueries, tiles_[0].count - i), [&]<int Q> () {
        int column = 0;
        for_columns<dot_columns_at_once<Lanes> (Q)> (
            column, [&]<int C> () { add_bytes<Q, C> (position, tiles_[0].first + i, column); });
      });
    }
  }

  template <int Q, int C>
  void add_bytes (int position, int query, int column)
  {
    typename Lanes::Sums added[Q][C];
    clear (added);
    add_rows<Q, C> (position, query, column, added, ahead_);
#pragma GCC unroll 8
    for (int i = 0; i < Q; ++i) {
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) {
        int32_t *out = sums (query + i) + column + c * 16;
        Lanes::store_ints (out, Lanes::add_ints (Lanes::load_ints (out), Lanes::total (added[i][c])));
      }
    }
  }

  // Columns of a block.
  template <int Q, int C, typename Ahead>
  void add_rows (int position, int query, int column, typename Lanes::Sums (&added)[Q][C], Ahead &&ahead)
  {
    const auto *steps = reinterpret_cast<const char *> (scores (query));
    const int panel = column / kDotPanel * kDotPanel;
    dot_tile<Lanes, Q, C> (steps + position / kDotColumns * Lanes::kStepBytes, Lanes::kStepBytes,
                           kAttentionChunk * sizeof (float),
                           values_at (position) + panel * kKvTokens + (column - panel) * kDotColumns,
                           static_cast<size_t> (least (kDotPanel, args_.value_width - panel) * kDotColumns),
                           kRowsPerBlock, added, ahead);
  }

  void add_bytes_from_cache ()
  {
    for (int t = 0; t < tile_count_; ++t) {
      for (int i = 0; i < tiles_[t].count; i += Lanes::kDotQueries) {
        with_queries<Lanes::kDotQueries> (least (Lanes::kDotQueries, tiles_[t].count - i), [&]<int Q> () {
          int column = 0;
          for_columns<dot_columns_at_once<Lanes> (Q)> (
              column, [&]<int C> () { add_chunk<Q, C> (tiles_[t], tiles_[t].first + i, column); });
        });
      }
    }
  }

  // Columns of all blocks that a tile sees.
  template <int Q, int C>
  void add_chunk (const Tile &tile, int query, int column)
  {
    typename Lanes::Sums added[Q][C];
    clear (added);
    for (int position = tile.begin / kKvTokens * kKvTokens; position < tile.end; position += kKvTokens)
      add_rows<Q, C> (position, query, column, added, NotAhead ());
#pragma GCC unroll 8
    for (int i = 0; i < Q; ++i) {
      const Digits &digits = weight_digits_[row (query + i)];
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c)
        add_to_state (query + i, static_cast<size_t> (column + c * 16), without_bias (added[i][c], digits),
                      Lanes::set (digits.step));
    }
  }

  template <int Q, int C>
  static void clear (typename Lanes::Sums (&sums)[Q][C])
  {
#pragma GCC unroll 8
    for (int i = 0; i < Q; ++i) {
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c)
        sums[i][c] = Lanes::no_sums ();
    }
  }

  static typename Lanes::Ints without_bias (const typename Lanes::Sums &sums, const Digits &digits)
  {
    return Lanes::add_ints (Lanes::total (sums), Lanes::set_ints (-digits.bias));
  }

  void add_values_from_floats ()
  {
    const auto rows = [&] (int at) {
      return F32{reinterpret_cast<const char *> (floats_ + at * 16), 16 * sizeof (float)};
    };
    for (int column = 0; column < args_.value_width; column += 16) {
      for (int position = first_block (); position < end_; position += kKvTokens)
        floats_of (Format::values (values_at (position), width_, 0, column), kKvTokens,
                   floats_ + position * 16);
      for (int t = 0; t < tile_count_; ++t) {
        if (tiles_[t].count > 0) {
          with_queries<kTileQueries> (tiles_[t].count, [&]<int Q> () {
            add_values<Q, 1> (tiles_[t], begin_, end_, column, rows, NotAhead ());
          });
        }
      }
    }
  }

  // Values of positions [begin, end), in order of position for each query: what it sees before the tile's common part,
  // that part, and the rest. rows (position) gives the columns' rows from there on.
  template <int Q, int C, typename Rows, typename Ahead>
  void add_values (const Tile &tile, int begin, int end, int column, const Rows &rows, Ahead &&ahead)
  {
    const int all_begin = most (begin, tile.all_begin), all_end = least (end, tile.all_end);
    const bool differ = tile.begin < tile.all_begin || tile.end > tile.all_end;
    for (int query = tile.first; differ && query < tile.first + Q; ++query)
      add_part<1, C> (query, most (begin, begin_of (query)), least (all_begin, least (end, end_of (query))),
                      column, rows, ahead);
    add_part<Q, C> (tile.first, all_begin, all_end, column, rows, ahead);
    for (int query = tile.first; differ && query < tile.first + Q; ++query)
      add_part<1, C> (
          query, most (most (begin, begin_of (query)), most (all_begin < end ? all_begin : end, all_end)),
          least (end, end_of (query)), column, rows, ahead);
  }

  template <int Q, int C, typename Rows, typename Ahead>
  void add_part (int query, int begin, int end, int column, const Rows &rows, Ahead &&ahead)
  {
    if (begin < end)
      value_tile<Lanes, Q, C> (scores (query) + begin, rows (begin), end - begin, state (query) + column,
                               width_ + kStatePad, ahead);
  }

  int first_block () const
  {
    return begin_ / kKvTokens * kKvTokens;
  }
  int row (int query) const
  {
    return head_ * args_.queries + query;
  }
  int begin_of (int query) const
  {
    return most (0, most (args_.begin[query], args_.first) - chunk_);
  }
  int end_of (int query) const
  {
    return least (kAttentionChunk, least (args_.end[query], args_.last) - chunk_);
  }
  float *scores (int query) const
  {
    return scores_ + row (query) * kAttentionChunk;
  }
  int32_t *sums (int query) const
  {
    return sums_ + static_cast<size_t> (row (query)) * width_;
  }
  float *state (int query) const
  {
    return args_.states + static_cast<size_t> (row (query)) * (width_ + kStatePad);
  }
  const char *keys_at (int position) const
  {
    return keys_of (args_, chunk_ + position, head_);
  }
  const char *values_at (int position) const
  {
    return values_of (args_, chunk_ + position, head_);
  }
  const char *next_keys_at (int position) const
  {
    return chunk_ + position < args_.end[args_.queries - 1] ? keys_at (position) : nullptr;
  }

  const AttentionArgs &args_;
  const size_t width_;
  const int key_steps_; ///< of kDotColumns each
  float *const scores_; ///< [heads][queries][kAttentionChunk], then weights, then their digits
  float *const floats_; ///< [head_dim][kKvTokens] of keys, or [kAttentionChunk][16] of values
  float *const q_;
  int32_t *const sums_;                             ///< [heads][queries][value_width]
  Digits *const key_digits_, *const weight_digits_; ///< [heads][queries]
  int from_ = 0, to_ = 0;                           ///< queries
  bool is_one_tile_ = false;                        ///< which reads memory once
  ReadAhead ahead_{args_};                          ///< of one tile
  int head_ = 0;                                    ///< whose scores, states, keys and values are meant
  int chunk_ = 0;                                   ///< its first position
  int begin_ = 0, end_ = 0;
  Tile tiles_[kQueryTile / kTileQueries];
  int tile_count_ = 0;
};

} // namespace

} // namespace millrace::cpu
