// Small random checkpoints of every family whose rows are long enough for every type of weights.
#pragma once

#include "tests/family_configs.hpp"
#include "tests/random_checkpoint.hpp"

#include <filesystem>
#include <regex>
#include <string>

namespace millrace::testing
{

/// As family_config (), with rows of 256 wherever a matrix is as wide as a configuration says.
inline std::string
wide_family_config (const std::string &name)
{
  std::string config = family_config (name);
  const auto set = [&] (const char *key, const char *value) {
    config = std::regex_replace (config, std::regex ("\"" + std::string (key) + "\": *[0-9.]+"),
                                 "\"" + std::string (key) + "\": " + value);
  };
  set ("hidden_size", "256");
  set ("num_attention_heads", "8");
  set ("head_dim", "32");
  set ("global_head_dim", "64");
  set ("intermediate_size", "512");
  set ("moe_intermediate_size", "256");
  set ("shared_expert_intermediate_size", "256");
  set ("moe_shared_expert_intermediate_size", "256");
  set ("q_lora_rank", "256");
  set ("kv_lora_rank", "256");
  set ("qk_nope_head_dim", "32");
  set ("v_head_dim", "32");
  set ("hidden_size_per_layer_input", name.find (',') == std::string::npos ? "256" : "0");
  set ("num_global_key_value_heads", "4");
  set ("linear_num_value_heads", "4");
  set ("linear_value_head_dim", "64");
  set ("mamba_num_heads", "8");
  set ("mamba_head_dim", "64");
  set ("n_groups", "2");
  // Of heads of 32: pairs, and for phi3 as many as it has factors of long texts.
  set ("partial_rotary_factor", name == "phi3" ? "0.25" : "0.5");
  return config;
}

} // namespace millrace::testing
