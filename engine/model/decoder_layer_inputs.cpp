// Inputs that each layer gets of its token's own embedding.
#include "engine/model/decoder_layer_inputs.hpp"

#include <cmath>
#include <numbers>

namespace millrace
{

void
write_layer_inputs (ProgramWriter &writer, BufferId residual)
{
  const ArchitectureSpec &spec = writer.spec ();
  const LayerInputSpec &inputs = spec.layer_inputs;
  if (inputs.width == 0)
    return;
  const int layers = static_cast<int> (spec.layers.size ()), width = layers * inputs.width;
  const BufferId own = writer.buffer ("layer inputs", width),
                 projected = writer.buffer ("projected inputs", width);
  writer.emit (EmbedOp{writer.matrix (inputs.embedding, inputs.vocab, width), own,
                       std::sqrt (static_cast<float> (inputs.width))});
  Products products (writer, residual, spec.hidden);
  products.add (inputs.projection, "", width, projected);
  products.emit ();
  writer.emit (ScaleOp{projected, width, 1.0f / std::sqrt (static_cast<float> (spec.hidden)), kNone});
  writer.emit (
      RmsNormOp{projected, writer.norm (inputs.norm, inputs.width), projected, writer.epsilon (), layers});
  writer.emit (AddOp{projected, own, width});
  writer.emit (ScaleOp{own, width, 1 / std::numbers::sqrt2_v<float>, kNone});
}

void
write_layer_input (ProgramWriter &writer, const LayerInputTensors &tensors, int index, BufferId residual)
{
  if (tensors.gate.empty ())
    return;
  const ArchitectureSpec &spec = writer.spec ();
  const LayerInputSpec &inputs = spec.layer_inputs;
  const BufferId gate = writer.buffer ("gate", inputs.width), branch = writer.buffer ("branch", spec.hidden);
  const BufferId own = writer.buffer ("layer inputs", inputs.width);
  Products gates (writer, residual, spec.hidden);
  gates.add (tensors.gate, "", inputs.width, gate);
  gates.emit ();
  writer.emit (
      GatedOp{gated_activation (inputs.activation), gate, own, gate, inputs.width, index * inputs.width});
  Products projection (writer, gate, inputs.width);
  projection.add (tensors.projection, "", spec.hidden, branch);
  projection.emit ();
  writer.rms_norm (branch, tensors.norm, spec.hidden, branch);
  writer.emit (AddOp{branch, residual, spec.hidden});
}

} // namespace millrace
