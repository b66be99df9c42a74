// labels: unit oracle
// timeout: 300
//
// Models in GGUF files: the same numbers as from the checkpoint folder, bit by bit, and what is refused by which key.
#include "engine/error.hpp"
#include "engine/model/model.hpp"
#include "engine/weights/gguf.hpp"
#include "tests/gguf_models.hpp"
#include "tests/gguf_sayable.hpp"
#include "tests/model_runner.hpp"
#include "tests/oracle_models.hpp"
#include "tests/random_checkpoint.hpp"
#include "tests/seed.hpp"
#include "tests/synthetic_model.hpp"
#include "tests/test_paths.hpp"

#include <cmath>
#include <iostream>
#include <map>
#include <numeric>

namespace fs = std::filesystem;
using namespace millrace;
using namespace millrace::testing;

namespace
{

const AttentionSpec &
attention_of (const Model &model, size_t layer)
{
  return std::get<AttentionSpec> (model.spec.layers[layer].mixer);
}

ModelOptions
options (WeightFormat weights, CpuOptions::Isa isa = CpuOptions::Isa::kAuto)
{
  return {.weights = weights, .cpu = {.threads = 2, .isa = isa}};
}

/// Logits of every position, in one pass.
std::vector<float>
logits_of (const Model &model, const std::vector<TokenId> &tokens)
{
  const int count = static_cast<int> (tokens.size ()), blocks = blocks_for (count);
  std::vector<BlockId> table (static_cast<size_t> (blocks));
  std::iota (table.begin (), table.end (), 0);
  std::vector<float> logits (tokens.size () * static_cast<size_t> (model.spec.vocab));
  Slice slice;
  slice.tokens = tokens;
  slice.max_positions = count;
  slice.blocks.fill (table);
  slice.scored = count;
  slice.logits = logits.data ();
  model.compiled->create_context (context_options (blocks, count))->forward ({&slice, 1});
  return logits;
}

std::vector<TokenId>
some_tokens (int vocab, int count = 40)
{
  std::vector<TokenId> tokens;
  for (int i = 0; i < count; ++i)
    tokens.push_back ((i * 37 + 11) % vocab);
  return tokens;
}

/// Heads in another order than the folder's are added in another order, once in each layer.
bool
has_turning_heads (const Model &model)
{
  return std::ranges::any_of (model.spec.layers, [] (const LayerSpec &layer) {
    const auto *delta = std::get_if<GatedDeltaSpec> (&layer.mixer);
    return delta && delta->turns && delta->value_heads != delta->key_heads;
  });
}

/// The model of `folder` as a GGUF file of float32 has its logits, bit by bit.
void
expect_same_model (const fs::path &folder, const GgufConversion &conversion = {})
{
  const TemporaryFolder temporary;
  const fs::path file = temporary.path () / "model.gguf";
  write_gguf_model (folder, file, conversion);
  for (const auto isa : host_isas ()) {
    SCOPED_TRACE (folder.filename ().string () + " " + isa_name (isa));
    const auto expected = Model::open (folder, options (WeightFormat::kF32, isa));
    const auto found = Model::open (file, options (WeightFormat::kF32, isa));
    EXPECT_EQ (found->load_warning (), "");
    EXPECT_EQ (found->spec.tied_head, expected->spec.tied_head);
    EXPECT_EQ (found->spec.max_positions, expected->spec.max_positions);
    const auto tokens = some_tokens (expected->spec.vocab, std::min (200, expected->spec.max_positions));
    const auto logits = logits_of (*found, tokens), wanted = logits_of (*expected, tokens);
    if (has_turning_heads (*found))
      EXPECT_LE (largest_difference (logits, wanted), 1e-4f);
    else
      EXPECT_TRUE (same_bits (logits, wanted)) << largest_difference (logits, wanted);
  }
}

TEST (GgufModel, oracle_models_have_the_logits_of_their_folders)
{
  REQUIRE_ORACLES ("oracles");
  for (const OracleModel &model : oracle_models ()) {
    SCOPED_TRACE (model.name);
    const TemporaryFolder other;
    expect_same_model (sayable (model.folder, other.path ()));
  }
}

// Unsplit tensors, sizes of plain heads for latent ones, intervals for lists of layers.
TEST (GgufModel, oracle_models_have_the_logits_of_their_folders_as_older_converters_wrote_them)
{
  REQUIRE_ORACLES ("oracles");
  GgufConversion older;
  older.older = true;
  for (const OracleModel &model : oracle_models ()) {
    const std::string type = model_type_of (model.folder / "config.json");
    SCOPED_TRACE (model.name);
    if (type.starts_with ("deepseek") || type.starts_with ("glm4") || type.starts_with ("qwen3_") ||
        type == "olmo3")
      expect_same_model (model.folder, older);
  }
}

TEST (GgufModel, odd_shapes_have_the_logits_of_their_folders)
{
  for (const char *family : {"llama", "qwen3"})
    for (const bool tied : {false, true}) {
      const TemporaryFolder folder;
      write_model (folder.path (), {.family = family, .biases = !tied, .tied = tied}, 5);
      expect_same_model (folder.path ());
    }
}

// Every architecture with whatever it has of windows, caps, factors, fused tensors and scaled rotations.
TEST (GgufModel, every_architecture_has_the_logits_of_its_folder)
{
  const std::string sizes =
      R"("vocab_size": 83, "hidden_size": 84, "num_attention_heads": 6, "num_key_value_heads": 2,
         "intermediate_size": 52, "max_position_embeddings": 300, "rms_norm_eps": 1e-6)";
  const std::string gemma = sizes + R"(, "head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 9)";
  const std::string longrope =
      R"("rope_scaling": {"rope_type": "longrope", "short_factor": [1, 1.25, 1.5, 2], "long_factor": [1, 3, 5, 9]})";
  const std::string latent =
      sizes + R"(, "qk_nope_head_dim": 11, "qk_rope_head_dim": 6, "v_head_dim": 9, "first_k_dense_replace": 1,
                 "moe_intermediate_size": 23, "n_routed_experts": 9, "num_experts_per_tok": 4)";
  const std::string gemma4 =
      sizes + R"(, "model_type": "gemma4_text", "num_hidden_layers": 5, "head_dim": 10, "global_head_dim": 22,
                 "sliding_window": 9, "final_logit_softcapping": 20,
                 "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "sliding_attention",
                                 "full_attention"],
                 "rope_parameters": {"full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.4,
                                                        "rope_theta": 1e6},
                                     "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}})";
  const std::string hybrid =
      sizes + R"(, "rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.3},
                 "linear_num_key_heads": 2, "linear_num_value_heads": 6, "linear_key_head_dim": 10,
                 "linear_value_head_dim": 13)";
  const std::string experts = R"(, "num_experts": 7, "num_experts_per_tok": 3, "moe_intermediate_size": 27,
                                   "shared_expert_intermediate_size": 21)";
  for (
      const std::string &config : {
          gemma + R"(, "model_type": "gemma2", "num_hidden_layers": 3)",
          gemma + R"(, "model_type": "gemma3_text", "num_hidden_layers": 7, "rope_theta": 1e6,
                       "rope_scaling": {"rope_type": "linear", "factor": 4})",
          sizes + R"(, "model_type": "granite", "num_hidden_layers": 3, "embedding_multiplier": 3,
                       "residual_multiplier": 0.3, "attention_multiplier": 0.2, "logits_scaling": 4)",
          sizes + R"(, "model_type": "olmo2", "num_hidden_layers": 3)",
          sizes + R"(, "model_type": "phi3", "num_hidden_layers": 3, "sliding_window": 11)",
          sizes + R"(, "model_type": "phi3", "num_hidden_layers": 2, "partial_rotary_factor": 0.6,
                       "original_max_position_embeddings": 40, )" +
              longrope,
          sizes + R"(, "model_type": "phi3", "num_hidden_layers": 2, "partial_rotary_factor": 0.6,
                       "original_max_position_embeddings": 250, )" +
              longrope,
          sizes + R"(, "model_type": "qwen2", "num_hidden_layers": 3)",
          sizes + R"(, "model_type": "qwen3_moe", "num_hidden_layers": 3, "num_experts": 5,
                       "num_experts_per_tok": 2, "moe_intermediate_size": 33, "norm_topk_prob": true)",
          sizes + R"(, "model_type": "smollm3", "num_hidden_layers": 5)",
          sizes + R"(, "model_type": "mistral", "num_hidden_layers": 3, "head_dim": 10, "sliding_window": 9)",
          sizes + R"(, "model_type": "olmo3", "num_hidden_layers": 5, "sliding_window": 9,
                       "rope_scaling": {"rope_type": "yarn", "factor": 4})",
          latent + R"(, "model_type": "deepseek_v2", "num_hidden_layers": 3, "kv_lora_rank": 30, "n_group": 3,
                       "n_shared_experts": 2, "topk_group": 2, "topk_method": "group_limited_greedy")",
          latent + R"(, "model_type": "deepseek_v2", "num_hidden_layers": 2, "kv_lora_rank": 30,
                       "expert_weights_norm": true, "routed_scaling_factor": 1.4)",
          latent +
              R"(, "model_type": "deepseek_v3", "num_hidden_layers": 3, "kv_lora_rank": 21, "q_lora_rank": 20,
                       "n_group": 3, "topk_group": 2, "n_shared_experts": 1,
                       "rope_scaling": {"type": "yarn", "factor": 4, "mscale": 1, "mscale_all_dim": 1,
                                        "original_max_position_embeddings": 50})",
          sizes +
              R"(, "model_type": "glm4_moe", "num_hidden_layers": 4, "attention_bias": true, "use_qk_norm": true,
                       "partial_rotary_factor": 0.6, "first_k_dense_replace": 2, "moe_intermediate_size": 21,
                       "n_routed_experts": 12, "num_experts_per_tok": 3, "n_group": 4, "topk_group": 2,
                       "n_shared_experts": 2, "routed_scaling_factor": 1.5)",
          sizes +
              R"(, "model_type": "gpt_oss", "num_hidden_layers": 4, "sliding_window": 9, "num_local_experts": 7,
                       "num_experts_per_tok": 3, "rope_scaling": {"rope_type": "yarn", "factor": 4, "truncate": false})",
          gemma4 +
              R"(, "num_kv_shared_layers": 2, "use_double_wide_mlp": true, "hidden_size_per_layer_input": 10,
                        "vocab_size_per_layer_input": 90)",
          gemma4 + R"(, "hidden_size_per_layer_input": 0, "enable_moe_block": true, "num_experts": 6,
                        "top_k_experts": 2, "moe_intermediate_size": 19)",
          gemma4 +
              R"(, "hidden_size_per_layer_input": 0, "attention_k_eq_v": true, "num_global_key_value_heads": 3)",
          hybrid + R"(, "model_type": "qwen3_5_text", "num_hidden_layers": 5)",
          hybrid +
              R"(, "model_type": "qwen3_5_moe_text", "num_hidden_layers": 3, "full_attention_interval": 2)" +
              experts,
          hybrid + R"(, "model_type": "qwen3_next", "num_hidden_layers": 4, "linear_conv_kernel_dim": 3)" +
              experts,
          sizes + R"(, "model_type": "nemotron_h", "hybrid_override_pattern": "M*-MM", "mamba_num_heads": 6,
                       "mamba_head_dim": 35, "n_groups": 3, "ssm_state_size": 10, "conv_kernel": 3)",
          sizes + R"(, "model_type": "nemotron_h", "hybrid_override_pattern": "MEE*E", "mamba_num_heads": 4,
                       "mamba_head_dim": 8, "n_groups": 4, "ssm_state_size": 33, "n_routed_experts": 6,
                       "num_experts_per_tok": 2, "moe_intermediate_size": 27, "n_group": 3, "topk_group": 2,
                       "routed_scaling_factor": 1.5, "moe_shared_expert_intermediate_size": 19)",
      }) {
    SCOPED_TRACE (config);
    const TemporaryFolder folder;
    write_random_model (folder.path (), "{" + config + "}", 61);
    expect_same_model (folder.path ());
  }
}

