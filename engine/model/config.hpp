// config.json → ArchitectureSpec, generation_config.json → defaults of generation.
//
// Takes both the keys that transformers 5 writes (rope_parameters, dtype) and the older ones of most
// published checkpoints (rope_theta, rope_scaling, torch_dtype). Every value is range-checked before it is
// used for arithmetic or allocation; a missing, mistyped or absurd one is a LoadError naming file and field.
#pragma once

#include "engine/model/architecture_spec.hpp"

#include <filesystem>
#include <optional>
#include <string_view>
#include <vector>

namespace millrace
{

/// Throws LoadError.
ArchitectureSpec load_architecture (const std::filesystem::path &config_json);

struct GenerationConfig {
  std::vector<int32_t> eos_token_ids; ///< empty: the file names none
  std::optional<double> temperature, top_p, min_p, repetition_penalty;
  std::optional<int> top_k;
  bool do_sample = false;
};

/// An absent file gives an empty GenerationConfig. Throws LoadError when it is there and wrong.
GenerationConfig load_generation_config (const std::filesystem::path &generation_config_json);

} // namespace millrace
