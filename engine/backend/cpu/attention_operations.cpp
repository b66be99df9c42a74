// Attention of a program: keys and values into the blocks, and the tasks of what queries see. See context.hpp.
#include "engine/backend/cpu/attention.hpp"
#include "engine/backend/cpu/context.hpp"
#include "engine/backend/cpu/parts.hpp"

#include <algorithm>
#include <functional>

namespace millrace::cpu
{

namespace
{

constexpr int kAppendCost = 16; ///< of a number that is rotated and stored, in multiply-adds

} // namespace

void
Context::run (const KvAppendOp &op)
{
  const KvLayer &layer = compiled_->program.kv_layers[static_cast<size_t> (op.layer)];
  const int rows = row_count (buffer (op.q)), threads = compiled_->pool->size ();
  if (rows == 0)
    return;
  const int64_t cost = int64_t{rows} * kAppendCost * (op.heads + 2 * layer.heads) * layer.head_dim;
  // Of many rows, those of about a block together: keys of its positions share lines, which two threads would take from
  // each other, and one head's stay in the first-level cache. Of very few, some heads.
  const int part_rows = rows >= 2 * kBlockTokens * threads ? kBlockTokens : 1;
  const int part_heads = parts_of (layer.heads, std::min (layer.heads, parts_of (2 * threads, rows)));
  const int head_parts = parts_of (layer.heads, part_heads);
  run_parts (*compiled_->pool, parts_of (rows, part_rows) * head_parts, cost, [&] (int part, int) {
    const int begin = part / head_parts * part_rows, end = std::min (rows, begin + part_rows);
    const int first = part % head_parts * part_heads, last = std::min (layer.heads, first + part_heads);
    for (int row = begin; row < end; ++row)
      prepare_heads (op, row, first, last);
    for (int head = first; op.k != kNone && head < last; ++head) {
      for (int row = begin; row < end; ++row)
        append_head (op, row, head);
    }
  });
}

/// Norms and rotation, in place, of KV heads [first, last) and the heads that share them.
void
Context::prepare_heads (const KvAppendOp &op, int row, int first, int last)
{
  const KvLayer &layer = compiled_->program.kv_layers[static_cast<size_t> (op.layer)];
  const int head_dim = layer.head_dim, group = op.heads / layer.heads;
  const auto prepare = [&] (float *heads, int begin, int end, WeightId norm) {
    for (int head = begin; head < end; ++head) {
      float *x = heads + head * head_dim;
      if (norm != kNone)
        kernels_.rms_norm (x, compiled_->weights[norm].vector (), head_dim, op.epsilon, x);
      if (op.rope != kNone) {
        const auto &table = compiled_->program.ropes[static_cast<size_t> (op.rope)];
        const size_t half = table.inverse_frequencies.size ();
        const float *cosines =
            rope_rows_[static_cast<size_t> (op.rope)] + static_cast<size_t> (row) * 2 * half;
        kernels_.rotate (x, cosines, cosines + half, static_cast<int> (half));
      }
    }
  };
  prepare (buffer (op.q).row (row), first * group, last * group, op.q_norm);
  if (op.k == kNone)
    return;
  prepare (buffer (op.k).row (row), first, last, op.k_norm);
  const int value_dim = layer.value_width ();
  float *v = buffer (op.v).row (row);
  for (int head = first; op.v_norm && head < last; ++head)
    kernels_.rms_norm (v + head * value_dim, ones_.data (), value_dim, op.epsilon, v + head * value_dim);
}

void
Context::append_head (const KvAppendOp &op, int row, int head)
{
  const KvLayer &layer = compiled_->program.kv_layers[static_cast<size_t> (op.layer)];
  const int head_dim = layer.head_dim, value_dim = layer.value_width ();
  const TokenRow &token = rows_[static_cast<size_t> (row)];
  const KvPlace &at = place (op.layer);
  const auto group = static_cast<size_t> (at.group), index = static_cast<size_t> (head);
  const auto blocks = slices_[static_cast<size_t> (token.slice)].blocks[group];
  const BlockId block = blocks[static_cast<size_t> (token.position / kBlockTokens)];
  std::byte *data = kv_[group].data ();
  const int slot = token.position % kBlockTokens;
  store_key (kernels_, kv_type_, buffer (op.k).row (row) + head * head_dim, head_dim, slot,
             data + keys_of_block (kv_plan_, at, block) + index * at.key_bytes);
  store_value (kernels_, kv_type_, buffer (op.v).row (row) + head * value_dim, value_dim, at.value_width,
               slot, data + values_of_block (kv_plan_, at, block) + index * at.value_bytes);
}

namespace
{

/// Positions that tokens [first, last] of a slice look at.
struct Seen {
  int begin, end;

