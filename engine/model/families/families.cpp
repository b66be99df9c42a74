// The table of families.
#include "engine/model/families/families.hpp"

#include <array>

namespace millrace
{

std::span<const Family>
families ()
{
  // clang-format off: a family is a line
  static constexpr std::array kFamilies{
      Family{"deepseek_v2", load_deepseek_v2},
      Family{"deepseek_v3", load_deepseek_v3},
      Family{"gemma2", load_gemma2},
      Family{"gemma3", load_gemma3_wrapper, true},
      Family{"gemma3_text", load_gemma3},
      Family{"gemma4", load_gemma4_wrapper, true},
      Family{"gemma4_text", load_gemma4},
      Family{"glm4_moe", load_glm4_moe},
      Family{"glm4_moe_lite", load_deepseek_v3},
      Family{"gpt_oss", load_gpt_oss},
      Family{"granite", load_granite},
      Family{"llama", load_llama},
      Family{"mistral", load_mistral},
      Family{"nemotron_h", load_nemotron_h},
      Family{"olmo2", load_olmo2},
      Family{"olmo3", load_olmo3},
      Family{"phi3", load_phi3},
      Family{"qwen2", load_qwen2},
      Family{"qwen3", load_qwen3},
      Family{"qwen3_5", load_qwen3_5_wrapper, true},
      Family{"qwen3_5_moe", load_qwen3_5_moe_wrapper, true},
      Family{"qwen3_5_moe_text", load_qwen3_5_moe},
      Family{"qwen3_5_text", load_qwen3_5},
      Family{"qwen3_moe", load_qwen3_moe},
      Family{"qwen3_next", load_qwen3_next},
      Family{"smollm3", load_smollm3},
  };
  // clang-format on
  return kFamilies;
}

std::string
supported_families ()
{
  std::string names;
  for (const Family &family : families ())
    names += (names.empty () ? "" : ", ") + std::string (family.model_type);
  return names;
}

ArchitectureSpec
load_family (const JsonFields &config)
{
  const std::string model_type = config.text ("model_type");
  for (const Family &family : families ()) {
    if (family.model_type != model_type)
      continue;
    if (!family.wrapper && config.has ("text_config"))
      config.fail ("text_config",
                   "multimodal checkpoints of this model_type are not supported; use a text-only "
                   "checkpoint of one of: " +
                       supported_families ());
    return family.load (config);
  }
  config.fail ("model_type", "\"" + model_type.substr (0, 80) + "\" is not supported; supported are " +
                                 supported_families ());
}

ArchitectureSpec
wrapped_spec (const JsonFields &config, std::vector<std::string> prefixes,
              ArchitectureSpec (*load) (const JsonFields &text, const std::string &prefix))
{
  const auto text = config.object ("text_config");
  if (!text)
    config.fail ("text_config", "is missing; correct the file or fetch it again");
  ArchitectureSpec spec = load (*text, prefixes.front ());
  if (!text->has ("tie_word_embeddings") && config.has ("tie_word_embeddings")) {
    spec.tied_head = config.boolean_or ("tie_word_embeddings", false);
    spec.head_tensor = spec.tied_head ? spec.embedding_tensor : "lm_head.weight";
  }
  if (spec.eos_token_ids.empty ())
    spec.eos_token_ids = config.token_ids ("eos_token_id", spec.vocab);
  spec.tensor_prefixes = std::move (prefixes);
  return spec;
}

} // namespace millrace
