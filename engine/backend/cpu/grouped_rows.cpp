#include "engine/backend/cpu/grouped_rows.hpp"

#include "engine/backend/cpu/context.hpp"
#include "engine/backend/cpu/formats.hpp"
#include "engine/backend/cpu/parts.hpp"

#include <algorithm>

namespace millrace::cpu
{

namespace
{

size_t
padded (int width)
{
  return round_up (static_cast<size_t> (width), kPad);
}

/// What the groups of a program's operations need at most.
struct Needs {
  size_t rows = 0, in = 0, inner = 0, out = 0; ///< of a token; floats of a row
  size_t groups = 0, chosen = 0, scores = 0;
};

} // namespace

void
Context::plan_groups ()
{
  Needs needs;
  std::array<size_t, kActivations> &strides = grouped_.quantized_stride;
  const auto meet = [&] (WeightId id) {
    const PackedWeight &weight = compiled_->weights[id];
    const auto kind = activations_of (kernels_, weight.format);
    size_t &stride = strides[static_cast<size_t> (kind)];
    stride = std::max (stride, activation_bytes (kind, weight.columns));
    return padded (weight.columns);
  };
  for (const Op &op : compiled_->program.ops) {
    if (const auto *route = std::get_if<RouteOp> (&op))
      needs.scores = std::max (needs.scores, padded (3 * route->experts));
    if (const auto *parts = std::get_if<PartsLinearOp> (&op)) {
      needs.rows = std::max (needs.rows, parts->weights.size ());
      needs.groups = std::max (needs.groups, parts->weights.size ());
      for (const WeightId weight : parts->weights)
        needs.in = std::max (needs.in, meet (weight));
    }
    if (const auto *experts = std::get_if<ExpertsOp> (&op)) {
      needs.rows = std::max (needs.rows, static_cast<size_t> (experts->chosen));
      needs.chosen = std::max (needs.chosen, static_cast<size_t> (experts->chosen));
      needs.groups = std::max (needs.groups, experts->experts.size ());
      for (const ExpertsOp::Expert &expert : experts->experts) {
        if (expert.gate != kNone)
          needs.in = std::max (needs.in, meet (expert.gate));
        needs.in = std::max (needs.in, meet (expert.up));
        needs.inner = std::max (needs.inner, meet (expert.down));
        needs.out = std::max (needs.out, padded (compiled_->weights[expert.down].outputs));
      }
    }
  }
  const auto tokens = static_cast<size_t> (max_tokens_);
  const size_t rows = checked_product (needs.rows, tokens);
  const auto reserve = [&] (GroupedRows::Floats &floats, size_t width) {
    floats.stride = width;
    floats.memory = Memory (checked_product (checked_product (rows, width), sizeof (float)));
  };
  reserve (grouped_.in, needs.in);
  reserve (grouped_.gate, needs.inner);
  reserve (grouped_.up, needs.inner);
  reserve (grouped_.out, needs.out);
  // Rows of two products may be of different kinds, never of one kind twice.
  for (size_t kind = 0; kind < strides.size (); ++kind)
    grouped_.quantized[kind] = Memory (checked_product (rows, strides[kind]));
  grouped_.routing_stride = needs.scores;
  grouped_.routing = Memory (checked_product (static_cast<size_t> (compiled_->pool->size ()),
                                              checked_product (needs.scores, sizeof (float))));
  grouped_.groups.reserve (needs.groups);
  grouped_.group_of.resize (rows);
  grouped_.token_of.resize (rows);
  grouped_.counts.resize (needs.groups);
  grouped_.rows_of.resize (needs.chosen * tokens);
  for (std::vector<float *> &results : grouped_.results)
    results.resize (rows);
}

/// Rows of floats as their groups' products want them. Those of a group follow each other as multiply_tile () expects it.
void
Context::quantize_groups (float *x, size_t x_stride, int products)
{
  const RowGroup &last = grouped_.groups.back ();
  for_rows (*compiled_->pool, last.first + last.rows, last.weights[0]->columns * products, [&] (int row) {
    const RowGroup &group =
        grouped_.groups[static_cast<size_t> (grouped_.group_of[static_cast<size_t> (row)])];
    float *values = x + static_cast<size_t> (row) * x_stride;
    Activations done{};
    for (int i = 0; i < products; ++i) {
      const PackedWeight &weight = *group.weights[static_cast<size_t> (i)];
      const auto kind = activations_of (kernels_, weight.format);
      if (i > 0 && kind == done)
        continue;
      done = kind;
      const auto index = static_cast<size_t> (kind);
      if (kind == Activations::kFloat)
        clear_padding (values, x_stride, 1, weight);
      else
        kernels_.quantize[index](values, weight.inputs, weight.columns,
                                 grouped_.quantized[index].data () +
                                     static_cast<size_t> (group.first) * grouped_.quantized_stride[index] +
                                     static_cast<size_t> (row - group.first) *
                                         activation_bytes (kind, weight.columns));
    }
  });
}

/// All groups' products of rows `x` into grouped_.results; then (group, tile) for what has been computed, while it is in cache.
void
Context::multiply_groups (float *x, size_t x_stride, int products,
                          FunctionRef<void (const RowGroup &group, const Tile &tile)> then)
{
  quantize_groups (x, x_stride, products);
  int units = 0, most_rows = 0;
  int64_t cost = 0;
  for (RowGroup &group : grouped_.groups) {
    const PackedWeight &weight = *group.weights[0];
    group.first_unit = units;
    units += Units (group.rows, kernels_.tokens_at_once).of (weight.outputs);
    most_rows = std::max (most_rows, group.rows);
    cost += static_cast<int64_t> (weight.outputs) * weight.columns * group.rows * products;
  }
  run_units (units, most_rows, cost, [&] (int begin, int end, int lane) {
    auto group = std::ranges::upper_bound (grouped_.groups, begin, {}, &RowGroup::first_unit) - 1;
    for (; begin < end; ++group) {
      const Units cut (group->rows, kernels_.tokens_at_once);
      const int outputs = group->weights[0]->outputs;
      const int last = std::min (end, group->first_unit + cut.of (outputs));
      while (begin < last) {
        const Tile tile = cut.tile (begin - group->first_unit, last - group->first_unit, outputs);
        for (size_t i = 0; i < static_cast<size_t> (products); ++i) {
          const auto kind = static_cast<size_t> (activations_of (kernels_, group->weights[i]->format));
          const auto first = static_cast<size_t> (group->first);
          const void *rows = x + first * x_stride;
          if (kind != static_cast<size_t> (Activations::kFloat))
            rows = grouped_.quantized[kind].data () + first * grouped_.quantized_stride[kind];
          const Product product{group->weights[i], group->biases[i],
                                grouped_.results[i].data () + group->first, false};
          multiply_tile (product, rows, x_stride * sizeof (float), tile, lane);
        }
        then (*group, tile);
        begin += tile.units;
      }
    }
  });
}

void
Context::run (const PartsLinearOp &op)
{
  const Buffer &in = buffer (op.in), &out = buffer (op.out);
  const int tokens = row_count (in), parts = static_cast<int> (op.weights.size ());
  if (tokens == 0)
    return;
  grouped_.groups.clear ();
  for (int part = 0; part < parts; ++part) {
    const PackedWeight &weight = compiled_->weights[op.weights[static_cast<size_t> (part)]];
    grouped_.groups.push_back ({part * tokens, tokens, {&weight, nullptr}, {}});
  }
  const PackedWeight &weight = *grouped_.groups.front ().weights[0];
  for_rows (*compiled_->pool, parts * tokens, weight.columns, [&] (int row) {
    const int part = row / tokens, token = row % tokens;
    grouped_.group_of[static_cast<size_t> (row)] = part;
    grouped_.results[0][static_cast<size_t> (row)] = out.row (token) + op.out_first + part * op.out_step;
    std::copy_n (in.row (token) + part * op.in_step, weight.inputs, grouped_.in.row (row));
  });
  multiply_groups (grouped_.in.memory.floats (), grouped_.in.stride, 1,
                   [] (const RowGroup &, const Tile &) {});
}

} // namespace millrace::cpu
