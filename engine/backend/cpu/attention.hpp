// Attention as every instruction set computes it: what is summed in which order.
//
// A query's positions are cut where absolute positions are multiples of kAttentionSplit. Of each part a kernel
// (kernels.hpp) gives a state: the values' weighted sum, the largest score and the sum of weights. States of a query are merged
// in ascending order, whoever computed them. So a number depends on the query's position, its window and KV,
// never on what else is in the pass, nor on how many threads share a long context; and parts of one context can be
// computed at the same time. Contexts of one split, the most, merge nothing. Pure functions; any thread.
#pragma once

#include "engine/backend/cpu/kernels.hpp"

namespace millrace::cpu
{

using AttentionKernel = void (*) (const AttentionArgs &);

/// Floats that a kernel needs for `queries` queries of all heads together.
size_t attention_scratch (int queries, int head_dim, int value_width);

/// Floats of as many states.
size_t state_floats (int states, int value_width);

/// All splits, one after the other: args but `first` and `last` → out[query][0 … value_dim). args.states and `part` hold
/// a state for each query.
/// `sinks`: of each of args.heads · args.queries rows, a score beside those of the positions; or null.
void attend (AttentionKernel kernel, AttentionArgs &args, int value_dim, const float *sinks,
             float *const *out, float *part);

/// Splits [first, last) of those that the queries see, counted from that of args.begin[0]: states of split i are
/// those from i · heads · queries on.
void attend_splits (AttentionKernel kernel, AttentionArgs &args, int first, int last);

/// What attend () gives, of the states of all splits, which are overwritten. Of args only ranges, value_width and
/// states are looked at.
void merge_splits (const AttentionArgs &args, int value_dim, const float *sinks, float *const *out);

/// Splits that hold positions of [begin, end).
int count_splits (int begin, int end);

} // namespace millrace::cpu
