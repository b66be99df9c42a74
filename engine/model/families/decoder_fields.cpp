// What the config.json of decoder-only families have in common.
#include "engine/model/families/decoder_fields.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

namespace millrace
{

namespace
{

constexpr int64_t kMaxLayers = 1024;
constexpr int64_t kMaxHidden = 1 << 20;
constexpr int64_t kMaxIntermediate = 1 << 22;
constexpr int64_t kMaxVocab = 1 << 24;
constexpr int64_t kMaxPositions = 1 << 24;
constexpr double kMaxTheta = 1e15;
constexpr double kMaxFactor = 1e6;

Activation
activation (const JsonFields &config)
{
  static constexpr std::array<std::pair<std::string_view, Activation>, 3> kNames{
      {{"silu", Activation::kSilu},
       {"gelu_pytorch_tanh", Activation::kGeluTanh},
       {"gelu", Activation::kGelu}}};
  const std::string name = config.text_or ("hidden_act", "silu");
  for (const auto &[known, value] : kNames)
    if (known == name)
      return value;
  config.fail ("hidden_act", "\"" + name.substr (0, 80) +
                                 "\" is not supported; supported are silu, gelu_pytorch_tanh and gelu");
}

AttentionSpec
attention_spec (const JsonFields &config, const DecoderTraits &traits, int hidden, int max_positions)
{
  AttentionSpec attention;
  attention.heads = config.integer ("num_attention_heads", 1, kMaxHidden);
  attention.kv_heads = config.integer_or ("num_key_value_heads", 1, kMaxHidden, attention.heads);
  if (attention.heads % attention.kv_heads != 0)
    config.fail ("num_key_value_heads", std::to_string (attention.kv_heads) + " does not divide " +
                                            config.called ("num_attention_heads") + ", " +
                                            std::to_string (attention.heads) + "; correct the file");
  if (config.has ("head_dim"))
    attention.head_dim = config.integer ("head_dim", 1, kMaxHidden);
  else if (hidden % attention.heads == 0)
    attention.head_dim = hidden / attention.heads;
  else
    config.fail ("num_attention_heads", std::to_string (attention.heads) + " does not divide " +
                                            config.called ("hidden_size") + ", " + std::to_string (hidden) +
                                            ", and there is no " + config.called ("head_dim") +
                                            "; correct the file");
  if (attention.head_dim % 2 != 0)
    config.fail ("head_dim", std::to_string (attention.head_dim) +
                                 " is odd and cannot be rotated in pairs; correct the file");
  const int64_t width = static_cast<int64_t> (attention.heads) * attention.head_dim;
  if (width > kMaxHidden)
    config.fail ("num_attention_heads", config.called ("num_attention_heads") + " × " +
                                            config.called ("head_dim") + " is " + std::to_string (width) +
                                            ", above the limit of " + std::to_string (kMaxHidden) +
                                            "; correct the file");
  attention.scale = 1.0 / std::sqrt (static_cast<double> (attention.head_dim));
  attention.qkv_bias = traits.attention_bias;
  attention.output_bias = traits.attention_bias;
  attention.qk_norm = traits.qk_norm;
  attention.rope = rope_spec (config, attention.head_dim, max_positions);
  return attention;
}

LayerTensors
layer_tensors (int layer, const DecoderTraits &traits)
{
  const std::string prefix = "model.layers." + std::to_string (layer) + ".";
  const std::string attention = prefix + "self_attn.";
  const std::string mlp = prefix + "mlp.";
  LayerTensors names;
  names.attention_norm = prefix + "input_layernorm.weight";
  names.mlp_norm = prefix + "post_attention_layernorm.weight";
  names.q = attention + "q_proj.weight";
  names.k = attention + "k_proj.weight";
  names.v = attention + "v_proj.weight";
  names.o = attention + "o_proj.weight";
  names.gate = mlp + "gate_proj.weight";
  names.up = mlp + "up_proj.weight";
  names.down = mlp + "down_proj.weight";
  if (traits.qk_norm) {
    names.q_norm = attention + "q_norm.weight";
    names.k_norm = attention + "k_norm.weight";
  }
  if (traits.attention_bias) {
    names.q_bias = attention + "q_proj.bias";
    names.k_bias = attention + "k_proj.bias";
    names.v_bias = attention + "v_proj.bias";
    names.o_bias = attention + "o_proj.bias";
  }
  if (traits.mlp_bias) {
    names.gate_bias = mlp + "gate_proj.bias";
    names.up_bias = mlp + "up_proj.bias";
    names.down_bias = mlp + "down_proj.bias";
  }
  return names;
}

void
read_llama3 (const JsonFields &fields, RopeSpec &rope)
{
  rope.scaling = RopeSpec::Scaling::kLlama3;
  rope.low_freq_factor = fields.number ("low_freq_factor", 1e-3, kMaxFactor);
  rope.high_freq_factor = fields.number ("high_freq_factor", 1e-3, kMaxFactor);
  if (rope.high_freq_factor <= rope.low_freq_factor)
    fields.fail ("high_freq_factor",
                 "is not above " + fields.called ("low_freq_factor") + "; correct the file");
}

/// mscale of the YaRN paper, §3.4: how much sharper attention gets with the length.
double
yarn_mscale (double factor, double mscale)
{
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log (factor) + 1.0;
}

void
read_yarn (const JsonFields &fields, RopeSpec &rope)
{
  rope.scaling = RopeSpec::Scaling::kYarn;
  rope.beta_fast = fields.number_or ("beta_fast", 1e-3, kMaxFactor, 32.0);
  rope.beta_slow = fields.number_or ("beta_slow", 1e-3, kMaxFactor, 1.0);
  if (rope.beta_fast <= rope.beta_slow)
    fields.fail ("beta_fast", "is not above " + fields.called ("beta_slow") + "; correct the file");
  rope.truncate = fields.boolean_or ("truncate", true);
  const double mscale = fields.number_or ("mscale", 0, 1000, 0);
  const double mscale_all_dim = fields.number_or ("mscale_all_dim", 0, 1000, 0);
  if (fields.has ("attention_factor"))
    rope.attention_factor = fields.number ("attention_factor", 1e-3, 1000);
  else if (mscale > 0 && mscale_all_dim > 0)
    rope.attention_factor = yarn_mscale (rope.factor, mscale) / yarn_mscale (rope.factor, mscale_all_dim);
  else
    rope.attention_factor = yarn_mscale (rope.factor, 1.0);
}

} // namespace

RopeSpec
rope_spec (const JsonFields &config, int dimensions, int max_positions)
{
  RopeSpec rope;
  rope.dimensions = dimensions;
  const char *name = config.has ("rope_parameters") ? "rope_parameters" : "rope_scaling";
  const auto parameters = config.object (name);
  const JsonFields &fields = parameters ? *parameters : config;
  if (parameters && fields.holds_objects ())
    config.fail (name, "differs by kind of layer, which this family does not support; correct the file");

  const JsonFields &theta_at = fields.has ("rope_theta") ? fields : config;
  rope.theta = theta_at.number_or ("rope_theta", 1.0, kMaxTheta, rope.theta);
  if (rope.theta <= 1)
    theta_at.fail ("rope_theta", "is 1, expected more; correct the file");
  const JsonFields &partial_at = fields.has ("partial_rotary_factor") ? fields : config;
  if (partial_at.number_or ("partial_rotary_factor", 0, 1, 1) != 1)
    partial_at.fail ("partial_rotary_factor", "is not supported for this family; remove it or set it to 1");
  rope.original_max_positions = max_positions;
  if (!parameters)
    return rope;

  const char *type_key = fields.has ("rope_type") ? "rope_type" : "type"; // the name before transformers 4.43
  const std::string type = fields.text_or (type_key, "default");
  if (type == "default")
    return rope;
  if (type != "linear" && type != "llama3" && type != "yarn")
    fields.fail (type_key, "\"" + type.substr (0, 80) +
                               "\" is not supported; supported are default, linear, llama3 and yarn");
  const char *original = "original_max_position_embeddings";
  const JsonFields &original_at = fields.has (original) ? fields : config;
  rope.original_max_positions = original_at.integer_or (original, 1, kMaxPositions, max_positions);
  if (type == "yarn" && !fields.has ("factor"))
    rope.factor = std::max (1.0, static_cast<double> (max_positions) / rope.original_max_positions);
  else
    rope.factor = fields.number ("factor", 1.0, kMaxFactor);
  if (type == "linear")
    rope.scaling = RopeSpec::Scaling::kLinear;
  else if (type == "llama3")
    read_llama3 (fields, rope);
  else
    read_yarn (fields, rope);
  return rope;
}

void
require_full_attention (const JsonFields &config, int layers)
{
  if (!config.has ("layer_types"))
    return;
  const auto types = config.texts ("layer_types");
  if (types.size () != static_cast<size_t> (layers))
    config.fail ("layer_types", "has " + std::to_string (types.size ()) + " entries for num_hidden_layers " +
                                    std::to_string (layers) + "; correct the file");
  for (const std::string &type : types)
    if (type != "full_attention")
      config.fail ("layer_types", "\"" + type.substr (0, 80) + "\" is not supported; only full_attention is");
}

ArchitectureSpec
decoder_spec (const JsonFields &config, const DecoderTraits &traits)
{
  ArchitectureSpec spec;
  spec.family = config.text ("model_type");
  spec.vocab = config.integer ("vocab_size", 1, kMaxVocab);
  spec.hidden = config.integer ("hidden_size", 1, kMaxHidden);
  spec.max_positions = config.integer ("max_position_embeddings", 1, kMaxPositions);
  spec.norm_epsilon = config.number_or ("rms_norm_eps", 1e-30, 0.5, 1e-6);
  spec.tied_head = config.boolean_or ("tie_word_embeddings", false);
  spec.embedding_tensor = "model.embed_tokens.weight";
  spec.final_norm_tensor = "model.norm.weight";
  spec.head_tensor = spec.tied_head ? spec.embedding_tensor : "lm_head.weight";
  spec.eos_token_ids = config.token_ids ("eos_token_id", spec.vocab);
  spec.bos_token_id = config.integer_or ("bos_token_id", 0, spec.vocab - 1, -1);

  const int layers = config.integer ("num_hidden_layers", 1, kMaxLayers);
  require_full_attention (config, layers);
  LayerSpec layer;
  layer.attention = attention_spec (config, traits, spec.hidden, spec.max_positions);
  layer.mlp.intermediate = config.integer ("intermediate_size", 1, kMaxIntermediate);
  layer.mlp.activation = activation (config);
  layer.mlp.bias = traits.mlp_bias;
  for (int i = 0; i < layers; ++i) {
    layer.tensors = layer_tensors (i, traits);
    spec.layers.push_back (layer);
  }
  return spec;
}

} // namespace millrace
