// labels: property
// timeout: 600
//
// Every family at shapes that nobody has trained: random weights of the names and shapes that its program asks for, odd
// sizes, windows of half a block. What is checked is that each runs and keeps the promise of backend.hpp: alone, in random
// batches, chunks and block tables, on any number of threads and with any kind of KV and weights the bits are the same.
// That the numbers are right is for the oracles to say.
#include "engine/model/families/families.hpp"
#include "tests/random_batches.hpp"
#include "tests/random_checkpoint.hpp"
#include "tests/seed.hpp"
#include "tests/test_paths.hpp"

#include <cmath>
#include <map>
#include <set>

namespace fs = std::filesystem;
using namespace millrace;
using namespace millrace::testing;

namespace
{

constexpr const char *kSizes =
    R"("vocab_size": 83, "hidden_size": 44, "num_hidden_layers": 5, "num_attention_heads": 6,
"num_key_value_heads": 2, "head_dim": 14, "intermediate_size": 52, "max_position_embeddings": 300,
"sliding_window": 9, "rms_norm_eps": 1e-6)";

constexpr const char *kKinds =
    R"("layer_types": ["sliding_attention", "full_attention", "sliding_attention", "sliding_attention",
"full_attention"])";

constexpr const char *kGemma4 =
    R"("rope_parameters": {"full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.4,
"rope_theta": 1e6}, "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}},
"final_logit_softcapping": 20, "global_head_dim": 22)";

/// Two parts of values, the second one of 5.
constexpr const char *kHybrid =
    R"("rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.3}, "linear_num_key_heads": 2,
"linear_num_value_heads": 6, "linear_key_head_dim": 10, "linear_value_head_dim": 37)";

constexpr const char *kExperts =
    R"(, "num_experts": 7, "num_experts_per_tok": 3, "moe_intermediate_size": 27,
"shared_expert_intermediate_size": 21)";

const std::string kLatent =
    R"("qk_nope_head_dim": 11, "qk_rope_head_dim": 6, "v_head_dim": 9, "first_k_dense_replace": 1,
"moe_intermediate_size": 23, "n_routed_experts": 9, "num_experts_per_tok": 4, "routed_scaling_factor": 1.3)";

/// What each family's configuration says beside model_type and sizes; the key is model_type, or that and a variant.
const std::map<std::string, std::string> &
configurations ()
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

std::string
model_type_of (const std::string &name)
{
  return name.substr (0, name.find (','));
}

std::string
config_json (const std::string &name, const std::string &more)
{
  return "{\"model_type\": \"" + model_type_of (name) + "\", " + kSizes + (more.empty () ? "" : ", ") + more +
         "}";
}

class Families : public ::testing::TestWithParam<std::string>
{
protected:
  void SetUp () override
  {
    write_random_model (folder_.path (), config_json (GetParam (), configurations ().at (GetParam ())), 51);
  }

  const fs::path &folder () const { return folder_.path (); }

private:
  TemporaryFolder folder_;
};

TEST_P (Families, has_the_same_bits_alone_batched_chunked_and_threaded)
{
  const auto seed = static_cast<uint32_t> (test_seed ());
  for (const auto isa : host_isas ()) {
    for (const auto &[weights, kv] : {std::pair{WeightFormat::kAuto, KvType::kF32},
                                      {WeightFormat::kInt8, KvType::kQ8},
                                      {WeightFormat::kInt4, KvType::kF16}}) {
      std::mt19937 random (seed);
      const auto reference = load_runnable (folder (), weights, {.threads = 1, .isa = isa});
      const auto alone = run_alone (reference, {1, 5, 19, 62}, random, kv);
      for (const Alone &sequence : alone)
        ASSERT_TRUE (
            std::ranges::all_of (sequence.outputs.logits, [] (float x) { return std::isfinite (x); }));
      for (const int threads : {1, 3}) {
        SCOPED_TRACE (std::string (isa_name (isa)) + ", " + kv_type_name (kv) + ", " +
                      std::to_string (threads) + " threads");
        const auto model = load_runnable (folder (), weights, {.threads = threads, .isa = isa});
        RandomBatches (model, alone, random, kv).run ();
      }
    }
  }
}

// Portable and vector kernels are different code for the same sums.
TEST_P (Families, is_about_the_same_with_every_instruction_set)
{
  std::vector<float> expected;
  for (const auto isa : host_isas ()) {
    std::mt19937 random (7);
    const auto model = load_runnable (folder (), WeightFormat::kF32, {.threads = 2, .isa = isa});
    const auto logits = run_alone (model, {50}, random).front ().outputs.logits;
    if (expected.empty ())
      expected = logits;
    EXPECT_LE (largest_difference (logits, expected), 1e-3f) << isa_name (isa);
  }
}

// What a sequence has been told later changes nothing before it, and what is before it does.
TEST_P (Families, looks_back_only)
{
  const auto model = load_runnable (folder (), WeightFormat::kAuto, {.threads = 2});
  const auto logits_of = [&] (std::vector<TokenId> tokens) {
    const int count = static_cast<int> (tokens.size ());
    SequenceRunner runner (model, count, count);
    runner.run (tokens, count);
    return runner.outputs ().logits;
  };
  std::vector<TokenId> tokens;
  for (int i = 0; i < 30; ++i)
    tokens.push_back (i * 7 % model.spec.vocab);
  const auto before = logits_of (tokens);
  tokens[20] = tokens[20] + 1;
  const auto after = logits_of (tokens);
  const auto vocab = static_cast<size_t> (model.spec.vocab);
  EXPECT_TRUE (same_bits (std::span (before).first (20 * vocab), std::span (after).first (20 * vocab)));
  EXPECT_FALSE (same_bits (std::span (before).subspan (20 * vocab, vocab),
                           std::span (after).subspan (20 * vocab, vocab)));
  EXPECT_FALSE (same_bits (std::span (before).last (vocab), std::span (after).last (vocab)));
}

std::vector<std::string>
names ()
{
  std::vector<std::string> result;
  for (const auto &[name, more] : configurations ())
    result.push_back (name);
  return result;
}

INSTANTIATE_TEST_SUITE_P (engine, Families, ::testing::ValuesIn (names ()), [] (const auto &info) {
  std::string name = info.param;
  std::ranges::replace_if (
      name, [] (char c) { return !std::isalnum (static_cast<unsigned char> (c)); }, '_');
  return name;
});

TEST (FamilyTable, every_family_is_tested_here)
{
  std::set<std::string> tested;
  for (const std::string &name : names ())
    tested.insert (model_type_of (name));
  for (const Family &family : families ())
    EXPECT_TRUE (family.wrapper || tested.contains (std::string (family.model_type))) << family.model_type;
}

} // namespace
