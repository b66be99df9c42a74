#include "engine/backend/cpu/context.hpp"

#include <algorithm>

namespace millrace::cpu
{

namespace
{

int
parts_of (int count, int size)
{
  return (count + size - 1) / size;
}

int
padded (int width)
{
  return static_cast<int> (round_up (static_cast<size_t> (width), kPad));
}

} // namespace

Context::Context (std::shared_ptr<const CompiledProgram> compiled, int kv_blocks, int max_tokens)
    : compiled_ (std::move (compiled))
    , kernels_ (compiled_->kernels)
    , kv_blocks_ (kv_blocks)
    , max_tokens_ (max_tokens)
    , kv_ (checked_product (compiled_->kv_block_bytes, static_cast<size_t> (kv_blocks)))
{
  plan_activations ();
  plan_scratch ();
  rows_.reserve (static_cast<size_t> (max_tokens));
  outputs_.reserve (static_cast<size_t> (max_tokens));
  logits_rows_.reserve (static_cast<size_t> (max_tokens));
}

void
Context::plan_activations ()
{
  const auto rows = static_cast<size_t> (max_tokens_);
  size_t total = 0;
  for (const BufferRef &ref : compiled_->program.buffers) {
    Buffer &buffer = buffers_.emplace_back ();
    buffer.stride = static_cast<size_t> (padded (ref.width));
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
Context::plan_scratch ()
{
  const auto &program = compiled_->program;
  size_t widest = 0, widest_int8 = 0;
  for (size_t i = 0; i < program.weights.size (); ++i) {
    const PackedWeight &weight = compiled_->weights[static_cast<int> (i)];
    widest = std::max (widest, static_cast<size_t> (weight.columns));
    if (weight.format == Format::kInt8)
      widest_int8 = std::max (widest_int8, row_bytes (Format::kInt8, weight.columns));
  }
  quantized_ = Memory (checked_product (widest_int8, static_cast<size_t> (max_tokens_)));

  size_t group_tiles = 1, most_products = 1;
  for (const Op &op : program.ops) {
    if (const auto *linear = std::get_if<LinearOp> (&op))
      most_products = std::max (most_products, linear->projections.size ());
    if (const auto *attention = std::get_if<AttentionOp> (&op)) {
      const int group = attention->heads / program.kv_layers[static_cast<size_t> (attention->layer)].heads;
      group_tiles = std::max (group_tiles, static_cast<size_t> (parts_of (group, kQueryTile)));
    }
  }
  products_.reserve (most_products);
  tasks_.reserve (checked_product (group_tiles, static_cast<size_t> (max_tokens_)));

  for (const KvPlace &place : compiled_->kv_places)
    value_stride_ = std::max (value_stride_, static_cast<size_t> (place.value_width));
  // The odd line keeps the rows of a tile out of each other's cache sets.
  score_stride_ = checked_product (static_cast<size_t> (kv_blocks_), kBlockTokens) + kBlockTokens;
  lane_floats_ = round_up (kQueryTile * (score_stride_ + value_stride_) + widest, kBlockTokens);
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
  for (const Op &op : compiled_->program.ops)
    std::visit ([this] (const auto &operation) { run (operation); }, op);
}

// Scored rows come first among the outputs, so that the head reads neighbouring rows.
void
Context::lay_out_rows (std::span<const Slice> slices)
{
  rows_.clear ();
  outputs_.clear ();
  logits_rows_.clear ();
  const auto vocab = static_cast<size_t> (compiled_->program.vocab);
  const auto hidden = static_cast<size_t> (compiled_->program.hidden);

  for (const Slice &slice : slices) {
    const int first_row = static_cast<int> (rows_.size ());
    const int count = static_cast<int> (slice.tokens.size ());
    for (int i = 0; i < count; ++i) {
      const int position = slice.position + i;
      rows_.push_back ({slice.tokens[i], position, slice.blocks[position / kBlockTokens]});
    }
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
