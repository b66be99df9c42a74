// Qwen2 and Qwen2.5 (dense): llama's layer with biases on q, k and v.
//
// Source: Qwen2, arXiv 2407.10671; key names: transformers' Qwen2Config.
#include "engine/model/families/decoder_fields.hpp"
#include "engine/model/families/families.hpp"

namespace millrace
{

ArchitectureSpec
load_qwen2 (const JsonFields &config)
{
  ArchitectureSpec spec = decoder_spec (config, {.qkv_bias = true, .kinds_of_layers = true});
  set_optional_windows (config, spec);
  return spec;
}

} // namespace millrace
