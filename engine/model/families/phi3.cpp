// Phi-3, Phi-3.5, Phi-4 and Phi-4-mini: llama's layer with one tensor for q, k and v and one for gate and up; some rotate a part of
// each head only, and by other angles in long sequences (LongRoPE).
//
// Source: Phi-3, arXiv 2404.14219; LongRoPE, arXiv 2402.13753; key names: transformers' Phi3Config.
#include "engine/model/families/decoder_fields.hpp"
#include "engine/model/families/families.hpp"

namespace millrace
{

ArchitectureSpec
load_phi3 (const JsonFields &config)
{
  ArchitectureSpec spec =
      decoder_spec (config, {.fused = true, .kinds_of_layers = true, .rope = {.partial = true}});
  const bool slides = config.has ("sliding_window");
  set_windows (config, sliding_layers (config, spec.layers.size (), [&] (int) { return slides; }), spec);
  return spec;
}

} // namespace millrace