  int splits () const { return count_splits (begin, end); }
};

Seen
seen_by (const Slice &slice, int window, int first, int last)
{
  const int begin = slice.position + first + 1;
  return {window > 0 ? std::max (0, begin - window) : 0, slice.position + last + 1};
}

/// Whether threads that take splits of a context in turn end at about the same time.
bool
end_together (const Seen &seen, int threads)
{
  constexpr int kShort = kAttentionSplit / 10; // of a last split, which delays nobody
  const int positions = seen.end - seen.begin;
  const int rounds = parts_of (parts_of (std::max (1, positions - kShort), kAttentionSplit), threads);
  return int64_t{rounds} * threads * kAttentionSplit * 10 <= int64_t{positions} * 11;
}

} // namespace

/// Queries of a task: as many as share a reading of memory, while every thread still has two parts.
int
Context::query_tile (const KvLayer &layer, int group) const
{
  for (int tile = kQueryTile; tile > kLeastQueryTile; tile /= 2) {
    int parts = 0;
    for (const Slice &slice : slices_) {
      const int tokens = static_cast<int> (slice.tokens.size ()), queries = tokens * group;
      if (queries > kSplitQueries)
        parts += parts_of (queries, tile);
      else if (queries > 0)
        parts += seen_by (slice, layer.window, 0, tokens - 1).splits ();
    }
    if (parts * layer.heads >= 2 * compiled_->pool->size ())
      return tile;
  }
  return kLeastQueryTile;
}

// The longest tasks first: what is left at the end is short. Few queries are of all KV heads, which are neighbours in
// memory; when that is more than a fair share of a thread's work their context is cut by its splits, or else by heads.
void
Context::plan_attention (const KvLayer &layer, int group)
{
  tasks_.clear ();
  query_tile_ = query_tile (layer, group);
  int64_t total = 0;
  int token_row = 0;
  for (size_t i = 0; i < slices_.size (); ++i) {
    const int count = static_cast<int> (slices_[i].tokens.size ());
    for (int query = 0; query < count * group; query += query_tile_) {
      AttentionTask &task = tasks_.emplace_back ();
      task.slice = static_cast<int> (i);
      task.token_row = token_row;
      task.first_query = query;
      task.queries = std::min (query_tile_, count * group - query);
      const Seen seen = seen_by (slices_[i], layer.window, query / group, (query + task.queries - 1) / group);
      task.splits = seen.splits ();
      task.is_even = end_together (seen, compiled_->pool->size ());
      task.cost = static_cast<int64_t> (seen.end - seen.begin) * parts_of (task.queries, kLeastQueryTile) *
                  kLeastQueryTile * layer.heads * layer.head_dim * 2;
      total += task.cost;
    }
    token_row += count;
  }
  std::ranges::sort (tasks_, std::greater (), &AttentionTask::cost);

  const int threads = compiled_->pool->size ();
  const int64_t share = threads > 1 ? total / (kPartsPerThread * threads) + 1 : total;
  size_t states = 0;
  for (AttentionTask &task : tasks_) {
    int parts = static_cast<int> ((task.cost + share - 1) / share); // wanted
    task.heads = task.queries <= kLeastQueryTile ? std::min (layer.heads, kQueryTile / task.queries) : 1;
    if (task.heads == 1)
      parts = parts_of (parts, layer.heads);
    task.cuts = 1;
    task.first_state = states;
    const auto task_states = static_cast<size_t> (task.splits * layer.heads * task.queries);
    if (parts > 1 && task.splits > 1 && task.queries <= kSplitQueries &&
        states + task_states <= states_room_) {
      task.cuts = std::min (task.splits, parts);
      states += task_states;
    }
    // All heads of a block are one stretch of memory.
    if (task.cuts == 1 || !task.is_even)
      task.heads = std::max (1, std::min (task.heads, layer.heads / parts_of (parts, task.cuts)));
  }
}

void
Context::run (const AttentionOp &op)
{
  const KvLayer &layer = compiled_->program.kv_layers[static_cast<size_t> (op.layer)];
  plan_attention (layer, op.heads / layer.heads);
  int64_t cost = 0;
  int parts = 0, merges = 0;
  for (AttentionTask &task : tasks_) {
    cost += task.cost;
    task.first_part = parts;
    task.first_merge = merges;
    const int head_groups = parts_of (layer.heads, task.heads);
    parts += head_groups * task.cuts;
    merges += task.cuts > 1 ? head_groups : 0;
  }
  const auto task_of = [&] (int part, int AttentionTask::*first) -> const AttentionTask & {
    return *(std::ranges::upper_bound (tasks_, part, {}, first) - 1);
  };
  const auto run_part = [&] (int part, int lane) {
    const AttentionTask &task = task_of (part, &AttentionTask::first_part);
    const int index = part - task.first_part;
    attend_part (op, task, index / task.cuts * task.heads, index % task.cuts, lane);
  };
  run_parts (*compiled_->pool, parts, cost, run_part);

  // Tasks that are not cut have no merges: the last one of an equal first merge is meant.
  const auto run_merge = [&] (int part, int) {
    const AttentionTask &task = task_of (part, &AttentionTask::first_merge);
    AttentionArgs args;
    float *out[kQueryTile], sinks[kQueryTile];
    describe (op, task, (part - task.first_merge) * task.heads, args, out, sinks);
    merge_splits (args, layer.value_width (), op.sinks == kNone ? nullptr : sinks, out);
  };
  if (merges > 0)
    compiled_->pool->run (merges, run_merge);
}

// The queries of a slice that share a KV head, in order of position: token 0's heads, token 1's, ...
void
Context::describe (const AttentionOp &op, const AttentionTask &task, int first_head, AttentionArgs &args,
                   float **out, float *sinks) const
{
  const KvLayer &layer = compiled_->program.kv_layers[static_cast<size_t> (op.layer)];
  const KvPlace &at = place (op.layer);
  const Slice &slice = slices_[static_cast<size_t> (task.slice)];
  const int group = op.heads / layer.heads;

  args.heads = std::min (task.heads, layer.heads - first_head);
  args.queries = task.queries;
  for (int i = 0; i < task.queries; ++i) {
    const int token = (task.first_query + i) / group;
    const float *q = buffer (op.q).row (task.token_row + token);
    float *row = buffer (op.out).row (task.token_row + token);
    args.end[i] = slice.position + token + 1;
    args.begin[i] = layer.window > 0 ? std::max (0, args.end[i] - layer.window) : 0;
    for (int head = 0; head < args.heads; ++head) {
      const int at_head = (first_head + head) * group + (task.first_query + i) % group;
      args.q[head * task.queries + i] = q + at_head * layer.head_dim;
      out[head * task.queries + i] = row + at_head * layer.value_width ();
      if (op.sinks != kNone)
        sinks[head * task.queries + i] = compiled_->weights[op.sinks].vector ()[at_head];
    }
  }
  args.head_dim = layer.head_dim;
  args.scale = op.scale;
  args.softcap = op.softcap;
  args.is_intel = kernels_.is_intel;
  args.kv = kv_[static_cast<size_t> (at.group)].data ();
  describe_kv (kv_plan_, at, first_head, args);
  args.blocks = slice.blocks[static_cast<size_t> (at.group)].data ();
  const auto head_states = static_cast<size_t> (first_head * task.splits * task.queries);
  args.states = states_.floats () + (task.first_state + head_states) * state_floats (1, at.value_width);
}

void
Context::attend_part (const AttentionOp &op, const AttentionTask &task, int first_head, int cut, int lane)
{
  const AttentionKernel kernel = kernels_.attention[static_cast<int> (kv_type_)];
  AttentionArgs args;
  float *out[kQueryTile], sinks[kQueryTile];
  describe (op, task, first_head, args, out, sinks);
  args.scratch = lane_scratch (lane, 0);
  if (task.cuts > 1) {
    attend_splits (kernel, args, cut * task.splits / task.cuts, (cut + 1) * task.splits / task.cuts);
    return;
  }
  args.states = lane_scratch (lane, states_at_);
  const int value_dim = compiled_->program.kv_layers[static_cast<size_t> (op.layer)].value_width ();
  attend (kernel, args, value_dim, op.sinks == kNone ? nullptr : sinks, out,
          args.states + state_floats (args.heads * args.queries, args.value_width));
}

} // namespace millrace::cpu
