// A problem of attention: keys and values of one KV head as the backend stores them, queries, and what a kernel makes of them.
#pragma once

#include "engine/backend/cpu/attention.hpp"
#include "engine/backend/cpu/kv_storage.hpp"
#include "engine/backend/cpu/memory.hpp"
#include "tests/kernel_tables.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace millrace::testing
{

/// Positions that a query sees.
struct Range {
  int begin, end;
};

/// Keys and values of one KV head in blocks in descending order, as AttentionArgs describes them.
struct KvProblem {
  KvProblem (int positions, int head_dim, uint32_t seed, KvType type = KvType::kF32)
      : type (type)
      , head_dim (head_dim)
  {
    Program program;
    program.kv_layers = {{1, head_dim}};
    plan = cpu::plan_kv (program, type);
    place = plan.places[0];

    std::mt19937 random (seed);
    const int count = (positions + cpu::kKvTokens - 1) / cpu::kKvTokens;
    for (int i = 0; i < count; ++i)
      blocks.push_back (count - 1 - i);
    kv = cpu::Memory (cpu::group_bytes (plan.groups[0], count));
    for (int position = 0; position < positions; ++position) {
      keys.push_back (random_floats (static_cast<size_t> (head_dim), random));
      values.push_back (random_floats (static_cast<size_t> (head_dim), random));
      store (position, keys.back (), values.back ());
    }
    queries = random_floats (static_cast<size_t> (cpu::kQueryTile * head_dim), random, 2);
  }

  // Of the block that holds a position.
  std::byte *keys_at (int position)
  {
    return kv.data () +
           cpu::keys_of_block (plan, place, blocks[static_cast<size_t> (position / cpu::kKvTokens)]);
  }

  std::byte *values_at (int position)
  {
    return kv.data () +
           cpu::values_of_block (plan, place, blocks[static_cast<size_t> (position / cpu::kKvTokens)]);
  }

  void store (int position, const std::vector<float> &key, const std::vector<float> &value)
  {
    const int slot = position % cpu::kKvTokens;
    cpu::store_key (cpu::kPortableKernels, type, key.data (), head_dim, slot, keys_at (position));
    cpu::store_value (cpu::kPortableKernels, type, value.data (), head_dim, place.value_width, slot,
                      values_at (position));
  }

  /// The same problem with float32 KV of what is stored here.
  KvProblem expanded ()
  {
    KvProblem other (static_cast<int> (keys.size ()), head_dim, 0);
    other.queries = queries;
    std::vector<float> scratch (static_cast<size_t> (cpu::kKvTokens * place.value_width));
    for (int position = 0; position < static_cast<int> (keys.size ()); ++position) {
      const int slot = position % cpu::kKvTokens;
      std::vector<float> key, value;
      const float *rows = cpu::expand_keys (type, keys_at (position), head_dim, scratch.data ());
      for (int i = 0; i < head_dim; ++i)
        key.push_back (rows[i * cpu::kKvTokens + slot]);
      rows = cpu::expand_values (type, values_at (position), place.value_width, scratch.data ());
      for (int i = 0; i < head_dim; ++i)
        value.push_back (rows[slot * place.value_width + i]);
      other.store (position, key, value);
      other.keys[static_cast<size_t> (position)] = key;
      other.values[static_cast<size_t> (position)] = value;
    }
    return other;
  }

  /// Queries [first, first + ranges.size ()), each with its own range; `cuts`: splits that are computed apart.
  std::vector<float> run (const cpu::KernelTable &table, int first, const std::vector<Range> &ranges,
                          const std::vector<int> &cuts = {}) const
  {
    std::vector<float> out (ranges.size () * static_cast<size_t> (head_dim));
    cpu::AttentionArgs args{};
    float *rows[cpu::kQueryTile];
    args.heads = 1;
    args.queries = static_cast<int> (ranges.size ());
    for (int i = 0; i < args.queries; ++i) {
      args.q[i] = queries.data () + (first + i) * head_dim;
      rows[i] = out.data () + i * head_dim;
      args.begin[i] = ranges[static_cast<size_t> (i)].begin;
      args.end[i] = ranges[static_cast<size_t> (i)].end;
    }
    args.head_dim = head_dim;
    args.scale = 0.3f;
    args.softcap = softcap;
    args.is_intel = table.is_intel;
    args.kv = kv.data ();
    cpu::describe_kv (plan, place, 0, args);
    args.blocks = blocks.data ();
    const int splits = cpu::count_splits (args.begin[0], args.end[args.queries - 1]);
    const size_t floats = cpu::state_floats (args.queries, args.value_width);
    constexpr float kNaN = std::numeric_limits<float>::quiet_NaN (); // what nobody computed
    std::vector<float> states (static_cast<size_t> (splits) * floats, kNaN), part (floats, kNaN),
        scratch (cpu::attention_scratch (args.queries, head_dim, args.value_width), kNaN);
    args.states = states.data ();
    args.scratch = scratch.data ();
    const cpu::AttentionKernel kernel = table.attention[static_cast<int> (type)];
    if (cuts.empty ()) {
      cpu::attend (kernel, args, args.head_dim, nullptr, rows, part.data ());
      return out;
    }
    for (size_t i = cuts.size (); i-- > 0;) // backwards: no part may need an earlier one
      cpu::attend_splits (kernel, args, std::min (splits, cuts[i]),
                          i + 1 < cuts.size () ? std::min (splits, cuts[i + 1]) : splits);
    cpu::merge_splits (args, args.head_dim, nullptr, rows);
    return out;
  }

  /// Attention with `keys` and `values`, as they were before they were stored.
  std::vector<double> exact (int query, Range range) const
  {
    std::vector<double> weights;
    double largest = -INFINITY, sum = 0;
    for (int position = range.begin; position < range.end; ++position) {
      double score = 0;
      for (int i = 0; i < head_dim; ++i)
        score += static_cast<double> (queries[query * head_dim + i]) * keys[position][i];
      score *= 0.3f;
      weights.push_back (softcap > 0 ? softcap * std::tanh (score / softcap) : score);
      largest = std::max (largest, weights.back ());
    }
    for (double &weight : weights)
      sum += weight = std::exp (weight - largest);
    std::vector<double> out (static_cast<size_t> (head_dim));
    for (int position = range.begin; position < range.end; ++position) {
      for (int i = 0; i < head_dim; ++i)
        out[i] += weights[position - range.begin] / sum * values[position][i];
    }
    return out;
  }

  KvType type;
  int head_dim;
  float softcap = 0;
  cpu::KvPlan plan;
  cpu::KvPlace place;
  cpu::Memory kv;
  std::vector<int32_t> blocks;
  std::vector<std::vector<float>> keys, values;
  std::vector<float> queries;
};

/// A tile of neighbouring positions that look `window` positions back; 0: all.
inline std::vector<Range>
tile (const std::vector<int> &ends, int window)
{
  std::vector<Range> ranges;
  for (const int end : ends)
    ranges.push_back ({window > 0 ? std::max (0, end - window) : 0, end});
  return ranges;
}

} // namespace millrace::testing
