// Runs the suite: rows of (prompt, streams), each with every mode by turns.
//
// Replay. A second model's time is measured while it is made to say the first one's answers (Job::script): drafters and
// controller see real text, and the costs are those of the second model, whose own words, with random weights, would be
// nonsense. What it computes is all there; its logits are edited before the sampler reads them as it does any others.
#pragma once

#include "bench/sim_random.hpp"
#include "bench/speculation/ceiling.hpp"
#include "bench/speculation/options.hpp"
#include "bench/speculation/paired.hpp"
#include "bench/speculation/prompts.hpp"

#include <cstdint>
#include <memory>
#include <vector>

namespace millrace::bench
{

struct ModeResult {
  const Mode *mode = nullptr;
  std::vector<double> rates;       ///< RunResult::speed () of each repetition, as RowResult::direct_rates
  std::vector<double> throughputs; ///< as RowResult::direct_throughputs
  RunResult last;                  ///< of the last repetition
  AcceptTrace trace;               ///< one stream only
  double ceiling = 0;              ///< of trace; NaN: not known
  double by_costs = 0;             ///< speed_up_by_costs () of last; NaN: not known
};

struct RowResult {
  const Prompt *prompt = nullptr;
  int streams = 1;
  std::vector<double> direct_rates, direct_throughputs;
  RunResult direct;
  StepCosts costs; ///< one stream only: of this prompt's steps, at the same time
  std::vector<ModeResult> modes;

  /// Against decoding without drafts.
  Paired ratio (const ModeResult &mode) const { return paired_ratio (mode.rates, direct_rates); }
  /// The same until the last stream has ended: of several that end one after the other, the fewer are left the less a step does.
  Paired throughput_ratio (const ModeResult &mode) const
  {
    return paired_ratio (mode.throughputs, direct_throughputs);
  }
  /// Of the stream that the last repetition did the least for.
  double slowest_ratio (const ModeResult &mode) const;
  int64_t tokens () const; ///< of all answers
  /// Share of the answers' tokens that end 8 tokens which the same answer had before: high when the model loops.
  double repeats () const;
};

class Suite
{
public:
  explicit Suite (const SpecOptions &options);

  /// So that controllers know what steps cost, and draft models have had their trial at each temperature, before anything is
  /// measured: what a process learns once.
  void warm_up ();
  /// All streams of a prompt; the answers.
  std::vector<std::vector<TokenId>> answers (size_t prompt, int streams);
  RowResult measure (size_t prompt, int streams);

  const std::vector<Prompt> &prompts () const { return prompts_; }
  const Model &model () const { return *model_; }    ///< that says what is said
  const Model &timed () const { return *timed_; }    ///< whose time is measured: the same, but for replays
  const StepCosts &costs () const { return costs_; } ///< after warm_up ()
  int differing () const { return differing_; }      ///< runs whose answers were not those without drafts

private:
  struct Group {
    std::vector<Job> jobs;
    std::vector<std::vector<TokenId>> scripts;
  };
  void group (size_t prompt, int streams, Group &group);
  void find_costs ();
  void repeat (const Group &group, RowResult &row, CostSamples *costs);
  void compare (const Lane &lane, const RowResult &row, const RunResult &result);

  SpecOptions options_;
  std::shared_ptr<const Model> model_, draft_model_, timed_;
  std::vector<Prompt> prompts_;
  std::unique_ptr<Lane> author_; ///< of replayed answers
  std::unique_ptr<Lane> direct_, cost_lane_;
  std::vector<std::unique_ptr<Lane>> lanes_, trace_lanes_; ///< of each mode
  StepCosts costs_;
  sim::Random order_{1}; ///< of turns
  int differing_ = 0;
};

} // namespace millrace::bench
