// Gemma 2 and Gemma 3: norms before and after each sub-layer with weights around 0, scaled embeddings, tied head, windows in
// most layers. Gemma 2 caps scores and logits; Gemma 3 norms q and k and has a RoPE of its own in layers with a window.
//
// Source: Gemma 2, arXiv 2408.00118; Gemma 3, arXiv 2503.19786; key names: transformers' Gemma2Config, Gemma3TextConfig.
#include "engine/model/families/decoder_fields.hpp"
#include "engine/model/families/families.hpp"

#include <cmath>

namespace millrace
{

namespace
{

constexpr double kSlidingTheta = 10000;

ArchitectureSpec
gemma_spec (const JsonFields &config, DecoderTraits traits)
{
  if (config.boolean_or ("use_bidirectional_attention", false))
    config.fail ("use_bidirectional_attention",
                 "is true: models that do not generate are not supported; use another model");
  const bool bias = config.boolean_or ("attention_bias", false);
  traits.norms = DecoderTraits::Norms::kBoth;
  traits.qkv_bias = traits.output_bias = bias;
  traits.tied_by_default = traits.kinds_of_layers = true;
  traits.activation_key = "hidden_activation";
  traits.default_activation = "gelu_pytorch_tanh";
  ArchitectureSpec spec = decoder_spec (config, traits);
  spec.norm_offset = 1;
  spec.embedding_scale = std::sqrt (static_cast<double> (spec.hidden));
  const double scale = 1 / std::sqrt (config.number_or ("query_pre_attn_scalar", 1e-3, 1e6, 256));
  for (LayerSpec &layer : spec.layers)
    attention_of (layer).scale = scale;
  return spec;
}

} // namespace

ArchitectureSpec
load_gemma2 (const JsonFields &config)
{
  ArchitectureSpec spec = gemma_spec (config, {});
  const double cap = softcap_or (config, "attn_logit_softcapping", 50);
  for (LayerSpec &layer : spec.layers)
    attention_of (layer).softcap = cap;
  spec.logit_softcap = softcap_or (config, "final_logit_softcapping", 30);
  set_windows (config,
               sliding_layers (config, spec.layers.size (), [] (int layer) { return layer % 2 == 0; }), spec);
  return spec;
}

ArchitectureSpec
load_gemma3_text (const JsonFields &config, const std::string &prefix)
{
  ArchitectureSpec spec =
      gemma_spec (config, {.qk_norm = QkNorm::kHead,
                           .prefix = prefix,
                           .rope = {.layer_type = "full_attention", .default_theta = 1e6}});
  spec.logit_softcap = softcap_or (config, "final_logit_softcapping", 0);
  const char *pattern_key =
      config.has ("sliding_window_pattern") ? "sliding_window_pattern" : "_sliding_window_pattern";
  const int pattern = config.integer_or (pattern_key, 1, INT32_MAX, 6);
  const auto sliding =
      sliding_layers (config, spec.layers.size (), [&] (int layer) { return (layer + 1) % pattern != 0; });
  set_windows (config, sliding, spec);
  for (size_t i = 0; i < sliding.size (); ++i) {
    AttentionSpec &attention = attention_of (spec.layers[i]);
    if (sliding[i])
      attention.rope = rope_spec (config, attention.head_dim, spec.max_positions,
                                  {.layer_type = "sliding_attention",
                                   .theta_key = "rope_local_base_freq",
                                   .default_theta = kSlidingTheta,
                                   .scaled = false});
  }
  return spec;
}

ArchitectureSpec
load_gemma3 (const JsonFields &config)
{
  return load_gemma3_text (config, "model.");
}

ArchitectureSpec
load_gemma3_wrapper (const JsonFields &config)
{
  return wrapped_spec (config, {"language_model.model.", "model.language_model."}, load_gemma3_text);
}

} // namespace millrace
