// What one step does, as pure functions of values: no clock, no side effect, no randomness; the same input gives the
// same plan. Fuzzed without a model (tests/engine_scheduling_planner_fuzz.cpp), replayed by bench/scheduler_sim.
//
// Requests are ranked once, when they arrive (rank_of): by time of arrival, a class earlier or later by kAgingUs. The
// order of two requests never changes, so whoever waits can be overtaken only by what arrives within
// kAgingUs · (classes above its own) after it: that is the whole of aging.
//
// Rules, in this order:
//  1. Decode first: every running request whose prompt is done gets a row. Memory is given by rank; who lacks
//     blocks takes them from requests ranked after it, first the newest that has not generated yet, then the
//     newest that has. Who finds none stays blocked on memory and is tried again in each step. The first in rank
//     is never blocked by others: if need be, all of them are preempted.
//  2. Prompts share the prefill budget: what fits by the cost model into the time that the step has beside the decode
//     rows. Without max_step_ms that is kStall - 1 times the rows' own time, or, so that a flood of prompts is
//     not starved of the throughput it would bring, as much as kPromptShare rows' for each prompt. The
//     budget is at most `prefill_tokens`, at least kMinPrefill. When it is too small for all of them, those that have waited
//     longest get kMinPrefill each; what is left is shared equally by weight of class, short prompts' leftovers
//     going to the others (max-min fairness).
//  3. Drafts get what memory is left.
//
// Who is held gets no row and asks for nothing, but keeps what it has, its rank, and may be preempted. The first in rank
// that is not held counts as the first: for it even held ones ranked before make way, so that a slow reader
// holds up itself alone.
#pragma once

#include "engine/kv/kv_layout.hpp"
#include "engine/scheduling/cost_model.hpp"
#include "engine/scheduling/priority.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace millrace
{

constexpr int kMinPrefill = 4; ///< tokens: fewer are not worth a turn

/// What the planner knows of a running request.
struct SequenceView {
  int length = 0;          ///< tokens it has: prompt and generated
  int kv_tokens = 0;       ///< positions whose KV is valid, less than length
  int draft_room = 0;      ///< tokens it may still generate after the next one
  bool generating = false; ///< it has generated before (it may be computing again after a preemption)
  bool follows = false;    ///< another one computes its next block in this step: it waits and shares
  bool held = false;       ///< its reader is slow: nothing is done for it in this step
  Priority priority = Priority::kNormal;
  int idle_steps = 0;       ///< since it last made progress
  BlockCounts entries{};    ///< of its block tables
  BlockCounts releasable{}; ///< blocks that are free once it is preempted; read only when memory is short

  int prefill_left () const { return length - 1 - kv_tokens; }
};

struct Budgets {
  int prefill_tokens = 512;        ///< of all sequences in a step, at least 1
  int max_draft = 0;               ///< drafts of one row
  double max_step_ms = 0;          ///< 0: kStall times what the decode rows alone take
  int max_growth = 1 << 24;        ///< prefill tokens of this step at most: how far the cost model is trusted
  const CostModel *cost = nullptr; ///< null: no limit by time
  bool decode_only = false; ///< no prompts beside decode rows this time, so that their own cost can be seen
  std::span<const KvGroup> groups; ///< of the KV cache
  BlockCounts available{};         ///< free or reclaimable blocks
  bool whole_blocks = false;       ///< chunks end at block boundaries, for snapshots of recurrent state
};
constexpr double kPromptShare = 4; ///< rows whose time a prompt may take in a step
constexpr double kStall = 1.7;     ///< the time a step may always take, in steps without prefill

struct RowPlan {
  int sequence = 0; ///< index into the views
  int prefill_tokens = 0;
  bool scored = false;
  int draft_limit = 0;
};

struct StepPlan {
  std::vector<RowPlan> rows;
  std::vector<int> preempted; ///< in the order in which it happens
  std::vector<int> blocked;   ///< ready to work, but without memory
  int prefill_budget = 0;
  double predicted_ms = 0; ///< 0: not known
};

/// Plans a step of `sequences`, which are in order of rank. Memory the plan gives out is there: available blocks plus
/// those of the preempted.
class Planner
{
public:
  void plan (std::span<const SequenceView> sequences, const Budgets &budgets, StepPlan &plan);

private:
  int held (int index, size_t group) const;
  int freed (int index, size_t group) const;
  bool claim (int index, int length);
  bool make_room (int index, int length);
  bool lacks (int index, int length) const { return lacks_even (index, length, available_); }
  bool lacks_even (int index, int length, const BlockCounts &available) const;
  void preempt (int index);
  void plan_decode ();
  int prefill_budget () const;
  void plan_prefill ();
  void take_turns (size_t served);
  void share_budget (int budget);
  int chunk_that_fits (int index, int wanted);
  void plan_drafts ();

  // The plan under way; scratch that keeps its size.
  std::span<const SequenceView> sequences_;
  const Budgets *budgets_ = nullptr;
  StepPlan *plan_ = nullptr;
  struct Grant {
    bool preempted = false, ready = false;
    int tokens = 0; ///< of prefill
    int length = 0; ///< positions that memory has been claimed for
  };
  std::vector<Grant> grants_;
  std::vector<int> prefilling_;
  int first_ = 0; ///< in rank, of those that are not held
  BlockCounts available_{};
  bool refused_ =
      false; ///< since the last preemption somebody had to do without, though `reach_` was within reach
  BlockCounts reach_{};
};

/// A request that waits, for admission.
struct WaitingView {
  int length = 0;        ///< tokens it brings
  int pinned_blocks = 0; ///< leading blocks that running ones hold already
};

struct AdmissionBudgets {
  int slots = 0;       ///< requests that may still start
  int running = 0;     ///< requests that run, each of which may need a block soon
  int owed_blocks = 0; ///< that running ones need to finish their prompts
  std::span<const KvGroup> groups;
  BlockCounts available{};
  int chunk = 512; ///< prefill tokens of a step
};

/// How many of `waiting`, in order of rank, start now. The first that does not fit holds back the others, or a stream
/// of small ones could starve it.
int plan_admission (std::span<const WaitingView> waiting, const AdmissionBudgets &budgets);

} // namespace millrace
