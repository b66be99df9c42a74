// What the config.json of families with experts have in common: numbers of experts, groups, names of tensors.
//
// Private to engine/model. Every count is bounded before it meets another.
#pragma once

#include "engine/model/architecture_spec.hpp"
#include "engine/model/json_fields.hpp"

#include <string>
#include <vector>

namespace millrace
{

/// What a family's files call it, and what holds where they say nothing.
struct MoeTraits {
  std::vector<const char *> experts_keys = {"num_experts", "num_local_experts"}; ///< the first that is there
  const char *chosen_key = "num_experts_per_tok";
  const char *intermediate_key = "moe_intermediate_size";
};

/// Counts, sizes and the activation of the dense layers; no tensors yet.
MoeSpec moe_spec (const JsonFields &config, const MoeTraits &traits, const ArchitectureSpec &spec);

/// n_group, topk_group, norm_topk_prob and routed_scaling_factor, as DeepSeek and its like have them.
void read_groups (const JsonFields &config, MoeSpec &moe);

/// n_shared_experts, which are one MLP, as wide as all of them together; its tensors begin with `prefix`.
void read_shared_experts (const JsonFields &config, const std::string &prefix, bool bias, MoeSpec &moe);

/// A gated MLP for each expert: `prefix`0.gate_proj.weight …
ExpertTensors separate_experts (const std::string &prefix);

/// Layers from first_k_dense_replace on, or those that mlp_layer_types says.
std::vector<bool> sparse_layers (const JsonFields &config, size_t layers);

} // namespace millrace
