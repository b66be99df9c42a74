// Configurations of every family, at shapes that nobody has trained: odd sizes, windows of half a block.
#pragma once

#include <map>
#include <string>

namespace millrace::testing
{

inline constexpr const char *kFamilySizes =
    R"("vocab_size": 83, "hidden_size": 44, "num_hidden_layers": 5, "num_attention_heads": 6,
"num_key_value_heads": 2, "head_dim": 14, "intermediate_size": 52, "max_position_embeddings": 300,
"sliding_window": 9, "rms_norm_eps": 1e-6)";

inline constexpr const char *kKinds =
    R"("layer_types": ["sliding_attention", "full_attention", "sliding_attention", "sliding_attention",
"full_attention"])";

inline constexpr const char *kGemma4 =
    R"("rope_parameters": {"full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.4,
"rope_theta": 1e6}, "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}},
"final_logit_softcapping": 20, "global_head_dim": 22)";

/// Two parts of values, the second one of 5.
inline constexpr const char *kHybrid =
    R"("rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.3}, "linear_num_key_heads": 2,
"linear_num_value_heads": 6, "linear_key_head_dim": 10, "linear_value_head_dim": 37)";

inline constexpr const char *kExperts =
    R"(, "num_experts": 7, "num_experts_per_tok": 3, "moe_intermediate_size": 27,
"shared_expert_intermediate_size": 21)";

inline const std::string kLatent =
    R"("qk_nope_head_dim": 11, "qk_rope_head_dim": 6, "v_head_dim": 9, "first_k_dense_replace": 1,
"moe_intermediate_size": 23, "n_routed_experts": 9, "num_experts_per_tok": 4, "routed_scaling_factor": 1.3)";

/// What each family's configuration says beside model_type and sizes; the key is model_type, or that and a variant.
inline const std::map<std::string, std::string> &
family_configurations ()
{
  static const std::string kinds = kKinds, gemma4 = kGemma4, hybrid = kHybrid, experts = kExperts;
  static const std::map<std::string, std::string> all = {
      {"deepseek_v2",
       kLatent + R"(, "q_lora_rank": null, "kv_lora_rank": 30, "n_shared_experts": 2, "n_group": 3,
                      "topk_group": 2, "topk_method": "group_limited_greedy", "norm_topk_prob": false)"},
      {"deepseek_v3", kLatent + R"(, "q_lora_rank": 20, "kv_lora_rank": 41, "n_group": 3, "topk_group": 2,
                      "rope_scaling": {"type": "yarn", "factor": 4, "mscale": 0.7, "mscale_all_dim": 0.9,
                                       "original_max_position_embeddings": 50})"},
      {"glm4_moe_lite", kLatent + R"(, "q_lora_rank": 33, "kv_lora_rank": 24, "rope_interleave": false,
                      "mlp_layer_types": ["dense", "sparse", "dense", "sparse", "sparse"])"},
      {"gemma2", R"("query_pre_attn_scalar": 10)"},
      {"gemma3_text", kinds + R"(, "rope_scaling": {"rope_type": "linear", "factor": 4})"},
      {"gemma4_text",
       kinds + "," + gemma4 +
           R"(, "hidden_size_per_layer_input": 10, "vocab_size_per_layer_input": 90, "num_kv_shared_layers": 3,
              "use_double_wide_mlp": true)"},
      {"gemma4_text, experts",
       kinds + "," + gemma4 +
           R"(, "hidden_size_per_layer_input": 10, "vocab_size_per_layer_input": 90, "enable_moe_block": true,
              "num_experts": 6, "top_k_experts": 2, "moe_intermediate_size": 19)"},
      {"gemma4_text, keys as values",
       kinds + "," + gemma4 +
           R"(, "hidden_size_per_layer_input": 0, "attention_k_eq_v": true, "num_global_key_value_heads": 3)"},
      {"glm4_moe", R"("attention_bias": true, "use_qk_norm": true, "partial_rotary_factor": 0.6,
                      "first_k_dense_replace": 2, "moe_intermediate_size": 21, "n_routed_experts": 12,
                      "num_experts_per_tok": 3, "n_group": 4, "topk_group": 2, "n_shared_experts": 2,
                      "routed_scaling_factor": 1.7)"},
      {"gpt_oss", kinds + R"(, "num_local_experts": 7, "num_experts_per_tok": 3, "swiglu_limit": 0.8,
                      "rope_scaling": {"rope_type": "yarn", "factor": 4, "truncate": false})"},
      {"granite", R"("embedding_multiplier": 3, "residual_multiplier": 0.3, "attention_multiplier": 0.2,
                     "logits_scaling": 5)"},
      {"llama", R"("attention_bias": true, "mlp_bias": true)"},
      {"mistral", ""},
      {"nemotron_h",
       R"("hybrid_override_pattern": "M*-MM", "mamba_num_heads": 6, "mamba_head_dim": 35, "n_groups": 3,
                        "ssm_state_size": 10, "conv_kernel": 3, "use_bias": true, "time_step_limit": [0.01, 2])"},
      {"olmo2", R"("attention_bias": true)"},
      {"olmo3", R"("rope_scaling": {"rope_type": "yarn", "factor": 4})"},
      {"phi3", R"("partial_rotary_factor": 0.6, "original_max_position_embeddings": 40,
                  "rope_scaling": {"rope_type": "longrope", "short_factor": [1, 1.2, 1.3, 2],
                                   "long_factor": [1, 3, 5, 9]})"},
      {"qwen2", R"("use_sliding_window": true, "max_window_layers": 2)"},
      {"qwen3", kinds},
      {"qwen3_moe", R"("num_experts": 9, "num_experts_per_tok": 4, "moe_intermediate_size": 27,
                       "norm_topk_prob": true, "decoder_sparse_step": 2)"},
      {"qwen3_moe, all experts", R"("num_experts": 3, "num_experts_per_tok": 3, "moe_intermediate_size": 70,
                       "mlp_only_layers": [1, 3])"},
      {"qwen3_5_text", hybrid},
      {"qwen3_5_text, recurrent only",
       hybrid + R"(, "layer_types": ["linear_attention", "linear_attention", "linear_attention",
                                     "linear_attention", "linear_attention"], "linear_conv_kernel_dim": 1)"},
      {"qwen3_next", hybrid + R"(, "full_attention_interval": 2, "attn_output_gate": false,
                                    "linear_conv_kernel_dim": 5)"},
      {"nemotron_h, experts",
       R"("hybrid_override_pattern": "MEE*E", "mamba_num_heads": 4, "mamba_head_dim": 8, "n_groups": 4,
          "ssm_state_size": 33, "n_routed_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 27,
          "n_group": 3, "topk_group": 2, "routed_scaling_factor": 1.5, "moe_shared_expert_intermediate_size": 19)"},
      {"qwen3_5_moe_text", hybrid + experts},
      {"qwen3_next, experts", hybrid + experts + R"(, "mlp_only_layers": [2])"},
      {"smollm3", R"("no_rope_layer_interval": 2, "use_sliding_window": true)"},
  };
  return all;
}

inline std::string
family_of (const std::string &name)
{
  return name.substr (0, name.find (','));
}

/// config.json of one of them.
inline std::string
family_config (const std::string &name)
{
  const std::string &more = family_configurations ().at (name);
  return "{\"model_type\": \"" + family_of (name) + "\", " + kFamilySizes + (more.empty () ? "" : ", ") +
         more + "}";
}

} // namespace millrace::testing
