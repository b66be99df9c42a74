// Owns the sequences, the KV cache and the order of work: plan () fills a step, commit () settles it.
//
// Requests wait in order of rank (priority.hpp) for a slot and memory; what each step does is the planner's decision,
// and this class carries it out. A request that is preempted waits again with the tokens it has, and computes them
// again, exactly, as far as they are not cached any more. Requests that can never run, that were cancelled or
// whose time is up leave through a row of their own: every admitted request ends in exactly one row with a finish
// reason. What a request holds is free before the step after its end is planned.
//
// A held request (Request::held) keeps its sequence and blocks and gets no rows. It makes way when memory is short, like
// others, and when nothing runs but somebody waits who is not held: what it had stays cached as long as there is room.
//
// A request for an embedding is a prompt whose last token is scored without logits: verify () ends it.
//
// Threads: everything from the decode thread, except Request::end () and Request::held, which may come from anywhere.
#pragma once

#include "engine/drafting/draft_controller.hpp"
#include "engine/kv/kv_cache.hpp"
#include "engine/model/model.hpp"
#include "engine/scheduling/admission.hpp"
#include "engine/scheduling/planner.hpp"
#include "engine/scheduling/request.hpp"
#include "engine/step.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace millrace
{

struct SchedulerSettings {
  int max_batch = 32;        ///< requests that run at a time
  int prefill_tokens = 512;  ///< prompt tokens of a step at most
  int max_draft = kMaxDraft; ///< drafts of a row, 0 … kMaxDraft
  double max_step_ms =
      0; ///< aim for a step that serves running requests beside prompts; 0: kStall times one without
  KvType kv_type = KvType::kF32;
  size_t kv_bytes = 0; ///< 0: a quarter of the memory available now, at most what max_batch can use
  bool prefix_cache = true;
  std::string cache_directory{};            ///< cached prefixes survive there; empty: they do not
  uint64_t cache_bytes = uint64_t{8} << 30; ///< on disk
  Clock clock = steady_now_us;
  bool learn_cost = true; ///< false: prefill is bounded by tokens alone
  /// Replaces the planner, for comparisons.
  std::function<void (std::span<const SequenceView>, const Budgets &, StepPlan &)> plan{};
};

/// Totals since the start; read from the decode thread.
struct SchedulerStatistics {
  uint64_t steps = 0;
  uint64_t finished = 0;
  uint64_t prompt_tokens = 0;
  uint64_t prefill_tokens = 0; ///< computed
  uint64_t generated_tokens = 0;
  DraftStatistics drafting;
  uint64_t preemptions = 0;
};

/// One step, as it went.
struct StepReport {
  uint64_t number = 0;
  int rows = 0;
  int prefill_tokens = 0, scored_tokens = 0, accepted_tokens = 0;
  int prefill_budget = 0; ///< tokens that it might have had
  int running = 0, waiting = 0, blocked = 0, preempted = 0;
  int64_t plan_us = 0, step_us = 0; ///< step: from the plan to its commit
  double predicted_ms = 0;          ///< of step_us; 0: not known yet
  std::vector<StageTime> stages;
};

class Scheduler
{
public:
  /// Throws std::bad_alloc, std::invalid_argument when the KV memory holds no block, or LoadError for the
  /// cache's directory.
  Scheduler (std::shared_ptr<const Model> model, const SchedulerSettings &settings);

  /// Takes a request. Its `error` may already be set: it then just ends.
  void admit (std::shared_ptr<Request> request);

  /// Fills `step` with the next turn's rows. False: nothing is left to do, or all that is left is held (stalled ()).
  bool plan (Step &step);
  /// Applies what the stages wrote; sequences with a finish reason are gone afterwards.
  void commit (Step &step);
  /// Drops every request. Prefixes stay cached.
  void clear ();
  /// Writes what is cached to the directory, when there is one.
  void save () { kv_->save_all (); }

  /// Requests that the last commit () ended, with their statistics.
  std::span<const std::shared_ptr<Request>> finished () const { return finished_; }

  bool idle () const { return live_.empty () && waiting_.empty () && leaving_.empty (); }
  /// The last plan () found requests, but all of them held: until one is let go, ends or comes, the next finds no more.
  bool stalled () const { return stalled_; }
  /// Before this time of the scheduler's clock no request's time is up; INT64_MAX: none has a deadline.
  int64_t next_deadline_us () const { return earliest_deadline_us_; }
  const AdmissionLimits &limits () const { return limits_; }
  int live () const { return static_cast<int> (live_.size ()); }
  int waiting () const { return static_cast<int> (waiting_.size ()); }
  const KvCache &kv () const { return *kv_; }
  KvCache &kv () { return *kv_; }
  const DraftController &drafting () const { return drafting_; }
  const CostModel &cost () const { return cost_; }
  const SchedulerStatistics &statistics () const { return statistics_; }
  const StepReport &report () const { return report_; }
  /// When a request that comes now may expect a slot: from the rate at which requests ended lately. At least 1 s.
  int64_t retry_after_ms () const;
  const Model &model () const { return *model_; }
  /// For tests: KvCache::inconsistency () of all sequences.
  std::string inconsistency () const;

private:
  using Sequences = std::vector<std::unique_ptr<Sequence>>;

  void expire (int64_t now);
  void remove_ended ();
  void leave (std::unique_ptr<Sequence> sequence);
  void note_holds ();
  void start_waiting (int64_t now);
  int admissible ();
  bool all_held () const;
  bool give_way ();
  void start (std::unique_ptr<Sequence> sequence, int64_t now);
  void share_progress ();
  void view_sequences ();
  bool memory_may_run_short () const;
  void preempt (std::unique_ptr<Sequence> &sequence);
  void plan_rows (Step &step, int64_t now);
  void end_stuck ();
  void add_rows (Step &step);
  bool settle_row (Row &row, int64_t now);
  void release (Sequence &sequence);
  void insert_by_rank (Sequences &sequences, std::unique_ptr<Sequence> sequence);

  std::shared_ptr<const Model> model_;
  SchedulerSettings settings_;
  KvLayout layout_;
  AdmissionLimits limits_;
  std::unique_ptr<ExecutionContext> context_;
  std::unique_ptr<KvCache> kv_;
  Planner planner_;
  CostModel cost_;
  DraftController drafting_;
  int mixed_steps_ = 0;    ///< with decode rows and prompts, since the last one with decode rows alone
  int recent_prefill_ = 0; ///< tokens of the last step that had decode rows and prompts

  Sequences waiting_; ///< by rank; preempted ones too
  Sequences live_;    ///< by rank
  Sequences leaving_; ///< end in the present step
  std::vector<std::shared_ptr<Request>> finished_;
  std::vector<int> free_slots_;
  uint64_t seen_endings_ = 0;                ///< Request::endings ()
  int64_t earliest_deadline_us_ = INT64_MAX; ///< of all requests, or earlier

  // Of the step under way.
  std::vector<SequenceView> views_;
  std::vector<WaitingView> waiting_views_;
  std::vector<int> candidates_; ///< of waiting_, that are not held
  bool stalled_ = false;
  std::vector<std::pair<BlockHash, int>> next_blocks_;
  StepPlan plan_;
  StepWork work_;
  int64_t planned_us_ = 0;

  SchedulerStatistics statistics_;
  StepReport report_;
  double ms_per_request_ = 0; ///< between endings, lately
  int64_t last_end_us_ = 0;
};

} // namespace millrace
