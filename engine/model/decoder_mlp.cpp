// Multi-layer perceptron: gated (GLU variants, arXiv 2002.05202), or with squared ReLU (Primer, arXiv 2109.08668).
#include "engine/model/decoder_mixers.hpp"

namespace millrace
{

void
write_mlp (ProgramWriter &writer, const MlpSpec &mlp, const MixerPorts &ports)
{
  const MlpTensors &tensors = mlp.tensors;
  const bool gated = !tensors.gate.empty ();
  const BufferId up = writer.buffer ("up", mlp.intermediate),
                 gate = gated ? writer.buffer ("gate", mlp.intermediate) : up;
  Products gate_up (writer, ports.in, writer.spec ().hidden);
  if (gated)
    gate_up.add (tensors.gate, tensors.gate_bias, mlp.intermediate, gate);
  gate_up.add (tensors.up, tensors.up_bias, mlp.intermediate, up);
  gate_up.emit ();
  writer.emit (GatedOp{gated_activation (mlp.activation), gate, up, gate, mlp.intermediate});
  Products down (writer, gate, mlp.intermediate);
  down.add (tensors.down, tensors.down_bias, writer.spec ().hidden, ports.out, ports.accumulate);
  down.emit ();
}

} // namespace millrace