/// Rows of 256, so that every type fits.
constexpr SyntheticModel kWide{
    .vocab = 96, .hidden = 256, .layers = 2, .heads = 4, .kv_heads = 2, .head_dim = 64, .intermediate = 512};

TEST (GgufModel, quantized_files_have_the_logits_of_their_dequantized_values)
{
  const TemporaryFolder folder;
  const std::map<std::string, std::vector<DType>> types = {
      {"llama", {DType::kF16, DType::kQ8_0, DType::kQ4K}}, // whose rows are put in order
      {"qwen3",
       {DType::kF16, DType::kBF16, DType::kQ8_0, DType::kQ4_0, DType::kQ4K, DType::kQ6K, DType::kQ5_0,
        DType::kQ4_1, DType::kQ5_1, DType::kQ2K, DType::kQ3K, DType::kQ5K, DType::kIQ4NL, DType::kMXFP4}}};
  for (const auto &[family, of_family] : types) {
    SyntheticModel shape = kWide;
    shape.family = family.c_str ();
    write_model (folder.path (), shape, 6);
    for (const DType type : of_family) {
      SCOPED_TRACE (family + " " + std::string (dtype_name (type)));
      GgufConversion conversion;
      conversion.type = [&] (const auto &, const auto &) { return type; };
      write_gguf_model (folder.path (), folder.path () / "quantized.gguf", conversion);
      conversion.dequantized = true;
      write_gguf_model (folder.path (), folder.path () / "plain.gguf", conversion);
      const auto found = Model::open (folder.path () / "quantized.gguf", options (WeightFormat::kF32));
      const auto expected = Model::open (folder.path () / "plain.gguf", options (WeightFormat::kF32));
      const auto tokens = some_tokens (shape.vocab);
      EXPECT_TRUE (same_bits (logits_of (*found, tokens), logits_of (*expected, tokens)));
      const auto held = Model::open (folder.path () / "quantized.gguf", options (WeightFormat::kAuto));
      // Kernels may round activations to 8 bits where weights have few; the numbers are those tests' business.
      EXPECT_LE (largest_difference (logits_of (*held, tokens), logits_of (*expected, tokens)), 0.3f)
          << held->compiled->description ();
    }
  }
}

