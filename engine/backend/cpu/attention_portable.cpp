// The reference of attention: blocks are expanded to floats, one after the other, for all queries of a tile.
// Order of sums and expected bound: kernels_portable.cpp.
#include "engine/backend/cpu/kernels_portable.hpp"

#include "engine/backend/cpu/kv_storage.hpp"
#include "engine/backend/cpu/vector_portable.hpp"

#include <algorithm>
#include <limits>

namespace millrace::cpu::portable
{

namespace
{

const std::byte *
block_at (const AttentionArgs &args, int position)
{
  return args.kv + static_cast<size_t> (args.blocks[position / kKvTokens]) * args.block_bytes;
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

// Positions [begin, end) of one chunk, for the queries [from, to) that see any of them.
template <KvType type>
void
add_chunk (const AttentionArgs &args, int from, int to, int begin, int end)
{
  const int chunk = begin / kAttentionChunk * kAttentionChunk, first = begin / kKvTokens * kKvTokens;
  float *block = args.scratch + args.queries * kAttentionChunk;
  const auto scores_of = [&] (int query) { return args.scratch + query * kAttentionChunk; };
  const auto state_of = [&] (int query) { return args.states + query * (args.value_width + kStatePad); };
  const auto begin_of = [&] (int query) { return std::max (args.begin[query], begin); };
  const auto end_of = [&] (int query) { return std::min (args.end[query], end); };

  for (int position = first; position < end; position += kKvTokens) {
    const float *keys = expand_keys (type, block_at (args, position) + args.key_offset, args.head_dim, block);
    for (int query = from; query < to; ++query) {
      float *scores = scores_of (query) + position - chunk;
      std::fill_n (scores, kKvTokens, 0.0f);
      for (int i = 0; i < args.head_dim; ++i)
        add_multiple (args.q[query][i], keys + i * kKvTokens, kKvTokens, scores);
      for (int i = 0; i < kKvTokens; ++i)
        scores[i] *= args.scale;
      if (args.softcap > 0) {
        for (int i = 0; i < kKvTokens; ++i)
          scores[i] = softcap (scores[i], args.softcap);
      }
    }
  }
  for (int query = from; query < to; ++query)
    soften (scores_of (query), begin_of (query) - chunk, end_of (query) - chunk, state_of (query),
            args.value_width);
  for (int position = first; position < end; position += kKvTokens) {
    const float *values =
        expand_values (type, block_at (args, position) + args.value_offset, args.value_width, block);
    for (int query = from; query < to; ++query) {
      const int stop = std::min (end_of (query), position + kKvTokens);
      for (int at = std::max (begin_of (query), position); at < stop; ++at)
        add_multiple (scores_of (query)[at - chunk], values + (at - position) * args.value_width,
                      args.value_width, state_of (query));
    }
  }
}

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
      add_chunk<type> (args, from, to, std::max (begin, args.begin[from]), std::min (end, args.end[to - 1]));
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
