// gpt-oss: windows in every second layer, attention sinks, YaRN; experts whose tensors are transposed and have biases, with a
// clamped gate.
//
// Source: gpt-oss model card, arXiv 2508.10925; key names: transformers' GptOssConfig.
#include "engine/model/families/decoder_fields.hpp"
#include "engine/model/families/families.hpp"
#include "engine/model/families/moe_fields.hpp"

namespace millrace
{

namespace
{

constexpr double kSlope = 1.702; ///< of the gate's sigmoid; files do not say it

} // namespace

ArchitectureSpec
load_gpt_oss (const JsonFields &config)
{
  const bool bias = config.boolean_or ("attention_bias", true);
  ArchitectureSpec spec = decoder_spec (
      config,
      {.qkv_bias = bias, .output_bias = bias, .kinds_of_layers = true, .rope = {.default_theta = 150000}});
  set_windows (config,
               sliding_layers (config, spec.layers.size (), [] (int layer) { return layer % 2 == 0; }), spec);
  MoeSpec moe = moe_spec (
      config, {.experts_keys = {"num_local_experts", "num_experts"}, .intermediate_key = "intermediate_size"},
      spec);
  moe.limit = config.number_or ("swiglu_limit", 1e-3, 1e6, 7);
  moe.slope = kSlope;
  moe.up_offset = 1;
  for (size_t i = 0; i < spec.layers.size (); ++i) {
    const std::string layer = "model.layers." + std::to_string (i) + ".", prefix = layer + "mlp.";
    attention_of (spec.layers[i]).tensors.sinks = layer + "self_attn.sinks";
    moe.routing.router = prefix + "router.weight";
    moe.routing.router_bias = prefix + "router.bias";
    moe.tensors.layout = ExpertTensors::Layout::kTransposed;
    moe.tensors.gate = moe.tensors.up = prefix + "experts.gate_up_proj";
    moe.tensors.gate_bias = moe.tensors.up_bias = prefix + "experts.gate_up_proj_bias";
    moe.tensors.down = prefix + "experts.down_proj";
    moe.tensors.down_bias = prefix + "experts.down_proj_bias";
    spec.layers[i].channel = moe;
  }
  return spec;
}

} // namespace millrace
