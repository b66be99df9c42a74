// What the command line of llm-bench says. Flags are those of llama-bench where they mean the same.
#pragma once

#include "engine/backend/backend.hpp"

#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace millrace::bench
{

struct Options {
  std::filesystem::path model;
  std::filesystem::path peer_model; ///< empty: the same
  std::vector<int> prompts{512}, generations{128}, depths{0}, streams{1};
  std::vector<int> threads; ///< empty: usable_cores ()
  std::vector<KvType> kv_types{KvType::kF16};
  WeightFormat weights = WeightFormat::kAuto;
  int pass_tokens = 512;
  int repetitions = 5;
  bool json = false;
  bool roofs_only = false, without_roofs = false, budget = false;
  std::vector<std::string> peers; ///< shell commands that llama-bench's flags are appended to
  std::string peer_arguments;
};

constexpr int kMaxStreams = 16;

/// Throws std::invalid_argument.
Options parse_options (std::span<char *const> arguments);
void print_help ();

} // namespace millrace::bench