// Experts of one tensor are parts of it, whatever its type.
TEST (GgufModel, quantized_experts_have_the_logits_of_their_dequantized_values)
{
  const TemporaryFolder folder;
  write_random_model (folder.path (), R"({"model_type": "qwen3_moe", "vocab_size": 96, "hidden_size": 256,
      "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64,
      "intermediate_size": 512, "max_position_embeddings": 128, "num_experts": 5, "num_experts_per_tok": 2,
      "moe_intermediate_size": 256, "norm_topk_prob": true})",
                      17);
  for (const DType type : {DType::kF16, DType::kQ8_0, DType::kQ4K, DType::kQ6K, DType::kMXFP4}) {
    SCOPED_TRACE (std::string (dtype_name (type)));
    GgufConversion conversion;
    conversion.type = [&] (const std::string &name, const auto &) {
      return name.find ("ffn_gate_inp") == std::string::npos ? type : DType::kF32;
    };
    write_gguf_model (folder.path (), folder.path () / "quantized.gguf", conversion);
    conversion.dequantized = true;
    write_gguf_model (folder.path (), folder.path () / "plain.gguf", conversion);
    const auto found = Model::open (folder.path () / "quantized.gguf", options (WeightFormat::kF32));
    const auto expected = Model::open (folder.path () / "plain.gguf", options (WeightFormat::kF32));
    const auto tokens = some_tokens (96);
    EXPECT_TRUE (same_bits (logits_of (*found, tokens), logits_of (*expected, tokens)));
    const auto held = Model::open (folder.path () / "quantized.gguf", options (WeightFormat::kAuto));
    for (const float logit : logits_of (*held, tokens))
      ASSERT_TRUE (std::isfinite (logit));
  }
}

