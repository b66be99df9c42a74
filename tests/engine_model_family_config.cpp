// labels: unit
// config.json of each family: what is its own, and that absurd values are refused by field.
#include "tests/config_files.hpp"

#include <cmath>
#include <string>
#include <vector>

namespace
{

using namespace millrace;
using namespace millrace::testing;

TEST (family_config, windows_are_those_of_the_layers_that_slide)
{
  const auto windows = [] (const Fields &changes) {
    std::vector<int> found;
    const ArchitectureSpec spec = load (changes);
    for (size_t i = 0; i < spec.layers.size (); ++i)
      found.push_back (attention_of (spec, i).window);
    return found;
  };
  const Fields qwen = {{"model_type", "\"qwen3\""}, {"sliding_window", "64"}, {"use_sliding_window", "true"}};
  const std::string types = R"(["full_attention", "sliding_attention"])";
  EXPECT_EQ (windows (qwen), (std::vector<int>{0, 0})); // max_window_layers is 28
  EXPECT_EQ (windows (changed (qwen, {{"max_window_layers", "1"}})), (std::vector<int>{0, 64}));
  EXPECT_EQ (windows (changed (qwen, {{"use_sliding_window", "false"}, {"max_window_layers", "0"}})),
             (std::vector<int>{0, 0}));
  EXPECT_EQ (windows (changed (qwen, {{"layer_types", types}})), (std::vector<int>{0, 64}));
  const Fields mistral = {{"model_type", "\"mistral\""}, {"sliding_window", "64"}};
  EXPECT_EQ (windows (mistral), (std::vector<int>{64, 64}));
  EXPECT_EQ (windows (changed (mistral, {{"sliding_window", "null"}})), (std::vector<int>{0, 0}));
  EXPECT_EQ (windows (changed (mistral, {{"sliding_window", "512"}})), (std::vector<int>{0, 0}));
  EXPECT_EQ (windows (changed (mistral, {{"layer_types", types}})), (std::vector<int>{0, 64}));
  EXPECT_EQ (windows ({{"model_type", "\"gemma2\""}, {"sliding_window", "64"}}), (std::vector<int>{64, 0}));
  EXPECT_EQ (windows ({{"model_type", "\"gemma3_text\""}, {"sliding_window", "64"}}),
             (std::vector<int>{64, 64}));
  EXPECT_EQ (
      windows (
          {{"model_type", "\"gemma3_text\""}, {"sliding_window", "64"}, {"sliding_window_pattern", "2"}}),
      (std::vector<int>{64, 0}));
  EXPECT_EQ (windows ({{"model_type", "\"olmo3\""}, {"sliding_window", "64"}, {"num_hidden_layers", "4"}}),
             (std::vector<int>{64, 64, 64, 0}));
}

TEST (family_config, a_family_has_the_defaults_of_its_own)
{
  const ArchitectureSpec gemma2 =
      load (Fields{{"model_type", "\"gemma2\""}, {"sliding_window", "64"}, {"hidden_act", ""}});
  EXPECT_TRUE (gemma2.tied_head);
  EXPECT_EQ (mlp_of (gemma2, 0).activation, Activation::kGeluTanh);
  EXPECT_EQ (attention_of (gemma2, 0).softcap, 50);
  EXPECT_EQ (attention_of (gemma2, 0).scale, 1.0 / 16);
  EXPECT_EQ (gemma2.logit_softcap, 30);
  EXPECT_EQ (gemma2.norm_offset, 1);
  EXPECT_EQ (gemma2.embedding_scale, std::sqrt (128.0));
  const ArchitectureSpec uncapped = load (Fields{{"model_type", "\"gemma2\""},
                                                 {"sliding_window", "64"},
                                                 {"attn_logit_softcapping", "null"},
                                                 {"final_logit_softcapping", "null"}});
  EXPECT_EQ (attention_of (uncapped, 0).softcap, 0);
  EXPECT_EQ (uncapped.logit_softcap, 0);

  // As published before rope_parameters.
  const ArchitectureSpec gemma3 = load (Fields{{"model_type", "\"gemma3_text\""},
                                               {"sliding_window", "64"},
                                               {"sliding_window_pattern", "2"},
                                               {"rope_theta", "1e6"},
                                               {"rope_local_base_freq", "20000"},
                                               {"rope_scaling", R"({"rope_type": "linear", "factor": 8})"}});
  EXPECT_EQ (attention_of (gemma3, 0).rope.theta, 20000);
  EXPECT_EQ (attention_of (gemma3, 0).rope.scaling, RopeSpec::Scaling::kNone);
  EXPECT_EQ (attention_of (gemma3, 1).rope.theta, 1e6);
  EXPECT_EQ (attention_of (gemma3, 1).rope.factor, 8);

  const ArchitectureSpec smollm3 =
      load (Fields{{"model_type", "\"smollm3\""}, {"num_hidden_layers", "4"}, {"rope_theta", ""}});
  EXPECT_TRUE (smollm3.tied_head);
  EXPECT_EQ (attention_of (smollm3, 2).rope.theta, 2e6);
  EXPECT_EQ (attention_of (smollm3, 3).rope.dimensions, 0);

  const ArchitectureSpec granite = load (Fields{{"model_type", "\"granite\""}, {"logits_scaling", "8"}});
  EXPECT_EQ (granite.logit_scale, 0.125);
  EXPECT_EQ (attention_of (granite, 0).scale, 1);
}

TEST (family_config, a_wrapper_of_several_modalities_holds_the_text_model)
{
  const std::string text = json (
      changed (kLlama, {{"model_type", "\"gemma3_text\""}, {"sliding_window", "64"}, {"eos_token_id", ""}}));
  const ArchitectureSpec spec =
      load ("{\"model_type\": \"gemma3\", \"eos_token_id\": [1, 106], \"text_config\": " + text + "}");
  EXPECT_EQ (spec.hidden, 128);
  EXPECT_EQ (spec.eos_token_ids, (std::vector<int32_t>{1, 106}));
  EXPECT_EQ (spec.head_tensor, spec.embedding_tensor);
  EXPECT_THROW (load ("{\"model_type\": \"gemma3\"}"), LoadError);
  EXPECT_THROW (load ("{\"model_type\": \"gemma3\", \"text_config\": 3}"), LoadError);
  const ArchitectureSpec untied =
      load ("{\"model_type\": \"gemma3\", \"tie_word_embeddings\": false, \"text_config\": " + text + "}");
  EXPECT_EQ (untied.head_tensor, "lm_head.weight");
}

TEST (family_config, hybrid_layers_have_the_mixers_that_the_file_names)
{
  const auto kinds = [] (const Fields &changes) {
    std::string found;
    for (const LayerSpec &layer : load (changes).layers) {
      found += std::holds_alternative<GatedDeltaSpec> (layer.mixer)  ? 'd'
               : std::holds_alternative<Mamba2Spec> (layer.mixer)    ? 'M'
               : std::holds_alternative<AttentionSpec> (layer.mixer) ? '*'
                                                                     : ' ';
      found += std::holds_alternative<MlpSpec> (layer.channel) ? '-' : ' ';
    }
    return found;
  };
  const Fields qwen = {{"model_type", "\"qwen3_5_text\""}, {"num_hidden_layers", "4"}};
  EXPECT_EQ (kinds (qwen), "d-d-d-*-");
  EXPECT_EQ (kinds (changed (qwen, {{"full_attention_interval", "2"}})), "d-*-d-*-");
  EXPECT_EQ (kinds (changed (qwen, {{"num_hidden_layers", "2"},
                                    {"layer_types", R"(["full_attention", "linear_attention"])"}})),
             "*-d-");
  const Fields nemotron = {
      {"model_type", "\"nemotron_h\""}, {"num_hidden_layers", ""}, {"mamba_num_heads", "8"}};
  EXPECT_EQ (kinds (changed (nemotron, {{"hybrid_override_pattern", "\"M-*M\""}})), "M  -* M ");
  EXPECT_EQ (kinds (changed (nemotron, {{"layers_block_type", R"(["mlp", "full_attention", "mamba"])"}})),
             " -* M ");
}

TEST (family_config, limits_may_be_infinite)
{
  const auto limits_of = [] (const std::string &limits) {
    const ArchitectureSpec spec = load (Fields{{"model_type", "\"nemotron_h\""},
                                               {"hybrid_override_pattern", R"("M\u002d")"},
                                               {"architectures", R"(["\"Infinity"])"},
                                               {"mamba_num_heads", "8"},
                                               {"time_step_limit", limits}});
    const auto &mamba = std::get<Mamba2Spec> (spec.layers[0].mixer);
    EXPECT_EQ (mamba.least_step, 0.5);
    return mamba.most_step;
  };
  EXPECT_EQ (limits_of ("[0.5, 7]"), 7);
  EXPECT_GE (limits_of ("[0.5, Infinity]"), 1e38);
  EXPECT_GE (limits_of (R"([0.5, {"__float__": "Infinity"}])"), 1e38);
}

