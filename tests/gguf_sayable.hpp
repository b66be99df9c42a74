// Models whose configuration says what GGUF files have no key for.
#pragma once

#include "engine/model/config.hpp"
#include "tests/synthetic_model.hpp"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <string>

namespace millrace::testing
{

/// The folder, or where it scales scores by something that GGUF files do not say, one in `other` that scales them by the size of
/// heads.
inline std::filesystem::path
sayable (const std::filesystem::path &folder, const std::filesystem::path &other)
{
  std::ifstream stream (folder / "config.json");
  std::string config{std::istreambuf_iterator<char> (stream), {}};
  static const std::regex kScalar ("\"query_pre_attn_scalar\": *[0-9]+");
  const ArchitectureSpec spec = load_architecture (folder / "config.json");
  const auto *attention = std::get_if<AttentionSpec> (&spec.layers[0].mixer);
  if (!attention || !std::regex_search (config, kScalar))
    return folder;
  config = std::regex_replace (config, kScalar,
                               "\"query_pre_attn_scalar\": " + std::to_string (attention->head_dim));
  write_file (other / "config.json", config);
  std::filesystem::create_symlink (std::filesystem::absolute (folder / "model.safetensors"),
                                   other / "model.safetensors");
  return other;
}

} // namespace millrace::testing
