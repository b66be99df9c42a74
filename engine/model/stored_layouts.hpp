// Weights under the names and in the order that a checkpoint has them, where it is another one than the family's own.
//
// Private to engine/model. Tools put experts together, and matrices of latent attention apart:
//   experts one by one      PREFIX.experts.N.gate_proj.weight   [intermediate, hidden], or in its place
//     transformers          PREFIX.experts.gate_up_proj         [experts, 2 · intermediate, hidden], PREFIX.experts.down_proj
//     mlx-lm                PREFIX.switch_mlp.gate_proj.weight  [experts, intermediate, hidden]; fc1 and fc2 (nemotron_h)
//   experts in one tensor   PREFIX.experts.gate_up_proj, or in its place
//     mlx-lm                PREFIX.experts.switch_glu.gate_proj.weight (gemma4), PREFIX.experts.gate_proj.weight, .bias (gpt_oss)
//     MXFP4 blocks          PREFIX.experts.gate_up_proj with outputs as rows, where the floats of gpt_oss have inputs
//   PREFIX.kv_b_proj.weight, or in its place
//     mlx-lm                PREFIX.embed_q.weight [heads, rank, plain], PREFIX.unembed_out.weight [heads, values, rank]
// What neither name has keeps the family's own, under which it is missing.
#pragma once

#include "engine/backend/program.hpp"

namespace millrace
{

class WeightFiles;

void settle_layouts (Program &program, const WeightFiles &files);

} // namespace millrace