/// A small llama as a GGUF file, whose metadata the tests change.
class OpenGgufTest : public ::testing::Test
{
protected:
  void SetUp () override
  {
    fs::create_directory (checkpoint ());
    write_model (checkpoint (), {.vocab = 60}, 41);
  }

  fs::path checkpoint () const { return folder_.path () / "checkpoint"; }
  fs::path file () const { return folder_.path () / "model.gguf"; }

  std::shared_ptr<const Model> open (const GgufConversion &conversion = {})
  {
    write_gguf_model (checkpoint (), file (), conversion);
    return Model::open (file (), options (WeightFormat::kAuto));
  }

  static GgufConversion with (const std::function<void (GgufWriter &)> &more,
                              const std::set<std::string> &without = {})
  {
    GgufConversion conversion;
    conversion.more = more;
    conversion.without = without;
    return conversion;
  }

  void expect_refused (const GgufConversion &conversion, const std::string &field, const std::string &part)
  {
    try {
      open (conversion);
    } catch (const LoadError &error) {
      EXPECT_EQ (error.field, field) << error.what ();
      EXPECT_NE (std::string (error.what ()).find (part), std::string::npos) << error.what ();
      EXPECT_EQ (error.file.filename (), "model.gguf");
      return;
    }
    ADD_FAILURE () << "opened; expected an error about " << field << ": " << part;
  }

