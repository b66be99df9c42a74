// labels: unit
// config.json and generation_config.json: what good ones mean, and that absurd ones are refused by field.
#include "engine/model/config.hpp"

#include "engine/model/decoder.hpp"
#include "engine/weights/safetensors.hpp"
#include "tests/config_files.hpp"
#include "tests/oracle_models.hpp"
#include "tests/test_paths.hpp"

#include <bit>
#include <cmath>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace
{

using namespace millrace;
using namespace millrace::testing;
namespace fs = std::filesystem;

void
describe (std::ostream &out, const RopeSpec &r)
{
  out << " rope " << r.dimensions << ' ' << r.theta << ' ' << static_cast<int> (r.scaling) << ' ' << r.factor
      << ' ' << r.low_freq_factor << ' ' << r.high_freq_factor << ' ' << r.beta_fast << ' ' << r.beta_slow
      << ' ' << r.truncate << ' ' << r.attention_factor << ' ' << r.rotated << ' '
      << r.original_max_positions;
  for (const auto *factors : {&r.frequency_factors, &r.long_frequency_factors})
    for (const float factor : *factors)
      out << ' ' << factor;
}

void
describe (std::ostream &out, const std::monostate &)
{
  out << " none";
}

void
describe (std::ostream &out, const AttentionSpec &a)
{
  out << "attention " << a.heads << ' ' << a.kv_heads << ' ' << a.head_dim << ' ' << a.scale << ' '
      << a.softcap << ' ' << a.window << ' ' << static_cast<int> (a.qk_norm) << a.value_norm << ' '
      << a.kv_of_layer << ' ' << a.output_gate;
  describe (out, a.rope);
}

void
describe (std::ostream &out, const GatedDeltaSpec &d)
{
  out << "delta " << d.key_heads << ' ' << d.value_heads << ' ' << d.key_dim << ' ' << d.value_dim << ' '
      << d.taps << ' ' << d.by_key_head;
}

void
describe (std::ostream &out, const Mamba2Spec &m)
{
  out << "mamba " << m.heads << ' ' << m.head_dim << ' ' << m.groups << ' ' << m.state << ' ' << m.taps << ' '
      << m.least_step << ' ' << m.most_step;
}

void
describe (std::ostream &out, const MlpSpec &mlp)
{
  out << " mlp " << mlp.intermediate << ' ' << static_cast<int> (mlp.activation);
}

void
describe (std::ostream &out, const MoeSpec &moe)
{
  const RoutingSpec &r = moe.routing;
  out << " experts " << moe.experts << ' ' << moe.chosen << ' ' << moe.intermediate << ' '
      << static_cast<int> (moe.activation) << ' ' << moe.limit << ' ' << moe.slope << ' ' << moe.up_offset
      << " routing " << static_cast<int> (r.scores) << r.normalized << ' ' << r.scale << ' ' << r.groups
      << ' ' << r.chosen_groups << ' ' << static_cast<int> (r.group_score) << ' ' << r.logit_scale;
  describe (out, moe.shared);
}

void
describe (std::ostream &out, const LatentAttentionSpec &a)
{
  out << "latent attention " << a.heads << ' ' << a.plain << ' ' << a.rotated << ' ' << a.value_dim << ' '
      << a.kv_rank << ' ' << a.q_rank << ' ' << a.scale << ' ' << a.norm_epsilon << ' ' << a.neighbours;
  describe (out, a.rope);
}

/// Everything a spec says, as text: two specs are equal when their texts are.
std::string
describe (const ArchitectureSpec &spec)
{
  std::ostringstream out;
  out.precision (17);
  out << spec.family << " vocab " << spec.vocab << " hidden " << spec.hidden << " positions "
      << spec.max_positions << " eps " << spec.norm_epsilon << ' ' << spec.norm_offset << ' '
      << spec.embedding_scale << ' ' << spec.residual_multiplier << ' ' << spec.logit_scale << ' '
      << spec.logit_softcap << " tied " << spec.tied_head << " bos " << spec.bos_token_id << " eos";
  for (const int32_t id : spec.eos_token_ids)
    out << ' ' << id;
  const LayerInputSpec &inputs = spec.layer_inputs;
  out << "\n" << inputs.width << ' ' << inputs.vocab << ' ' << static_cast<int> (inputs.activation) << "\n";
  for (size_t i = 0; i < spec.layers.size (); ++i) {
    std::visit ([&] (const auto &mixer) { describe (out, mixer); }, spec.layers[i].mixer);
    std::visit ([&] (const auto &channel) { describe (out, channel); }, spec.layers[i].channel);
    out << "\n";
  }
  for (const WeightRef &weight : build_program (spec).weights)
    out << weight.name << ' ' << weight.outputs << ' ' << weight.inputs << ' ' << weight.first_output << ' '
        << weight.part.first << "\n";
  return out.str ();
}

std::set<std::string>
tensor_names (const Program &program)
{
  std::set<std::string> names;
  for (const WeightRef &weight : program.weights)
    names.insert (weight.name);
  return names;
}

TEST (config, of_the_demo_model_means_what_its_card_says)
{
  const ArchitectureSpec spec = load_architecture (source_path ("models/demo/config.json"));
  EXPECT_EQ (spec.family, "qwen3");
  EXPECT_EQ (spec.vocab, 8192);
  EXPECT_EQ (spec.hidden, 512);
  EXPECT_EQ (spec.max_positions, 2048);
  EXPECT_EQ (spec.norm_epsilon, 1e-6);
  EXPECT_TRUE (spec.tied_head);
  EXPECT_EQ (spec.embedding_tensor, "model.embed_tokens.weight");
  EXPECT_EQ (spec.head_tensor, "model.embed_tokens.weight");
  EXPECT_EQ (spec.final_norm_tensor, "model.norm.weight");
  EXPECT_EQ (spec.eos_token_ids, std::vector<int32_t>{8179});
  EXPECT_EQ (spec.bos_token_id, -1);
  ASSERT_EQ (spec.layers.size (), 10u);
  const AttentionSpec &attention = attention_of (spec, 9);
  EXPECT_EQ (attention.heads, 8);
  EXPECT_EQ (attention.kv_heads, 4);
  EXPECT_EQ (attention.head_dim, 64);
  EXPECT_EQ (attention.scale, 0.125);
  EXPECT_EQ (attention.qk_norm, QkNorm::kHead);
  EXPECT_EQ (attention.tensors.q_bias, "");
  EXPECT_EQ (attention.tensors.o_bias, "");
  EXPECT_EQ (attention.rope.dimensions, 64);
  EXPECT_EQ (attention.rope.theta, 10000.0);
  EXPECT_EQ (attention.rope.scaling, RopeSpec::Scaling::kNone);
  EXPECT_EQ (attention.rope.attention_factor, 1.0);
  EXPECT_EQ (mlp_of (spec, 9).intermediate, 1536);
  EXPECT_EQ (mlp_of (spec, 9).activation, Activation::kSilu);
  EXPECT_EQ (attention.tensors.k_norm, "model.layers.9.self_attn.k_norm.weight");
  EXPECT_EQ (mlp_of (spec, 9).tensors.down, "model.layers.9.mlp.down_proj.weight");
}

TEST (config, names_exactly_the_tensors_of_the_demo_models)
{
  for (const std::string model : {"models/demo", "models/demo-draft"}) {
    const WeightFiles weights = WeightFiles::open (source_path (model));
    std::set<std::string> stored;
    for (const auto &[name, tensor] : weights.tensors ())
      stored.insert (name);
    EXPECT_EQ (tensor_names (build_program (load_architecture (source_path (model) / "config.json"))), stored)
        << model;
  }
}

std::vector<std::string>
oracle_names ()
{
  std::vector<std::string> names;
  for (const OracleModel &model : oracle_models ())
    names.push_back (model.name);
  return names;
}

bool
is_of_another_modality (const std::string &tensor)
{
  for (const char *part :
       {"vision_tower.", "multi_modal_projector.", "embed_vision.", "audio_tower.", "model.visual."})
    if (tensor.find (part) != std::string::npos)
      return true;
  return false;
}

class OracleConfigs : public ::testing::TestWithParam<std::string>
{
};

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST (OracleConfigs);

TEST_P (OracleConfigs, new_and_old_keys_mean_the_same_and_name_exactly_the_stored_tensors)
{
  const std::string folder = "oracles/" + GetParam ();
  REQUIRE_ORACLES (folder);
  const ArchitectureSpec spec = load_architecture (oracle_path (folder + "/config.json"));
  EXPECT_EQ (describe (spec), describe (load_architecture (oracle_path (folder + "/config.hub.json"))));
  const WeightFiles weights = WeightFiles::open (oracle_path (folder));
  std::set<std::string> stored;
  for (const auto &[name, tensor] : weights.tensors ())
    if (!is_of_another_modality (name))
      stored.insert (name);
  EXPECT_EQ (tensor_names (build_program (spec, weights)), stored);
}

INSTANTIATE_TEST_SUITE_P (config, OracleConfigs, ::testing::ValuesIn (oracle_names ()),
                          [] (const auto &info) { return info.param; });

TEST (config, absent_and_null_fields_have_their_documented_defaults)
{
  for (const std::string absent : {"", "null"}) {
    const ArchitectureSpec spec = load (Fields{{"num_key_value_heads", absent},
                                               {"head_dim", absent},
                                               {"rms_norm_eps", absent},
                                               {"rope_theta", absent},
                                               {"rope_scaling", absent},
                                               {"rope_parameters", absent},
                                               {"hidden_act", absent},
                                               {"eos_token_id", absent},
                                               {"bos_token_id", absent},
                                               {"tie_word_embeddings", absent},
                                               {"attention_bias", absent},
                                               {"mlp_bias", absent},
                                               {"quantization_config", absent},
                                               {"text_config", absent}});
    const AttentionSpec &attention = attention_of (spec, 1);
    EXPECT_EQ (attention.kv_heads, 4);
    EXPECT_EQ (attention.head_dim, 32);
    EXPECT_EQ (attention.rope.theta, 10000.0);
    EXPECT_EQ (mlp_of (spec, 1).activation, Activation::kSilu);
    EXPECT_EQ (attention.tensors.q_bias + attention.tensors.o_bias + mlp_of (spec, 1).tensors.up_bias, "");
    EXPECT_EQ (spec.norm_epsilon, 1e-6);
    EXPECT_TRUE (spec.eos_token_ids.empty ());
    EXPECT_EQ (spec.bos_token_id, -1);
    EXPECT_FALSE (spec.tied_head);
    EXPECT_EQ (spec.head_tensor, "lm_head.weight");
  }
}

TEST (config, switches_change_the_spec)
{
  EXPECT_EQ (mlp_of (load (Fields{{"hidden_act", "\"gelu\""}}), 0).activation, Activation::kGelu);
  EXPECT_EQ (mlp_of (load (Fields{{"hidden_act", "\"gelu_pytorch_tanh\""}}), 0).activation,
             Activation::kGeluTanh);
  EXPECT_EQ (attention_of (load (Fields{{"head_dim", "96"}}), 0).head_dim, 96);
  EXPECT_EQ (load (Fields{{"eos_token_id", "[7, 9]"}}).eos_token_ids, (std::vector<int32_t>{7, 9}));
  const ArchitectureSpec biased = load (Fields{{"attention_bias", "true"}, {"mlp_bias", "true"}});
  EXPECT_EQ (attention_of (biased, 1).tensors.o_bias, "model.layers.1.self_attn.o_proj.bias");
  EXPECT_EQ (mlp_of (biased, 1).tensors.gate_bias, "model.layers.1.mlp.gate_proj.bias");
  EXPECT_EQ (attention_of (biased, 1).tensors.q_norm, "");
}

TEST (config, rope_scalings_are_read_from_both_places_and_both_names_of_the_type)
{
  const std::string llama3 = R"("factor": 8, "low_freq_factor": 2.0, "high_freq_factor": 5.0,
    "original_max_position_embeddings": 256)";
  for (const Fields &fields :
       {Fields{{"rope_scaling", "{\"rope_type\": \"llama3\"," + llama3 + "}"}, {"rope_theta", "5e5"}},
        Fields{{"rope_scaling", "{\"type\": \"llama3\"," + llama3 + "}"}, {"rope_theta", "500000"}},
        Fields{{"rope_parameters", "{\"rope_type\": \"llama3\", \"rope_theta\": 5e5," + llama3 + "}"},
               {"rope_theta", ""}}}) {
    const RopeSpec rope = rope_of (fields);
    EXPECT_EQ (rope.scaling, RopeSpec::Scaling::kLlama3);
    EXPECT_EQ (rope.theta, 5e5);
    EXPECT_EQ (rope.factor, 8);
    EXPECT_EQ (rope.low_freq_factor, 2);
    EXPECT_EQ (rope.high_freq_factor, 5);
    EXPECT_EQ (rope.original_max_positions, 256);
    EXPECT_EQ (rope.attention_factor, 1);
  }
  const RopeSpec linear = rope_of ({{"rope_scaling", R"({"type": "linear", "factor": 2.5})"}});
  EXPECT_EQ (linear.scaling, RopeSpec::Scaling::kLinear);
  EXPECT_EQ (linear.factor, 2.5);
  const RopeSpec dynamic = rope_of ({{"rope_scaling", R"({"type": "dynamic", "factor": 2.5})"}});
  EXPECT_EQ (rope_inverse_frequencies (dynamic), rope_inverse_frequencies (rope_of (Fields{})))
      << "up to max_position_embeddings";
}

