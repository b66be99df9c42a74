// GLM-4.5, 4.6, 4.7: attention with biases, half of each head rotated; after the first layers experts, chosen by corrected
// sigmoids, beside one that all tokens share.
//
// Source: GLM-4.5, arXiv 2508.06471; key names: transformers' Glm4MoeConfig.
#include "engine/model/families/decoder_fields.hpp"
#include "engine/model/families/families.hpp"
#include "engine/model/families/moe_fields.hpp"

namespace millrace
{

ArchitectureSpec
load_glm4_moe (const JsonFields &config)
{
  ArchitectureSpec spec = decoder_spec (
      config,
      {.qk_norm = config.boolean_or ("use_qk_norm", false) ? std::optional (QkNorm::kHead) : std::nullopt,
       .qkv_bias = config.boolean_or ("attention_bias", false),
       .rope = {.partial = true, .default_partial = 0.5}});
  MoeSpec moe = moe_spec (config, {.experts_keys = {"n_routed_experts"}}, spec);
  moe.routing.scores = RoutingSpec::Scores::kSigmoid;
  read_groups (config, moe);
  const auto sparse = sparse_layers (config, spec.layers.size ());
  for (size_t i = 0; i < spec.layers.size (); ++i) {
    if (!sparse[i])
      continue;
    const std::string prefix = "model.layers." + std::to_string (i) + ".mlp.";
    moe.routing.router = prefix + "gate.weight";
    moe.routing.correction = prefix + "gate.e_score_correction_bias";
    moe.tensors = separate_experts (prefix + "experts.");
    read_shared_experts (config, prefix + "shared_experts.", false, moe);
    spec.layers[i].channel = moe;
  }
  return spec;
}

} // namespace millrace
