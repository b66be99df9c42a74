// What the config.json of decoder-only families have in common.
#include "engine/model/families/decoder_fields.hpp"

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

Activation
activation (const JsonFields &config, const DecoderTraits &traits)
{
  static constexpr std::array<std::pair<std::string_view, Activation>, 3> kNames{
      {{"silu", Activation::kSilu},
       {"gelu_pytorch_tanh", Activation::kGeluTanh},
       {"gelu", Activation::kGelu}}};
  const std::string name = config.text_or (traits.activation_key, traits.default_activation);
  for (const auto &[known, value] : kNames)
    if (known == name)
      return value;
  config.fail (traits.activation_key,
               "\"" + name.substr (0, 80) +
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
  attention.qk_norm = traits.qk_norm.value_or (QkNorm::kHead);
  attention.rope = rope_spec (config, attention.head_dim, max_positions, traits.rope);
  return attention;
}

AttentionTensors
attention_tensors (const std::string &prefix, const DecoderTraits &traits)
{
  AttentionTensors names;
  names.q = prefix + (traits.fused ? "qkv_proj.weight" : "q_proj.weight");
  names.k = prefix + (traits.fused ? "qkv_proj.weight" : "k_proj.weight");
  names.v = prefix + (traits.fused ? "qkv_proj.weight" : "v_proj.weight");
  names.o = prefix + "o_proj.weight";
  if (traits.qk_norm) {
    names.q_norm = prefix + "q_norm.weight";
    names.k_norm = prefix + "k_norm.weight";
  }
  if (traits.qkv_bias) {
    names.q_bias = prefix + "q_proj.bias";
    names.k_bias = prefix + "k_proj.bias";
    names.v_bias = prefix + "v_proj.bias";
  }
  if (traits.output_bias)
    names.o_bias = prefix + "o_proj.bias";
  return names;
}

MlpTensors
mlp_tensors (const std::string &prefix, const DecoderTraits &traits)
{
  MlpTensors names;
  names.gate = prefix + (traits.fused ? "gate_up_proj.weight" : "gate_proj.weight");
  names.up = prefix + (traits.fused ? "gate_up_proj.weight" : "up_proj.weight");
  names.down = prefix + "down_proj.weight";
  if (traits.mlp_bias) {
    names.gate_bias = prefix + "gate_proj.bias";
    names.up_bias = prefix + "up_proj.bias";
    names.down_bias = prefix + "down_proj.bias";
  }
  return names;
}

void
name_norms (const std::string &prefix, DecoderTraits::Norms norms, LayerSpec &layer)
{
  if (norms == DecoderTraits::Norms::kPre) {
    layer.mixer_norms.pre = prefix + "input_layernorm.weight";
    layer.channel_norms.pre = prefix + "post_attention_layernorm.weight";
    return;
  }
  if (norms == DecoderTraits::Norms::kBoth) {
    layer.mixer_norms.pre = prefix + "input_layernorm.weight";
    layer.channel_norms.pre = prefix + "pre_feedforward_layernorm.weight";
  }
  layer.mixer_norms.post = prefix + "post_attention_layernorm.weight";
  layer.channel_norms.post = prefix + "post_feedforward_layernorm.weight";
}

/// layer_types, of which there must be one for each layer; empty when absent.
std::vector<std::string>
layer_types (const JsonFields &config, size_t layers)
{
  auto types = config.texts ("layer_types");
  if (config.has ("layer_types") && types.size () != layers)
    config.fail ("layer_types", "has " + std::to_string (types.size ()) + " entries for num_hidden_layers " +
                                    std::to_string (layers) + "; correct the file");
  return types;
}

} // namespace

AttentionSpec &
attention_of (LayerSpec &layer)
{
  return std::get<AttentionSpec> (layer.mixer);
}

MlpSpec &
mlp_of (LayerSpec &layer)
{
  return std::get<MlpSpec> (layer.channel);
}

std::vector<bool>
layers_of_kind (const JsonFields &config, size_t layers, std::string_view kind,
                const std::function<bool (int)> &by_default)
{
  const auto types = layer_types (config, layers);
  std::vector<bool> found;
  for (size_t i = 0; i < layers; ++i) {
    if (!types.empty () && types[i] != "full_attention" && types[i] != kind)
      config.fail ("layer_types", "\"" + types[i].substr (0, 80) +
                                      "\" is not supported; supported are full_attention and " +
                                      std::string (kind));
    found.push_back (types.empty () ? by_default (static_cast<int> (i)) : types[i] == kind);
  }
  return found;
}

std::vector<bool>
sliding_layers (const JsonFields &config, size_t layers, const std::function<bool (int)> &by_default)
{
  return layers_of_kind (config, layers, "sliding_attention", by_default);
}

void
set_windows (const JsonFields &config, const std::vector<bool> &sliding, ArchitectureSpec &spec)
{
  for (size_t i = 0; i < sliding.size (); ++i) {
    if (!sliding[i])
      continue;
    const int window = config.integer ("sliding_window", 1, INT32_MAX);
    attention_of (spec.layers[i]).window = window < spec.max_positions ? window : 0;
  }
}

void
set_optional_windows (const JsonFields &config, ArchitectureSpec &spec)
{
  const bool used = config.boolean_or ("use_sliding_window", false) && config.has ("sliding_window");
  const int first = config.integer_or ("max_window_layers", 0, INT32_MAX, 28);
  set_windows (
      config,
      sliding_layers (config, spec.layers.size (), [&] (int layer) { return used && layer >= first; }), spec);
}

double
softcap_or (const JsonFields &config, const char *name, double fallback)
{
  return config.is_null (name) ? 0 : config.number_or (name, 1e-3, 1e6, fallback);
}

void
require_full_attention (const JsonFields &config, size_t layers)
{
  for (const std::string &type : layer_types (config, layers))
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
  spec.tied_head = config.boolean_or ("tie_word_embeddings", traits.tied_by_default);
  spec.embedding_tensor = traits.prefix + "embed_tokens.weight";
  spec.final_norm_tensor = traits.prefix + "norm.weight";
  spec.head_tensor = spec.tied_head ? spec.embedding_tensor : "lm_head.weight";
  spec.eos_token_ids = config.token_ids ("eos_token_id", spec.vocab);
  spec.bos_token_id = config.integer_or ("bos_token_id", 0, spec.vocab - 1, -1);

  const int layers = traits.layers > 0 ? traits.layers : config.integer ("num_hidden_layers", 1, kMaxLayers);
  if (!traits.kinds_of_layers)
    require_full_attention (config, static_cast<size_t> (layers));
  AttentionSpec attention;
  if (!traits.own_attention)
    attention = attention_spec (config, traits, spec.hidden, spec.max_positions);
  MlpSpec mlp;
  mlp.intermediate = config.integer (traits.intermediate_key, 1, kMaxIntermediate);
  mlp.activation = activation (config, traits);
  for (int i = 0; i < layers; ++i) {
    const std::string prefix = traits.prefix + "layers." + std::to_string (i) + ".";
    attention.tensors = attention_tensors (prefix + "self_attn.", traits);
    mlp.tensors = mlp_tensors (prefix + "mlp.", traits);
    LayerSpec &layer = spec.layers.emplace_back ();
    layer.mixer = attention;
    layer.channel = mlp;
    name_norms (prefix, traits.norms, layer);
  }
  return spec;
}

} // namespace millrace