TEST (config, yarn_attention_factor_follows_the_reference)
{
  const auto yarn = [] (const std::string &more) {
    return rope_of ({{"rope_scaling", R"({"rope_type": "yarn", "factor": 4.0)" + more + "}"}});
  };
  const RopeSpec plain = yarn ("");
  EXPECT_EQ (plain.scaling, RopeSpec::Scaling::kYarn);
  EXPECT_DOUBLE_EQ (plain.attention_factor, 0.1 * std::log (4.0) + 1);
  EXPECT_EQ (plain.original_max_positions, 512);
  EXPECT_TRUE (plain.truncate);
  EXPECT_EQ (plain.beta_fast, 32);
  EXPECT_EQ (plain.beta_slow, 1);
  EXPECT_EQ (yarn (R"(, "attention_factor": 1.5, "mscale": 2, "mscale_all_dim": 3)").attention_factor, 1.5);
  EXPECT_DOUBLE_EQ (yarn (R"(, "mscale": 0.5, "mscale_all_dim": 2.0)").attention_factor,
                    (0.05 * std::log (4.0) + 1) / (0.2 * std::log (4.0) + 1));
  EXPECT_DOUBLE_EQ (yarn (R"(, "mscale": 0.5)").attention_factor, 0.1 * std::log (4.0) + 1);
  EXPECT_EQ (yarn (R"(, "mscale": 1.0, "mscale_all_dim": 1.0)").attention_factor, 1.0);
  EXPECT_FALSE (yarn (R"(, "truncate": false)").truncate);
  const RopeSpec betas = yarn (R"(, "beta_fast": 16, "beta_slow": 0.5)");
  EXPECT_EQ (betas.beta_fast, 16);
  EXPECT_EQ (betas.beta_slow, 0.5);
  const RopeSpec derived =
      rope_of ({{"rope_scaling", R"({"rope_type": "yarn", "original_max_position_embeddings": 128})"}});
  EXPECT_EQ (derived.factor, 4.0);
}

