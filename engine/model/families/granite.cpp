// Granite (dense): llama's layer with a factor on embeddings, on attention, on what each sub-layer adds, and on logits.
//
// Source: Granite 3.0 (https://github.com/ibm-granite/granite-3.0-language-models); key names: transformers' GraniteConfig.
#include "engine/model/families/decoder_fields.hpp"
#include "engine/model/families/families.hpp"

namespace millrace
{

ArchitectureSpec
load_granite (const JsonFields &config)
{
  constexpr double kLeast = 1e-9, kMost = 1e9;
  const bool bias = config.boolean_or ("attention_bias", false);
  ArchitectureSpec spec = decoder_spec (
      config, {.qkv_bias = bias, .output_bias = bias, .mlp_bias = config.boolean_or ("mlp_bias", false)});
  spec.embedding_scale = config.number_or ("embedding_multiplier", kLeast, kMost, 1);
  spec.residual_multiplier = config.number_or ("residual_multiplier", kLeast, kMost, 1);
  spec.logit_scale = 1 / config.number_or ("logits_scaling", kLeast, kMost, 1);
  for (LayerSpec &layer : spec.layers)
    attention_of (layer).scale = config.number_or ("attention_multiplier", kLeast, kMost, 1);
  return spec;
}

} // namespace millrace
