// OLMo 2 and OLMo 3: norms after each sub-layer instead of before it, and of all heads of q and k together. In OLMo 3 three of
// four layers see a window only, and only the others' RoPE is scaled.
//
// Source: OLMo 2, arXiv 2501.00656; key names: transformers' Olmo2Config, Olmo3Config.
#include "engine/model/families/decoder_fields.hpp"
#include "engine/model/families/families.hpp"

namespace millrace
{

namespace
{

DecoderTraits
olmo_traits (const JsonFields &config)
{
  const bool bias = config.boolean_or ("attention_bias", false);
  return {
      .norms = DecoderTraits::Norms::kPost, .qk_norm = QkNorm::kWhole, .qkv_bias = bias, .output_bias = bias};
}

} // namespace

ArchitectureSpec
load_olmo2 (const JsonFields &config)
{
  return decoder_spec (config, olmo_traits (config));
}

ArchitectureSpec
load_olmo3 (const JsonFields &config)
{
  DecoderTraits traits = olmo_traits (config);
  traits.kinds_of_layers = true;
  traits.rope = {.layer_type = "full_attention", .default_theta = 5e5};
  ArchitectureSpec spec = decoder_spec (config, traits);
  const auto sliding =
      sliding_layers (config, spec.layers.size (), [] (int layer) { return (layer + 1) % 4 != 0; });
  set_windows (config, sliding, spec);
  for (size_t i = 0; i < sliding.size (); ++i) {
    AttentionSpec &attention = attention_of (spec.layers[i]);
    if (sliding[i])
      attention.rope = rope_spec (config, attention.head_dim, spec.max_positions,
                                  {.layer_type = "sliding_attention", .default_theta = 5e5, .scaled = false});
  }
  return spec;
}

} // namespace millrace
