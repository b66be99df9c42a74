// What the config.json of decoder-only families have in common: sizes, rope, names of tensors.
//
// Private to engine/model. Bounds are far above what exists and keep every later product of sizes within
// 64 bits. Key names: transformers' PretrainedConfig; defaults are those of its config classes.
#pragma once

#include "engine/model/architecture_spec.hpp"
#include "engine/model/json_fields.hpp"

#include <string>

namespace millrace
{

/// How a family's layers differ from the plain llama layer.
struct DecoderTraits {
  bool qk_norm = false;
  bool attention_bias = false; ///< on q, k, v and o
  bool mlp_bias = false;
};

/// The whole spec of a model whose layers are all alike: pre-norm attention and gated MLP.
ArchitectureSpec decoder_spec (const JsonFields &config, const DecoderTraits &traits);

/// rope_parameters, or rope_theta and rope_scaling.
RopeSpec rope_spec (const JsonFields &config, int dimensions, int max_positions);

/// Throws LoadError when layer_types has another length than the model or names another kind than
/// full_attention.
void require_full_attention (const JsonFields &config, int layers);

} // namespace millrace
