// The operations of a program, each cut into parts for the threads. See context.hpp.
#include "engine/backend/cpu/context.hpp"

#include "engine/backend/cpu/formats.hpp"
#include "engine/backend/cpu/parts.hpp"
#include "engine/backend/cpu/vector_portable.hpp"

#include <algorithm>
#include <cmath>

namespace millrace::cpu
{

namespace
{

constexpr int kExpCost = 16; ///< an exponential or a sine, in multiply-adds

void
scale_row (float *x, int count, float factor)
{
  for (int i = 0; i < count; ++i)
    x[i] *= factor;
}

void
relu_row (const float *gate, const float *up, int count, float *out)
{
  for (int i = 0; i < count; ++i)
    out[i] = (gate[i] < 0 ? 0.0f : gate[i]) * up[i];
}

void
cap_row (float *x, int count, float cap)
{
  for (int i = 0; i < count; ++i)
    x[i] = softcap (x[i], cap);
}

} // namespace

int
Context::row_count (const Buffer &buffer) const
{
  return static_cast<int> (buffer.rows == BufferRef::Rows::kToken ? rows_.size () : outputs_.size ());
}

const std::vector<float> &
Context::frequencies_of (const RopeTable &table, const TokenRow &token) const
{
  const int given = slices_[static_cast<size_t> (token.slice)].max_positions;
  const int positions = given > 0 ? given : compiled_->program.max_positions;
  return !table.long_inverse_frequencies.empty () && positions > table.original_positions
             ? table.long_inverse_frequencies
             : table.inverse_frequencies;
}

// Once for all layers: angles depend on the position only. float32 products as in the reference.
void
Context::compute_rope_tables ()
{
  const auto &ropes = compiled_->program.ropes;
  for (size_t i = 0; i < ropes.size (); ++i) {
    const RopeTable &table = ropes[i];
    const size_t half = table.inverse_frequencies.size ();
    for_rows (*compiled_->pool, static_cast<int> (rows_.size ()), static_cast<int> (2 * half) * kExpCost,
              [&] (int row) {
                float *cosines = rope_rows_[i] + static_cast<size_t> (row) * 2 * half;
                const TokenRow &token = rows_[static_cast<size_t> (row)];
                const auto position = static_cast<float> (token.position);
                const std::vector<float> &frequencies = frequencies_of (table, token);
                for (size_t j = 0; j < half; ++j) {
                  const float angle = position * frequencies[j];
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
  for_rows (*compiled_->pool, row_count (out), weight.columns, [&] (int row) {
    const TokenId token = rows_[static_cast<size_t> (row)].token;
    kernels_.expand[static_cast<int> (weight.format)](weight.panel (token), token % kPanelRows,
                                                      weight.columns, out.row (row));
    if (op.scale != 1)
      scale_row (out.row (row), weight.inputs, op.scale);
  });
}

void
Context::run (const RmsNormOp &op)
{
  const Buffer &in = buffer (op.in), &out = buffer (op.out);
  const PackedWeight &weight = compiled_->weights[op.weight];
  for_rows (*compiled_->pool, row_count (in), weight.outputs * op.parts, [&] (int row) {
    const int width = weight.outputs / op.groups;
    for (int at = 0; at < weight.outputs * op.parts; at += width)
      kernels_.rms_norm (in.row (row) + at, weight.vector () + at % weight.outputs, width, op.epsilon,
                         out.row (row) + at);
  });
}

Context::Product
Context::product_of (const LinearOp::Projection &projection) const
{
  return {&compiled_->weights[projection.weight],
          projection.bias == kNone ? nullptr : compiled_->weights[projection.bias].vector (),
          buffer (projection.out).row_pointers.data (), projection.accumulate};
}

Context::ActivationKernel
Context::activation_kernel (GatedOp::Activation activation) const
{
  switch (activation) {
  case GatedOp::Activation::kGeluTanh:
    return kernels_.gelu_tanh;
  case GatedOp::Activation::kGelu:
    return kernels_.gelu;
  case GatedOp::Activation::kSigmoid:
    return kernels_.sigmoid;
  case GatedOp::Activation::kRelu:
    return relu_row;
  case GatedOp::Activation::kSilu:
    break;
  }
  return kernels_.silu;
}

void
Context::run (const LinearOp &op)
{
  products_.clear ();
  for (const LinearOp::Projection &projection : op.projections)
    products_.push_back (product_of (projection));
  const Buffer &in = buffer (op.in);
  multiply (in.data, in.stride, row_count (in), products_);
}

void
Context::run (const HeadOp &op)
{
  const Buffer &in = buffer (op.in);
  const Product product = {&compiled_->weights[op.weight], nullptr, logits_rows_.data (), false};
  const int rows = static_cast<int> (logits_rows_.size ());
  multiply (in.data, in.stride, rows, {&product, 1});
  if (op.scale == 1 && op.softcap == 0)
    return;
  for_rows (*compiled_->pool, rows, product.weight->outputs * kExpCost, [&] (int row) {
    float *logits = logits_rows_[static_cast<size_t> (row)];
    scale_row (logits, product.weight->outputs, op.scale);
    if (op.softcap > 0)
      cap_row (logits, product.weight->outputs, op.softcap);
  });
}

// All products of one input in one go: one wait for the threads instead of one per matrix.
void
Context::multiply (float *x, size_t x_stride, int rows, std::span<const Product> products)
{
  if (rows == 0)
    return;
  std::array<const void *, kActivations> inputs{};
  const Units units (rows, kernels_.tokens_at_once);
  int count = 0;
  int64_t cost = 0;
  for (const Product &product : products) {
    const PackedWeight &weight = *product.weight;
    count += units.of (weight.outputs);
    cost += static_cast<int64_t> (weight.outputs) * weight.columns * rows;
    const void *&input = inputs[static_cast<size_t> (activations_of (kernels_, weight.format))];
    if (!input)
      input = quantize (x, x_stride, rows, weight);
  }

  run_units (count, rows, cost, [&] (int begin, int end, int lane) {
    const Product *product = products.data ();
    for (int first = 0, last = 0; begin < end; first = last, ++product) {
      last = first + units.of (product->weight->outputs);
      const auto kind = static_cast<size_t> (activations_of (kernels_, product->weight->format));
      for (; begin < std::min (end, last);) {
        const Tile tile = units.tile (begin - first, std::min (end, last) - first, product->weight->outputs);
        multiply_tile (*product, inputs[kind], x_stride * sizeof (float), tile, lane);
        begin += tile.units;
      }
    }
  });
}

/// Units [0, count) as work (begin, end, lane); by several threads when that is worth it. Each thread has a stretch of its own,
/// which it takes in steps from the front (units.hpp): memory is fastest when a thread reads on where it was. A thread that is
/// done helps where something is left.
void
Context::run_units (int count, int tokens, int64_t cost,
                    FunctionRef<void (int begin, int end, int lane)> work)
{
  if (cost < kInlineCost) {
    work (0, count, 0);
    return;
  }
  const int threads = compiled_->pool->size ();
  for (int i = 0; i < threads; ++i) {
    Stretch &stretch = stretches_[static_cast<size_t> (i)];
    stretch.next.store (static_cast<int> (int64_t{count} * i / threads), std::memory_order_relaxed);
    stretch.end = static_cast<int> (int64_t{count} * (i + 1) / threads);
  }
  compiled_->pool->run (threads, [&] (int part, int lane) {
    for (int i = 0; i < threads; ++i) {
      Stretch &stretch = stretches_[static_cast<size_t> ((part + i) % threads)];
      for (int begin = stretch.next.load (std::memory_order_relaxed); begin < stretch.end;) {
        const int end = std::min (stretch.end, begin + step_of (stretch.end - begin, tokens));
        if (!stretch.next.compare_exchange_weak (begin, end, std::memory_order_relaxed))
          continue;
        work (begin, end, lane);
        begin = stretch.next.load (std::memory_order_relaxed);
      }
    }
  });
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
Context::multiply_tile (const Product &product, const void *x, size_t x_row_bytes, const Tile &tile,
                        int lane) const
{
  const PackedWeight &weight = *product.weight;
  const auto kind = activations_of (kernels_, weight.format);
  if (kind != Activations::kFloat)
    x_row_bytes = activation_bytes (kind, weight.columns);
  LinearArgs args;
  args.format = weight.format;
  args.weights = weight.panel (tile.row);
  args.panel_bytes = weight.panel_bytes;
  args.rows = tile.rows;
  args.columns = weight.columns;
  args.x = static_cast<const std::byte *> (x) + static_cast<size_t> (tile.token) * x_row_bytes;
  args.x_row_bytes = x_row_bytes;
  args.tokens = tile.tokens;
  args.bias = product.bias ? product.bias + tile.row : nullptr;
  args.y = product.y + tile.token;
  args.y_offset = static_cast<size_t> (tile.row);
  args.accumulate = product.accumulate;
  args.scratch = lane_scratch (lane, row_at_);
  args.is_intel = kernels_.is_intel;
  kernels_.linear[static_cast<int> (weight.format)](args);
}

// Rows of floats as a weight's product wants them.
const void *
Context::quantize (float *x, size_t x_stride, int rows, const PackedWeight &weight)
{
  const auto kind = activations_of (kernels_, weight.format);
  if (kind == Activations::kFloat) {
    clear_padding (x, x_stride, rows, weight);
    return x;
  }
  const auto index = static_cast<size_t> (kind);
  const size_t bytes = activation_bytes (kind, weight.columns);
  for_rows (*compiled_->pool, rows, weight.columns, [&] (int row) {
    kernels_.quantize[index](x + static_cast<size_t> (row) * x_stride, weight.inputs, weight.columns,
                             quantized_[index].data () + static_cast<size_t> (row) * bytes);
  });
  return quantized_[index].data ();
}

void
Context::run (const GatedOp &op)
{
  const Buffer &gate = buffer (op.gate), &up = buffer (op.up), &out = buffer (op.out);
  const auto kernel = activation_kernel (op.activation);
  for_rows (*compiled_->pool, row_count (gate), op.width * kExpCost / 4,
            [&] (int row) { kernel (gate.row (row), up.row (row) + op.up_first, op.width, out.row (row)); });
}

void
Context::run (const AddOp &op)
{
  const Buffer &in = buffer (op.in), &out = buffer (op.out);
  for_rows (*compiled_->pool, row_count (out), op.width, [&] (int row) {
    const float *from = in.row (row);
    float *to = out.row (row);
    for (int i = 0; i < op.width; ++i)
      to[i] += op.factor * from[i];
  });
}

void
Context::run (const ScaleOp &op)
{
  const Buffer &scaled = buffer (op.buffer);
  const float factor = op.factor * (op.weight == kNone ? 1.0f : *compiled_->weights[op.weight].vector ());
  for_rows (*compiled_->pool, row_count (scaled), op.width,
            [&] (int row) { scale_row (scaled.row (row), op.width, factor); });
}

void
Context::run (const CopyOp &op)
{
  const Buffer &in = buffer (op.in), &out = buffer (op.out);
  for_rows (*compiled_->pool, row_count (out), op.width * op.parts, [&] (int row) {
    const float *from = in.row (row) + op.in_first;
    float *to = out.row (row) + op.out_first;
    for (int part = 0; part < op.parts; ++part, from += op.in_step, to += op.out_step) {
      for (int i = 0; i < op.width; ++i)
        to[op.paired ? i / 2 + i % 2 * (op.width / 2) : i] = from[i];
    }
  });
}

// Units of both matrices at once.
void
Context::run (const LinearOp &op, const GatedOp &gated)
{
  const Buffer &in = buffer (op.in), &gate = buffer (gated.gate), &up = buffer (gated.up),
               &out = buffer (gated.out);
  const int rows = row_count (in);
  if (rows == 0)
    return;
  const auto kernel = activation_kernel (gated.activation);
  std::array<Product, 2> products;
  std::array<const void *, 2> inputs;
  for (size_t i = 0; i < products.size (); ++i) {
    const auto &projection = op.projections[i];
    products[i] = product_of (projection);
    const bool same = i > 0 && activations_of (kernels_, products[i].weight->format) ==
                                   activations_of (kernels_, products[0].weight->format);
    inputs[i] = same ? inputs[0] : quantize (in.data, in.stride, rows, *products[i].weight);
  }
  const Units units (rows, kernels_.tokens_at_once);
  const int64_t cost = int64_t{2} * gated.width * products[0].weight->columns * rows;
  run_units (units.of (gated.width), rows, cost, [&] (int begin, int end, int lane) {
    while (begin < end) {
      const Tile tile = units.tile (begin, end, gated.width);
      for (size_t i = 0; i < products.size (); ++i)
        multiply_tile (products[i], inputs[i], in.stride * sizeof (float), tile, lane);
      for (int row = tile.token; row < tile.token + tile.tokens; ++row)
        kernel (gate.row (row) + tile.row, up.row (row) + tile.row, tile.rows, out.row (row) + tile.row);
      begin += tile.units;
    }
  });
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
