// Attention over KV that no cache holds: the heads of several layers take turns. 2 queries: one token of a model with 2 query
// heads for each KV head, all KV heads in one call; 16: a prompt's tile, one KV head an iteration.
#include "bench/kernels/kernels.hpp"

#include "engine/backend/cpu/attention.hpp"
#include "engine/backend/cpu/kv_storage.hpp"
#include "engine/backend/cpu/memory.hpp"

#include <algorithm>
#include <numeric>

namespace millrace::bench
{

namespace
{

using namespace cpu;

constexpr int kHeads = 8, kHeadDim = 128;
constexpr size_t kKvBytes = size_t{96} << 20;
constexpr int kDepths[] = {512, 4096, 32768};
constexpr int kQueryCounts[] = {2, 16};

/// KV of `depth` positions in as many layers as it takes; every block has the same numbers.
struct Kv {
  Kv (const KernelTable &kernels, KvType type, int depth)
  {
    Program program;
    program.kv_layers = {{kHeads, kHeadDim, 0}};
    const auto blocks = static_cast<size_t> (depth / kKvTokens);
    const size_t layer_bytes = plan_kv (program, type).groups[0].block_bytes * blocks;
    program.kv_layers.resize (kKvBytes / layer_bytes + 1, program.kv_layers[0]);
    plan = plan_kv (program, type);
    const size_t bytes = group_bytes (plan.groups[0], static_cast<int> (blocks));
    memory = Memory (bytes, Memory::Pages::kHuge);
    const auto values = random_floats (kKvTokens * kHeadDim);
    for (const KvPlace &place : plan.places)
      for (size_t head = 0; head < kHeads; head++)
        for (int slot = 0; slot < kKvTokens; slot++) {
          const float *row = values.data () + slot * kHeadDim;
          store_key (kernels, type, row, kHeadDim, slot,
                     memory.data () + keys_of_block (plan, place, 0) + head * place.key_bytes);
          store_value (kernels, type, row, kHeadDim, place.value_width, slot,
                       memory.data () + values_of_block (plan, place, 0) + head * place.value_bytes);
        }
    for (const KvPlace &place : plan.places)
      for (int block = 1; block < static_cast<int> (blocks); block++) {
        std::copy_n (memory.data () + keys_of_block (plan, place, 0), place.key_block_bytes (),
                     memory.data () + keys_of_block (plan, place, block));
        std::copy_n (memory.data () + values_of_block (plan, place, 0), place.value_block_bytes (),
                     memory.data () + values_of_block (plan, place, block));
      }
  }

  KvPlan plan;
  Memory memory;
};

void
measure (benchmark::State &state, const KernelTable &kernels, KvType type, int queries, int depth,
         const Roofs &roofs)
{
  const Kv kv (kernels, type, depth);
  const int width = kv.plan.places[0].value_width;
  std::vector<int32_t> blocks (static_cast<size_t> (depth / kKvTokens));
  std::iota (blocks.begin (), blocks.end (), 0);
  // Few queries are of all heads at once, as when decoding.
  const int heads = queries * static_cast<int> (kHeads) <= kQueryTile ? static_cast<int> (kHeads) : 1;
  const int rows = heads * queries;
  const auto q = random_floats (size_t{kQueryTile} * kHeadDim);
  Memory out (static_cast<size_t> (rows) * kHeadDim * sizeof (float)),
      states (state_floats (rows, width) * sizeof (float)),
      part (state_floats (rows, width) * sizeof (float)),
      scratch (attention_scratch (rows, kHeadDim, width) * sizeof (float));
  std::vector<float *> out_rows;
  AttentionArgs args{};
  args.heads = heads;
  args.queries = queries;
  for (int i = 0; i < rows; i++) {
    args.q[i] = q.data () + i * kHeadDim;
    out_rows.push_back (out.floats () + i * kHeadDim);
  }
  for (int i = 0; i < queries; i++)
    args.end[i] = depth;
  args.head_dim = kHeadDim;
  args.scale = 0.1f;
  args.softcap = 0;
  args.kv = kv.memory.data ();
  args.blocks = blocks.data ();
  args.states = states.floats ();
  args.scratch = scratch.floats ();
  size_t head = 0;
  for (auto _ : state) {
    describe_kv (kv.plan, kv.plan.places[head / kHeads], static_cast<int> (head % kHeads), args);
    attend (kernels.attention[static_cast<size_t> (type)], args, args.head_dim, nullptr, out_rows.data (),
            part.floats ());
    benchmark::ClobberMemory ();
    head += static_cast<size_t> (heads);
    if (head >= kv.plan.places.size () * kHeads)
      head = 0;
  }
  const KvPlace &place = kv.plan.places[0];
  count_work (state,
              {.bytes = double (place.key_bytes + place.value_bytes) * double (blocks.size ()) * heads,
               .macs = 2.0 * rows * depth * kHeadDim,
               .mac_roof = roofs.float32_gmac_per_s},
              roofs);
}

} // namespace

void
register_attention (const KernelTable &kernels, const Roofs &roofs)
{
  for (int number = 0; number < kKvTypes; number++) {
    const auto type = static_cast<KvType> (number);
    for (const int queries : kQueryCounts) {
      for (const int depth : kDepths) {
        const std::string name = std::string ("attention/") + kernels.name + "/" + kv_type_name (type) +
                                 "/queries:" + std::to_string (queries) + "/depth:" + std::to_string (depth);
        benchmark::RegisterBenchmark (name.c_str (),
                                      [&kernels, roofs, type, queries, depth] (benchmark::State &state) {
                                        measure (state, kernels, type, queries, depth, roofs);
                                      });
      }
    }
  }
}

} // namespace millrace::bench