  /// The key with another value in place of the converter's.
  template <typename T>
  void expect_bad (const std::string &key, T value, const std::string &part)
  {
    expect_refused (with ([&] (GgufWriter &writer) { writer.set (key, value); }, {key}), key, part);
  }

  TemporaryFolder folder_;
};

TEST_F (OpenGgufTest, a_file_without_a_tokenizer_takes_and_gives_ids)
{
  const auto model = open ();
  EXPECT_EQ (model->directory, file ());
  EXPECT_EQ (model->spec.vocab, 60);
  EXPECT_EQ (model->tokenizer, nullptr);
  EXPECT_EQ (model->chat_template, nullptr);
  EXPECT_TRUE (model->eos_token_ids.empty ());
}

TEST_F (OpenGgufTest, tokenizer_template_and_ends_come_from_the_metadata)
{
  std::vector<std::string> tokens;
  std::vector<int32_t> types;
  for (int i = 0; i < 57; ++i) {
    tokens.push_back ("<" + std::to_string (i) + ">");
    types.push_back (3);
  }
  tokens.insert (tokens.end (), {"a", "b", "ab"});
  types.insert (types.end (), {1, 1, 1});
  const auto model = open (with ([&] (GgufWriter &writer) {
    writer.set ("tokenizer.ggml.model", "gpt2");
    writer.set ("tokenizer.ggml.pre", "qwen2");
    writer.set ("tokenizer.ggml.tokens", tokens);
    writer.set ("tokenizer.ggml.token_type", types);
    writer.set ("tokenizer.ggml.merges", std::vector<std::string>{"a b"});
    writer.set ("tokenizer.ggml.bos_token_id", uint32_t{1});
    writer.set ("tokenizer.ggml.eos_token_id", uint32_t{5});
    writer.set ("tokenizer.ggml.eot_token_id", uint32_t{9});
    writer.set ("tokenizer.ggml.eom_token_id", uint32_t{5});
    writer.set ("tokenizer.ggml.add_bos_token", true);
    writer.set ("tokenizer.chat_template", "{{ bos_token }}{{ eos_token }}");
  }));
  ASSERT_NE (model->tokenizer, nullptr);
  EXPECT_EQ (model->tokenizer->encode ("abb", {.add_special_tokens = true}),
             (std::vector<TokenId>{1, 59, 58}));
  EXPECT_EQ (model->eos_token_ids, (std::vector<TokenId>{5, 9}));
  EXPECT_EQ (model->bos_token, "<1>");
  EXPECT_EQ (model->eos_token, "<5>");
  ASSERT_NE (model->chat_template, nullptr);
  EXPECT_EQ (model->chat_template->render (R"({"bos_token": "x", "eos_token": "y"})", 0), "xy");
}

