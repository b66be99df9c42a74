// One way of decoding, kept for the whole suite as a server would keep it: a scheduler with its cache and its draft
// controller, drafters, a sampler. What the controller learns in one run it knows in the next.
//
// Turns are those of the pipeline: plan, prefill, drafters, choose, verify, sample, commit. One thread.
#pragma once

#include "bench/speculation/modes.hpp"
#include "engine/scheduling/scheduler.hpp"

#include <functional>
#include <memory>
#include <span>
#include <vector>

namespace millrace::bench
{

/// One stream of a run.
struct Job {
  std::span<const TokenId> prompt;
  SamplingParams sampling;
  /// Not null: what to say, whatever the model says; its logits are edited before the sampler sees them.
  const std::vector<TokenId> *script = nullptr;
};

/// A step, as it went.
struct Turn {
  int scored = 0, right = 0; ///< tokens that were scored, right drafts among them
  double milliseconds = 0;
};

struct RunResult {
  std::vector<std::vector<TokenId>> outputs; ///< of each job
  DraftStatistics drafting;

  // After the step that brought the last stream's first token, until the end.
  double seconds = 0;
  int64_t tokens = 0;
  std::vector<double>
      stream_rates;       ///< tokens a second of each stream until its own end; 0: it had ended before
  double drafters_us = 0; ///< in the drafters' stage
  std::vector<Turn> turns;

  /// Tokens a second until all streams have ended.
  double throughput () const { return seconds > 0 ? static_cast<double> (tokens) / seconds : 0; }
  /// What streams see: as many times their number as the geometric mean of their rates. Of streams that end together the
  /// throughput.
  double speed () const;
};

/// Sees the drafts of a step before they are verified, and may change them.
using DraftHook = std::function<void (Row &row, size_t job)>;

struct LaneSettings {
  int streams = 1, positions = 0; ///< room for so many, twice, so that prompts stay cached
  KvType kv_type = KvType::kF32;
  bool ungated = false; ///< make_drafters ()
  Clock clock = steady_now_us;
};

class Lane
{
public:
  Lane (std::shared_ptr<const Model> model, const Mode &mode, std::shared_ptr<const Model> draft_model,
        const LaneSettings &settings);

  /// All jobs at the same time. Their prompts are computed before, unless they are cached. Throws std::runtime_error when a
  /// request fails.
  RunResult run (std::span<const Job> jobs, const DraftHook &hook = {});

  // The same in parts, so that lanes can take turns within an answer. `jobs` stay until finish ().

  /// As far as the step that brings the last stream's first token.
  void begin (std::span<const Job> jobs, const DraftHook &hook = {});
  /// Goes on until all streams together have said so many tokens more than at begin (). False: they have said everything.
  bool advance (int64_t tokens);
  /// After advance () was false.
  RunResult finish ();

  const Mode &mode () const { return mode_; }

private:
  void prime (std::span<const Job> jobs);
  bool turn ();
  double draft ();
  void say_script ();
  void note_end (size_t job);

  const Mode &mode_;
  Clock clock_;
  Scheduler scheduler_;
  std::vector<std::unique_ptr<Drafter>> drafters_;
  Sampler sampler_;
  Step step_;

  // Of the run under way.
  std::span<const Job> jobs_;
  DraftHook hook_;
  RunResult result_;
  std::vector<size_t> said_before_; ///< tokens of each stream that are not timed
  int64_t advance_began_ = 0;
};

} // namespace millrace::bench
