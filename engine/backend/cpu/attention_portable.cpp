// The reference of attention: blocks are expanded to floats, or to integers where they are of bytes, one after the other, for
// all queries of a tile. Order of sums and expected bound: kernels_portable.cpp.
#include "engine/backend/cpu/kernels_portable.hpp"

#include "engine/backend/cpu/kv_storage.hpp"
#include "engine/backend/cpu/vector_portable.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace millrace::cpu::portable
{

namespace
{

const std::byte *
keys_at (const AttentionArgs &args, int position)
{
  const auto block = static_cast<size_t> (args.blocks[position / kKvTokens]);
  return args.kv + block / kSegmentBlocks * args.segment_bytes + args.key_offset +
         block % kSegmentBlocks * args.key_block_bytes;
}

const std::byte *
values_at (const AttentionArgs &args, int position)
{
  const auto block = static_cast<size_t> (args.blocks[position / kKvTokens]);
  return args.kv + block / kSegmentBlocks * args.segment_bytes + args.value_offset +
         block % kSegmentBlocks * args.value_block_bytes;
}

// out += factor · row
void
add_multiple (float factor, const float *row, int count, float *out)
{
  for (int i = 0; i < count; ++i)
    out[i] += factor * row[i];
}

// Scores of a chunk's positions [begin, end) → weights: e^(score - largest so far). What the state holds is scaled
// to the new largest score. Lanes are positions modulo kLanes.
void
soften (float *scores, int begin, int end, float *state, int width)
{
  float &largest = state[width], &sum = state[width + 1];
  float now = largest;
  for (int i = begin; i < end; ++i)
    now = std::max (now, scores[i]); // in this order NaN is left out
  for (int i = begin; i < end; ++i)
    scores[i] = exp_poly (scores[i] - now);

  if (now != largest) {
    const float factor = exp_poly (largest - now);
    for (int i = 0; i < width; ++i)
      state[i] *= factor;
    sum *= factor;
    largest = now;
  }
  float lanes[kLanes] = {};
  int i = begin / kLanes * kLanes;
  std::fill (scores + i, scores + begin, 0.0f);
  for (; i + kLanes <= end; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane)
      lanes[lane] += scores[i + lane];
  }
  for (int lane = 0; i + lane < end; ++lane)
    lanes[lane] += scores[i + lane];
  sum += sum_lanes (lanes);
}

constexpr float kTiny = 1e-30f; ///< what is not larger counts as zero

// Rounded, half to even: adding 1.5 · 2^23 leaves an integer in the low bits.
float
rounded (float x)
{
  return (x + 12582912.0f) - 12582912.0f;
}

// `count` floats → whole steps of largest / limit, as floats in `out`, which may be x; the step: NaN, and zeros, when one is
// not finite.
float
to_steps (const float *x, int count, float limit, float *out)
{
  float top = 0, poison = 0;
  for (int i = 0; i < count; ++i) {
    top = std::max (top, std::abs (x[i]));
    poison += x[i] * 0.0f;
  }
  const bool is_zero = std::isnan (poison) || top <= kTiny;
  const float inverse = is_zero ? 0.0f : limit / top;
  for (int i = 0; i < count; ++i)
    out[i] = is_zero ? 0.0f : rounded (x[i] * inverse);
  return (is_zero ? 0.0f : top / limit) + poison;
}

// Positions [begin, end) of one chunk, for the queries [from, to) that see any of them.
template <KvType type>
class Chunk
{
  static constexpr bool kByteKeys = type == KvType::kQ8 || type == KvType::kK8V4;
  static constexpr bool kByteValues = type == KvType::kQ8;

public:
  Chunk (const AttentionArgs &args, int from, int to, int begin, int end)
      : args_ (args)
      , from_ (from)
      , to_ (to)
      , begin_ (begin)
      , end_ (end)
      , chunk_ (begin / kAttentionChunk * kAttentionChunk)
      , first_ (begin / kKvTokens * kKvTokens)
      , block_ (args.scratch + args.queries * kAttentionChunk)
      , q_ (block_ + kKvTokens * std::max (args.head_dim, args.value_width))
      , sums_ (reinterpret_cast<int32_t *> (q_ + args.queries * args.head_dim))
      , steps_ (reinterpret_cast<float *> (sums_ + args.queries * args.value_width))
  {
  }

  void add ()
  {
    for (int query = from_; kByteKeys && query < to_; ++query)
      key_step (query) =
          to_steps (args_.q[query], args_.head_dim, most_key_digit (), q (query)) * args_.scale;
    for (int position = first_; position < end_; position += kKvTokens)
      score (position);
    for (int query = from_; query < to_; ++query) {
      const int begin = begin_of (query) - chunk_, end = end_of (query) - chunk_;
      soften (scores (query), begin, end, state (query), args_.value_width);
      if constexpr (kByteValues)
        start_sums (query, begin, end);
    }
    for (int position = first_; position < end_; position += kKvTokens)
      add_values (position);
    for (int query = from_; kByteValues && query < to_; ++query) {
      for (int i = 0; i < args_.value_width; ++i)
        state (query)[i] += static_cast<float> (sums (query)[i]) * value_step (query);
    }
  }

private:
  void score (int position)
  {
    const std::byte *data = keys_at (args_, position);
    const float *keys = nullptr;
    if constexpr (kByteKeys)
      key_steps_of (data, args_.head_dim, block_steps ());
    else
      keys = expand_keys (type, data, args_.head_dim, block_);
    for (int query = from_; query < to_; ++query) {
      float *out = scores (query) + position - chunk_;
      if constexpr (kByteKeys)
        score_steps (query, key_scales (data, args_.head_dim), out);
      else
        score_floats (query, keys, out);
      for (int i = 0; args_.softcap > 0 && i < kKvTokens; ++i)
        out[i] = softcap (out[i], args_.softcap);
    }
  }

  void score_floats (int query, const float *keys, float *out) const
  {
    std::fill_n (out, kKvTokens, 0.0f);
    for (int i = 0; i < args_.head_dim; ++i)
      add_multiple (args_.q[query][i], keys + i * kKvTokens, kKvTokens, out);
    for (int i = 0; i < kKvTokens; ++i)
      out[i] *= args_.scale;
  }

  void score_steps (int query, const float *scales, float *out) const
  {
    int32_t dots[kKvTokens] = {};
    for (int i = 0; i < args_.head_dim; ++i)
      add_products (static_cast<int16_t> (q (query)[i]), block_steps () + i * kKvTokens, kKvTokens, dots);
    for (int i = 0; i < kKvTokens; ++i)
      out[i] = static_cast<float> (dots[i]) * (scales[i] * key_step (query));
  }

  // Weights of positions [begin, end) of the chunk become steps.
  void start_sums (int query, int begin, int end)
  {
    float *weights = scores (query);
    for (int i = begin; i < end; ++i)
      weights[i] *= value_scales (values_at (args_, chunk_ + i), args_.value_width)[i % kKvTokens];
    value_step (query) =
        to_steps (weights + begin, end - begin, static_cast<float> (kMostDigit), weights + begin);
    std::fill_n (sums (query), args_.value_width, 0);
  }

  void add_values (int position)
  {
    const float *values = nullptr;
    if constexpr (kByteValues)
      value_steps_of (values_at (args_, position), args_.value_width, block_steps ());
    else
      values = expand_values (type, values_at (args_, position), args_.value_width, block_);
    for (int query = from_; query < to_; ++query) {
      const int stop = std::min (end_of (query), position + kKvTokens);
      for (int at = std::max (begin_of (query), position); at < stop; ++at) {
        const float weight = scores (query)[at - chunk_];
        const int row = (at - position) * args_.value_width;
        if constexpr (kByteValues)
          add_products (static_cast<int16_t> (weight), block_steps () + row, args_.value_width, sums (query));
        else
          add_multiple (weight, values + row, args_.value_width, state (query));
      }
    }
  }

  static void add_products (int16_t factor, const int16_t *row, int count, int32_t *sums)
  {
    for (int i = 0; i < count; ++i)
      sums[i] += factor * row[i];
  }

  float most_key_digit () const
  {
    return static_cast<float> (
        std::min (kMostDigit, std::numeric_limits<int32_t>::max () / 128 / args_.head_dim));
  }

  float *scores (int query) const { return args_.scratch + query * kAttentionChunk; }
  float *state (int query) const { return args_.states + query * (args_.value_width + kStatePad); }
  int begin_of (int query) const { return std::max (args_.begin[query], begin_); }
  int end_of (int query) const { return std::min (args_.end[query], end_); }
  float *q (int query) const { return q_ + query * args_.head_dim; }
  int32_t *sums (int query) const { return sums_ + query * args_.value_width; }
  float &key_step (int query) const { return steps_[2 * query]; }
  float &value_step (int query) const { return steps_[2 * query + 1]; }
  int16_t *block_steps () const { return reinterpret_cast<int16_t *> (block_); }

  const AttentionArgs &args_;
  const int from_, to_, begin_, end_, chunk_, first_;
  float *const block_;  ///< of floats, or of steps
  float *const q_;      ///< [queries][head_dim] steps
  int32_t *const sums_; ///< [queries][value_width]
  float *const steps_;  ///< [queries][2], of keys' and values' sums
};

template <KvType type>
void
attention_head (const AttentionArgs &args)
{
  for (int query = 0; query < args.queries; ++query) {
    float *state = args.states + query * (args.value_width + kStatePad);
    std::fill_n (state, args.value_width, 0.0f);
    state[args.value_width] = -std::numeric_limits<float>::infinity ();
    state[args.value_width + 1] = 0;
  }
  const int last = std::min (args.last, args.end[args.queries - 1]);
  for (int begin = std::max (args.first, args.begin[0]), end; begin < last; begin = end) {
    end = std::min (last, (begin / kAttentionChunk + 1) * kAttentionChunk);
    // In order of position: the first queries may have ended before, the last ones begin later.
    int from = 0, to = args.queries;
    while (from < to && args.end[from] <= begin)
      ++from;
    while (from < to && args.begin[to - 1] >= end)
      --to;
    if (from < to)
      Chunk<type> (args, from, to, std::max (begin, args.begin[from]), std::min (end, args.end[to - 1]))
          .add ();
  }
}

template <KvType type>
void
attention (AttentionArgs args)
{
  for (int head = 0; head < args.heads; ++head) {
    attention_head<type> (args);
    std::copy (args.q + args.queries, args.q + kQueryTile, args.q);
    args.key_offset += args.key_bytes;
    args.value_offset += args.value_bytes;
    args.states += args.queries * (args.value_width + kStatePad);
  }
}

} // namespace

void
attention_f32 (const AttentionArgs &args)
{
  attention<KvType::kF32> (args);
}

void
attention_f16 (const AttentionArgs &args)
{
  attention<KvType::kF16> (args);
}

void
attention_bf16 (const AttentionArgs &args)
{
  attention<KvType::kBF16> (args);
}

void
attention_q8 (const AttentionArgs &args)
{
  attention<KvType::kQ8> (args);
}

void
attention_k8v4 (const AttentionArgs &args)
{
  attention<KvType::kK8V4> (args);
}

} // namespace millrace::cpu::portable
