// Nemotron-H: each layer is one sub-layer with a norm before it: Mamba-2, attention without positions, a perceptron with
// squared ReLU, or experts of that kind, chosen by corrected sigmoids, beside one that all tokens share.
//
// Source: Nemotron-H, arXiv 2504.03624; key names: transformers' NemotronHConfig, and those of the files that NVIDIA
// published before it (hybrid_override_pattern: M, *, - and E for the kinds of layers).
#include "engine/model/families/decoder_fields.hpp"
#include "engine/model/families/families.hpp"
#include "engine/model/families/moe_fields.hpp"

#include <algorithm>
#include <limits>
#include <optional>

namespace millrace
{

namespace
{

constexpr size_t kMaxLayers = 1024;
constexpr int64_t kMaxHeads = 1 << 16;
constexpr int64_t kMaxHeadDim = 1 << 12;
constexpr int64_t kMaxHeadsWidth = 1 << 20;
constexpr int64_t kMostTaps = 16;
constexpr int64_t kMaxIntermediate = 1 << 22;
constexpr double kInfinity = std::numeric_limits<double>::infinity ();

enum class Kind : uint8_t { kMamba, kAttention, kMlp, kExperts };

Kind
kind_of (const JsonFields &config, const char *key, const std::string &name)
{
  if (name == "M" || name == "mamba" || name == "linear_attention")
    return Kind::kMamba;
  if (name == "*" || name == "attention" || name == "full_attention")
    return Kind::kAttention;
  if (name == "-" || name == "mlp")
    return Kind::kMlp;
  if (name == "E" || name == "moe")
    return Kind::kExperts;
  config.fail (
      key,
      "\"" + name.substr (0, 80) +
          "\" is not supported; supported are M (linear_attention), * (full_attention), - (mlp) and E (moe)");
}

std::vector<Kind>
layer_kinds (const JsonFields &config)
{
  const char *key = config.has ("layers_block_type") ? "layers_block_type" : "hybrid_override_pattern";
  std::vector<std::string> names = config.texts ("layers_block_type");
  if (!config.has ("layers_block_type")) {
    for (const char letter : config.text (key))
      names.emplace_back (1, letter);
  }
  if (names.empty () || names.size () > kMaxLayers)
    config.fail (key, "has " + std::to_string (names.size ()) + " entries, expected 1 to " +
                          std::to_string (kMaxLayers) + "; correct the file");
  const int layers = config.integer_or ("num_hidden_layers", 1, kMaxLayers, static_cast<int> (names.size ()));
  if (names.size () != static_cast<size_t> (layers))
    config.fail (key, "has " + std::to_string (names.size ()) + " entries for num_hidden_layers " +
                          std::to_string (layers) + "; correct the file");
  std::vector<Kind> kinds;
  for (const std::string &name : names)
    kinds.push_back (kind_of (config, key, name));
  return kinds;
}

/// One of few values that are supported, which is the default.
void
require_text (const JsonFields &config, const char *key, std::string_view value)
{
  if (const std::string text = config.text_or (key, value); text != value)
    config.fail (key,
                 "\"" + text.substr (0, 80) + "\" is not supported; only " + std::string (value) + " is");
}

Mamba2Spec
mamba_spec (const JsonFields &config)
{
  Mamba2Spec mamba;
  mamba.heads = config.integer_or ("mamba_num_heads", 1, kMaxHeads, 128);
  mamba.head_dim = config.integer_or ("mamba_head_dim", 1, kMaxHeadDim, 64);
  mamba.groups = config.integer_or ("n_groups", 1, kMaxHeads, 8);
  mamba.state = config.integer_or ("ssm_state_size", 1, kMaxHeadDim, 128);
  mamba.taps = config.integer_or ("conv_kernel", 1, kMostTaps, 4);
  if (mamba.heads % mamba.groups != 0)
    config.fail ("n_groups", std::to_string (mamba.groups) + " does not divide mamba_num_heads, " +
                                 std::to_string (mamba.heads) + "; correct the file");
  const int64_t width = static_cast<int64_t> (mamba.heads) * mamba.head_dim,
                state_width = static_cast<int64_t> (mamba.groups) * mamba.state;
  if (width > kMaxHeadsWidth)
    config.fail ("mamba_num_heads", "times mamba_head_dim is " + std::to_string (width) +
                                        ", above the limit of " + std::to_string (kMaxHeadsWidth) +
                                        "; correct the file");
  if (state_width > kMaxHeadsWidth)
    config.fail ("n_groups", "times ssm_state_size is " + std::to_string (state_width) +
                                 ", above the limit of " + std::to_string (kMaxHeadsWidth) +
                                 "; correct the file");
  require_text (config, "mamba_hidden_act", "silu");
  mamba.most_step = kInfinity;
  if (config.has ("time_step_limit")) {
    const std::vector<double> limits = config.numbers ("time_step_limit", 0, kInfinity);
    if (limits.size () != 2 || limits[0] > limits[1])
      config.fail ("time_step_limit",
                   "is not two numbers, the first one not above the second; correct the file");
    mamba.least_step = limits[0];
    mamba.most_step = limits[1];
  }
  return mamba;
}

Mamba2Tensors
mamba_tensors (const std::string &prefix, bool bias, bool convolution_bias)
{
  Mamba2Tensors names;
  names.input = prefix + "in_proj.weight";
  names.output = prefix + "out_proj.weight";
  if (bias) {
    names.input_bias = prefix + "in_proj.bias";
    names.output_bias = prefix + "out_proj.bias";
  }
  names.convolution = prefix + "conv1d.weight";
  if (convolution_bias)
    names.convolution_bias = prefix + "conv1d.bias";
  names.a_log = prefix + "A_log";
  names.step_bias = prefix + "dt_bias";
  names.skip = prefix + "D";
  names.norm = prefix + "norm.weight";
  return names;
}

/// decoder_spec () has named them as if it had both sub-layers.
void
rename (const std::string &layer, AttentionTensors &tensors)
{
  const std::string from = layer + "self_attn.", to = layer + "mixer.";
  for (std::string *name : {&tensors.q, &tensors.k, &tensors.v, &tensors.o, &tensors.q_bias, &tensors.k_bias,
                            &tensors.v_bias, &tensors.o_bias}) {
    if (!name->empty ())
      *name = to + name->substr (from.size ());
  }
}

MlpTensors
mlp_tensors (const std::string &prefix, bool bias)
{
  MlpTensors names;
  names.up = prefix + "up_proj.weight";
  names.down = prefix + "down_proj.weight";
  if (bias) {
    names.up_bias = prefix + "up_proj.bias";
    names.down_bias = prefix + "down_proj.bias";
  }
  return names;
}

MoeSpec
experts_spec (const JsonFields &config, const ArchitectureSpec &spec)
{
  MoeSpec moe = moe_spec (config, {.experts_keys = {"n_routed_experts"}}, spec);
  moe.activation = Activation::kRelu;
  moe.routing.scores = RoutingSpec::Scores::kSigmoid;
  read_groups (config, moe);
  if (config.has ("moe_latent_size"))
    config.fail ("moe_latent_size", "is not supported; use a model without it");
  if (config.integer_or ("n_shared_experts", 0, 1, 1) > 0) {
    moe.shared.intermediate = config.integer ("moe_shared_expert_intermediate_size", 1, kMaxIntermediate);
    moe.shared.activation = Activation::kRelu;
  }
  return moe;
}

void
name_experts (const std::string &prefix, bool bias, MoeSpec &moe)
{
  moe.routing.router = prefix + "gate.weight";
  moe.routing.correction = prefix + "gate.e_score_correction_bias";
  moe.tensors = separate_experts (prefix + "experts.");
  moe.tensors.gate = "";
  moe.shared.tensors = mlp_tensors (prefix + "shared_experts.", bias);
}

} // namespace

ArchitectureSpec
load_nemotron_h (const JsonFields &config)
{
  const std::vector<Kind> kinds = layer_kinds (config);
  const bool bias = config.boolean_or ("attention_bias", false);
  ArchitectureSpec spec = decoder_spec (config, {.qkv_bias = bias,
                                                 .output_bias = bias,
                                                 .prefix = "backbone.",
                                                 .layers = static_cast<int> (kinds.size ())});
  spec.embedding_tensor = "backbone.embeddings.weight";
  spec.final_norm_tensor = "backbone.norm_f.weight";
  spec.head_tensor = spec.tied_head ? spec.embedding_tensor : "lm_head.weight";
  const double epsilon = config.number_or ("rms_norm_eps", 1e-30, 0.5, 1e-5);
  spec.norm_epsilon = config.number_or ("layer_norm_epsilon", 1e-30, 0.5, epsilon);
  require_text (config, "mlp_hidden_act", "relu2");

  Mamba2Spec mamba = mamba_spec (config);
  const bool mamba_bias = config.boolean_or ("use_bias", false),
             convolution_bias = config.boolean_or ("use_conv_bias", true),
             mlp_bias = config.boolean_or ("mlp_bias", false);
  std::optional<MoeSpec> moe;
  if (std::ranges::count (kinds, Kind::kExperts) > 0)
    moe = experts_spec (config, spec);
  for (size_t i = 0; i < kinds.size (); ++i) {
    const std::string prefix = "backbone.layers." + std::to_string (i) + ".";
    LayerSpec &layer = spec.layers[i];
    layer.mixer_norms.pre = prefix + "norm.weight";
    layer.channel_norms.pre = prefix + "norm.weight";
    if (kinds[i] == Kind::kMlp) {
      layer.mixer = {};
      MlpSpec &mlp = mlp_of (layer);
      mlp.activation = Activation::kRelu;
      mlp.tensors = mlp_tensors (prefix + "mixer.", mlp_bias);
      continue;
    }
    if (kinds[i] == Kind::kExperts) {
      layer.mixer = {};
      name_experts (prefix + "mixer.", mlp_bias, *moe);
      layer.channel = *moe;
      continue;
    }
    layer.channel = {};
    if (kinds[i] == Kind::kAttention) {
      attention_of (layer).rope = {};
      rename (prefix, attention_of (layer).tensors);
    } else {
      mamba.tensors = mamba_tensors (prefix + "mixer.", mamba_bias, convolution_bias);
      layer.mixer = mamba;
    }
  }
  return spec;
}

} // namespace millrace
