// Llama: the plain decoder. Also the family of the many checkpoints that say model_type "llama".
//
// Source: Llama 2, arXiv 2307.09288, and Llama 3, arXiv 2407.21783; key names: transformers' LlamaConfig.
#include "engine/model/families/decoder_fields.hpp"
#include "engine/model/families/families.hpp"

namespace millrace
{

ArchitectureSpec
load_llama (const JsonFields &config)
{
  const bool bias = config.boolean_or ("attention_bias", false);
  return decoder_spec (
      config, {.qkv_bias = bias, .output_bias = bias, .mlp_bias = config.boolean_or ("mlp_bias", false)});
}

} // namespace millrace
