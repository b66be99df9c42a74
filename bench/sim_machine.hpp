// The machine that scheduler_sim imagines: how long a step takes, and a model that computes nothing.
//
// Virtual time is one number of the process: a scheduler's clock is a plain function. One thread.
#pragma once

#include "bench/sim_random.hpp"

#include "engine/model/model.hpp"
#include "engine/scheduling/cost_model.hpp"

#include <cstdint>
#include <memory>
#include <string_view>

namespace millrace::sim
{

constexpr int kVocab = 151'936;
constexpr int kMaxPositions = 40'960;

inline int64_t now_us = 0;
inline int64_t
virtual_clock ()
{
  return now_us;
}

/// A step is one pass over the prompts' chunks and one over the pending tokens, as prefill () and verify () do, or
/// one over both, as verify () does with chunks that were deferred to it. A pass reads all weights (pass_ms), each
/// token computes (…token_ms), and attention reads the positions before it.
struct Machine {
  // 0.6 B parameters in bf16 on 2 cores: 60 ms for a single token, 6 ms for each further one, 7 ms for a prompt's.
  double pass_ms = 54;
  bool one_pass = false; ///< chunks and pending tokens together
  double scored_token_ms = 6;
  double prefill_token_ms = 7;
  double scored_attention_ms = 6;    ///< for each 1024 positions read by one token: bound by memory
  double prefill_attention_ms = 1.4; ///< the same for a prompt's token: bound by arithmetic
  double noise = 0.03;               ///< standard deviation, relative
  double hiccup_rate = 0.0005;       ///< of steps; such a one takes 3 to 10 times as long
  int kv_tokens = 131'072;
  double ttft_target_ms = 10'000; ///< of goodput
  double itl_target_ms = 500;

  /// "cpu" or "fast"; anything else throws std::invalid_argument.
  static Machine named (std::string_view name);

  double step_ms (const StepWork &work) const;
  double noisy_step_ms (const StepWork &work, Random &random) const;
  /// A request by itself: `computed` prompt tokens after `cached` ones, in chunks, then its answer.
  double alone_ms (int cached, int computed, int answer) const;
  /// What a request adds to a machine that always has `batch` requests to share passes.
  double share_ms (int cached, int computed, int answer, double batch) const;
};

} // namespace millrace::sim
