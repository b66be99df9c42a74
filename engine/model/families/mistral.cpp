// Mistral: llama's layer, in the first models with a window in all layers.
//
// Source: Mistral 7B, arXiv 2310.06825; key names: transformers' MistralConfig.
#include "engine/model/families/decoder_fields.hpp"
#include "engine/model/families/families.hpp"

namespace millrace
{

ArchitectureSpec
load_mistral (const JsonFields &config)
{
  ArchitectureSpec spec = decoder_spec (config, {.kinds_of_layers = true});
  const bool slides = config.has ("sliding_window");
  set_windows (config, sliding_layers (config, spec.layers.size (), [&] (int) { return slides; }), spec);
  return spec;
}

} // namespace millrace