std::vector<Damage>
damages ()
{
  const auto rope = [] (const std::string &value) { return Fields{{"rope_scaling", "{" + value + "}"}}; };
  const std::string yarn = R"("rope_type": "yarn", "factor": 2)";
  const std::string llama3 = R"("rope_type": "llama3", "factor": 2)";
  return {
      {{{"model_type", ""}}, "model_type", "missing"},
      {{{"model_type", "7"}}, "model_type", "string"},
      {{{"model_type", "\"rwkv\""}}, "model_type", "\"rwkv\" is not supported; supported are deepseek_v2, "},
      {{{"vocab_size", ""}}, "vocab_size", "missing"},
      {{{"vocab_size", "0"}}, "vocab_size", "is 0"},
      {{{"vocab_size", "16777217"}}, "vocab_size", "16777217"},
      {{{"vocab_size", "\"1000\""}}, "vocab_size", "integer"},
      {{{"vocab_size", "1000.0"}}, "vocab_size", "integer"},
      {{{"vocab_size", "18446744073709551615"}}, "vocab_size", "18446744073709551615"},
      {{{"hidden_size", ""}}, "hidden_size", "missing"},
      {{{"hidden_size", "-128"}}, "hidden_size", "-128"},
      {{{"hidden_size", "1048577"}}, "hidden_size", "1048577"},
      {{{"hidden_size", "true"}}, "hidden_size", "true"},
      {{{"hidden_size", "[128]"}}, "hidden_size", "an array"},
      {{{"intermediate_size", ""}}, "intermediate_size", "missing"},
      {{{"intermediate_size", "0"}}, "intermediate_size", "is 0"},
      {{{"intermediate_size", "99999999"}}, "intermediate_size", "99999999"},
      {{{"num_hidden_layers", ""}}, "num_hidden_layers", "missing"},
      {{{"num_hidden_layers", "0"}}, "num_hidden_layers", "is 0"},
      {{{"num_hidden_layers", "1025"}}, "num_hidden_layers", "1025"},
      {{{"num_hidden_layers", "2.5"}}, "num_hidden_layers", "2.5"},
      {{{"num_attention_heads", ""}}, "num_attention_heads", "missing"},
      {{{"num_attention_heads", "0"}}, "num_attention_heads", "is 0"},
      {{{"num_attention_heads", "6"}}, "num_attention_heads", "does not divide hidden_size"},
      {{{"num_attention_heads", "1000000"}, {"head_dim", "64"}}, "num_attention_heads", "64000000"},
      {{{"num_key_value_heads", "0"}}, "num_key_value_heads", "is 0"},
      {{{"num_key_value_heads", "3"}}, "num_key_value_heads", "does not divide"},
      {{{"num_key_value_heads", "8"}}, "num_key_value_heads", "does not divide"},
      {{{"head_dim", "0"}}, "head_dim", "is 0"},
      {{{"head_dim", "33"}}, "head_dim", "odd"},
      {{{"head_dim", "2147483648"}}, "head_dim", "2147483648"},
      {{{"max_position_embeddings", ""}}, "max_position_embeddings", "missing"},
      {{{"max_position_embeddings", "0"}}, "max_position_embeddings", "is 0"},
      {{{"max_position_embeddings", "16777217"}}, "max_position_embeddings", "16777217"},
      {{{"rms_norm_eps", "0"}}, "rms_norm_eps", "is 0"},
      {{{"rms_norm_eps", "-1e-6"}}, "rms_norm_eps", "number"},
      {{{"rms_norm_eps", "1"}}, "rms_norm_eps", "is 1"},
      {{{"rms_norm_eps", "\"1e-6\""}}, "rms_norm_eps", "number"},
      {{{"rope_theta", "0"}}, "rope_theta", "is 0"},
      {{{"rope_theta", "1"}}, "rope_theta", "is 1"},
      {{{"rope_theta", "-10000"}}, "rope_theta", "-10000"},
      {{{"rope_theta", "1e300"}}, "rope_theta", "number"},
      {{{"rope_theta", "\"NaN\""}}, "rope_theta", "NaN"},
      {{{"partial_rotary_factor", "0.5"}}, "partial_rotary_factor", "not supported"},
      {{{"hidden_act", "\"relu\""}}, "hidden_act", "\"relu\" is not supported; supported are silu"},
      {{{"hidden_act", "1"}}, "hidden_act", "string"},
      {{{"tie_word_embeddings", "1"}}, "tie_word_embeddings", "true or false"},
      {{{"attention_bias", "\"no\""}}, "attention_bias", "true or false"},
      {{{"mlp_bias", "0"}}, "mlp_bias", "true or false"},
      {{{"eos_token_id", "-1"}}, "eos_token_id", "-1"},
      {{{"eos_token_id", "1000"}}, "eos_token_id", "1000"},
      {{{"eos_token_id", "[1, \"2\"]"}}, "eos_token_id", "\"2\""},
      {{{"eos_token_id", "{}"}}, "eos_token_id", "an object"},
      {{{"bos_token_id", "1.5"}}, "bos_token_id", "1.5"},
      {{{"bos_token_id", "1000"}}, "bos_token_id", "1000"},
      {{{"quantization_config", "{}"}}, "quantization_config.quant_method", "not supported"},
      {{{"compression_config", R"({"format": "int-quantized"})"}},
       "compression_config.format",
       "\"int-quantized\" is not supported"},
      {{{"text_config", "{}"}}, "text_config", "multimodal"},
      {{{"text_config", R"({"quantization_config": {"bits": 4}})"}},
       "text_config.quantization_config.quant_method",
       "not supported"},
      {{{"layer_types", "[\"full_attention\"]"}}, "layer_types", "1 entries"},
      {{{"layer_types", "\"full_attention\""}}, "layer_types", "array"},
      {{{"layer_types", "[1, 2]"}}, "layer_types", "strings"},
      {{{"layer_types", R"(["full_attention", "sliding_attention"])"}}, "layer_types", "sliding_attention"},
      {{{"rope_scaling", "8"}}, "rope_scaling", "object"},
      {{{"rope_parameters", R"({"full_attention": {"rope_type": "default"}})"}},
       "rope_parameters",
       "kind of layer"},
      {rope (R"("rope_type": "ntk", "factor": 2)"), "rope_scaling.rope_type", "\"ntk\" is not supported"},
      {rope (R"("type": "longrope")"), "rope_scaling.short_factor", "has 0 entries, expected 16"},
      {rope (R"("type": "longrope", "short_factor": [0])"), "rope_scaling.short_factor", "is 0"},
      {rope (R"("type": "longrope", "short_factor": [1, "2"])"), "rope_scaling.short_factor", "\"2\""},
      {rope (R"("type": "longrope", "short_factor": 1)"), "rope_scaling.short_factor", "array"},
      {rope (R"("rope_type": 3)"), "rope_scaling.rope_type", "string"},
      {rope (R"("rope_type": "linear")"), "rope_scaling.factor", "missing"},
      {rope (R"("rope_type": "linear", "factor": 0)"), "rope_scaling.factor", "is 0"},
      {rope (R"("rope_type": "linear", "factor": 0.5)"), "rope_scaling.factor", "0.5"},
      {rope (R"("rope_type": "linear", "factor": 2, "factor": 3)"), "rope_scaling.factor", "twice"},
      {rope (llama3), "rope_scaling.low_freq_factor", "missing"},
      {rope (llama3 + R"(, "low_freq_factor": 1)"), "rope_scaling.high_freq_factor", "missing"},
      {rope (llama3 + R"(, "low_freq_factor": 4, "high_freq_factor": 4)"), "rope_scaling.high_freq_factor"},
      {rope (llama3 + R"(, "low_freq_factor": 0, "high_freq_factor": 4)"), "rope_scaling.low_freq_factor"},
      {rope (llama3 + R"(, "original_max_position_embeddings": 0)"),
       "rope_scaling.original_max_position_embeddings", "is 0"},
      {rope (yarn + R"(, "beta_fast": 1)"), "rope_scaling.beta_fast", "beta_slow"},
      {rope (yarn + R"(, "beta_slow": 0)"), "rope_scaling.beta_slow", "is 0"},
      {rope (yarn + R"(, "attention_factor": -1)"), "rope_scaling.attention_factor", "-1"},
      {rope (yarn + R"(, "mscale": "1")"), "rope_scaling.mscale", "number"},
      {rope (yarn + R"(, "truncate": 1)"), "rope_scaling.truncate", "true or false"},
  };
}

