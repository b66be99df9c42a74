// Qwen3 (dense): llama's layer with an RMSNorm over each head of q and k.
//
// Sliding-window attention, which some configurations name and few switch on, is refused when it is on.
// Source: Qwen3, arXiv 2505.09388; key names: transformers' Qwen3Config.
#include "engine/model/families/decoder_fields.hpp"
#include "engine/model/families/families.hpp"

#include <cstdint>

namespace millrace
{

namespace
{

/// Without layer_types, layers from max_window_layers on slide.
bool
slides (const JsonFields &config)
{
  if (!config.boolean_or ("use_sliding_window", false) || !config.has ("sliding_window"))
    return false;
  if (config.has ("layer_types"))
    return false; // says itself which layers slide, and require_full_attention () looks at it
  return config.integer ("num_hidden_layers", 1, INT32_MAX) >
         config.integer_or ("max_window_layers", 0, INT32_MAX, 28);
}

} // namespace

ArchitectureSpec
load_qwen3 (const JsonFields &config)
{
  if (slides (config))
    config.fail ("use_sliding_window", "sliding-window attention is not supported; set it to false for "
                                       "contexts within sliding_window");
  return decoder_spec (config,
                       {.qk_norm = true, .attention_bias = config.boolean_or ("attention_bias", false)});
}

} // namespace millrace
