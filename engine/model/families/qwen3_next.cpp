// Qwen3-Next and Qwen3.5: three of four layers are Gated DeltaNet, the others attention with a gate on its result and RoPE of
// a part of each head; behind them are MLPs, or experts beside a shared one that is gated. Norms have their weights around 0, but for the one behind the recurrence. Qwen3.5 has the tensors of
// the recurrence apart that Qwen3-Next has as one, sorted by key head.
//
// Source: https://huggingface.co/docs/transformers/model_doc/qwen3_next; key names: transformers' Qwen3NextConfig,
// Qwen3_5TextConfig.
#include "engine/model/families/decoder_fields.hpp"
#include "engine/model/families/families.hpp"
#include "engine/model/families/moe_fields.hpp"

#include <algorithm>

namespace millrace
{

namespace
{

constexpr int64_t kMaxHeads = 1 << 16;
constexpr int64_t kMaxHeadDim = 1 << 12;
constexpr int64_t kMaxHeadsWidth = 1 << 20;
constexpr int64_t kMostTaps = 16;
constexpr int64_t kMaxIntermediate = 1 << 22;

GatedDeltaSpec
delta_spec (const JsonFields &config)
{
  GatedDeltaSpec delta;
  delta.key_heads = config.integer_or ("linear_num_key_heads", 1, kMaxHeads, 16);
  delta.value_heads = config.integer_or ("linear_num_value_heads", 1, kMaxHeads, 32);
  delta.key_dim = config.integer_or ("linear_key_head_dim", 1, kMaxHeadDim, 128);
  delta.value_dim = config.integer_or ("linear_value_head_dim", 1, kMaxHeadDim, 128);
  delta.taps = config.integer_or ("linear_conv_kernel_dim", 1, kMostTaps, 4);
  if (delta.value_heads % delta.key_heads != 0)
    config.fail ("linear_num_value_heads", std::to_string (delta.value_heads) +
                                               " is not a multiple of linear_num_key_heads, " +
                                               std::to_string (delta.key_heads) + "; correct the file");
  const auto check = [&] (const char *heads_key, int heads, int dim) {
    const int64_t width = static_cast<int64_t> (heads) * dim;
    if (width > kMaxHeadsWidth)
      config.fail (heads_key, "times the dimension of a head is " + std::to_string (width) +
                                  ", above the limit of " + std::to_string (kMaxHeadsWidth) +
                                  "; correct the file");
  };
  check ("linear_num_key_heads", delta.key_heads, delta.key_dim);
  check ("linear_num_value_heads", delta.value_heads, delta.value_dim);
  return delta;
}

GatedDeltaTensors
delta_tensors (const std::string &prefix, bool by_key_head)
{
  GatedDeltaTensors names;
  names.q = names.k = names.v = prefix + (by_key_head ? "in_proj_qkvz.weight" : "in_proj_qkv.weight");
  names.gate = prefix + (by_key_head ? "in_proj_qkvz.weight" : "in_proj_z.weight");
  names.beta = prefix + (by_key_head ? "in_proj_ba.weight" : "in_proj_b.weight");
  names.step = prefix + (by_key_head ? "in_proj_ba.weight" : "in_proj_a.weight");
  names.convolution = prefix + "conv1d.weight";
  names.a_log = prefix + "A_log";
  names.step_bias = prefix + "dt_bias";
  names.norm = prefix + "norm.weight";
  names.output = prefix + "out_proj.weight";
  return names;
}

/// Files of models that have experts in all layers need not say how wide a dense MLP is.
const char *
intermediate_key (const JsonFields &config)
{
  return config.has ("moe_intermediate_size") && !config.has ("intermediate_size") ? "moe_intermediate_size"
                                                                                   : "intermediate_size";
}

/// Experts in every decoder_sparse_step-th layer that is not one of mlp_only_layers.
void
set_experts (const JsonFields &config, const std::string &prefix, ArchitectureSpec &spec)
{
  MoeSpec moe = moe_spec (config, {}, spec);
  moe.routing.normalized = config.boolean_or ("norm_topk_prob", true);
  moe.shared.intermediate = config.integer ("shared_expert_intermediate_size", 1, kMaxIntermediate);
  moe.shared.activation = moe.activation;
  const int step = config.integer_or ("decoder_sparse_step", 1, INT32_MAX, 1);
  const auto dense = config.numbers ("mlp_only_layers", 0, INT32_MAX);
  for (size_t i = 0; i < spec.layers.size (); ++i) {
    if ((i + 1) % static_cast<size_t> (step) != 0 || std::ranges::count (dense, static_cast<double> (i)) > 0)
      continue;
    const std::string mlp = prefix + "layers." + std::to_string (i) + ".mlp.";
    moe.routing.router = mlp + "gate.weight";
    moe.tensors = separate_experts (mlp + "experts.");
    moe.shared.tensors.gate = mlp + "shared_expert.gate_proj.weight";
    moe.shared.tensors.up = mlp + "shared_expert.up_proj.weight";
    moe.shared.tensors.down = mlp + "shared_expert.down_proj.weight";
    moe.shared_gate = mlp + "shared_expert_gate.weight";
    spec.layers[i].channel = moe;
  }
}

ArchitectureSpec
hybrid_spec (const JsonFields &config, const std::string &prefix, bool by_key_head)
{
  const bool bias = config.boolean_or ("attention_bias", false);
  ArchitectureSpec spec = decoder_spec (config, {.qk_norm = QkNorm::kHead,
                                                 .qkv_bias = bias,
                                                 .output_bias = bias,
                                                 .kinds_of_layers = true,
                                                 .intermediate_key = intermediate_key (config),
                                                 .prefix = prefix,
                                                 .rope = {.partial = true, .default_partial = 0.25}});
  spec.norm_offset = 1;
  if (mlp_of (spec.layers.front ()).activation != Activation::kSilu)
    config.fail ("hidden_act", "must be silu for this family; correct the file");
  const bool gate = config.boolean_or ("attn_output_gate", true);
  const int interval = config.integer_or ("full_attention_interval", 1, INT32_MAX, 4);
  const std::vector<bool> linear = layers_of_kind (config, spec.layers.size (), "linear_attention",
                                                   [&] (int layer) { return (layer + 1) % interval != 0; });
  GatedDeltaSpec delta = delta_spec (config);
  delta.by_key_head = delta.steps_by_key_head = by_key_head;
  for (size_t i = 0; i < linear.size (); ++i) {
    if (linear[i]) {
      delta.tensors = delta_tensors (prefix + "layers." + std::to_string (i) + ".linear_attn.", by_key_head);
      spec.layers[i].mixer = delta;
    } else {
      attention_of (spec.layers[i]).output_gate = gate;
    }
  }
  return spec;
}

ArchitectureSpec
load_qwen3_5_text (const JsonFields &config, const std::string &prefix)
{
  return hybrid_spec (config, prefix, false);
}

ArchitectureSpec
load_qwen3_5_moe_text (const JsonFields &config, const std::string &prefix)
{
  ArchitectureSpec spec = hybrid_spec (config, prefix, false);
  set_experts (config, prefix, spec);
  return spec;
}

} // namespace

ArchitectureSpec
load_qwen3_5 (const JsonFields &config)
{
  return load_qwen3_5_text (config, "model.");
}

ArchitectureSpec
load_qwen3_5_wrapper (const JsonFields &config)
{
  return wrapped_spec (config, {"model.language_model.", "language_model.model."}, load_qwen3_5_text);
}

ArchitectureSpec
load_qwen3_5_moe (const JsonFields &config)
{
  return load_qwen3_5_moe_text (config, "model.");
}

ArchitectureSpec
load_qwen3_5_moe_wrapper (const JsonFields &config)
{
  return wrapped_spec (config, {"model.language_model.", "language_model.model."}, load_qwen3_5_moe_text);
}

ArchitectureSpec
load_qwen3_next (const JsonFields &config)
{
  ArchitectureSpec spec = hybrid_spec (config, "model.", true);
  if (config.integer_or ("num_experts", 0, INT32_MAX, 0) > 0)
    set_experts (config, "model.", spec);
  return spec;
}

} // namespace millrace
