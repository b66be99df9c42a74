// The kinds of mixers, each written by a file of its own.
//
// Private to engine/model. Each reads its input and writes its result, `hidden` elements wide, as its ports say.
#pragma once

#include "engine/model/program_writer.hpp"

namespace millrace
{

/// `kv_layers`: of the layers before this one, kNone for those without; this one's is added.
void write_attention (ProgramWriter &writer, const AttentionSpec &attention, const MixerPorts &ports,
                      std::vector<KvLayerId> &kv_layers);

void write_gated_delta (ProgramWriter &writer, const GatedDeltaSpec &delta, const MixerPorts &ports);

void write_mamba2 (ProgramWriter &writer, const Mamba2Spec &mamba, const MixerPorts &ports);

void write_latent_attention (ProgramWriter &writer, const LatentAttentionSpec &attention,
                             const MixerPorts &ports, std::vector<KvLayerId> &kv_layers);

void write_mlp (ProgramWriter &writer, const MlpSpec &mlp, const MixerPorts &ports);
void write_moe (ProgramWriter &writer, const MoeSpec &moe, const MixerPorts &ports);

} // namespace millrace