TEST_F (OpenGgufTest, pieces_with_scores_are_a_tokenizer)
{
  std::vector<std::string> tokens = {"<unk>", "<s>", "</s>", "<|end|>", "▁", "a", "b", "ab", "▁ab"};
  std::vector<int32_t> types = {2, 3, 3, 3, 1, 1, 1, 1, 1};
  std::vector<float> scores = {0, 0, 0, 0, -1, -2, -3, -4, -5};
  const auto write = [&] (GgufWriter &writer) {
    writer.set ("general.name", "Phi-3 of the tests");
    writer.set ("tokenizer.ggml.model", "llama");
    writer.set ("tokenizer.ggml.tokens", tokens);
    writer.set ("tokenizer.ggml.token_type", types);
    writer.set ("tokenizer.ggml.scores", scores);
    writer.set ("tokenizer.ggml.bos_token_id", uint32_t{1});
    writer.set ("tokenizer.ggml.unknown_token_id", uint32_t{0});
    writer.set ("tokenizer.ggml.add_space_prefix", false);
  };
  const auto tokenizer = open (with (write))->tokenizer;
  ASSERT_NE (tokenizer, nullptr);
  EXPECT_EQ (tokenizer->encode ("ab ab<|end|>  ab", {.add_special_tokens = true}),
             (std::vector<TokenId>{1, 7, 8, 3, 7}));
}

TEST_F (OpenGgufTest, defaults_are_those_of_the_format)
{
  // Head size from the embedding (40 / 2), all heads their own keys, no rotation base: 10000.
  write_model (checkpoint (), {.vocab = 60, .heads = 2, .kv_heads = 2}, 41);
  const auto model = open (
      with ({}, {"llama.attention.key_length", "llama.attention.value_length",
                 "llama.attention.head_count_kv", "llama.rope.freq_base", "llama.rope.dimension_count"}));
  const AttentionSpec &attention = attention_of (*model, 0);
  EXPECT_EQ (attention.head_dim, 20);
  EXPECT_EQ (attention.kv_heads, 2);
  EXPECT_EQ (attention.rope.theta, 10000);
  EXPECT_EQ (attention.rope.scaling, RopeSpec::Scaling::kNone);
  EXPECT_TRUE (attention.paired_rows);
}

TEST_F (OpenGgufTest, biases_are_those_that_the_file_holds)
{
  const auto model = open (with ({}, {"blk.1.attn_output.bias", "blk.0.ffn_up.bias"}));
  EXPECT_EQ (attention_of (*model, 0).tensors.o_bias, "blk.0.attn_output.bias");
  EXPECT_EQ (attention_of (*model, 1).tensors.o_bias, "");
  EXPECT_EQ (std::get<MlpSpec> (model->spec.layers[0].channel).tensors.up_bias, "");
  EXPECT_EQ (attention_of (*model, 1).tensors.q_bias, "blk.1.attn_q.bias");
}

