#include "engine/backend/cpu/attention.hpp"

#include "engine/backend/cpu/vector_portable.hpp"

#include <algorithm>

namespace millrace::cpu
{

namespace
{

size_t
state_stride (int value_width)
{
  return static_cast<size_t> (value_width + kStatePad);
}

// `into` is of earlier positions.
void
merge (float *into, const float *from, int value_width)
{
  float &largest = into[value_width], &sum = into[value_width + 1];
  const float now = std::max (largest, from[value_width]);
  const float factor = exp_poly (largest - now), from_factor = exp_poly (from[value_width] - now);
  for (int i = 0; i < value_width; ++i)
    into[i] = into[i] * factor + from[i] * from_factor;
  sum = sum * factor + from[value_width + 1] * from_factor;
  largest = now;
}

// States of the split from position `begin` on are added to those of the splits before.
void
merge_split (const AttentionArgs &args, int begin, float *into, const float *from)
{
  const size_t stride = state_stride (args.value_width);
  for (int row = 0; row < args.heads * args.queries; ++row, into += stride, from += stride) {
    const int query = row % args.queries;
    if (args.end[query] <= begin || args.begin[query] >= begin + kAttentionSplit)
      continue;
    if (args.begin[query] >= begin)
      std::copy_n (from, stride, into);
    else
      merge (into, from, args.value_width);
  }
}

void
finish (const AttentionArgs &args, int value_dim, const float *sinks, const float *states, float *const *out)
{
  for (int row = 0; row < args.heads * args.queries; ++row, states += state_stride (args.value_width)) {
    const float largest = states[args.value_width], sum = states[args.value_width + 1];
    float factor = 1.0f / sum;
    if (sinks) {
      const float now = std::max (largest, sinks[row]), seen = exp_poly (largest - now);
      factor = seen / (sum * seen + exp_poly (sinks[row] - now));
    }
    for (int i = 0; i < value_dim; ++i)
      out[row][i] = states[i] * factor;
  }
}

int
first_split (const AttentionArgs &args)
{
  return args.begin[0] / kAttentionSplit * kAttentionSplit;
}

} // namespace

size_t
attention_scratch (int queries, int head_dim, int value_width)
{
  // Scores; queries; of kQ8 sums of bytes, and what digits of queries and weights stand for.
  const int row =
      kAttentionChunk + (head_dim + kDotColumns - 1) / kDotColumns * kDotColumns + value_width + 4;
  const int floats = kKvTokens * std::max ({head_dim, value_width, kAttentionChunk});
  return static_cast<size_t> (queries) * static_cast<size_t> (row) + static_cast<size_t> (floats) +
         kLanes; // vectors are stored beyond the last query's end
}

size_t
state_floats (int states, int value_width)
{
  return static_cast<size_t> (states) * state_stride (value_width);
}

int
count_splits (int begin, int end)
{
  return (end - 1) / kAttentionSplit - begin / kAttentionSplit + 1;
}

void
attend (AttentionKernel kernel, AttentionArgs &args, int value_dim, const float *sinks, float *const *out,
        float *part)
{
  float *const states = args.states;
  const int begin = first_split (args), end = args.end[args.queries - 1];
  for (int position = begin; position < end; position += kAttentionSplit) {
    args.first = position;
    args.last = position + kAttentionSplit;
    args.states = position == begin ? states : part;
    kernel (args);
    if (position > begin)
      merge_split (args, position, states, part);
  }
  finish (args, value_dim, sinks, states, out);
  args.states = states;
}

void
attend_splits (AttentionKernel kernel, AttentionArgs &args, int first, int last)
{
  float *const states = args.states;
  for (int split = first; split < last; ++split) {
    args.first = first_split (args) + split * kAttentionSplit;
    args.last = args.first + kAttentionSplit;
    args.states =
        states + static_cast<size_t> (split) * state_floats (args.heads * args.queries, args.value_width);
    kernel (args);
  }
  args.states = states;
}

void
merge_splits (const AttentionArgs &args, int value_dim, const float *sinks, float *const *out)
{
  const int begin = first_split (args), end = args.end[args.queries - 1];
  const float *from = args.states;
  for (int position = begin + kAttentionSplit; position < end; position += kAttentionSplit) {
    from += state_floats (args.heads * args.queries, args.value_width);
    merge_split (args, position, args.states, from);
  }
  finish (args, value_dim, sinks, args.states, out);
}

} // namespace millrace::cpu
