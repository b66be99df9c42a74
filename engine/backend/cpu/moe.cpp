// Mixture of experts: routing, and the experts' products on the rows of those tokens that chose them. See context.hpp.
//
// Only experts that some token chose are read. A token's results are added in ascending order of experts.
#include "engine/backend/cpu/context.hpp"
#include "engine/backend/cpu/parts.hpp"
#include "engine/backend/cpu/routing.hpp"

#include <algorithm>
#include <cmath>

namespace millrace::cpu
{

void
Context::run (const RouteOp &op)
{
  const Buffer &logits = buffer (op.logits), &out = buffer (op.out);
  const auto values = [&] (WeightId id) { return id == kNone ? nullptr : compiled_->weights[id].vector (); };
  const int rows = row_count (logits);
  run_parts (*compiled_->pool, rows, static_cast<int64_t> (rows) * op.experts * (op.chosen + 8),
             [&] (int row, int lane) {
               float *scratch =
                   grouped_.routing.floats () + static_cast<size_t> (lane) * grouped_.routing_stride;
               route (op, logits.row (row), values (op.correction), values (op.expert_scale), scratch,
                      out.row (row));
             });
}

void
Context::run (const RowGateOp &op)
{
  const Buffer &gate = buffer (op.gate), &scaled = buffer (op.buffer);
  for_rows (*compiled_->pool, row_count (scaled), op.width, [&] (int row) {
    const float factor = 1.0f / (1.0f + std::exp (-*gate.row (row)));
    float *values = scaled.row (row);
    for (int i = 0; i < op.width; ++i)
      values[i] *= factor;
  });
}

/// A group for each expert that was chosen, by counting; the number of rows.
int
Context::group_experts (const ExpertsOp &op)
{
  const Buffer &weights = buffer (op.weights);
  const int tokens = row_count (weights), experts = static_cast<int> (op.experts.size ());
  int *counts = grouped_.counts.data ();
  std::fill_n (counts, experts, 0);
  for (int token = 0; token < tokens; ++token) {
    for (int expert = 0; expert < experts; ++expert)
      counts[expert] += weights.row (token)[expert] != 0;
  }
  grouped_.groups.clear ();
  int rows = 0;
  const auto bias = [&] (WeightId id) { return id == kNone ? nullptr : compiled_->weights[id].vector (); };
  for (int index = 0; index < experts; ++index) {
    const int count = counts[index];
    counts[index] = rows; // from now on: where the next token goes
    if (count == 0)
      continue;
    const ExpertsOp::Expert &expert = op.experts[static_cast<size_t> (index)];
    RowGroup group{rows, count, {&compiled_->weights[expert.up], nullptr}, {bias (expert.up_bias), nullptr}};
    group.expert = index;
    if (expert.gate != kNone) {
      group.weights[1] = &compiled_->weights[expert.gate];
      group.biases[1] = bias (expert.gate_bias);
    }
    std::fill_n (grouped_.group_of.begin () + rows, count, static_cast<int> (grouped_.groups.size ()));
    grouped_.groups.push_back (group);
    rows += count;
  }
  for (int token = 0; token < tokens; ++token) {
    int *token_rows = grouped_.rows_of.data () + static_cast<ptrdiff_t> (token) * op.chosen;
    int found = 0;
    for (int expert = 0; expert < experts; ++expert) {
      if (weights.row (token)[expert] == 0)
        continue;
      const int row = counts[expert]++;
      grouped_.token_of[static_cast<size_t> (row)] = token;
      token_rows[found++] = row;
    }
    std::fill (token_rows + found, token_rows + op.chosen, -1);
  }
  return rows;
}

/// gate = activation (gate) · up
void
Context::activate (const ExpertsOp &op, float *gate, float *up, int count) const
{
  // u · x · sigmoid (s · x) = (u / s) · silu (s · x)
  if (op.limit > 0 || op.slope != 1 || op.up_offset != 0) {
    for (int i = 0; i < count; ++i) {
      if (op.limit > 0) {
        gate[i] = gate[i] > op.limit ? op.limit : gate[i];
        up[i] = std::clamp (up[i], -op.limit, op.limit);
      }
      gate[i] *= op.slope;
      up[i] = (up[i] + op.up_offset) / op.slope;
    }
  }
  activation_kernel (op.activation) (gate, up, count, gate);
}

void
Context::run (const ExpertsOp &op)
{
  const Buffer &in = buffer (op.in), &weights = buffer (op.weights), &out = buffer (op.out);
  const int tokens = row_count (in), hidden = compiled_->weights[op.experts.front ().down].outputs;
  const int inputs = compiled_->weights[op.experts.front ().up].inputs;
  const int rows = tokens == 0 ? 0 : group_experts (op);
  if (rows > 0) {
    for_rows (*compiled_->pool, rows, inputs, [&] (int row) {
      const auto index = static_cast<size_t> (row);
      std::copy_n (in.row (grouped_.token_of[index]), inputs, grouped_.in.row (row));
      grouped_.results[0][index] = grouped_.up.row (row);
      grouped_.results[1][index] = grouped_.gate.row (row);
    });
    const bool gated = op.experts.front ().gate != kNone;
    multiply_groups (
        grouped_.in.memory.floats (), grouped_.in.stride, gated ? 2 : 1,
        [&] (const RowGroup &group, const Tile &tile) {
          for (int row = group.first + tile.token; row < group.first + tile.token + tile.tokens; ++row) {
            float *gate = grouped_.gate.row (row) + tile.row, *up = grouped_.up.row (row) + tile.row;
            if (!gated)
              std::copy_n (up, tile.rows, gate);
            activate (op, gate, up, tile.rows);
          }
        });
    for (RowGroup &group : grouped_.groups) {
      const ExpertsOp::Expert &expert = op.experts[static_cast<size_t> (group.expert)];
      group.weights[0] = &compiled_->weights[expert.down];
      group.biases[0] = expert.down_bias == kNone ? nullptr : compiled_->weights[expert.down_bias].vector ();
    }
    for (int row = 0; row < rows; ++row)
      grouped_.results[0][static_cast<size_t> (row)] = grouped_.out.row (row);
    multiply_groups (grouped_.gate.memory.floats (), grouped_.gate.stride, 1,
                     [] (const RowGroup &, const Tile &) {});
  }
  for_rows (*compiled_->pool, tokens, hidden * op.chosen, [&] (int token) {
    float *to = out.row (token);
    if (!op.accumulate)
      std::fill_n (to, hidden, 0.0f);
    const int *token_rows = grouped_.rows_of.data () + static_cast<ptrdiff_t> (token) * op.chosen;
    for (int i = 0; i < op.chosen && token_rows[i] >= 0; ++i) {
      const RowGroup &group =
          grouped_.groups[static_cast<size_t> (grouped_.group_of[static_cast<size_t> (token_rows[i])])];
      const float weight = weights.row (token)[group.expert];
      const float *from = grouped_.out.row (token_rows[i]);
      for (int j = 0; j < hidden; ++j)
        to[j] += weight * from[j];
    }
  });
}

} // namespace millrace::cpu