TEST (config, absurd_values_are_refused_by_file_and_field)
{
  expect_refused (damages ());
}

TEST (config, a_file_that_is_no_object_is_refused_by_name)
{
  const std::vector<std::string> texts = {
      "",      "{",   "[]", "7", "{\"rope_theta\": NaN}", "{\"a\": 1e999}", std::string (5000, '['),
      "{} {}", "\xff"};
  for (const std::string &text : texts) {
    try {
      load (text);
      ADD_FAILURE () << "no LoadError for " << text.substr (0, 20);
    } catch (const LoadError &error) {
      EXPECT_EQ (error.file.filename (), "config.json") << text.substr (0, 20);
      EXPECT_NE (std::string (error.what ()).find ("JSON"), std::string::npos) << error.what ();
    }
  }
  EXPECT_THROW (load_architecture (source_path ("models/demo/absent.json")), LoadError);
  EXPECT_THROW (load ("{\"model_type\": \"llama\", \"model_type\": \"qwen3\"}"), LoadError);
}

TEST (generation_config, of_the_demo_model_is_read)
{
  const GenerationConfig generation =
      load_generation_config (source_path ("models/demo/generation_config.json"));
  EXPECT_EQ (generation.eos_token_ids, (std::vector<int32_t>{8179, 8177}));
  EXPECT_TRUE (generation.do_sample);
  EXPECT_EQ (generation.temperature, 0.4);
  EXPECT_EQ (generation.top_p, 0.95);
  EXPECT_EQ (generation.top_k, 40);
  EXPECT_EQ (generation.min_p, std::nullopt);
  EXPECT_EQ (generation.repetition_penalty, std::nullopt);
}

