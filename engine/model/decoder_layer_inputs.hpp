// Inputs that each layer gets of its token's own embedding (Gemma 3n's and Gemma 4's per-layer embeddings).
//
// Private to engine/model. See LayerInputSpec and LayerInputTensors for what is computed.
#pragma once

#include "engine/model/program_writer.hpp"

namespace millrace
{

/// Of all layers, from what was embedded in `residual`; where the spec has none, nothing.
void write_layer_inputs (ProgramWriter &writer, BufferId residual);

/// What layer `index` does with its own; where it has none, nothing.
void write_layer_input (ProgramWriter &writer, const LayerInputTensors &tensors, int index,
                        BufferId residual);

} // namespace millrace
