// The model families that can be opened, and what they are made from.
//
// Private to engine/model. A family is one file with one function, config.json → ArchitectureSpec, and one
// line in the table in families.cpp. What families have in common is in decoder_fields.hpp.
#pragma once

#include "engine/model/architecture_spec.hpp"
#include "engine/model/json_fields.hpp"

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace millrace
{

struct Family {
  std::string_view model_type; ///< as in config.json
  ArchitectureSpec (*load) (const JsonFields &config);
  bool wrapper = false; ///< of several modalities: the text model is in text_config
};

std::span<const Family> families ();

/// By the family that model_type names; LoadError when there is none of that name, and when text_config is there or not
/// there against what that family expects.
ArchitectureSpec load_family (const JsonFields &config);
std::string supported_families (); ///< "llama, qwen3"

/// The text model in a wrapper: `load` of its text_config, with the first of `prefixes` for names of tensors and the others
/// as ArchitectureSpec::tensor_prefixes. What text_config does not say of tied head and end of text, the wrapper does.
ArchitectureSpec wrapped_spec (const JsonFields &config, std::vector<std::string> prefixes,
                               ArchitectureSpec (*load) (const JsonFields &text, const std::string &prefix));

ArchitectureSpec load_deepseek_v2 (const JsonFields &config);
ArchitectureSpec load_deepseek_v3 (const JsonFields &config);
ArchitectureSpec load_gemma2 (const JsonFields &config);
ArchitectureSpec load_gemma3 (const JsonFields &config);
ArchitectureSpec load_gemma3_wrapper (const JsonFields &config);
ArchitectureSpec load_gemma4 (const JsonFields &config);
ArchitectureSpec load_gemma4_wrapper (const JsonFields &config);
ArchitectureSpec load_glm4_moe (const JsonFields &config);
ArchitectureSpec load_gpt_oss (const JsonFields &config);
ArchitectureSpec load_granite (const JsonFields &config);
ArchitectureSpec load_llama (const JsonFields &config);
ArchitectureSpec load_mistral (const JsonFields &config);
ArchitectureSpec load_nemotron_h (const JsonFields &config);
ArchitectureSpec load_olmo2 (const JsonFields &config);
ArchitectureSpec load_olmo3 (const JsonFields &config);
ArchitectureSpec load_phi3 (const JsonFields &config);
ArchitectureSpec load_qwen2 (const JsonFields &config);
ArchitectureSpec load_qwen3 (const JsonFields &config);
ArchitectureSpec load_qwen3_moe (const JsonFields &config);
ArchitectureSpec load_qwen3_5 (const JsonFields &config);
ArchitectureSpec load_qwen3_5_wrapper (const JsonFields &config);
ArchitectureSpec load_qwen3_5_moe (const JsonFields &config);
ArchitectureSpec load_qwen3_5_moe_wrapper (const JsonFields &config);
ArchitectureSpec load_qwen3_next (const JsonFields &config);
ArchitectureSpec load_smollm3 (const JsonFields &config);

} // namespace millrace