TEST (generation_config, absent_is_empty)
{
  const TemporaryFolder folder;
  const GenerationConfig generation = load_generation_config (folder.path () / "generation_config.json");
  EXPECT_TRUE (generation.eos_token_ids.empty ());
  EXPECT_FALSE (generation.do_sample);
  EXPECT_EQ (generation.temperature, std::nullopt);
  EXPECT_EQ (generation.top_k, std::nullopt);
}

TEST (generation_config, wrong_values_are_refused_by_file_and_field)
{
  const std::vector<std::pair<std::string, std::string>> damages = {{"temperature", "-0.1"},
                                                                    {"temperature", "\"hot\""},
                                                                    {"top_p", "1.5"},
                                                                    {"top_p", "-1"},
                                                                    {"min_p", "2"},
                                                                    {"top_k", "-2"},
                                                                    {"top_k", "1.5"},
                                                                    {"repetition_penalty", "0"},
                                                                    {"repetition_penalty", "true"},
                                                                    {"do_sample", "1"},
                                                                    {"eos_token_id", "-3"},
                                                                    {"eos_token_id", "[null]"},
                                                                    {"eos_token_id", "2147483648"},
                                                                    {"eos_token_id", "\"</s>\""}};
  const TemporaryFolder folder;
  const fs::path file = folder.path () / "generation_config.json";
  for (const auto &[field, value] : damages) {
    SCOPED_TRACE (field + " " + value);
    std::ofstream (file) << "{\"" << field << "\": " << value << "}";
    try {
      load_generation_config (file);
      ADD_FAILURE () << "no LoadError";
    } catch (const LoadError &error) {
      EXPECT_EQ (error.file, file);
      EXPECT_EQ (error.field, field) << error.what ();
    }
  }
  std::ofstream (file) << "[]";
  EXPECT_THROW (load_generation_config (file), LoadError);
}

} // namespace