TEST_F (OpenGgufTest, rotations_are_scaled_as_the_metadata_say)
{
  const auto rope_of = [&] (const std::function<void (GgufWriter &)> &more) {
    return attention_of (*open (with (more)), 0).rope;
  };
  RopeSpec rope = rope_of ([] (GgufWriter &writer) { writer.set ("llama.rope.scaling.factor", 4.0f); });
  EXPECT_EQ (rope.scaling, RopeSpec::Scaling::kLinear);
  EXPECT_EQ (rope.factor, 4);
  rope = rope_of ([] (GgufWriter &writer) {
    writer.set ("llama.rope.scaling.type", "none");
    writer.set ("llama.rope.scaling.factor", 4.0f);
  });
  EXPECT_EQ (rope.scaling, RopeSpec::Scaling::kNone);
  rope = rope_of ([] (GgufWriter &writer) { writer.set ("llama.rope.scaling.type", "linear"); });
  EXPECT_EQ (rope.scaling, RopeSpec::Scaling::kNone);
  const auto yarn = [] (GgufWriter &writer) {
    writer.set ("llama.rope.scaling.type", "yarn");
    writer.set ("llama.rope.scaling.factor", 4.0f);
    writer.set ("llama.rope.scaling.original_context_length", uint32_t{64});
    writer.set ("llama.rope.scaling.yarn_beta_fast", 16.0f);
  };
  rope = rope_of (yarn);
  EXPECT_EQ (rope.scaling, RopeSpec::Scaling::kYarn);
  EXPECT_EQ (rope.original_max_positions, 64);
  EXPECT_EQ (rope.beta_fast, 16);
  EXPECT_DOUBLE_EQ (rope.attention_factor, 0.1 * std::log (4) + 1);
  rope = rope_of ([&] (GgufWriter &writer) {
    yarn (writer);
    writer.set ("llama.rope.scaling.attn_factor", 0.5f);
  });
  EXPECT_DOUBLE_EQ (rope.attention_factor, (0.1 * std::log (4) + 1) * 0.5);
}

TEST_F (OpenGgufTest, a_folder_with_one_gguf_file_is_that_model)
{
  open ();
  EXPECT_NO_THROW (Model::open (checkpoint ())); // has a config.json
  EXPECT_EQ (Model::open (folder_.path (), options (WeightFormat::kAuto))->directory, file ());
  fs::copy (file (), folder_.path () / "other.gguf");
  try {
    Model::open (folder_.path ());
    ADD_FAILURE () << "opened a folder with two models";
  } catch (const LoadError &error) {
    EXPECT_NE (std::string (error.what ()).find ("holds several GGUF files"), std::string::npos)
        << error.what ();
  }
  // The name does not matter, the contents do.
  fs::rename (file (), folder_.path () / "model.bin");
  EXPECT_NO_THROW (Model::open (folder_.path () / "model.bin", options (WeightFormat::kAuto)));
}

TEST_F (OpenGgufTest, what_cannot_be_computed_is_refused_by_key)
{
  expect_bad ("general.architecture", "gemma3n", "\"gemma3n\" is not supported; supported are deepseek2, ");
  expect_bad ("llama.expert_count", uint32_t{8}, "is 8: mixtures of experts are not supported");
  expect_bad ("llama.attention.temperature_scale", 0.1f, "is not supported; use a model without it");
  expect_bad ("llama.rope.scaling.yarn_log_multiplier", 0.1f, "is not supported; use a model without it");
  expect_bad ("llama.attention.causal", false, "models that do not generate");
  expect_bad ("llama.rope.dimension_count", uint32_t{10}, "is 10 but keys have 20");
  expect_bad ("llama.attention.value_length", uint32_t{10}, "is 10 but keys have 20");
  expect_bad ("llama.rope.scaling.type", "longrope", "supported are none, linear and yarn");
  expect_bad ("llama.rope.scaling.factor", -1.0f, "is -1");
  expect_bad ("tokenizer.ggml.model", "rwkv", "supported are gpt2");
  expect_bad ("tokenizer.ggml.eos_token_id", uint32_t{60}, "is 60, expected an integer from 0 to 59");
  expect_bad ("tokenizer.chat_template", "{% if %}", "does not compile");
}

