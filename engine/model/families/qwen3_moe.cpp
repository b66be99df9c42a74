// Qwen3 with experts: Qwen3's attention; in most layers a mixture of experts in place of the MLP.
//
// Source: Qwen3, arXiv 2505.09388; key names: transformers' Qwen3MoeConfig.
#include "engine/model/families/decoder_fields.hpp"
#include "engine/model/families/families.hpp"
#include "engine/model/families/moe_fields.hpp"

#include <algorithm>

namespace millrace
{

ArchitectureSpec
load_qwen3_moe (const JsonFields &config)
{
  const bool bias = config.boolean_or ("attention_bias", false);
  ArchitectureSpec spec = decoder_spec (
      config, {.qk_norm = QkNorm::kHead, .qkv_bias = bias, .output_bias = bias, .kinds_of_layers = true});
  // In all layers or none: the reference has no max_window_layers here.
  const bool slides = config.boolean_or ("use_sliding_window", false) && config.has ("sliding_window");
  set_windows (config, sliding_layers (config, spec.layers.size (), [&] (int) { return slides; }), spec);
  MoeSpec moe = moe_spec (config, {}, spec);
  moe.routing.normalized = config.boolean_or ("norm_topk_prob", false);
  const int step = config.integer_or ("decoder_sparse_step", 1, INT32_MAX, 1);
  const auto dense = config.numbers ("mlp_only_layers", 0, INT32_MAX);
  for (size_t i = 0; i < spec.layers.size (); ++i) {
    if ((i + 1) % static_cast<size_t> (step) != 0 || std::ranges::count (dense, static_cast<double> (i)) > 0)
      continue;
    const std::string prefix = "model.layers." + std::to_string (i) + ".mlp.";
    moe.routing.router = prefix + "gate.weight";
    moe.tensors = separate_experts (prefix + "experts.");
    spec.layers[i].channel = moe;
  }
  return spec;
}

} // namespace millrace
