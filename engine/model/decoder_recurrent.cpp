// Mixers whose state does not grow with the sequence: projections, a short convolution, a recurrence, norm and gate.
#include "engine/model/decoder_mixers.hpp"

#include <algorithm>
#include <limits>
#include <utility>

namespace millrace
{

namespace
{

/// The channels of one convolution that buffers share.
class Channels
{
public:
  Channels (ProgramWriter &writer, StateLayerId layer, const StateLayer &state, const std::string &tensor,
            const std::string &bias)
      : writer_ (writer)
      , state_ (state)
      , tensor_ (tensor)
      , bias_ (bias)
      , op_{layer, {}}
  {
  }

  void add (BufferId buffer, int channels)
  {
    ConvolutionOp::Part part{buffer, channels, kNone, kNone};
    part.weight = writer_.weight ({.name = tensor_,
                                   .outputs = channels * state_.taps,
                                   .first_output = first_ * state_.taps,
                                   .tensor_outputs = state_.channels * state_.taps,
                                   .taps = state_.taps});
    if (!bias_.empty ())
      part.bias = writer_.weight (
          {.name = bias_, .outputs = channels, .first_output = first_, .tensor_outputs = state_.channels});
    op_.parts.push_back (part);
    first_ += channels;
  }

  void emit () { writer_.emit (std::move (op_)); }

private:
  ProgramWriter &writer_;
  const StateLayer &state_;
  const std::string &tensor_, &bias_;
  ConvolutionOp op_;
  int first_ = 0;
};

float
within_float (double limit)
{
  return static_cast<float> (std::min<double> (limit, std::numeric_limits<float>::max ()));
}

WeightId
vector (ProgramWriter &writer, const std::string &tensor, int count)
{
  return writer.weight ({.name = tensor, .outputs = count});
}

} // namespace

void
write_gated_delta (ProgramWriter &writer, const GatedDeltaSpec &delta, const MixerPorts &ports)
{
  const GatedDeltaTensors &tensors = delta.tensors;
  const int keys = delta.key_heads * delta.key_dim, values = delta.value_heads * delta.value_dim;
  const BufferId q = writer.buffer ("q", keys), k = writer.buffer ("k", keys),
                 v = writer.buffer ("v", values), gate = writer.buffer ("gate", values),
                 beta = writer.buffer ("beta", delta.value_heads),
                 step = writer.buffer ("step", delta.value_heads), read = writer.buffer ("attended", values);
  Products inputs (writer, ports.in, writer.spec ().hidden);
  inputs.group (delta.by_key_head ? delta.key_heads : 1);
  inputs.add (tensors.q, {}, keys, q);
  inputs.add (tensors.k, {}, keys, k);
  inputs.add (tensors.v, {}, values, v);
  inputs.add (tensors.gate, {}, values, gate);
  inputs.group (delta.steps_by_key_head ? delta.key_heads : 1);
  inputs.add (tensors.beta, {}, delta.value_heads, beta);
  inputs.add (tensors.step, {}, delta.value_heads, step);
  inputs.emit ();

  const StateLayer state{2 * keys + values, delta.taps, delta.value_heads, delta.key_dim, delta.value_dim};
  const StateLayerId layer = writer.state_layer (state);
  const std::string no_bias;
  Channels channels (writer, layer, state, tensors.convolution, no_bias);
  channels.add (q, keys);
  channels.add (k, keys);
  channels.add (v, values);
  channels.emit ();
  writer.emit (RecurrenceOp{.kind = RecurrenceOp::Kind::kDelta,
                            .layer = layer,
                            .q = q,
                            .k = k,
                            .v = v,
                            .out = read,
                            .step = step,
                            .factor = beta,
                            .key_heads = delta.key_heads,
                            .a_log = vector (writer, tensors.a_log, delta.value_heads),
                            .step_bias = vector (writer, tensors.step_bias, delta.value_heads),
                            .skip = kNone,
                            .least_step = 0,
                            .most_step = std::numeric_limits<float>::max (),
                            .turns = delta.turns,
                            .is_rate = delta.is_rate});
  writer.emit (RmsNormOp{read, vector (writer, tensors.norm, delta.value_dim), read, writer.epsilon (),
                         delta.value_heads});
  writer.emit (GatedOp{GatedOp::Activation::kSilu, gate, read, read, values});

  Products out (writer, read, values);
  out.add (tensors.output, {}, writer.spec ().hidden, ports.out, ports.accumulate);
  out.emit ();
}

void
write_mamba2 (ProgramWriter &writer, const Mamba2Spec &mamba, const MixerPorts &ports)
{
  const Mamba2Tensors &tensors = mamba.tensors;
  const int values = mamba.heads * mamba.head_dim, keys = mamba.groups * mamba.state;
  const BufferId x = writer.buffer ("v", values), b = writer.buffer ("k", keys),
                 c = writer.buffer ("q", keys), gate = writer.buffer ("gate", values),
                 step = writer.buffer ("step", mamba.heads), scratch = writer.buffer ("beta", mamba.heads),
                 read = writer.buffer ("attended", values);
  Products inputs (writer, ports.in, writer.spec ().hidden);
  for (const auto &[width, buffer] :
       {std::pair{values, gate}, {values, x}, {keys, b}, {keys, c}, {mamba.heads, step}})
    inputs.add (tensors.input, tensors.input_bias, width, buffer);
  inputs.emit ();

  const StateLayer state{values + 2 * keys, mamba.taps, mamba.heads, mamba.state, mamba.head_dim};
  const StateLayerId layer = writer.state_layer (state);
  Channels channels (writer, layer, state, tensors.convolution, tensors.convolution_bias);
  channels.add (x, values);
  channels.add (b, keys);
  channels.add (c, keys);
  channels.emit ();
  writer.emit (RecurrenceOp{.kind = RecurrenceOp::Kind::kScan,
                            .layer = layer,
                            .q = c,
                            .k = b,
                            .v = x,
                            .out = read,
                            .step = step,
                            .factor = scratch,
                            .key_heads = mamba.groups,
                            .a_log = vector (writer, tensors.a_log, mamba.heads),
                            .step_bias = vector (writer, tensors.step_bias, mamba.heads),
                            .skip = vector (writer, tensors.skip, mamba.heads),
                            .least_step = within_float (mamba.least_step),
                            .most_step = within_float (mamba.most_step),
                            .is_rate = mamba.is_rate});
  writer.emit (GatedOp{GatedOp::Activation::kSilu, gate, read, read, values});
  writer.emit (
      RmsNormOp{read, vector (writer, tensors.norm, values), read, writer.epsilon (), 1, mamba.groups});

  Products out (writer, read, values);
  out.add (tensors.output, tensors.output_bias, writer.spec ().hidden, ports.out, ports.accumulate);
  out.emit ();
}

} // namespace millrace