TEST_F (OpenGgufTest, bad_metadata_are_refused_by_key)
{
  for (const char *key : {"block_count", "context_length", "embedding_length", "feed_forward_length",
                          "attention.head_count", "attention.layer_norm_rms_epsilon"}) {
    const std::string full = std::string ("llama.") + key;
    expect_refused (with ({}, {full}), full, "is missing");
    expect_bad (full, "many", "is \"many\", expected");
    expect_bad (full, std::vector<int32_t>{1, 2}, "is an array, expected");
    expect_bad (full, int32_t{-1}, "is -1, expected");
  }
  expect_bad ("llama.embedding_length", uint64_t{1} << 63, "is 9223372036854775808");
  expect_bad ("llama.rope.freq_base", std::nanf (""), "expected a finite number");
  expect_bad ("llama.attention.head_count_kv", uint32_t{2},
              "2 does not divide llama.attention.head_count, 3");
  expect_bad ("llama.attention.key_length", uint32_t{21}, "21 is odd");
  expect_refused (with ({}, {"general.architecture"}), "general.architecture", "is missing");
  expect_bad ("general.architecture", uint32_t{1}, "expected a string");
}

TEST_F (OpenGgufTest, tensors_that_do_not_fit_are_refused_by_name)
{
  expect_refused (with ({}, {"token_embd.weight"}), "token_embd.weight", "perhaps a vocabulary only");
  expect_refused (with ({}, {"blk.1.ffn_down.weight"}), "blk.1.ffn_down.weight",
                  "is missing; fetch a file that");
  expect_refused (with ([] (GgufWriter &writer) { writer.set ("llama.embedding_length", uint32_t{44}); },
                        {"llama.embedding_length"}),
                  "token_embd.weight", "has shape [60, 40], expected [60, 44]");
  EXPECT_EQ (
      open (with ([] (GgufWriter &writer) { writer.set ("llama.vocab_size", uint32_t{61}); }))->spec.vocab,
      60);
}

TEST_F (OpenGgufTest, damage_anywhere_in_the_header_is_a_load_error_or_a_model)
{
  write_model (checkpoint (), {.vocab = 60, .layers = 1}, 41);
  open (with ([&] (GgufWriter &writer) {
    std::vector<std::string> tokens = {"a", "b", "ab", "<s>"};
    writer.set ("tokenizer.ggml.model", "gpt2");
    writer.set ("tokenizer.ggml.tokens", tokens);
    writer.set ("tokenizer.ggml.token_type", std::vector<int32_t>{1, 1, 1, 3});
    writer.set ("tokenizer.ggml.merges", std::vector<std::string>{"a b"});
    writer.set ("tokenizer.ggml.eos_token_id", uint32_t{3});
    writer.set ("tokenizer.chat_template", "{{ messages }}");
  }));
  std::string whole;
  size_t header_bytes = 0;
  {
    const MappedFile mapped (file ());
    whole.assign (reinterpret_cast<const char *> (mapped.bytes ().data ()), mapped.bytes ().size ());
    const auto tensors = parse_gguf (file (), mapped.bytes ()).tensors;
    header_bytes = static_cast<size_t> (tensors[0].data.data () - mapped.bytes ().data ());
  }
  std::mt19937_64 random (test_seed ());
  int opened = 0, refused = 0;
  for (int round = 0; round < test_rounds (1500); ++round) {
    const size_t bit = random () % (header_bytes * 8);
    std::string damaged = whole;
    damaged[bit / 8] = static_cast<char> (damaged[bit / 8] ^ 1 << bit % 8);
    write_file (file (), damaged);
    try {
      const auto model = Model::open (file (), {.weights = WeightFormat::kAuto, .cpu = {.threads = 1}});
      ++opened;
      if (model->tokenizer)
        model->tokenizer->encode ("abab<s>");
    } catch (const LoadError &error) {
      ++refused;
      EXPECT_EQ (error.file, file ());
    }
  }
  std::cout << opened << " opened, " << refused << " refused\n";
  EXPECT_GT (refused, opened);
}

} // namespace
