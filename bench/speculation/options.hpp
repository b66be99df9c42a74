// What the command line of llm-spec-bench says. Flags are llm-bench's where they mean the same.
#pragma once

#include "bench/speculation/modes.hpp"
#include "bench/speculation/simulated_time.hpp"
#include "engine/backend/backend.hpp"

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace millrace::bench
{

struct SpecOptions {
  std::filesystem::path model, draft_model; ///< draft_model empty: modes without one
  std::filesystem::path replay_costs; ///< a model whose costs the answers are replayed with; empty: none
  std::optional<PassTime> model_time, draft_model_time; ///< simulated; none: by the clock
  std::filesystem::path prompts;
  std::vector<std::string> filters; ///< of categories; empty: all
  std::vector<int> streams{1, 4, 8};
  std::vector<const Mode *> modes; ///< without "direct", which always runs
  int threads = 0;                 ///< 0: usable_cores ()
  int tokens = 256;                ///< of an answer, at most
  int repetitions = 5;
  int cost_samples = 24;   ///< steps for each number of scored tokens
  int most_prompts = 1000; ///< of each category
  WeightFormat weights = WeightFormat::kAuto;
  KvType kv_type = KvType::kF32;
  bool json = false;
  bool show = false; ///< print answers instead of measuring
};

/// Throws std::invalid_argument.
SpecOptions parse_spec_options (std::span<char *const> arguments);
void print_spec_help ();

} // namespace millrace::bench
