// DeepSeek-V2 and V3, and GLM-4.7-Flash, which is built like V3: latent attention; after the first layers experts, which V2
// chooses by softmax and V3 by corrected sigmoids, beside some that all tokens share.
//
// Sources: arXiv 2405.04434, 2412.19437; key names: transformers' DeepseekV2Config, DeepseekV3Config, Glm4MoeLiteConfig.
#include "engine/model/families/decoder_fields.hpp"
#include "engine/model/families/families.hpp"
#include "engine/model/families/moe_fields.hpp"

#include <cmath>

namespace millrace
{

namespace
{

constexpr int64_t kMaxHeads = 1 << 12;
constexpr int64_t kMaxAllHeads = 1 << 16; ///< of all layers: each has weights of its own
constexpr int64_t kMaxHeadDim = 1 << 12;
constexpr int64_t kMaxRank = 1 << 16;
constexpr int64_t kMaxWidth = 1 << 24; ///< of all heads together

/// How much sharper YaRN makes attention with the length, once more beside the factor of the rotation.
double
yarn_sharpness (const JsonFields &config, const RopeSpec &rope)
{
  if (rope.scaling != RopeSpec::Scaling::kYarn)
    return 1;
  const auto parameters = config.object (config.has ("rope_parameters") ? "rope_parameters" : "rope_scaling");
  const double mscale = parameters ? parameters->number_or ("mscale_all_dim", 0, 1000, 0) : 0;
  return mscale > 0 && rope.factor > 1 ? 0.1 * mscale * std::log (rope.factor) + 1 : 1;
}

void
check_width (const JsonFields &config, const char *name, int64_t heads, int64_t width)
{
  if (heads * width > kMaxWidth)
    config.fail (name, "makes all heads together " + std::to_string (heads * width) +
                           " wide, above the limit of " + std::to_string (kMaxWidth) + "; correct the file");
}

LatentAttentionSpec
latent_attention (const JsonFields &config, const ArchitectureSpec &spec)
{
  LatentAttentionSpec attention;
  attention.heads = config.integer ("num_attention_heads", 1, kMaxHeads);
  if (const int64_t all = attention.heads * static_cast<int64_t> (spec.layers.size ()); all > kMaxAllHeads)
    config.fail ("num_attention_heads", std::to_string (attention.heads) + " in each layer are " +
                                            std::to_string (all) + " in all, above the limit of " +
                                            std::to_string (kMaxAllHeads) + "; correct the file");
  attention.plain = config.integer ("qk_nope_head_dim", 1, kMaxHeadDim);
  attention.rotated = config.integer ("qk_rope_head_dim", 2, kMaxHeadDim);
  if (attention.rotated % 2 != 0)
    config.fail ("qk_rope_head_dim", std::to_string (attention.rotated) +
                                         " is odd and cannot be rotated in pairs; correct the file");
  attention.value_dim = config.integer ("v_head_dim", 1, kMaxHeadDim);
  attention.kv_rank = config.integer ("kv_lora_rank", 1, kMaxRank);
  attention.q_rank = config.integer_or ("q_lora_rank", 1, kMaxRank, 0);
  check_width (config, "kv_lora_rank", attention.heads, attention.kv_rank + attention.rotated);
  check_width (config, "qk_nope_head_dim", attention.heads, attention.plain + attention.rotated);
  check_width (config, "v_head_dim", attention.heads, attention.plain + attention.value_dim);
  attention.rope = rope_spec (config, attention.rotated, spec.max_positions, {});
  const double sharpness = yarn_sharpness (config, attention.rope);
  attention.scale =
      sharpness * sharpness / std::sqrt (static_cast<double> (attention.plain + attention.rotated));
  attention.neighbours = config.boolean_or ("rope_interleave", true);
  return attention;
}

LatentAttentionTensors
latent_tensors (const std::string &prefix, bool low_rank, bool bias)
{
  LatentAttentionTensors names;
  if (low_rank) {
    names.q_a = prefix + "q_a_proj.weight";
    names.q_a_norm = prefix + "q_a_layernorm.weight";
    names.q_b = prefix + "q_b_proj.weight";
    names.q_a_bias = bias ? prefix + "q_a_proj.bias" : "";
  } else {
    names.q = prefix + "q_proj.weight";
  }
  names.kv_a = prefix + "kv_a_proj_with_mqa.weight";
  names.kv_a_norm = prefix + "kv_a_layernorm.weight";
  names.kv_b = prefix + "kv_b_proj.weight";
  names.o = prefix + "o_proj.weight";
  if (bias) {
    names.kv_a_bias = prefix + "kv_a_proj_with_mqa.bias";
    names.o_bias = prefix + "o_proj.bias";
  }
  return names;
}

/// V2 takes a group for as good as its best expert, V3 for as good as its best two.
void
set_routing (const JsonFields &config, bool corrected, MoeSpec &moe)
{
  read_groups (config, moe);
  RoutingSpec &routing = moe.routing;
  if (corrected) {
    routing.scores = RoutingSpec::Scores::kSigmoid;
    return;
  }
  const std::string method = config.text_or ("topk_method", "greedy");
  if (method != "greedy" && method != "group_limited_greedy")
    config.fail ("topk_method", "\"" + method.substr (0, 80) +
                                    "\" is not supported; supported are greedy and group_limited_greedy");
  routing.group_score = RoutingSpec::GroupScore::kLargest;
  if (method == "greedy")
    routing.groups = routing.chosen_groups = 1;
  // The reference does not read norm_topk_prob of V2, which is false in all files; GGUF files say it by this key.
  routing.normalized = config.boolean_or ("expert_weights_norm", false);
}

ArchitectureSpec
load (const JsonFields &config, bool corrected)
{
  const bool bias = config.boolean_or ("attention_bias", false),
             mlp_bias = !corrected && config.boolean_or ("mlp_bias", false); // of V2, but not of its experts
  ArchitectureSpec spec = decoder_spec (config, {.mlp_bias = mlp_bias, .own_attention = true});
  LatentAttentionSpec attention = latent_attention (config, spec);
  MoeSpec moe = moe_spec (config, {.experts_keys = {"n_routed_experts"}}, spec);
  set_routing (config, corrected, moe);
  const auto sparse = sparse_layers (config, spec.layers.size ());
  for (size_t i = 0; i < spec.layers.size (); ++i) {
    const std::string prefix = "model.layers." + std::to_string (i) + ".";
    attention.tensors = latent_tensors (prefix + "self_attn.", attention.q_rank > 0, bias);
    spec.layers[i].mixer = attention;
    if (!sparse[i])
      continue;
    moe.routing.router = prefix + "mlp.gate.weight";
    moe.routing.correction = corrected ? prefix + "mlp.gate.e_score_correction_bias" : "";
    moe.tensors = separate_experts (prefix + "mlp.experts.");
    read_shared_experts (config, prefix + "mlp.shared_experts.", mlp_bias, moe);
    spec.layers[i].channel = moe;
  }
  return spec;
}

} // namespace

ArchitectureSpec
load_deepseek_v2 (const JsonFields &config)
{
  return load (config, false);
}

ArchitectureSpec
load_deepseek_v3 (const JsonFields &config)
{
  return load (config, true);
}

} // namespace millrace
