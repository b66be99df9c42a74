// Recurrent layers of a program: each head's state goes through the tokens of a slice in order, in place. See context.hpp.
//
// One recurrence for prompts and for single tokens: a form that takes a chunk of positions at once rounds in another way, and
// then what has been computed would depend on how it was cut.
#include "engine/backend/cpu/context.hpp"
#include "engine/backend/cpu/parts.hpp"

#include <algorithm>
#include <cmath>

namespace millrace::cpu
{

namespace
{

constexpr int kExpCost = 16;            ///< an exponential, in multiply-adds
constexpr float kLengthEpsilon = 1e-6f; ///< of q and k, added to the square of their length

/// 1 / |x|
float
inverse_length (const float *x, int count)
{
  float lanes[kLanes] = {};
  for (int i = 0; i < count; ++i)
    lanes[i % kLanes] += x[i] * x[i];
  const float sum =
      ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
  return 1.0f / std::sqrt (sum + kLengthEpsilon);
}

float
softplus (float x)
{
  constexpr float kLinear = 20; // above it e^-x is less than half a unit in the last place
  return x > kLinear ? x : std::log1p (std::exp (x));
}

void
scale_head (float *x, int count, float factor)
{
  for (int i = 0; i < count; ++i)
    x[i] *= factor;
}

} // namespace

std::byte *
Context::state_of (const Slice &slice) const
{
  const auto group = static_cast<size_t> (kv_plan_.state_group);
  return kv_[group].data () +
         static_cast<size_t> (slice.blocks[group][0]) * kv_plan_.groups[group].block_bytes;
}

void
Context::run (const ConvolutionOp &op)
{
  int blocks = 0;
  for (const ConvolutionOp::Part &part : op.parts)
    blocks += parts_of (part.channels, kStateLanes);
  const int taps = compiled_->program.state_layers[static_cast<size_t> (op.layer)].taps;
  // Parts of work: neighbouring blocks of channels, of one slice.
  constexpr int kBlocksPerPart = 8;
  const int slice_parts = parts_of (blocks, kBlocksPerPart);
  const int64_t cost = static_cast<int64_t> (rows_.size ()) * blocks * kStateLanes * (taps + kExpCost / 4);
  run_parts (*compiled_->pool, slice_parts * static_cast<int> (slices_.size ()), cost, [&] (int part, int) {
    const auto slice = static_cast<size_t> (part / slice_parts);
    const int first = part % slice_parts * kBlocksPerPart;
    for (int block = first; block < std::min (blocks, first + kBlocksPerPart); ++block)
      convolve (op, slices_[slice], first_rows_[slice], block);
  });
}

void
Context::convolve (const ConvolutionOp &op, const Slice &slice, int first_row, int block) const
{
  const auto layer = static_cast<size_t> (op.layer);
  const StateLayer &state = compiled_->program.state_layers[layer];
  auto part = op.parts.begin ();
  int first_channel = 0; // of the part, in the state
  for (int blocks; block >= (blocks = parts_of (part->channels, kStateLanes)); ++part) {
    block -= blocks;
    first_channel += part->channels;
  }
  const int first = block * kStateLanes;
  const Buffer &x = buffer (part->buffer);
  ConvolutionArgs args;
  args.tokens = static_cast<int> (slice.tokens.size ());
  args.channels = std::min (kStateLanes, part->channels - first);
  args.taps = state.taps;
  args.x = x.row (first_row) + first;
  args.x_stride = x.stride;
  args.inputs = reinterpret_cast<float *> (state_of (slice) + kv_plan_.states[layer].inputs_offset) +
                first_channel + first;
  args.input_stride = static_cast<size_t> (state.channels);
  args.weight = compiled_->weights[part->weight].vector () + first * state.taps;
  args.bias = part->bias == kNone ? nullptr : compiled_->weights[part->bias].vector () + first;
  kernels_.convolution (args);
  for (int token = 0; token < args.tokens; ++token) {
    float *row = args.x + static_cast<size_t> (token) * args.x_stride;
    kernels_.silu (row, ones_.data (), args.channels, row);
  }
}

void
Context::run (const RecurrenceOp &op)
{
  const StateLayer &layer = compiled_->program.state_layers[static_cast<size_t> (op.layer)];
  const int rows = static_cast<int> (rows_.size ());
  for_rows (*compiled_->pool, rows, 4 * kExpCost * layer.heads + 4 * op.key_heads * layer.keys,
            [&] (int row) { prepare_recurrence (op, row); });
  const int64_t cost = int64_t{4} * rows * layer.heads * layer.keys * layer.values;
  run_parts (*compiled_->pool, layer.heads * static_cast<int> (slices_.size ()), cost, [&] (int part, int) {
    const auto slice = static_cast<size_t> (part / layer.heads);
    recur (op, slices_[slice], first_rows_[slice], part % layer.heads);
  });
}

/// What does not depend on other tokens: afterwards `step` holds decays, and `factor` what changes are multiplied by.
void
Context::prepare_recurrence (const RecurrenceOp &op, int row) const
{
  const StateLayer &layer = compiled_->program.state_layers[static_cast<size_t> (op.layer)];
  const bool delta = op.kind == RecurrenceOp::Kind::kDelta;
  const float *a_log = compiled_->weights[op.a_log].vector (),
              *bias = compiled_->weights[op.step_bias].vector ();
  float *steps = buffer (op.step).row (row), *factors = buffer (op.factor).row (row);
  for (int head = 0; head < layer.heads; ++head) {
    const float step = std::clamp (softplus (steps[head] + bias[head]), op.least_step, op.most_step);
    steps[head] = std::exp ((op.is_rate ? a_log[head] : -std::exp (a_log[head])) * step);
    factors[head] = delta ? 1.0f / (1.0f + std::exp (-factors[head])) : step;
  }
  if (!delta)
    return;
  const float scale = 1.0f / std::sqrt (static_cast<float> (layer.keys));
  for (int head = 0; head < op.key_heads; ++head) {
    float *q = buffer (op.q).row (row) + head * layer.keys, *k = buffer (op.k).row (row) + head * layer.keys;
    scale_head (q, layer.keys, inverse_length (q, layer.keys) * scale);
    scale_head (k, layer.keys, inverse_length (k, layer.keys));
  }
}

void
Context::recur (const RecurrenceOp &op, const Slice &slice, int first_row, int head) const
{
  const auto index = static_cast<size_t> (op.layer);
  const StateLayer &layer = compiled_->program.state_layers[index];
  const StatePlace &at = kv_plan_.states[index];
  const Buffer &q = buffer (op.q), &k = buffer (op.k), &v = buffer (op.v), &out = buffer (op.out),
               &decay = buffer (op.step), &factor = buffer (op.factor);
  const int key_head = op.turns ? head % op.key_heads : head / (layer.heads / op.key_heads);
  RecurrenceArgs args;
  args.delta = op.kind == RecurrenceOp::Kind::kDelta;
  args.tokens = static_cast<int> (slice.tokens.size ());
  args.keys = layer.keys;
  args.q = q.row (first_row) + key_head * layer.keys;
  args.k = k.row (first_row) + key_head * layer.keys;
  args.decay = decay.row (first_row) + head;
  args.factor = factor.row (first_row) + head;
  args.q_stride = q.stride;
  args.k_stride = k.stride;
  args.v_stride = v.stride;
  args.decay_stride = decay.stride;
  args.factor_stride = factor.stride;
  args.out_stride = out.stride;
  args.skip = op.skip == kNone ? 0.0f : compiled_->weights[op.skip].vector ()[head];
  auto *state = reinterpret_cast<float *> (state_of (slice) + at.matrices_offset +
                                           static_cast<size_t> (head) * at.matrix_bytes);
  for (int first = 0; first < layer.values; first += kStateLanes) {
    args.values = std::min (kStateLanes, layer.values - first);
    args.state = state + static_cast<size_t> (first) * static_cast<size_t> (layer.keys);
    args.v = v.row (first_row) + head * layer.values + first;
    args.out = out.row (first_row) + head * layer.values + first;
    kernels_.recurrence (args);
  }
}

} // namespace millrace::cpu
