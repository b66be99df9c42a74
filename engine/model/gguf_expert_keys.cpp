// GGUF keys of architectures with experts.
#include "engine/model/gguf_own_keys.hpp"

#include "engine/model/gguf_families.hpp"

namespace millrace
{

namespace
{

constexpr const char *kGating = "expert_gating_func";
constexpr int64_t kSoftmax = 1, kSigmoid = 2;
constexpr int64_t kMaxHeadDim = 1 << 12;

/// Old files do not say it: GLM-4.7-Flash is known by its vocabulary and its layers.
bool
has_sigmoid (const GgufTranslation &translation)
{
  constexpr int64_t kGlmVocabulary = 154880;
  const TensorView *embedding = translation.weights ().find ("token_embd.weight");
  const int64_t blocks = translation.integer ("block_count", 1, INT32_MAX);
  const bool glm = embedding && embedding->shape.size () == 2 && embedding->shape[0] == kGlmVocabulary &&
                   (blocks == 47 || blocks == 48);
  const int64_t gating = translation.integer_or (kGating, 0, INT32_MAX, 0);
  if (gating > kSigmoid)
    translation.fields ().fail (translation.key (kGating),
                                "is " + std::to_string (gating) +
                                    "; supported are 1 (softmax) and 2 (sigmoid); use another model");
  return gating == 0 ? glm : gating == kSigmoid;
}

/// Sizes of a head's parts. Older files have those of plain heads where newer ones have key_length_mla and value_length_mla.
void
latent_heads (GgufTranslation &translation)
{
  const bool newer = translation.has ("attention.key_length_mla");
  const char *key_name = newer ? "attention.key_length_mla" : "attention.key_length",
             *value_name = newer ? "attention.value_length_mla" : "attention.value_length";
  const int64_t rotated = translation.integer ("rope.dimension_count", 2, kMaxHeadDim);
  const int64_t keys = translation.integer (key_name, rotated + 1, rotated + kMaxHeadDim);
  translation.copy ("qk_rope_head_dim", "rope.dimension_count");
  translation.number ("qk_nope_head_dim", static_cast<double> (keys - rotated), key_name);
  translation.copy ("v_head_dim", value_name);
  translation.copy ("kv_lora_rank", "attention.kv_lora_rank");
  translation.copy ("q_lora_rank", "attention.q_lora_rank");
}

} // namespace

void
expert_counts (GgufTranslation &translation, const char *experts, const char *chosen,
               const char *intermediate)
{
  translation.copy (experts, "expert_count");
  translation.copy (chosen, "expert_used_count");
  translation.copy (intermediate, "expert_feed_forward_length");
}

void
expert_choice (GgufTranslation &translation)
{
  translation.copy ("n_shared_experts", "expert_shared_count");
  translation.copy ("n_group", "expert_group_count");
  translation.copy ("topk_group", "expert_group_used_count");
  translation.copy ("routed_scaling_factor", "expert_weights_scale");
  translation.flag ("norm_topk_prob",
                    translation.fields ().boolean_or (translation.key ("expert_weights_norm"), false),
                    "expert_weights_norm");
}

void
deepseek2_keys (GgufTranslation &translation)
{
  latent_heads (translation);
  expert_counts (translation, "n_routed_experts", "num_experts_per_tok", "moe_intermediate_size");
  expert_choice (translation);
  translation.copy ("first_k_dense_replace", "leading_dense_block_count");
  if (has_sigmoid (translation)) {
    translation.text ("model_type", "deepseek_v3", kGating);
    return;
  }
  translation.text (
      "topk_method",
      translation.integer_or ("expert_group_count", 0, INT32_MAX, 1) > 1 ? "group_limited_greedy" : "greedy",
      "expert_group_count");
  translation.flag ("expert_weights_norm",
                    translation.fields ().boolean_or (translation.key ("expert_weights_norm"), false),
                    "expert_weights_norm");
}

void
glm4moe_keys (GgufTranslation &translation)
{
  const int64_t gating = translation.integer_or (kGating, 0, INT32_MAX, kSigmoid);
  if (gating != 0 && gating != kSigmoid)
    translation.fields ().fail (translation.key (kGating),
                                "is " + std::to_string (gating) +
                                    "; supported is 2 (sigmoid); use another model");
  expert_counts (translation, "n_routed_experts", "num_experts_per_tok", "moe_intermediate_size");
  expert_choice (translation);
  translation.copy ("first_k_dense_replace", "leading_dense_block_count");
  translation.member ("use_qk_norm", translation.layer_holds (0, "attn_q_norm.weight") ? "true" : "false",
                      "blk.0.attn_q_norm.weight");
}

void
gpt_oss_keys (GgufTranslation &translation)
{
  expert_counts (translation, "num_local_experts", "num_experts_per_tok", "intermediate_size");
  translation.layer_types ("attention.sliding_window_pattern", "sliding_attention", 2);
}

void
qwen3moe_keys (GgufTranslation &translation)
{
  expert_counts (translation, "num_experts", "num_experts_per_tok", "moe_intermediate_size");
  translation.flag ("norm_topk_prob", true, "expert_used_count"); // files do not say it
}

} // namespace millrace
