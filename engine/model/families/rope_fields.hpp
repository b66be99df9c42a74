// RoPE in a config.json: rope_parameters, or rope_theta and rope_scaling of older files.
//
// Private to engine/model. Key names: transformers' modeling_rope_utils.
#pragma once

#include "engine/model/architecture_spec.hpp"
#include "engine/model/json_fields.hpp"

namespace millrace
{

/// What a family's files may say of a kind of layers.
struct RopeKind {
  const char *layer_type = nullptr; ///< that rope_parameters has an object of; null: it has no such objects
  const char *theta_key = "rope_theta"; ///< outside of rope_parameters
  double default_theta = 10000;
  bool scaled = true;   ///< rope_scaling is of these layers
  bool partial = false; ///< partial_rotary_factor may be below 1
  double default_partial = 1;
};

RopeSpec rope_spec (const JsonFields &config, int head_dim, int max_positions, const RopeKind &kind);

} // namespace millrace