TEST (family_config, longrope_has_a_list_for_short_and_one_for_long_sequences)
{
  const std::string factors = R"("short_factor": [1, 1.5, 2, 3], "long_factor": [2, 3, 4, 5])";
  const RopeSpec rope = rope_of ({{"model_type", "\"phi3\""},
                                  {"head_dim", "16"},
                                  {"original_max_position_embeddings", "64"},
                                  {"partial_rotary_factor", "0.5"},
                                  {"rope_scaling", "{\"type\": \"su\", " + factors + "}"}});
  EXPECT_EQ (rope.scaling, RopeSpec::Scaling::kLongRope);
  EXPECT_EQ (rope.dimensions, 8);
  EXPECT_EQ (rope.original_max_positions, 64);
  EXPECT_EQ (rope.frequency_factors, (std::vector<float>{1, 1.5, 2, 3}));
  EXPECT_EQ (rope.long_frequency_factors, (std::vector<float>{2, 3, 4, 5}));
  EXPECT_DOUBLE_EQ (rope.attention_factor, std::sqrt (1 + std::log (8.0) / std::log (64.0)));
}

TEST (family_config, experts_are_where_the_file_says_and_chosen_as_the_family_does)
{
  const auto sparse = [] (const Fields &changes) {
    std::string found;
    for (const LayerSpec &layer : load (changes).layers)
      found += std::holds_alternative<MoeSpec> (layer.channel) ? 'e' : 'd';
    return found;
  };
  const Fields counts = {{"num_hidden_layers", "4"},
                         {"num_experts", "8"},
                         {"n_routed_experts", "8"},
                         {"num_experts_per_tok", "2"},
                         {"moe_intermediate_size", "48"}};
  const Fields qwen = changed (counts, {{"model_type", "\"qwen3_moe\""}});
  EXPECT_EQ (sparse (qwen), "eeee");
  EXPECT_EQ (sparse (changed (qwen, {{"decoder_sparse_step", "2"}})), "dede");
  EXPECT_EQ (sparse (changed (qwen, {{"mlp_only_layers", "[0, 2]"}})), "dede");
  const Fields glm = changed (counts, {{"model_type", "\"glm4_moe\""}, {"first_k_dense_replace", "3"}});
  EXPECT_EQ (sparse (glm), "ddde");
  const auto moe = std::get<MoeSpec> (load (changed (glm, {{"n_shared_experts", "2"}})).layers[3].channel);
  EXPECT_EQ (moe.routing.scores, RoutingSpec::Scores::kSigmoid);
  EXPECT_EQ (moe.shared.intermediate, 96);
  EXPECT_EQ (attention_of (load (glm), 0).rope.dimensions, 16); // half of 32

  // The published YaRN of DeepSeek: the rotation's factor cancels, the scores' does not.
  const ArchitectureSpec v3 = load (changed (
      counts, {{"model_type", "\"deepseek_v3\""},
               {"qk_nope_head_dim", "16"},
               {"qk_rope_head_dim", "8"},
               {"v_head_dim", "12"},
               {"kv_lora_rank", "24"},
               {"rope_scaling", R"({"type": "yarn", "factor": 40, "mscale": 1.0, "mscale_all_dim": 1.0})"}}));
  const auto &attention = std::get<LatentAttentionSpec> (v3.layers[0].mixer);
  const double mscale = 0.1 * std::log (40.0) + 1;
  EXPECT_DOUBLE_EQ (attention.rope.attention_factor, 1);
  EXPECT_DOUBLE_EQ (attention.scale, mscale * mscale / std::sqrt (24.0));
  EXPECT_EQ (attention.q_rank, 0);
  EXPECT_TRUE (attention.neighbours);
}

