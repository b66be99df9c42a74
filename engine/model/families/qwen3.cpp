// Qwen3 (dense): llama's layer with an RMSNorm over each head of q and k.
//
// Source: Qwen3, arXiv 2505.09388; key names: transformers' Qwen3Config.
#include "engine/model/families/decoder_fields.hpp"
#include "engine/model/families/families.hpp"

namespace millrace
{

ArchitectureSpec
load_qwen3 (const JsonFields &config)
{
  const bool bias = config.boolean_or ("attention_bias", false);
  ArchitectureSpec spec = decoder_spec (
      config, {.qk_norm = QkNorm::kHead, .qkv_bias = bias, .output_bias = bias, .kinds_of_layers = true});
  set_optional_windows (config, spec);
  return spec;
}

} // namespace millrace
