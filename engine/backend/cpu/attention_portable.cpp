// The reference of attention: blocks are expanded to floats, one after the other, for all queries of a tile.
// Order of sums and expected bound: kernels_portable.cpp.
#include "engine/backend/cpu/kernels_portable.hpp"

#include "engine/backend/cpu/kv_storage.hpp"
#include "engine/backend/cpu/vector_portable.hpp"

#include <algorithm>

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

// Scores → unnormalized probabilities; the inverse of their sum. Lanes are positions modulo kLanes: scores[0] is
// of the first position of a block.
float
softmax (float *scores, int begin, int end, float scale)
{
  float largest = scores[begin] * scale;
  for (int i = begin; i < end; ++i) {
    scores[i] *= scale;
    largest = std::max (largest, scores[i]);
  }
  for (int i = begin; i < end; ++i)
    scores[i] = exp_poly (scores[i] - largest);

  float lanes[kLanes] = {};
  int i = begin / kLanes * kLanes;
  std::fill (scores + i, scores + begin, 0.0f);
  for (; i + kLanes <= end; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane)
      lanes[lane] += scores[i + lane];
  }
  for (int lane = 0; i + lane < end; ++lane)
    lanes[lane] += scores[i + lane];
  return 1.0f / sum_lanes (lanes);
}

template <KvType type>
void
attention (const AttentionArgs &args)
{
  const int first = args.begin[0] / kKvTokens * kKvTokens; // whose score is scores[0]
  const int last = args.end[args.queries - 1];
  const auto scores_of = [&] (int query) { return args.scores + query * args.score_stride; };
  const auto values_of = [&] (int query) { return args.values + query * args.value_width; };

  for (int position = first; position < last; position += kKvTokens) {
    const float *keys =
        expand_keys (type, block_at (args, position) + args.key_offset, args.head_dim, args.block);
    for (int query = 0; query < args.queries; ++query) {
      float *scores = scores_of (query) + position - first;
      std::fill_n (scores, kKvTokens, 0.0f);
      for (int i = 0; i < args.head_dim; ++i)
        add_multiple (args.q[query][i], keys + i * kKvTokens, kKvTokens, scores);
    }
  }

  float inverse[kQueryTile];
  for (int query = 0; query < args.queries; ++query) {
    inverse[query] =
        softmax (scores_of (query), args.begin[query] - first, args.end[query] - first, args.scale);
    std::fill_n (values_of (query), args.value_width, 0.0f);
  }

  for (int position = first; position < last; position += kKvTokens) {
    const float *block =
        expand_values (type, block_at (args, position) + args.value_offset, args.value_width, args.block);
    for (int query = 0; query < args.queries; ++query) {
      const float *scores = scores_of (query);
      const int end = std::min (args.end[query], position + kKvTokens);
      for (int at = std::max (args.begin[query], position); at < end; ++at)
        add_multiple (scores[at - first], block + (at - position) * args.value_width, args.value_width,
                      values_of (query));
    }
  }

  for (int query = 0; query < args.queries; ++query) {
    for (int i = 0; i < args.head_dim; ++i)
      args.out[query][i] = values_of (query)[i] * inverse[query];
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
