#include "engine/scheduling/planner.hpp"

#include <algorithm>
#include <utility>

namespace millrace
{

namespace
{

constexpr int kUnlearned = 64; ///< prefill tokens beside decode rows while their cost is not known

int
weight_of (Priority priority)
{
  return 1 << static_cast<int> (priority);
}

} // namespace

void
Planner::plan (std::span<const SequenceView> sequences, const Budgets &budgets, StepPlan &plan)
{
  sequences_ = sequences;
  budgets_ = &budgets;
  plan_ = &plan;
  available_ = budgets.available;
  refused_ = false;
  grants_.assign (sequences.size (), {});
  plan.rows.clear ();
  plan.preempted.clear ();
  plan.blocked.clear ();
  first_ = 0;
  while (first_ < static_cast<int> (sequences.size ()) && sequences[static_cast<size_t> (first_)].held)
    first_++;

  plan_decode ();
  plan.prefill_budget = prefill_budget ();
  plan_prefill ();

  StepWork work;
  for (int i = 0; i < static_cast<int> (sequences.size ()); i++) {
    const SequenceView &view = sequences[static_cast<size_t> (i)];
    const Grant &grant = grants_[static_cast<size_t> (i)];
    if (grant.preempted || (!grant.ready && grant.tokens == 0))
      continue;
    RowPlan &row = plan.rows.emplace_back ();
    row.sequence = i;
    row.prefill_tokens = grant.tokens;
    row.scored = grant.tokens == view.prefill_left ();
    work.prefill_tokens += grant.tokens;
    work.prefill_positions += grant.tokens * (view.kv_tokens + 0.5 * grant.tokens);
    work.prefill_lengths += grant.tokens > 0 ? view.kv_tokens : 0;
    work.scored_tokens += row.scored;
    work.scored_positions += row.scored ? view.length : 0;
  }
  plan_drafts ();
  plan.predicted_ms = budgets.cost ? budgets.cost->predict_ms (work) : 0;
}

// --- memory ---------------------------------------------------------------------------------------

/// Entries of a group's table that a sequence has or has been promised in this plan.
int
Planner::held (int index, size_t group) const
{
  const int claimed = grants_[static_cast<size_t> (index)].length;
  const int entries = sequences_[static_cast<size_t> (index)].entries[group];
  return claimed > 0 ? std::max (entries, table_size (budgets_->groups[group], claimed)) : entries;
}

/// Blocks that come free when a sequence is preempted: what it alone holds, and what it was promised.
int
Planner::freed (int index, size_t group) const
{
  const SequenceView &view = sequences_[static_cast<size_t> (index)];
  return view.releasable[group] + held (index, group) - view.entries[group];
}

bool
Planner::lacks_even (int index, int length, const BlockCounts &available) const
{
  for (size_t g = 0; g < budgets_->groups.size (); g++) {
    if (table_size (budgets_->groups[g], length) - held (index, g) > available[g])
      return true;
  }
  return false;
}

bool
Planner::claim (int index, int length)
{
  if (lacks (index, length))
    return false;
  for (size_t g = 0; g < budgets_->groups.size (); g++)
    available_[g] -= std::max (0, table_size (budgets_->groups[g], length) - held (index, g));
  Grant &grant = grants_[static_cast<size_t> (index)];
  grant.length = std::max (grant.length, length);
  return true;
}

void
Planner::preempt (int index)
{
  for (size_t g = 0; g < budgets_->groups.size (); g++)
    available_[g] += freed (index, g);
  refused_ = false;
  grants_[static_cast<size_t> (index)] = {.preempted = true};
  plan_->preempted.push_back (index);
}

/// Takes blocks from those ranked after `index` until positions up to `length` fit. Nobody is preempted in vain,
/// except for the first in rank: others may share blocks, which then become free with the last of them. Held ones before
/// the first make way last of all.
bool
Planner::make_room (int index, int length)
{
  const int count = static_cast<int> (sequences_.size ());
  if (index != first_) {
    if (refused_ && lacks_even (index, length, reach_))
      return false; // those before had more within reach
    BlockCounts within_reach = available_;
    for (int victim = index + 1; victim < count; victim++) {
      for (size_t g = 0; !grants_[static_cast<size_t> (victim)].preempted && g < budgets_->groups.size ();
           g++)
        within_reach[g] += freed (victim, g);
    }
    if (lacks_even (index, length, within_reach)) {
      refused_ = true;
      reach_ = within_reach;
      return false;
    }
  }
  for (const bool generating : {false, true}) {
    for (int victim = count - 1; victim > index && lacks (index, length); victim--) {
      if (!grants_[static_cast<size_t> (victim)].preempted &&
          sequences_[static_cast<size_t> (victim)].generating == generating)
        preempt (victim);
    }
  }
  if (index == first_) {
    for (int victim = index - 1; victim >= 0 && lacks (index, length); victim--) {
      if (!grants_[static_cast<size_t> (victim)].preempted)
        preempt (victim); // held
    }
  }
  return !lacks (index, length);
}

// --- decode ---------------------------------------------------------------------------------------

void
Planner::plan_decode ()
{
  for (int i = 0; i < static_cast<int> (sequences_.size ()); i++) {
    const SequenceView &view = sequences_[static_cast<size_t> (i)];
    if (view.held || view.prefill_left () > 0 || grants_[static_cast<size_t> (i)].preempted)
      continue;
    if (!lacks (i, view.length) || make_room (i, view.length))
      grants_[static_cast<size_t> (i)].ready = claim (i, view.length);
    else
      plan_->blocked.push_back (i);
  }
}

// --- prefill --------------------------------------------------------------------------------------

int
Planner::prefill_budget () const
{
  const int most = std::max (budgets_->prefill_tokens, 1);
  StepWork decode;
  double positions = 0;
  int prefilling = 0;
  for (size_t i = 0; i < sequences_.size (); i++) {
    const SequenceView &view = sequences_[i];
    if (grants_[i].ready) {
      decode.scored_tokens++;
      decode.scored_positions += view.length;
    } else if (view.prefill_left () > 0 && !view.held) {
      prefilling++;
      positions += view.kv_tokens;
    }
  }
  if (!budgets_->cost || decode.scored_tokens == 0 || prefilling == 0)
    return most;
  if (budgets_->decode_only || !budgets_->cost->knows_decode ())
    return 0; // a few steps without prompts teach it
  const int trusted = std::min (most, std::max (budgets_->max_growth, 1));
  if (!budgets_->cost->knows_prefill ())
    return std::min (trusted, kUnlearned);
  const double decode_ms = budgets_->cost->decode_ms (decode);
  const double share = kPromptShare * prefilling / decode.scored_tokens;
  const double extra_ms = budgets_->max_step_ms > 0 ? budgets_->max_step_ms - decode_ms
                                                    : std::max (kStall - 1, share) * decode_ms;
  // How many are served depends on how much fits: once with one, then with as many as that would serve.
  const double mean = positions / prefilling;
  int fitting = budgets_->cost->prefill_tokens_within (extra_ms, mean, 1);
  if (const int served = std::min (prefilling, fitting / kMinPrefill); served > 1)
    fitting = budgets_->cost->prefill_tokens_within (extra_ms, mean, served);
  return std::clamp (fitting, std::min (kMinPrefill, trusted), trusted);
}

// Weighted max-min: each round gives every unsatisfied prompt its share of what is left. A round satisfies one of
// them or spends the budget.
void
Planner::share_budget (int budget)
{
  int64_t weights = 0;
  for (const int i : prefilling_)
    weights += weight_of (sequences_[static_cast<size_t> (i)].priority);
  while (budget > 0 && weights > 0) {
    const int64_t round = budget;
    const int64_t round_weights = weights;
    for (const int i : prefilling_) {
      const SequenceView &view = sequences_[static_cast<size_t> (i)];
      Grant &grant = grants_[static_cast<size_t> (i)];
      const int wanted = view.prefill_left () - grant.tokens;
      const int64_t share = std::max<int64_t> (round * weight_of (view.priority) / round_weights, 1);
      const int given = static_cast<int> (std::min<int64_t> ({wanted, share, budget}));
      if (given <= 0)
        continue;
      grant.tokens += given;
      budget -= given;
      if (given == wanted)
        weights -= weight_of (view.priority);
    }
  }
}

/// Tokens of `wanted` that memory can be claimed for, and claims it.
int
Planner::chunk_that_fits (int index, int wanted)
{
  const SequenceView &view = sequences_[static_cast<size_t> (index)];
  const auto length_of = [&] (int tokens) {
    return view.kv_tokens + tokens +
           (tokens == view.prefill_left () ? 1 : 0); // the pending token's own position
  };
  if (wanted < view.prefill_left ()) {
    const int end = (view.kv_tokens + wanted) / kBlockTokens * kBlockTokens;
    if (end > view.kv_tokens) // at a block's end, where others can join
      wanted = end - view.kv_tokens;
  } else if (budgets_->whole_blocks) {
    const int end = (view.length - 1) / kBlockTokens * kBlockTokens;
    if (end > view.kv_tokens) // leaves a snapshot there
      wanted = std::min (wanted, end - view.kv_tokens);
  }
  if (lacks (index, length_of (wanted)) && !make_room (index, length_of (wanted))) {
    int room = wanted;
    for (size_t g = 0; g < budgets_->groups.size (); g++) {
      if (budgets_->groups[g].kind != KvGroup::Kind::kRecurrent)
        room = std::min (room, (held (index, g) + available_[g]) * kBlockTokens - view.kv_tokens);
    }
    wanted = std::max (room, 0);
    if (wanted > 0 && lacks (index, length_of (wanted))) { // the prompt fits, its pending token does not
      const int end = (view.kv_tokens + wanted - 1) / kBlockTokens * kBlockTokens;
      wanted = end > view.kv_tokens ? end - view.kv_tokens : wanted - 1;
    }
  }
  return wanted > 0 && claim (index, length_of (wanted)) ? wanted : 0;
}

void
Planner::plan_prefill ()
{
  prefilling_.clear ();
  for (int i = 0; i < static_cast<int> (sequences_.size ()); i++) {
    const SequenceView &view = sequences_[static_cast<size_t> (i)];
    if (view.prefill_left () > 0 && !view.follows && !view.held &&
        !grants_[static_cast<size_t> (i)].preempted)
      prefilling_.push_back (i);
  }
  if (plan_->prefill_budget == 0)
    return;
  const size_t served = static_cast<size_t> (std::max (plan_->prefill_budget / kMinPrefill, 1));
  if (served < prefilling_.size ())
    take_turns (served);

  share_budget (plan_->prefill_budget);
  for (const int i : prefilling_) {
    Grant &grant = grants_[static_cast<size_t> (i)];
    if (grant.preempted || grant.tokens == 0)
      continue;
    const int wanted = std::exchange (grant.tokens, 0);
    const int tokens = chunk_that_fits (i, wanted);
    grants_[static_cast<size_t> (i)].tokens = tokens;
    if (tokens == 0)
      plan_->blocked.push_back (i);
  }
}

/// Keeps those of prefilling_ that have waited longest and find memory for a little: a turn that came to nothing would
/// be another's loss.
void
Planner::take_turns (size_t served)
{
  std::ranges::sort (prefilling_, [&] (int a, int b) {
    const int idle_a = sequences_[static_cast<size_t> (a)].idle_steps,
              idle_b = sequences_[static_cast<size_t> (b)].idle_steps;
    return idle_a != idle_b ? idle_a > idle_b : a < b;
  });
  size_t kept = 0;
  for (size_t next = 0; next < prefilling_.size () && kept < served; next++) {
    const int i = prefilling_[next];
    if (grants_[static_cast<size_t> (i)].preempted)
      continue;
    if (chunk_that_fits (i, std::min (kMinPrefill, sequences_[static_cast<size_t> (i)].prefill_left ())) > 0)
      prefilling_[kept++] = i;
    else
      plan_->blocked.push_back (i);
  }
  prefilling_.resize (kept);
  std::sort (prefilling_.begin (), prefilling_.end ());
}

// --- drafts ---------------------------------------------------------------------------------------

void
Planner::plan_drafts ()
{
  for (RowPlan &row : plan_->rows) {
    const SequenceView &view = sequences_[static_cast<size_t> (row.sequence)];
    if (!row.scored)
      continue;
    int drafts = std::clamp (view.draft_room, 0, budgets_->max_draft);
    if (!claim (row.sequence,
                view.length + drafts)) // what fits into the block of the pending token needs no more
      drafts = std::min (drafts, blocks_for (view.length) * kBlockTokens - view.length);
    row.draft_limit = drafts;
  }
}

// --- admission ------------------------------------------------------------------------------------

int
plan_admission (std::span<const WaitingView> waiting, const AdmissionBudgets &budgets)
{
  BlockCounts available = budgets.available;
  int running = budgets.running, admitted = 0;
  for (const WaitingView &view : waiting) {
    if (admitted == budgets.slots)
      break;
    // What runs must be able to go on for a while, or it would be preempted at once. Who comes first needs no such
    // consideration: alone, it fits.
    const int reserve = running > 0 ? budgets.owed_blocks + running : 0;
    bool fits = true;
    for (size_t g = 0; g < budgets.groups.size (); g++) {
      const KvGroup &group = budgets.groups[g];
      const int shared = group.kind == KvGroup::Kind::kPositional ? view.pinned_blocks : 0;
      const int needed = most_blocks (group, view.length, budgets.chunk) - shared;
      fits &= needed + (g == 0 ? reserve : 0) <= available[g];
    }
    if (!fits)
      break;
    for (size_t g = 0; g < budgets.groups.size (); g++) {
      const KvGroup &group = budgets.groups[g];
      const int shared = group.kind == KvGroup::Kind::kPositional ? view.pinned_blocks : 0;
      available[g] -= most_blocks (group, view.length, budgets.chunk) - shared;
    }
    running++;
    admitted++;
  }
  return admitted;
}

} // namespace millrace
