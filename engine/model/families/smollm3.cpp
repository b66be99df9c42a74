// SmolLM3: llama's layer; every so many layers do not embed positions (NoPE).
//
// Source: https://huggingface.co/blog/smollm3; NoPE: arXiv 2305.19466; key names: transformers' SmolLM3Config.
#include "engine/model/families/decoder_fields.hpp"
#include "engine/model/families/families.hpp"

namespace millrace
{

namespace
{

/// no_rope_layers has 1 where positions are embedded.
std::vector<bool>
rotated_layers (const JsonFields &config, size_t layers)
{
  std::vector<bool> rotated;
  if (!config.has ("no_rope_layers")) {
    const auto interval = static_cast<size_t> (config.integer_or ("no_rope_layer_interval", 1, INT32_MAX, 4));
    for (size_t i = 0; i < layers; ++i)
      rotated.push_back ((i + 1) % interval != 0);
    return rotated;
  }
  for (const double flag : config.numbers ("no_rope_layers", 0, 1))
    rotated.push_back (flag != 0);
  if (rotated.size () < layers)
    config.fail ("no_rope_layers", "has " + std::to_string (rotated.size ()) +
                                       " entries for num_hidden_layers " + std::to_string (layers) +
                                       "; correct the file");
  return rotated;
}

} // namespace

ArchitectureSpec
load_smollm3 (const JsonFields &config)
{
  const bool bias = config.boolean_or ("attention_bias", false);
  ArchitectureSpec spec = decoder_spec (config, {.qkv_bias = bias,
                                                 .output_bias = bias,
                                                 .mlp_bias = config.boolean_or ("mlp_bias", false),
                                                 .tied_by_default = true,
                                                 .kinds_of_layers = true,
                                                 .rope = {.default_theta = 2e6}});
  const std::vector<bool> rotated = rotated_layers (config, spec.layers.size ());
  for (size_t i = 0; i < spec.layers.size (); ++i) {
    if (!rotated[i])
      attention_of (spec.layers[i]).rope = {};
  }
  const bool slides = config.boolean_or ("use_sliding_window", false) && config.has ("sliding_window");
  const auto sliding = sliding_layers (config, spec.layers.size (), [&] (int layer) {
    return slides && !rotated[static_cast<size_t> (layer)];
  });
  if (slides)
    set_windows (config, sliding, spec);
  return spec;
}

} // namespace millrace