std::vector<Damage>
damages ()
{
  const auto of = [] (const std::string &family, const Fields &more) {
    return changed (Fields{{"model_type", "\"" + family + "\""}}, more);
  };
  const auto gemma4 = [&] (const Fields &more) {
    return changed (of ("gemma4_text", {{"sliding_window", "8"}}), more);
  };
  const auto nemotron = [&] (const Fields &more) {
    return changed (of ("nemotron_h", {{"layers_block_type", R"(["linear_attention", "mlp"])"},
                                       {"mamba_num_heads", "8"},
                                       {"n_groups", "2"}}),
                    more);
  };
  const auto experts = [&] (const Fields &more) {
    return changed (nemotron ({{"layers_block_type", R"(["mlp", "moe"])"},
                               {"n_routed_experts", "8"},
                               {"num_experts_per_tok", "2"},
                               {"moe_intermediate_size", "16"},
                               {"moe_shared_expert_intermediate_size", "16"}}),
                    more);
  };
  const auto moe = [&] (const std::string &family, const Fields &more) {
    return changed (of (family, {{"num_experts", "8"},
                                 {"num_local_experts", "8"},
                                 {"n_routed_experts", "8"},
                                 {"num_experts_per_tok", "2"},
                                 {"moe_intermediate_size", "48"}}),
                    more);
  };
  const auto latent = [&] (const std::string &family, const Fields &more) {
    return changed (moe (family, {{"qk_nope_head_dim", "16"},
                                  {"qk_rope_head_dim", "8"},
                                  {"v_head_dim", "12"},
                                  {"kv_lora_rank", "24"}}),
                    more);
  };
  return {
      {of ("qwen3", {{"layer_types", R"(["full_attention", "sliding_attention"])"}}), "sliding_window",
       "missing"},
      {of ("qwen3", {{"layer_types", R"(["full_attention", "chunked_attention"])"}}), "layer_types",
       "chunked"},
      {of ("mistral", {{"sliding_window", "0"}}), "sliding_window", "is 0"},
      {of ("mistral", {{"sliding_window", "-1"}}), "sliding_window", "-1"},
      {of ("mistral", {{"sliding_window", "\"all\""}}), "sliding_window", "integer"},
      {of ("qwen2", {{"use_sliding_window", "true"}, {"sliding_window", "8"}, {"max_window_layers", "-1"}}),
       "max_window_layers", "-1"},
      {of ("smollm3", {{"no_rope_layers", "[1]"}}), "no_rope_layers", "1 entries"},
      {of ("smollm3", {{"no_rope_layers", "[1, 2]"}}), "no_rope_layers", "is 2"},
      {of ("smollm3", {{"no_rope_layers", "1"}}), "no_rope_layers", "array"},
      {of ("smollm3", {{"no_rope_layer_interval", "0"}}), "no_rope_layer_interval", "is 0"},
      {of ("granite", {{"logits_scaling", "0"}}), "logits_scaling", "is 0"},
      {of ("granite", {{"residual_multiplier", "-1"}}), "residual_multiplier", "-1"},
      {of ("granite", {{"embedding_multiplier", "1e300"}}), "embedding_multiplier", "number"},
      {of ("granite", {{"attention_multiplier", "\"1\""}}), "attention_multiplier", "number"},
      {of ("gemma2", {{"sliding_window", "8"}, {"attn_logit_softcapping", "0"}}), "attn_logit_softcapping",
       "is 0"},
      {of ("gemma2", {{"sliding_window", "8"}, {"final_logit_softcapping", "-3"}}), "final_logit_softcapping",
       "-3"},
      {of ("gemma2", {{"sliding_window", "8"}, {"query_pre_attn_scalar", "0"}}), "query_pre_attn_scalar",
       "is 0"},
      {of ("gemma2", {{"sliding_window", "8"}, {"hidden_activation", "\"relu\""}}), "hidden_activation",
       "relu"},
      {of ("gemma2", {}), "sliding_window", "missing"},
      {of ("gemma3_text", {{"sliding_window_pattern", "0"}}), "sliding_window_pattern", "is 0"},
      {of ("gemma3_text", {{"sliding_window", "8"}, {"rope_local_base_freq", "1"}}), "rope_local_base_freq",
       "is 1"},
      {of ("gemma3_text", {{"sliding_window", "8"}, {"use_bidirectional_attention", "true"}}),
       "use_bidirectional_attention", "generate"},
      {of ("gemma3_text",
           {{"rope_parameters", R"({"full_attention": {"rope_type": "default"}})"}, {"sliding_window", "8"}}),
       "rope_parameters.sliding_attention", "missing"},
      {gemma4 ({{"per_layer_config", "3"}}), "per_layer_config", "object"},
      {gemma4 ({{"per_layer_config", R"({"1": {"head_dim": 7}})"}}), "per_layer_config.1.head_dim", "odd"},
      {gemma4 ({{"per_layer_config", R"({"1": {"head_dim": 0}})"}}), "per_layer_config.1.head_dim", "is 0"},
      {gemma4 ({{"per_layer_config", R"({"1": {"num_key_value_heads": 3}})"}}),
       "per_layer_config.1.num_key_value_heads", "does not divide"},
      {gemma4 ({{"global_head_dim", "99999999"}}), "global_head_dim", "99999999"},
      {gemma4 ({{"num_attention_heads", "20000"}, {"head_dim", "8"}, {"global_head_dim", "65536"}}),
       "global_head_dim", "1310720000"},
      {gemma4 ({{"num_kv_shared_layers", "2"}}), "num_kv_shared_layers", "is 2"},
      {gemma4 ({{"num_kv_shared_layers", "1"}}), "num_kv_shared_layers", "leaves no layer"},
      {gemma4 ({{"num_kv_shared_layers", "-1"}}), "num_kv_shared_layers", "-1"},
      {gemma4 ({{"num_hidden_layers", "3"},
                {"num_kv_shared_layers", "1"},
                {"layer_types", R"(["sliding_attention", "full_attention", "full_attention"])"},
                {"per_layer_config", R"({"1": {"head_dim": 8}})"}}),
       "per_layer_config", "layer 2 differ from those of layer 1"},
      {gemma4 ({{"hidden_size_per_layer_input", "-1"}}), "hidden_size_per_layer_input", "-1"},
      {gemma4 ({{"hidden_size_per_layer_input", "8"}, {"vocab_size_per_layer_input", "999"}}),
       "vocab_size_per_layer_input", "less than vocab_size"},
      {gemma4 ({{"use_bidirectional_attention", "\"all\""}}), "use_bidirectional_attention", "generate"},
      {gemma4 ({{"enable_moe_block", "true"}}), "num_experts", "missing"},
      {gemma4 ({{"enable_moe_block", "true"}, {"num_experts", "4"}, {"top_k_experts", "5"}}), "top_k_experts",
       "more than num_experts"},
      {moe ("qwen3_moe", {{"num_experts", "0"}}), "num_experts", "is 0"},
      {moe ("qwen3_moe", {{"num_experts", "99999999"}}), "num_experts", "99999999"},
      {moe ("qwen3_moe", {{"num_experts", "4096"}, {"num_hidden_layers", "1000"}}), "num_experts", "4096000"},
      {moe ("qwen3_moe", {{"num_experts_per_tok", "9"}}), "num_experts_per_tok", "more than num_experts, 8"},
      {moe ("qwen3_moe", {{"moe_intermediate_size", ""}}), "moe_intermediate_size", "missing"},
      {moe ("qwen3_moe", {{"decoder_sparse_step", "0"}}), "decoder_sparse_step", "is 0"},
      {moe ("qwen3_moe", {{"mlp_only_layers", "[-1]"}}), "mlp_only_layers", "-1"},
      {moe ("gpt_oss", {{"swiglu_limit", "-7"}, {"sliding_window", "8"}}), "swiglu_limit", "-7"},
      {moe ("gpt_oss", {{"sliding_window", "8"}, {"num_local_experts", "1"}}), "num_experts_per_tok",
       "more than num_local_experts, 1"},
      {moe ("glm4_moe", {{"n_group", "3"}}), "n_group", "does not divide"},
      {moe ("glm4_moe", {{"n_group", "4"}, {"topk_group", "5"}}), "topk_group", "more than n_group"},
      {moe ("glm4_moe", {{"n_group", "8"}, {"topk_group", "1"}}), "topk_group", "leaves 1 experts"},
      {moe ("glm4_moe", {{"n_shared_experts", "4096"}, {"moe_intermediate_size", "4096"}}),
       "n_shared_experts", "wide"},
      {moe ("glm4_moe", {{"routed_scaling_factor", "0"}}), "routed_scaling_factor", "is 0"},
      {moe ("glm4_moe", {{"first_k_dense_replace", "-1"}}), "first_k_dense_replace", "-1"},
      {latent ("deepseek_v3", {{"num_attention_heads", "4096"}, {"num_hidden_layers", "1000"}}),
       "num_attention_heads", "4096000"},
      {latent ("deepseek_v3", {{"kv_lora_rank", "0"}}), "kv_lora_rank", "is 0"},
      {latent ("deepseek_v3", {{"qk_rope_head_dim", "7"}}), "qk_rope_head_dim", "odd"},
      {latent ("deepseek_v3", {{"v_head_dim", "\"8\""}}), "v_head_dim", "integer"},
      {latent ("deepseek_v3", {{"q_lora_rank", "-2"}}), "q_lora_rank", "-2"},
      {latent ("deepseek_v3", {{"num_attention_heads", "4096"}, {"kv_lora_rank", "65536"}}), "kv_lora_rank",
       "above the limit"},
      {latent ("deepseek_v2", {{"topk_method", "\"noaux_tc\""}}), "topk_method", "noaux_tc"},
      {latent ("glm4_moe_lite", {{"mlp_layer_types", R"(["dense"])"}}), "mlp_layer_types", "1 entries"},
      {latent ("glm4_moe_lite", {{"mlp_layer_types", R"(["dense", "odd"])"}}), "mlp_layer_types", "odd"},
      {gemma4 ({{"rope_parameters",
                 R"({"full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.001},
                     "sliding_attention": {"rope_type": "default"}})"}}),
       "rope_parameters.full_attention.partial_rotary_factor", "leaves 0 of 32"},
      {of ("qwen3_next", {{"linear_num_value_heads", "3"}, {"linear_num_key_heads", "2"}}),
       "linear_num_value_heads", "not a multiple"},
      {of ("qwen3_next", {{"linear_num_key_heads", "0"}}), "linear_num_key_heads", "is 0"},
      {of ("qwen3_next", {{"linear_num_key_heads", "65536"}, {"linear_num_value_heads", "65536"}}),
       "linear_num_key_heads", "8388608"},
      {of ("qwen3_next", {{"linear_value_head_dim", "4097"}}), "linear_value_head_dim", "4097"},
      {of ("qwen3_next", {{"linear_key_head_dim", "-1"}}), "linear_key_head_dim", "-1"},
      {of ("qwen3_next", {{"linear_conv_kernel_dim", "0"}}), "linear_conv_kernel_dim", "is 0"},
      {of ("qwen3_next", {{"linear_conv_kernel_dim", "17"}}), "linear_conv_kernel_dim", "17"},
      {of ("qwen3_next", {{"full_attention_interval", "0"}}), "full_attention_interval", "is 0"},
      {of ("qwen3_next", {{"hidden_act", "\"gelu\""}}), "hidden_act", "silu"},
      {of ("qwen3_next", {{"attn_output_gate", "3"}}), "attn_output_gate", "true or false"},
      {of ("qwen3_5_text", {{"layer_types", R"(["linear_attention", "sliding_attention"])"}}), "layer_types",
       "sliding"},
      {of ("qwen3_5_text", {{"layer_types", R"(["linear_attention"])"}}), "layer_types", "1 entries"},
      {of ("qwen3_5_text", {{"head_dim", "2"}}), "partial_rotary_factor", "leaves 0 of 2"},
      {nemotron ({{"layers_block_type", ""}}), "hybrid_override_pattern", "missing"},
      {nemotron ({{"layers_block_type", "[]"}}), "layers_block_type", "0 entries"},
      {nemotron ({{"layers_block_type", R"(["mlp"])"}}), "layers_block_type", "num_hidden_layers 2"},
      {nemotron ({{"layers_block_type", ""}, {"hybrid_override_pattern", "\"Mx\""}}),
       "hybrid_override_pattern", "\"x\" is not supported"},
      {nemotron ({{"n_groups", "7"}}), "n_groups", "does not divide"},
      {nemotron ({{"n_groups", "0"}}), "n_groups", "is 0"},
      {nemotron ({{"mamba_num_heads", "65536"}, {"mamba_head_dim", "64"}}), "mamba_num_heads", "4194304"},
      {nemotron ({{"n_groups", "4096"}, {"mamba_num_heads", "4096"}, {"ssm_state_size", "4096"}}), "n_groups",
       "16777216"},
      {nemotron ({{"ssm_state_size", "-1"}}), "ssm_state_size", "-1"},
      {nemotron ({{"conv_kernel", "40"}}), "conv_kernel", "40"},
      {nemotron ({{"time_step_limit", "[0]"}}), "time_step_limit", "two numbers"},
      {nemotron ({{"time_step_limit", "[2, 1]"}}), "time_step_limit", "two numbers"},
      {nemotron ({{"time_step_limit", "[-1, Infinity]"}}), "time_step_limit", "is -1"},
      {nemotron ({{"time_step_limit", R"([0, {"__float__": "NaN"}])"}}), "time_step_limit", "an object"},
      {nemotron ({{"layers_block_type", R"(["mlp", "moe"])"}}), "n_routed_experts", "missing"},
      {experts ({{"moe_latent_size", "16"}}), "moe_latent_size", "not supported"},
      {experts ({{"moe_shared_expert_intermediate_size", "0"}}), "moe_shared_expert_intermediate_size",
       "is 0"},
      {experts ({{"num_experts_per_tok", "9"}}), "num_experts_per_tok", "more than"},
      {of ("qwen3_next",
           {{"num_experts", "8"}, {"num_experts_per_tok", "2"}, {"moe_intermediate_size", "8"}}),
       "shared_expert_intermediate_size", "missing"},
      {of ("qwen3_5_moe_text",
           {{"num_experts", "8"}, {"num_experts_per_tok", "9"}, {"moe_intermediate_size", "8"}}),
       "num_experts_per_tok", "more than"},
      {nemotron ({{"mlp_hidden_act", "\"silu\""}}), "mlp_hidden_act", "only relu2"},
      {nemotron ({{"mamba_hidden_act", "\"gelu\""}}), "mamba_hidden_act", "only silu"},
      {of ("phi3", {{"partial_rotary_factor", "0"}}), "partial_rotary_factor", "leaves 0 of 32"},
      {of ("phi3", {{"partial_rotary_factor", "0.03"}}), "partial_rotary_factor", "leaves 0 of 32"},
      {of ("phi3", {{"partial_rotary_factor", "1.5"}}), "partial_rotary_factor", "1.5"},
  };
}

TEST (family_config, absurd_values_are_refused_by_file_and_field)
{
  expect_refused (damages ());
}

} // namespace
