#include "bench/sim_policy.hpp"

#include <memory>
#include <stdexcept>

namespace millrace::sim
{

namespace
{

/// Memory during one plan of a baseline.
class Memory
{
public:
  Memory (std::span<const SequenceView> views, const Budgets &budgets, StepPlan &plan)
      : views_ (views)
      , budgets_ (budgets)
      , plan_ (plan)
      , available_ (budgets.available)
      , end_ (static_cast<int> (views.size ()))
  {
  }

  bool claim (int index, int length)
  {
    const SequenceView &view = views_[static_cast<size_t> (index)];
    BlockCounts left = available_;
    for (size_t g = 0; g < budgets_.groups.size (); g++) {
      left[g] -= std::max (0, table_size (budgets_.groups[g], length) - view.entries[g]);
      if (left[g] < 0)
        return false;
    }
    available_ = left;
    return true;
  }
  /// Takes the memory of those at the end until it fits. False: there is nobody after `index` any more.
  bool claim_from_newest (int index, int length)
  {
    while (!claim (index, length)) {
      if (end_ - 1 <= index)
        return false;
      end_--;
      for (size_t g = 0; g < budgets_.groups.size (); g++)
        available_[g] += views_[static_cast<size_t> (end_)].releasable[g];
      plan_.preempted.push_back (end_);
    }
    return true;
  }
  int end () const { return end_; } ///< sequences from here on have been preempted

private:
  std::span<const SequenceView> views_;
  const Budgets &budgets_;
  StepPlan &plan_;
  BlockCounts available_;
  int end_;
};

void
clear (StepPlan &plan)
{
  plan.rows.clear ();
  plan.preempted.clear ();
  plan.blocked.clear ();
  plan.prefill_budget = 0;
  plan.predicted_ms = 0;
}

void
plan_one_request (std::span<const SequenceView> views, const Budgets &budgets, StepPlan &plan)
{
  clear (plan);
  Memory memory (views, budgets, plan);
  const SequenceView &first = views[0];
  const int tokens = std::min (first.prefill_left (), budgets.prefill_tokens);
  const bool scored = tokens == first.prefill_left ();
  if (memory.claim_from_newest (0, first.kv_tokens + tokens + (scored ? 1 : 0)))
    plan.rows.push_back ({.sequence = 0, .prefill_tokens = tokens, .scored = scored});
}

void
plan_prefill_first (std::span<const SequenceView> views, const Budgets &budgets, StepPlan &plan)
{
  clear (plan);
  Memory memory (views, budgets, plan);
  int left = kWholeTokens;
  for (int i = 0; i < static_cast<int> (views.size ()); i++) {
    const SequenceView &view = views[static_cast<size_t> (i)];
    const int tokens = view.prefill_left ();
    if (tokens == 0 || view.follows)
      continue;
    if ((tokens > left && !plan.rows.empty ()) || !memory.claim (i, view.length))
      break;
    plan.rows.push_back ({.sequence = i, .prefill_tokens = tokens, .scored = true});
    left -= tokens;
  }
  if (!plan.rows.empty ())
    return;
  for (int i = 0; i < memory.end (); i++) {
    const SequenceView &view = views[static_cast<size_t> (i)];
    if (view.prefill_left () == 0 && memory.claim_from_newest (i, view.length))
      plan.rows.push_back ({.sequence = i, .scored = true});
  }
  // Prompts alone, and none fits: the first is to have everything, in the next attempt.
  for (int i = memory.end (); plan.rows.empty () && i-- > 1;)
    plan.preempted.push_back (i);
}

/// Millrace's planner with another bound on the time of a step.
class Stall
{
public:
  explicit Stall (double stall)
      : stall_ (stall)
  {
  }
  void operator() (std::span<const SequenceView> views, const Budgets &budgets, StepPlan &plan)
  {
    Budgets own = budgets;
    StepWork decode;
    for (const SequenceView &view : views) {
      if (view.prefill_left () == 0) {
        decode.scored_tokens++;
        decode.scored_positions += view.length;
      }
    }
    if (budgets.cost && decode.scored_tokens > 0)
      own.max_step_ms = stall_ * budgets.cost->decode_ms (decode);
    planner_->plan (views, own, plan);
  }

private:
  double stall_;
  std::shared_ptr<Planner> planner_ = std::make_shared<Planner> (); // std::function copies
};

} // namespace

std::function<void (std::span<const SequenceView>, const Budgets &, StepPlan &)>
make_policy (const std::string &name, double stall)
{
  if (name == "fcfs")
    return plan_one_request;
  if (name == "prefill-first")
    return plan_prefill_first;
  if (name != "millrace")
    throw std::invalid_argument ("no policy " + name + ": millrace, fcfs or prefill-first");
  if (stall > 0)
    return Stall (stall);
  return {};
}

} // namespace millrace::sim
