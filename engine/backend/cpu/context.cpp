#include "engine/backend/cpu/context.hpp"

#include "engine/backend/cpu/attention.hpp"
#include "engine/backend/cpu/formats.hpp"
#include "engine/backend/cpu/parts.hpp"

#include <algorithm>
#include <chrono>
#include <iterator>

namespace millrace::cpu
{

namespace
{

constexpr const char *kOpNames[] = {"embed",        "norm",        "linear",    "kv append", "attention",
                                    "gated",        "select",      "hidden",    "head",      "add",
                                    "scale",        "copy",        "route",     "experts",   "row gate",
                                    "parts linear", "convolution", "recurrence"};
static_assert (std::size (kOpNames) == std::variant_size_v<Op>);

/// Floats between rows, a cache line: rows of 4 KiB would share a few places in the caches with all their neighbours.
constexpr size_t kRowGap = 16;

int
padded (int width)
{
  return static_cast<int> (round_up (static_cast<size_t> (width), kPad));
}

} // namespace

Context::Context (std::shared_ptr<const CompiledProgram> compiled, const ContextOptions &options)
    : compiled_ (std::move (compiled))
    , kernels_ (compiled_->kernels)
    , kv_type_ (options.kv_type)
    , kv_plan_ (compiled_->kv[static_cast<size_t> (options.kv_type)])
    , max_tokens_ (options.max_tokens)
    , stretches_ (static_cast<size_t> (compiled_->pool->size ()))
{
  for (size_t i = 0; i < kv_plan_.groups.size (); ++i)
    kv_.emplace_back (group_bytes (kv_plan_.groups[i], options.kv_blocks[i]), Memory::Pages::kHuge);
  plan_activations ();
  plan_scratch (options);
  plan_groups ();
  find_gated_products ();
  if (options.measure) {
    for (const char *name : kOpNames)
      op_times_.push_back ({.name = name});
  }
  rows_.reserve (static_cast<size_t> (max_tokens_));
  outputs_.reserve (static_cast<size_t> (max_tokens_));
  logits_rows_.reserve (static_cast<size_t> (max_tokens_));
  first_rows_.reserve (static_cast<size_t> (max_tokens_));
}

void
Context::plan_activations ()
{
  const auto rows = static_cast<size_t> (max_tokens_);
  size_t total = 0;
  for (const BufferRef &ref : compiled_->program.buffers) {
    Buffer &buffer = buffers_.emplace_back ();
    buffer.stride = static_cast<size_t> (padded (ref.width)) + kRowGap;
    buffer.rows = ref.rows;
    total += buffer.stride;
  }
  activations_ =
      Memory (checked_product (checked_product (total, sizeof (float)), rows), Memory::Pages::kHuge);

  float *next = activations_.floats ();
  for (Buffer &buffer : buffers_) {
    buffer.data = next;
    next += buffer.stride * rows;
    for (int row = 0; row < max_tokens_; ++row)
      buffer.row_pointers.push_back (buffer.row (row));
  }

  int widest_head = kStateLanes;
  for (const KvLayer &layer : compiled_->program.kv_layers)
    widest_head = std::max ({widest_head, layer.head_dim, layer.value_width ()});
  ones_.assign (static_cast<size_t> (widest_head), 1.0f);

  size_t rope_floats = 0;
  for (const RopeTable &table : compiled_->program.ropes)
    rope_floats += 2 * table.inverse_frequencies.size () * rows;
  ropes_ = Memory (checked_product (rope_floats, sizeof (float)));
  next = ropes_.floats ();
  for (const RopeTable &table : compiled_->program.ropes) {
    rope_rows_.push_back (next);
    next += 2 * table.inverse_frequencies.size () * rows;
  }
}

void
Context::plan_scratch (const ContextOptions &options)
{
  const auto &program = compiled_->program;
  size_t widest = 0;
  std::array<size_t, kActivations> widest_activations{};
  for (size_t i = 0; i < program.weights.size (); ++i) {
    const PackedWeight &weight = compiled_->weights[static_cast<int> (i)];
    widest = std::max (widest, static_cast<size_t> (weight.columns));
    const auto kind = activations_of (kernels_, weight.format);
    size_t &bytes = widest_activations[static_cast<size_t> (kind)];
    bytes = std::max (bytes, activation_bytes (kind, weight.columns));
  }
  for (size_t kind = 0; kind < quantized_.size (); ++kind)
    quantized_[kind] = Memory (checked_product (widest_activations[kind], static_cast<size_t> (max_tokens_)),
                               Memory::Pages::kHuge);

  size_t group_tiles = 1, most_products = 1;
  for (const Op &op : program.ops) {
    if (const auto *linear = std::get_if<LinearOp> (&op))
      most_products = std::max (most_products, linear->projections.size ());
    if (const auto *attention = std::get_if<AttentionOp> (&op)) {
      const int group = attention->heads / program.kv_layers[static_cast<size_t> (attention->layer)].heads;
      group_tiles = std::max (group_tiles, static_cast<size_t> (parts_of (group, kLeastQueryTile)));
    }
  }
  products_.reserve (most_products);
  tasks_.reserve (checked_product (group_tiles, static_cast<size_t> (max_tokens_)));

  // What a query sees is in different blocks of its layer's group.
  int widest_head = 0, most_blocks = 0;
  for (const KvPlace &place : kv_plan_.places) {
    widest_head = std::max (widest_head, place.value_width);
    most_blocks = std::max (most_blocks, options.kv_blocks[static_cast<size_t> (place.group)]);
  }
  int widest_key = widest_head;
  for (const KvLayer &layer : program.kv_layers)
    widest_key = std::max (widest_key, layer.head_dim);
  states_at_ = round_up (attention_scratch (kQueryTile, widest_key, widest_head), kBlockTokens);
  row_at_ = states_at_ + 2 * state_floats (kQueryTile, widest_head);
  // A task is cut when it is more than one of kPartsPerThread shares of each thread.
  const auto splits = static_cast<size_t> (most_blocks / (kAttentionSplit / kBlockTokens) + 2);
  states_room_ = checked_product (splits * kSplitQueries,
                                  kPartsPerThread * static_cast<size_t> (compiled_->pool->size ()));
  states_ = Memory (checked_product (states_room_, state_floats (1, widest_head) * sizeof (float)));
  lane_floats_ = round_up (row_at_ + widest, kBlockTokens);
  scratch_ = Memory (checked_product (checked_product (lane_floats_, sizeof (float)),
                                      static_cast<size_t> (compiled_->pool->size ())));
}

void
Context::forward (std::span<const Slice> slices)
{
  slices_ = slices;
  lay_out_rows (slices);
  if (rows_.empty ())
    return;
  compute_rope_tables ();
  if (!op_times_.empty ())
    return forward_measured ();
  for (size_t i = 0; i < compiled_->program.ops.size ();)
    i = run_next (i);
}

/// Runs operation `index`, and the one after it when they are one; the next index.
size_t
Context::run_next (size_t index)
{
  const auto &ops = compiled_->program.ops;
  if (gated_[index]) {
    run (std::get<LinearOp> (ops[index]), std::get<GatedOp> (ops[index + 1]));
    return index + 2;
  }
  std::visit ([this] (const auto &operation) { run (operation); }, ops[index]);
  return index + 1;
}

// A product of two whose results are gated next: done together, a result meets its gate while both are in cache, and the
// threads need not wait in between.
void
Context::find_gated_products ()
{
  const auto &ops = compiled_->program.ops;
  gated_.resize (ops.size ());
  for (size_t i = 0; i + 1 < ops.size (); ++i) {
    const auto *linear = std::get_if<LinearOp> (&ops[i]);
    const auto *gated = std::get_if<GatedOp> (&ops[i + 1]);
    if (!linear || !gated || linear->projections.size () != 2)
      continue;
    const auto &gate = linear->projections[0], &up = linear->projections[1];
    const auto is_whole = [&] (const LinearOp::Projection &projection) {
      return !projection.accumulate && compiled_->weights[projection.weight].outputs == gated->width;
    };
    gated_[i] = is_whole (gate) && is_whole (up) && gate.out == gated->gate && up.out == gated->up &&
                gated->gate != gated->up && gated->up_first == 0 && linear->in != gated->out &&
                gated->out != gated->up;
  }
}

void
Context::forward_measured ()
{
  auto before = std::chrono::steady_clock::now ();
  for (size_t i = 0; i < compiled_->program.ops.size ();) {
    OpTime &time = op_times_[compiled_->program.ops[i].index ()];
    i = run_next (i);
    const auto after = std::chrono::steady_clock::now ();
    time.nanoseconds += std::chrono::nanoseconds (after - before).count ();
    ++time.calls;
    before = after;
  }
}

/// Each stretch of memory of blocks `a` and `b` as work (of a, of b, where it begins in the bytes of a block, bytes).
template <typename F>
void
Context::for_parts (int group, BlockId a, BlockId b, F &&work) const
{
  std::byte *data = kv_[static_cast<size_t> (group)].data ();
  if (kv_plan_.groups[static_cast<size_t> (group)].kind == KvGroup::Kind::kRecurrent) {
    const size_t bytes = kv_plan_.groups[static_cast<size_t> (group)].block_bytes;
    work (data + static_cast<size_t> (a) * bytes, data + static_cast<size_t> (b) * bytes, size_t{0}, bytes);
    return;
  }
  size_t at = 0;
  for (const KvPlace &place : kv_plan_.places) {
    if (place.group != group)
      continue;
    work (data + keys_of_block (kv_plan_, place, a), data + keys_of_block (kv_plan_, place, b), at,
          place.key_block_bytes ());
    at += place.key_block_bytes ();
    work (data + values_of_block (kv_plan_, place, a), data + values_of_block (kv_plan_, place, b), at,
          place.value_block_bytes ());
    at += place.value_block_bytes ();
  }
}

void
Context::copy_block (int group, BlockId from, BlockId to)
{
  for_parts (group, from, to, [] (std::byte *source, std::byte *target, size_t, size_t bytes) {
    std::copy_n (source, bytes, target);
  });
}

void
Context::clear_block (int group, BlockId block)
{
  for_parts (group, block, block, [] (std::byte *part, std::byte *, size_t, size_t bytes) {
    std::fill_n (part, bytes, std::byte{0});
  });
}

void
Context::read_block (int group, BlockId block, std::span<std::byte> out) const
{
  for_parts (group, block, block, [&] (const std::byte *part, const std::byte *, size_t at, size_t bytes) {
    std::copy_n (part, bytes, out.data () + at);
  });
}

void
Context::write_block (int group, BlockId block, std::span<const std::byte> in)
{
  for_parts (group, block, block, [&] (std::byte *part, std::byte *, size_t at, size_t bytes) {
    std::copy_n (in.data () + at, bytes, part);
  });
}

// Scored rows come first among the outputs, so that the head reads neighbouring rows.
void
Context::lay_out_rows (std::span<const Slice> slices)
{
  rows_.clear ();
  outputs_.clear ();
  logits_rows_.clear ();
  first_rows_.clear ();
  const auto vocab = static_cast<size_t> (compiled_->program.vocab);
  const auto hidden = static_cast<size_t> (compiled_->program.hidden);

  for (const Slice &slice : slices) {
    const int first_row = static_cast<int> (rows_.size ());
    const int count = static_cast<int> (slice.tokens.size ());
    first_rows_.push_back (first_row);
    for (int i = 0; i < count; ++i)
      rows_.push_back ({slice.tokens[i], slice.position + i, static_cast<int> (&slice - slices.data ())});
    for (int i = count - slice.scored; i < count; ++i) {
      float *logits = slice.logits + static_cast<size_t> (i - (count - slice.scored)) * vocab;
      outputs_.push_back (
          {first_row + i, slice.hidden ? slice.hidden + static_cast<size_t> (i) * hidden : nullptr, logits});
      logits_rows_.push_back (logits);
    }
  }
  int first_row = 0;
  for (const Slice &slice : slices) {
    const int count = static_cast<int> (slice.tokens.size ());
    for (int i = 0; slice.hidden && i < count - slice.scored; ++i)
      outputs_.push_back ({first_row + i, slice.hidden + static_cast<size_t> (i) * hidden, nullptr});
    first_row += count;
  }
}

} // namespace millrace::cpu
