// GGUF keys of architectures with recurrent layers.
#include "engine/model/gguf_own_keys.hpp"

#include "engine/model/gguf_families.hpp"

#include <algorithm>

namespace millrace
{

namespace
{

constexpr int64_t kMaxSize = 1 << 20;
constexpr const char *kInner = "ssm.inner_size", *kHeads = "ssm.time_step_rank";

/// Of the values of a recurrence.
void
value_heads (GgufTranslation &translation, const char *heads, const char *head_dim)
{
  const int64_t count = translation.integer (kHeads, 1, kMaxSize),
                width = translation.integer (kInner, 1, kMaxSize);
  if (width % count != 0)
    translation.fields ().fail (translation.key (kInner),
                                std::to_string (width) + " is not a multiple of " + translation.key (kHeads) +
                                    ", " + std::to_string (count) + "; fetch the file again");
  translation.copy (heads, kHeads);
  translation.number (head_dim, static_cast<double> (width / count), kInner);
}

/// What the tensors of a layer make it.
const char *
kind_of_layer (const GgufTranslation &translation, int layer)
{
  if (translation.layer_holds (layer, "ssm_in.weight"))
    return "mamba";
  if (translation.layer_holds (layer, "ffn_gate_inp.weight"))
    return "moe";
  return translation.layer_holds (layer, "ffn_up.weight") ? "mlp" : "attention";
}

void
largest_of_layers (GgufTranslation &translation, const char *name, const char *key_name, int64_t least)
{
  const std::vector<int> values = translation.per_layer (key_name, INT32_MAX);
  translation.number (name, static_cast<double> (std::max<int64_t> (least, std::ranges::max (values))),
                      key_name);
}

} // namespace

void
gated_delta_keys (GgufTranslation &translation)
{
  translation.copy ("linear_conv_kernel_dim", "ssm.conv_kernel");
  translation.copy ("linear_key_head_dim", "ssm.state_size");
  translation.copy ("linear_num_key_heads", "ssm.group_count");
  value_heads (translation, "linear_num_value_heads", "linear_value_head_dim");
  if (translation.has ("attention.recurrent_layers"))
    translation.layer_types ("attention.recurrent_layers", "linear_attention", 0);
  else
    translation.copy ("full_attention_interval", "full_attention_interval");
  if (!translation.has ("expert_count"))
    return;
  expert_counts (translation, "num_experts", "num_experts_per_tok", "moe_intermediate_size");
  translation.copy ("shared_expert_intermediate_size", "expert_shared_feed_forward_length");
  translation.flag ("norm_topk_prob", true, "expert_used_count"); // files do not say it
}

void
nemotron_h_keys (GgufTranslation &translation)
{
  const GgufFields &fields = translation.fields ();
  std::vector<std::string> kinds;
  for (int i = 0; i < translation.layers (); ++i)
    kinds.emplace_back (kind_of_layer (translation, i));
  translation.texts ("layers_block_type", kinds, "block_count");
  translation.copy ("conv_kernel", "ssm.conv_kernel");
  translation.copy ("ssm_state_size", "ssm.state_size");
  translation.copy ("n_groups", "ssm.group_count");
  value_heads (translation, "mamba_num_heads", "mamba_head_dim");
  translation.member ("use_conv_bias",
                      translation.weights ().contains ("blk.0.ssm_conv1d.bias") ? "true" : "false",
                      "blk.0.ssm_conv1d.bias");
  translation.copy ("rms_norm_eps", "attention.layer_norm_rms_epsilon");
  translation.copy ("rms_norm_eps", "attention.layer_norm_epsilon"); // the name of other norms
  largest_of_layers (translation, "num_key_value_heads", "attention.head_count_kv", 1);
  largest_of_layers (translation, "num_attention_heads", "attention.head_count", 1);
  largest_of_layers (translation, "intermediate_size", "feed_forward_length", 1);
  if (translation.integer_or ("expert_count", 0, INT32_MAX, 0) == 0)
    return;
  if (translation.integer_or ("moe_latent_size", 0, INT32_MAX, 0) != 0)
    fields.fail (translation.key ("moe_latent_size"), "is not supported; use a model without it");
  expert_counts (translation, "n_routed_experts", "num_experts_per_tok", "moe_intermediate_size");
  expert_choice (translation);
  translation.copy ("moe_shared_expert_intermediate_size", "expert_shared_feed_forward_length");
}

} // namespace millrace
