// Owns the sequences, the KV cache and the order of work: plan () fills a step, commit () settles it.
//
// Requests wait first-come-first-served until a slot and KV blocks for all the tokens they may reach are
// free, so a running sequence never lacks memory. Requests that can never run, or that ended while they
// waited, leave through a row of their own like all others: every admitted request ends in exactly one row
// with a finish reason.
//
// Threads: everything from the decode thread, except Request::end (), which may come from anywhere.
#pragma once

#include "engine/kv/block_pool.hpp"
#include "engine/model/model.hpp"
#include "engine/scheduling/planner.hpp"
#include "engine/scheduling/request.hpp"
#include "engine/step.hpp"

#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace millrace
{

struct SchedulerSettings {
  int max_batch = 32;       ///< sequences that run at a time
  int prefill_tokens = 512; ///< prompt tokens of a step
  int max_draft = 8;        ///< drafts of a row, 0 … kMaxDraft
  size_t kv_bytes = 0;      ///< 0: a quarter of the memory available now, at most what max_batch can use
};

/// Totals since the start; read from the decode thread.
struct SchedulerStatistics {
  uint64_t steps = 0;
  uint64_t finished = 0;
  uint64_t prompt_tokens = 0;
  uint64_t generated_tokens = 0;
  uint64_t drafted = 0;
  uint64_t accepted = 0;
};

class Scheduler
{
public:
  /// Throws std::bad_alloc, or std::invalid_argument when kv_bytes holds no block.
  Scheduler (std::shared_ptr<const Model> model, const SchedulerSettings &settings);

  /// Takes a request into the queue. Its `error` may already be set: it then just ends.
  void admit (std::shared_ptr<Request> request);

  /// Fills `step` with the next turn's rows. False: nothing is left to do.
  bool plan (Step &step);
  /// Applies what the stages wrote; sequences with a finish reason are gone afterwards.
  void commit (Step &step);
  /// Drops every sequence and waiting request and frees their KV.
  void clear ();

  /// Requests that the last commit () ended, with their statistics.
  std::span<const std::shared_ptr<Request>> finished () const { return finished_; }

  bool idle () const { return live_.empty () && waiting_.empty (); }
  int live () const { return static_cast<int> (live_.size ()); }
  int waiting () const { return static_cast<int> (waiting_.size ()); }
  const BlockPool &blocks () const { return pool_; }
  const SchedulerStatistics &statistics () const { return statistics_; }
  const Model &model () const { return *model_; }

private:
  struct Waiting {
    std::shared_ptr<Request> request;
    int64_t submitted_us;
  };
  bool start (Waiting &waiting);
  void leave (Waiting &waiting, FinishReason reason);
  void release (Sequence &sequence);
  RequestError check (const Request &request) const;
  int token_limit (const Request &request) const;

  std::shared_ptr<const Model> model_;
  SchedulerSettings settings_;
  std::unique_ptr<ExecutionContext> context_;
  BlockPool pool_;
  std::deque<Waiting> waiting_;
  std::vector<std::unique_ptr<Sequence>> live_;    ///< in order of admission
  std::vector<std::unique_ptr<Sequence>> leaving_; ///< end in the present step without having run
  std::vector<std::shared_ptr<Request>> finished_;
  std::vector<int> free_slots_;
  std::vector<SequenceView> views_;
  std::vector<RowPlan> row_plans_;
  SchedulerStatistics statistics_;
};

} // namespace millrace
