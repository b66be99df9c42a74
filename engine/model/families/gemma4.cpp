// Gemma 4 (text): gemma3's layer with norms of values too and plain scores. Layers of full attention have heads of
// another size, of which a quarter turns, and in larger models values that are the keys. Smaller models give each layer an input
// of its own, and their last layers use the keys and values of earlier ones. One has experts beside the MLP, each with norms of
// its own, and a router that reads the residual.
//
// Source: https://huggingface.co/docs/transformers/model_doc/gemma4; key names: transformers' Gemma4TextConfig.
#include "engine/model/families/decoder_fields.hpp"
#include "engine/model/families/families.hpp"
#include "engine/model/families/moe_fields.hpp"

#include <cmath>

namespace millrace
{

namespace
{

constexpr int64_t kMaxWidth = 1 << 16; ///< of a head, and of a layer's own input
constexpr int64_t kMaxHeadsWidth = 1 << 20;
constexpr int64_t kMaxVocab = 1 << 24;

/// The reference takes the last layer for one of full attention, whatever the file says.
std::vector<bool>
gemma4_sliding_layers (const JsonFields &config, size_t layers)
{
  auto sliding = sliding_layers (config, layers, [] (int layer) { return (layer + 1) % 6 != 0; });
  sliding.back () = false;
  return sliding;
}

/// per_layer_config names the layers whose heads differ; older files have the sizes of those of full attention.
void
set_heads (const JsonFields &config, int index, bool sliding, AttentionSpec &attention)
{
  const std::string layer = std::to_string (index);
  const auto all = config.object ("per_layer_config");
  const auto own = all ? all->object (layer) : std::nullopt;
  const JsonFields *at = own ? &*own : nullptr;
  const char *dim_key = "head_dim", *kv_key = "num_key_value_heads";
  if (!all && !sliding) {
    at = &config;
    dim_key = "global_head_dim";
    kv_key = config.boolean_or ("attention_k_eq_v", false) ? "num_global_key_value_heads" : kv_key;
    attention.head_dim = 512;
  }
  if (!at)
    return;
  attention.head_dim = at->integer_or (dim_key, 2, kMaxWidth, attention.head_dim);
  if (attention.head_dim % 2 != 0)
    at->fail (dim_key, std::to_string (attention.head_dim) +
                           " is odd and cannot be rotated in pairs; correct the file");
  const int64_t width = static_cast<int64_t> (attention.heads) * attention.head_dim;
  if (width > kMaxHeadsWidth)
    at->fail (dim_key, "times num_attention_heads is " + std::to_string (width) + ", above the limit of " +
                           std::to_string (kMaxHeadsWidth) + "; correct the file");
  attention.kv_heads = at->integer_or (kv_key, 1, kMaxWidth, attention.kv_heads);
  if (attention.heads % attention.kv_heads != 0)
    at->fail (kv_key, std::to_string (attention.kv_heads) + " does not divide num_attention_heads, " +
                          std::to_string (attention.heads) + "; correct the file");
}

void
set_attention (const JsonFields &config, const std::vector<bool> &sliding, ArchitectureSpec &spec)
{
  const bool keys_are_values = config.boolean_or ("attention_k_eq_v", false);
  for (size_t i = 0; i < spec.layers.size (); ++i) {
    AttentionSpec &attention = attention_of (spec.layers[i]);
    set_heads (config, static_cast<int> (i), sliding[i], attention);
    attention.scale = 1;
    attention.value_norm = true;
    attention.rope =
        rope_spec (config, attention.head_dim, spec.max_positions,
                   {.layer_type = sliding[i] ? "sliding_attention" : "full_attention", .partial = true});
    if (keys_are_values && !sliding[i])
      attention.tensors.v = attention.tensors.v_bias = "";
  }
}

/// The last num_kv_shared_layers use what the last layer of their kind before them has kept.
void
share_kv (const JsonFields &config, const std::vector<bool> &sliding, ArchitectureSpec &spec)
{
  const int layers = static_cast<int> (spec.layers.size ());
  const int shared = config.integer_or ("num_kv_shared_layers", 0, layers - 1, 0);
  const bool wide = config.boolean_or ("use_double_wide_mlp", false);
  for (int i = layers - shared; i < layers; ++i) {
    LayerSpec &layer = spec.layers[static_cast<size_t> (i)];
    AttentionSpec &attention = attention_of (layer);
    int from = layers - shared - 1;
    while (from >= 0 && sliding[static_cast<size_t> (from)] != sliding[static_cast<size_t> (i)])
      --from;
    if (from < 0)
      config.fail ("num_kv_shared_layers", std::to_string (shared) +
                                               " leaves no layer of the kind of layer " + std::to_string (i) +
                                               " that has keys and values of its own; correct the file");
    const AttentionSpec &owner = attention_of (spec.layers[static_cast<size_t> (from)]);
    if (owner.head_dim != attention.head_dim || owner.kv_heads != attention.kv_heads)
      config.fail ("per_layer_config", "heads of layer " + std::to_string (i) +
                                           " differ from those of layer " + std::to_string (from) +
                                           ", whose keys and values it uses; correct the file");
    attention.kv_of_layer = from;
    attention.value_norm = false;
    AttentionTensors &tensors = attention.tensors;
    for (const std::string *unread :
         {&tensors.k, &tensors.v, &tensors.k_bias, &tensors.v_bias, &tensors.k_norm})
      if (!unread->empty ())
        spec.unread_tensors.push_back (*unread);
    tensors.k = tensors.v = tensors.k_bias = tensors.v_bias = tensors.k_norm = "";
    if (wide)
      mlp_of (layer).intermediate *= 2;
  }
}

void
set_layer_inputs (const JsonFields &config, const std::string &prefix, ArchitectureSpec &spec)
{
  LayerInputSpec &inputs = spec.layer_inputs;
  inputs.width = config.integer_or ("hidden_size_per_layer_input", 0, kMaxWidth, 256);
  if (inputs.width == 0)
    return;
  inputs.vocab = config.integer_or ("vocab_size_per_layer_input", 1, kMaxVocab, 262144);
  if (inputs.vocab < spec.vocab)
    config.fail ("vocab_size_per_layer_input", std::to_string (inputs.vocab) + " is less than vocab_size, " +
                                                   std::to_string (spec.vocab) + "; correct the file");
  inputs.activation = mlp_of (spec.layers.front ()).activation;
  inputs.embedding = prefix + "embed_tokens_per_layer.weight";
  inputs.projection = prefix + "per_layer_model_projection.weight";
  inputs.norm = prefix + "per_layer_projection_norm.weight";
  for (size_t i = 0; i < spec.layers.size (); ++i) {
    const std::string layer = prefix + "layers." + std::to_string (i) + ".";
    spec.layers[i].input = {layer + "per_layer_input_gate.weight", layer + "per_layer_projection.weight",
                            layer + "post_per_layer_input_norm.weight"};
  }
}

void
set_experts (const JsonFields &config, const std::string &prefix, ArchitectureSpec &spec)
{
  if (!config.boolean_or ("enable_moe_block", false))
    return;
  MoeSpec moe = moe_spec (config, {.experts_keys = {"num_experts"}, .chosen_key = "top_k_experts"}, spec);
  moe.tensors.layout = ExpertTensors::Layout::kStacked;
  moe.routing.logit_scale = 1 / std::sqrt (static_cast<double> (spec.hidden));
  for (size_t i = 0; i < spec.layers.size (); ++i) {
    const std::string layer = prefix + "layers." + std::to_string (i) + ".";
    moe.shared = mlp_of (spec.layers[i]);
    moe.shared_norm = layer + "post_feedforward_layernorm_1.weight";
    moe.experts_pre = layer + "pre_feedforward_layernorm_2.weight";
    moe.experts_post = layer + "post_feedforward_layernorm_2.weight";
    moe.routing.norm = layer + "router.scale";
    moe.routing.router = layer + "router.proj.weight";
    moe.routing.expert_scale = layer + "router.per_expert_scale";
    moe.tensors.gate = moe.tensors.up = layer + "experts.gate_up_proj";
    moe.tensors.down = layer + "experts.down_proj";
    spec.layers[i].channel = moe;
  }
}

} // namespace

ArchitectureSpec
load_gemma4_text (const JsonFields &config, const std::string &prefix)
{
  if (config.text_or ("use_bidirectional_attention", "vision") != "vision")
    config.fail ("use_bidirectional_attention",
                 "is not vision: models that do not generate are not supported; use another model");
  const bool bias = config.boolean_or ("attention_bias", false);
  ArchitectureSpec spec = decoder_spec (config, {.norms = DecoderTraits::Norms::kBoth,
                                                 .qk_norm = QkNorm::kHead,
                                                 .qkv_bias = bias,
                                                 .output_bias = bias,
                                                 .tied_by_default = true,
                                                 .kinds_of_layers = true,
                                                 .activation_key = "hidden_activation",
                                                 .default_activation = "gelu_pytorch_tanh",
                                                 .prefix = prefix,
                                                 .rope = {.layer_type = "full_attention", .partial = true}});
  spec.embedding_scale = std::sqrt (static_cast<double> (spec.hidden));
  spec.logit_softcap = softcap_or (config, "final_logit_softcapping", 0);
  const std::vector<bool> sliding = gemma4_sliding_layers (config, spec.layers.size ());
  set_windows (config, sliding, spec);
  set_attention (config, sliding, spec);
  share_kv (config, sliding, spec);
  set_layer_inputs (config, prefix, spec);
  set_experts (config, prefix, spec);
  for (size_t i = 0; i < spec.layers.size (); ++i)
    spec.layers[i].scalar = prefix + "layers." + std::to_string (i) + ".layer_scalar";
  return spec;
}

ArchitectureSpec
load_gemma4 (const JsonFields &config)
{
  return load_gemma4_text (config, "model.");
}

ArchitectureSpec
load_gemma4_wrapper (const JsonFields &config)
{
  return wrapped_spec (config, {"model.language_model.", "language_model.model."}, load_gemma4_text);
}

} // namespace millrace
