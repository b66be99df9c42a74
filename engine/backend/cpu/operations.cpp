// The operations of a program, each cut into parts for the threads. See context.hpp.
#include "engine/backend/cpu/context.hpp"

#include <algorithm>
#include <cmath>

namespace millrace::cpu
{

namespace
{

constexpr int kInlineCost = 1 << 15; ///< multiply-adds below which one thread is faster than several
constexpr int kPartCost = 1 << 14;   ///< about this much work in a part of row-wise operations
constexpr int kTokensPerPart = 128;  ///< of a matrix product
constexpr int kExpCost = 16;         ///< an exponential or a sine, in multiply-adds

int
parts_of (int count, int size)
{
  return (count + size - 1) / size;
}

} // namespace

int
Context::row_count (const Buffer &buffer) const
{
  return static_cast<int> (buffer.rows == BufferRef::Rows::kToken ? rows_.size () : outputs_.size ());
}

/// Calls work (row) for each row; by several threads when that is worth it.
template <typename F>
void
Context::for_rows (int rows, int row_cost, F &&work)
{
  if (static_cast<int64_t> (rows) * row_cost < kInlineCost) {
    for (int row = 0; row < rows; ++row)
      work (row);
    return;
  }
  const int part_rows = std::max (1, kPartCost / std::max (1, row_cost));
  compiled_->pool->run (parts_of (rows, part_rows), [&] (int part, int) {
    const int end = std::min (rows, (part + 1) * part_rows);
    for (int row = part * part_rows; row < end; ++row)
      work (row);
  });
}

// Once for all layers: angles depend on the position only. float32 products as in the reference.
void
Context::compute_rope_tables ()
{
  const auto &ropes = compiled_->program.ropes;
  for (size_t i = 0; i < ropes.size (); ++i) {
    const RopeTable &table = ropes[i];
    const size_t half = table.inverse_frequencies.size ();
    for_rows (static_cast<int> (rows_.size ()), static_cast<int> (2 * half) * kExpCost, [&] (int row) {
      float *cosines = rope_rows_[i] + static_cast<size_t> (row) * 2 * half;
      const auto position = static_cast<float> (rows_[static_cast<size_t> (row)].position);
      for (size_t j = 0; j < half; ++j) {
        const float angle = position * table.inverse_frequencies[j];
        cosines[j] = std::cos (angle) * table.factor;
        cosines[half + j] = std::sin (angle) * table.factor;
      }
    });
  }
}

void
Context::run (const EmbedOp &op)
{
  const PackedWeight &weight = compiled_->weights[op.weight];
  const Buffer &out = buffer (op.out);
  for_rows (row_count (out), weight.columns, [&] (int row) {
    const TokenId token = rows_[static_cast<size_t> (row)].token;
    kernels_.expand[static_cast<int> (weight.format)](weight.row (token), weight.columns, out.row (row));
  });
}

void
Context::run (const RmsNormOp &op)
{
  const Buffer &in = buffer (op.in), &out = buffer (op.out);
  const PackedWeight &weight = compiled_->weights[op.weight];
  for_rows (row_count (in), weight.outputs, [&] (int row) {
    kernels_.rms_norm (in.row (row), weight.vector (), weight.outputs, op.epsilon, out.row (row));
  });
}

void
Context::run (const LinearOp &op)
{
  products_.clear ();
  for (const LinearOp::Projection &projection : op.projections)
    products_.push_back ({&compiled_->weights[projection.weight],
                          projection.bias == kNone ? nullptr : compiled_->weights[projection.bias].vector (),
                          buffer (projection.out).row_pointers.data (), projection.accumulate});
  const Buffer &in = buffer (op.in);
  multiply (in.data, in.stride, row_count (in), products_);
}

void
Context::run (const HeadOp &op)
{
  const Buffer &in = buffer (op.in);
  const Product product = {&compiled_->weights[op.weight], nullptr, logits_rows_.data (), false};
  multiply (in.data, in.stride, static_cast<int> (logits_rows_.size ()), {&product, 1});
}

// All products of one input in one go: one wait for the threads instead of one per matrix.
void
Context::multiply (float *x, size_t x_stride, int rows, std::span<const Product> products)
{
  if (rows == 0)
    return;
  clear_padding (x, x_stride, rows, *products.front ().weight);
  const int token_parts = parts_of (rows, kTokensPerPart);
  int row_parts = 0;
  int64_t cost = 0;
  const void *quantized = nullptr;
  for (const Product &product : products) {
    row_parts += parts_of (product.weight->outputs, kRowsPerPart);
    cost += static_cast<int64_t> (product.weight->outputs) * product.weight->columns * rows;
    if (product.weight->format == Format::kInt8 && !quantized)
      quantized = quantize (x, x_stride, rows, product.weight->columns);
  }

  const auto run_part = [&] (int part, int lane) {
    const int token_begin = part % token_parts * kTokensPerPart;
    const int token_end = std::min (rows, token_begin + kTokensPerPart);
    int row_part = part / token_parts;
    const Product *product = products.data ();
    while (row_part >= parts_of (product->weight->outputs, kRowsPerPart))
      row_part -= parts_of (product++->weight->outputs, kRowsPerPart);
    if (product->weight->format == Format::kInt8)
      multiply_part (*product, quantized, row_bytes (Format::kInt8, product->weight->columns), row_part,
                     token_begin, token_end, lane);
    else
      multiply_part (*product, x, x_stride * sizeof (float), row_part, token_begin, token_end, lane);
  };

  const int parts = row_parts * token_parts;
  if (cost < kInlineCost) {
    for (int part = 0; part < parts; ++part)
      run_part (part, 0);
  } else {
    compiled_->pool->run (parts, run_part);
  }
}

// Layers of different widths share buffers: what a wider one left behind must not meet the weights' padding,
// where 0 · NaN would not be 0.
void
Context::clear_padding (float *x, size_t x_stride, int rows, const PackedWeight &weight) const
{
  for (int row = 0; row < rows && weight.inputs < weight.columns; ++row) {
    float *values = x + static_cast<size_t> (row) * x_stride;
    std::fill (values + weight.inputs, values + weight.columns, 0.0f);
  }
}

void
Context::multiply_part (const Product &product, const void *x, size_t x_row_bytes, int row_part,
                        int token_begin, int token_end, int lane) const
{
  const PackedWeight &weight = *product.weight;
  const int row = row_part * kRowsPerPart;
  LinearArgs args;
  args.weights = weight.row (row);
  args.row_bytes = weight.row_bytes;
  args.rows = std::min (kRowsPerPart, weight.outputs - row);
  args.columns = weight.columns;
  args.x = static_cast<const std::byte *> (x) + static_cast<size_t> (token_begin) * x_row_bytes;
  args.x_row_bytes = x_row_bytes;
  args.tokens = token_end - token_begin;
  args.bias = product.bias ? product.bias + row : nullptr;
  args.y = product.y + token_begin;
  args.y_offset = static_cast<size_t> (row);
  args.accumulate = product.accumulate;
  args.scratch = lane_scratch (lane, row_at_);
  kernels_.linear[static_cast<int> (weight.format)](args);
}

const void *
Context::quantize (const float *x, size_t x_stride, int rows, int columns)
{
  const size_t bytes = row_bytes (Format::kInt8, columns);
  for_rows (rows, columns, [&] (int row) {
    kernels_.quantize_row (x + static_cast<size_t> (row) * x_stride, columns, columns,
                           quantized_.data () + static_cast<size_t> (row) * bytes);
  });
  return quantized_.data ();
}

void
Context::run (const KvAppendOp &op)
{
  const KvLayer &layer = compiled_->program.kv_layers[static_cast<size_t> (op.layer)];
  const int row_cost = 4 * (op.heads + 2 * layer.heads) * layer.head_dim;
  for_rows (row_count (buffer (op.q)), row_cost, [&] (int row) { append_row (op, row); });
}

void
Context::append_row (const KvAppendOp &op, int row)
{
  const KvLayer &layer = compiled_->program.kv_layers[static_cast<size_t> (op.layer)];
  const int head_dim = layer.head_dim;
  const auto prepare = [&] (float *heads, int count, WeightId norm) {
    for (int head = 0; head < count; ++head) {
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
  float *k = buffer (op.k).row (row);
  const float *v = buffer (op.v).row (row);
  prepare (buffer (op.q).row (row), op.heads, op.q_norm);
  prepare (k, layer.heads, op.k_norm);

  const TokenRow &token = rows_[static_cast<size_t> (row)];
  const KvPlace &at = place (op.layer);
  const auto group = static_cast<size_t> (at.group);
  const auto blocks = slices_[static_cast<size_t> (token.slice)].blocks[group];
  std::byte *block = block_data (at.group, blocks[static_cast<size_t> (token.position / kBlockTokens)]);
  const int slot = token.position % kBlockTokens;
  for (int head = 0; head < layer.heads; ++head) {
    const auto index = static_cast<size_t> (head);
    store_key (kv_type_, k + head * head_dim, head_dim, slot, block + at.key_offset + index * at.key_bytes);
    store_value (kv_type_, v + head * head_dim, head_dim, at.value_width, slot,
                 block + at.value_offset + index * at.value_bytes);
  }
}

/// Queries of a task: as many as share a reading of memory, while every thread still has two tasks.
int
Context::query_tile (int kv_heads, int group) const
{
  for (int tile = kQueryTile; tile > kLeastQueryTile; tile /= 2) {
    int parts = 0;
    for (const Slice &slice : slices_)
      parts += parts_of (static_cast<int> (slice.tokens.size ()) * group, tile) * kv_heads;
    if (parts >= 2 * compiled_->pool->size ())
      return tile;
  }
  return kLeastQueryTile;
}

void
Context::run (const AttentionOp &op)
{
  const KvLayer &layer = compiled_->program.kv_layers[static_cast<size_t> (op.layer)];
  const int group = op.heads / layer.heads;
  tasks_.clear ();
  query_tile_ = query_tile (layer.heads, group);
  int64_t cost = 0;
  int token_row = 0;
  for (size_t i = 0; i < slices_.size (); ++i) {
    const int count = static_cast<int> (slices_[i].tokens.size ());
    for (int query = 0; query < count * group; query += query_tile_)
      tasks_.push_back ({static_cast<int> (i), token_row, query});
    const int seen = slices_[i].position + count;
    cost += static_cast<int64_t> (layer.window > 0 ? std::min (seen, layer.window) : seen) * count *
            op.heads * layer.head_dim * 2;
    token_row += count;
  }

  const int parts = static_cast<int> (tasks_.size ()) * layer.heads;
  const auto run_part = [&] (int part, int lane) {
    attend (op, tasks_[static_cast<size_t> (part / layer.heads)], part % layer.heads, lane);
  };
  if (cost < kInlineCost) {
    for (int part = 0; part < parts; ++part)
      run_part (part, 0);
  } else {
    compiled_->pool->run (parts, run_part);
  }
}

// The queries of a slice that share a KV head, in order of position: token 0's heads, token 1's, ...
void
Context::attend (const AttentionOp &op, const AttentionTask &task, int kv_head, int lane)
{
  const KvLayer &layer = compiled_->program.kv_layers[static_cast<size_t> (op.layer)];
  const KvPlace &at = place (op.layer);
  const Slice &slice = slices_[static_cast<size_t> (task.slice)];
  const int group = op.heads / layer.heads;
  const int queries = static_cast<int> (slice.tokens.size ()) * group;

  AttentionArgs args;
  args.queries = std::min (query_tile_, queries - task.first_query);
  for (int i = 0; i < args.queries; ++i) {
    const int token = (task.first_query + i) / group;
    const int head = kv_head * group + (task.first_query + i) % group;
    args.q[i] = buffer (op.q).row (task.token_row + token) + head * layer.head_dim;
    args.out[i] = buffer (op.out).row (task.token_row + token) + head * layer.head_dim;
    args.end[i] = slice.position + token + 1;
    args.begin[i] = layer.window > 0 ? std::max (0, args.end[i] - layer.window) : 0;
  }
  args.head_dim = layer.head_dim;
  args.value_width = at.value_width;
  args.scale = op.scale;
  args.kv = block_data (at.group, 0);
  args.block_bytes = block_bytes (at.group);
  args.key_offset = at.key_offset + static_cast<size_t> (kv_head) * at.key_bytes;
  args.value_offset = at.value_offset + static_cast<size_t> (kv_head) * at.value_bytes;
  args.blocks = slice.blocks[static_cast<size_t> (at.group)].data ();
  args.scores = lane_scratch (lane, 0);
  args.score_stride = score_stride_;
  args.values = lane_scratch (lane, values_at_);
  args.block = lane_scratch (lane, block_at_);
  kernels_.attention[static_cast<int> (kv_type_)](args);
}

void
Context::run (const GatedOp &op)
{
  const Buffer &gate = buffer (op.gate), &up = buffer (op.up), &out = buffer (op.out);
  const auto kernel = op.activation == GatedOp::Activation::kSilu       ? kernels_.silu
                      : op.activation == GatedOp::Activation::kGeluTanh ? kernels_.gelu_tanh
                                                                        : kernels_.gelu;
  for_rows (row_count (gate), op.width * kExpCost / 4,
            [&] (int row) { kernel (gate.row (row), up.row (row), op.width, out.row (row)); });
}

void
Context::run (const SelectOp &op)
{
  const Buffer &in = buffer (op.in), &out = buffer (op.out);
  for (size_t i = 0; i < outputs_.size (); ++i)
    std::copy_n (in.row (outputs_[i].token_row), in.stride, out.row (static_cast<int> (i)));
}

void
Context::run (const HiddenOp &op)
{
  const Buffer &in = buffer (op.in);
  for (size_t i = 0; i < outputs_.size (); ++i) {
    if (outputs_[i].hidden)
      std::copy_n (in.row (static_cast<int> (i)), compiled_->program.hidden, outputs_[i].hidden);
  }
}

} // namespace millrace::cpu
