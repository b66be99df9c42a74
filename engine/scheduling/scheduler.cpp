#include "engine/scheduling/scheduler.hpp"

#include "engine/kv/kv_budget.hpp"
#include "engine/tensor/available_memory.hpp"

#include <algorithm>
#include <stdexcept>

namespace millrace
{

namespace
{

constexpr int kCautiousPrefill = 64; ///< tokens beside decode rows before anything has been measured
constexpr int kMixedSteps = 15;      ///< in a row, before the cost of decode rows alone is looked at again
constexpr int kPlanAttempts = 3;

bool
wants_counts (const SamplingParams &sampling)
{
  return sampling.repetition_penalty != 1 || sampling.presence_penalty != 0 ||
         sampling.frequency_penalty != 0;
}

std::string
disk_identity (const Model &model, const KvLayout &layout, KvType type)
{
  std::string identity = model.compiled->kv_identity () + " " + kv_type_name (type);
  for (const KvGroup &group : layout)
    identity += " " + std::to_string (static_cast<int> (group.kind)) + ":" + std::to_string (group.window) +
                ":" + std::to_string (group.block_bytes);
  return identity;
}

std::unique_ptr<DiskStore>
open_disk_store (const Model &model, const KvLayout &layout, const SchedulerSettings &settings)
{
  if (settings.cache_directory.empty () || !settings.prefix_cache)
    return nullptr;
  DiskStoreSettings disk;
  disk.directory = settings.cache_directory;
  disk.identity = disk_identity (model, layout, settings.kv_type);
  disk.max_bytes = settings.cache_bytes;
  for (const KvGroup &group : layout)
    disk.max_payload_bytes += group.block_bytes;
  return std::make_unique<DiskStore> (disk);
}

} // namespace

Scheduler::Scheduler (std::shared_ptr<const Model> model, const SchedulerSettings &settings)
    : model_ (std::move (model))
    , settings_ (settings)
    , layout_ (model_->compiled->kv_layout (settings.kv_type))
{
  settings_.max_draft = std::clamp (settings_.max_draft, 0, kMaxDraft);
  const size_t bytes =
      settings_.kv_bytes ? settings_.kv_bytes : static_cast<size_t> (available_memory () / 4);
  ContextOptions options;
  options.kv_type = settings_.kv_type;
  options.kv_blocks = divide_kv_memory (layout_, {.bytes = bytes,
                                                  .max_batch = settings_.max_batch,
                                                  .max_positions = model_->spec.max_positions,
                                                  .chunk = settings_.prefill_tokens});
  options.max_tokens = settings_.prefill_tokens + settings_.max_batch * (1 + settings_.max_draft);
  context_ = model_->compiled->create_context (options);
  kv_ = std::make_unique<KvCache> (
      layout_, options.kv_blocks, *context_,
      KvCacheSettings{settings_.prefix_cache, open_disk_store (*model_, layout_, settings_)});
  limits_ = {model_->spec.vocab, model_->spec.hidden, model_->spec.max_positions, layout_, options.kv_blocks};
  for (int slot = settings_.max_batch - 1; slot >= 0; slot--)
    free_slots_.push_back (slot);
  live_.reserve (static_cast<size_t> (settings_.max_batch));
  finished_.reserve (static_cast<size_t> (settings_.max_batch));
}

// --- arrival --------------------------------------------------------------------------------------

void
Scheduler::insert_by_rank (Sequences &sequences, std::unique_ptr<Sequence> sequence)
{
  const auto goes_before = [] (const std::unique_ptr<Sequence> &a, const std::unique_ptr<Sequence> &b) {
    return a->rank != b->rank ? a->rank < b->rank : a->request->serial < b->request->serial;
  };
  const auto place = std::upper_bound (sequences.begin (), sequences.end (), sequence, goes_before);
  sequences.insert (place, std::move (sequence));
}

void
Scheduler::admit (std::shared_ptr<Request> request)
{
  auto sequence = std::make_unique<Sequence> ();
  sequence->submitted_us = request->submitted_us > 0 ? request->submitted_us : settings_.clock ();
  sequence->rank = rank_of (sequence->submitted_us, request->priority);
  seen_endings_ = 0; // it may have been ended before
  if (request->timeout_us > 0) {
    sequence->deadline_us = sequence->submitted_us + request->timeout_us;
    earliest_deadline_us_ = std::min (earliest_deadline_us_, sequence->deadline_us);
  }
  if (!request->error) // whoever handed it over may be reading it
    request->error = limits_.check (*request);
  sequence->request = std::move (request);
  if (sequence->request->error) {
    sequence->request->end (FinishReason::kError);
    leave (std::move (sequence));
    return;
  }

  const Request &wanted = *sequence->request;
  sequence->max_tokens = limits_.token_limit (wanted);
  sequence->kv.root = root_of (kv_variant (model_->spec, sequence->max_tokens));
  sequence->prompt_tokens = static_cast<int> (wanted.prompt.size ());
  sequence->pool.begin (wanted.embed.pooling, sequence->prompt_tokens, model_->spec.hidden);
  sequence->tokens.reserve (static_cast<size_t> (sequence->max_tokens) + 1);
  sequence->tokens = wanted.prompt;
  sequence->stop_ids = wanted.sampling.stop_token_ids;
  if (!wanted.sampling.ignore_eos)
    sequence->stop_ids.insert (sequence->stop_ids.end (), model_->eos_token_ids.begin (),
                               model_->eos_token_ids.end ());
  std::sort (sequence->stop_ids.begin (), sequence->stop_ids.end ());
  statistics_.prompt_tokens += wanted.prompt.size ();
  insert_by_rank (waiting_, std::move (sequence));
}

// --- before a step --------------------------------------------------------------------------------

void
Scheduler::expire (int64_t now)
{
  if (now < earliest_deadline_us_)
    return;
  earliest_deadline_us_ = INT64_MAX;
  for (const Sequences *sequences : {&waiting_, &live_}) {
    for (const auto &sequence : *sequences) {
      if (sequence->deadline_us == 0)
        continue;
      if (now >= sequence->deadline_us)
        sequence->request->end (FinishReason::kTimeout);
      else
        earliest_deadline_us_ = std::min (earliest_deadline_us_, sequence->deadline_us);
    }
  }
}

/// Its memory is free from now on; its last row is still to come.
void
Scheduler::leave (std::unique_ptr<Sequence> sequence)
{
  release (*sequence);
  leaving_.push_back (std::move (sequence));
}

void
Scheduler::remove_ended ()
{
  const uint64_t endings = Request::endings ();
  if (endings == seen_endings_)
    return;
  seen_endings_ = endings;
  for (Sequences *sequences : {&waiting_, &live_}) {
    for (auto &sequence : *sequences) {
      if (sequence->request->finish_early.load () != FinishReason::kNone)
        leave (std::move (sequence));
    }
    std::erase_if (*sequences, [] (const auto &sequence) { return !sequence; });
  }
}

void
Scheduler::note_holds ()
{
  for (const auto &sequence : live_)
    sequence->held = sequence->request->held.load (std::memory_order_relaxed);
}

/// How many of candidates_, those that wait and are not held, fit. What running ones share with the first that does not
/// is counted only when that decides.
int
Scheduler::admissible ()
{
  AdmissionBudgets budgets;
  budgets.slots = static_cast<int> (free_slots_.size ());
  candidates_.clear ();
  for (size_t i = 0; i < waiting_.size () && static_cast<int> (candidates_.size ()) < budgets.slots; i++) {
    waiting_[i]->held = waiting_[i]->request->held.load (std::memory_order_relaxed);
    if (!waiting_[i]->held)
      candidates_.push_back (static_cast<int> (i));
  }
  if (candidates_.empty ())
    return 0;
  budgets.running = live ();
  budgets.chunk = settings_.prefill_tokens;
  budgets.groups = layout_;
  for (int group = 0; group < kv_->groups (); group++)
    budgets.available[static_cast<size_t> (group)] = kv_->available (group);
  for (const auto &sequence : live_)
    budgets.owed_blocks += std::max (0, blocks_for (static_cast<int64_t> (sequence->tokens.size ())) -
                                            static_cast<int> (sequence->kv.tables[0].size ()));

  const auto candidate = [&] (size_t index) -> const Sequence & {
    return *waiting_[static_cast<size_t> (candidates_[index])];
  };
  waiting_views_.clear ();
  for (size_t i = 0; i < candidates_.size (); i++)
    waiting_views_.push_back ({.length = static_cast<int> (candidate (i).tokens.size ())});
  int fitting = plan_admission (waiting_views_, budgets);
  if (fitting < static_cast<int> (waiting_views_.size ()) && settings_.prefix_cache && budgets.running > 0) {
    const auto first = static_cast<size_t> (fitting);
    if (!candidate (first).pool.wants_all ())
      waiting_views_[first].pinned_blocks =
          kv_->pinned_blocks (candidate (first).tokens, candidate (first).kv.root);
    if (waiting_views_[first].pinned_blocks > 0)
      fitting = plan_admission (waiting_views_, budgets);
  }
  return fitting;
}

void
Scheduler::start (std::unique_ptr<Sequence> sequence, int64_t now)
{
  Request &request = *sequence->request;
  sequence->slot = free_slots_.back ();
  free_slots_.pop_back ();
  for (auto &table : sequence->kv.tables)
    table.reserve (static_cast<size_t> (blocks_for (sequence->max_tokens)));
  // Of one token nothing is looked up.
  const std::span<const TokenId> tokens = sequence->tokens;
  kv_->attach (sequence->kv, sequence->pool.wants_all () ? tokens.first (1) : tokens);
  if (sequence->state == RequestState::kWaiting) {
    request.statistics.queued_us = now - sequence->submitted_us;
    request.statistics.cached_tokens = sequence->kv.tokens;
    if (wants_counts (request.sampling)) {
      sequence->counts.reserve (sequence->max_tokens);
      sequence->counts.add_prompt (request.prompt);
    }
  }
  sequence->state = RequestState::kRunnable;
  sequence->idle_steps = 0;
  insert_by_rank (live_, std::move (sequence));
}

void
Scheduler::start_waiting (int64_t now)
{
  const int count = admissible ();
  if (count == 0)
    return;
  for (int i = 0; i < count; i++)
    start (std::move (waiting_[static_cast<size_t> (candidates_[static_cast<size_t> (i)])]), now);
  std::erase_if (waiting_, [] (const auto &sequence) { return !sequence; });
}

bool
Scheduler::all_held () const
{
  return std::ranges::all_of (live_, [] (const auto &sequence) { return sequence->held; });
}

/// Nothing runs: the newest of those that are held makes way for one that waits and is not. False: nobody wants to, or
/// nobody is in the way.
bool
Scheduler::give_way ()
{
  const auto ready = [] (const auto &sequence) {
    return !sequence->request->held.load (std::memory_order_relaxed);
  };
  if (live_.empty () || std::ranges::none_of (waiting_, ready))
    return false;
  preempt (live_.back ());
  live_.pop_back ();
  return true;
}

// A prompt that another one is ahead of takes over what that has computed; of those at the same place the first in
// rank computes and the others wait for it.
void
Scheduler::share_progress ()
{
  next_blocks_.clear ();
  for (size_t i = 0; i < live_.size (); i++) {
    Sequence &sequence = *live_[i];
    if (sequence.held || sequence.pool.wants_all () ||
        sequence.kv.tokens + 1 >= static_cast<int> (sequence.tokens.size ()))
      continue; // nobody waits for those that are held; for an embedding each token is computed
    const int gained = kv_->extend (sequence.kv, sequence.tokens);
    if (gained > 0 && sequence.generated () == 0)
      sequence.request->statistics.cached_tokens += gained;
    BlockHash block;
    if (kv_->next_block (sequence.kv, sequence.tokens, block))
      next_blocks_.emplace_back (block, static_cast<int> (i));
  }
  std::ranges::sort (next_blocks_, [] (const auto &a, const auto &b) {
    return a.first.low != b.first.low     ? a.first.low < b.first.low
           : a.first.high != b.first.high ? a.first.high < b.first.high
                                          : a.second < b.second;
  });
}

bool
Scheduler::memory_may_run_short () const
{
  // At most a block more for each row's pending token, one for its drafts, and the prompts' chunks.
  const int most = 3 * live () + blocks_for (settings_.prefill_tokens) + 1;
  for (int group = 0; group < kv_->groups (); group++) {
    if (kv_->available (group) < most)
      return true;
  }
  return false;
}

void
Scheduler::view_sequences ()
{
  const bool short_of_memory = memory_may_run_short ();
  views_.resize (live_.size ());
  for (size_t i = 0; i < live_.size (); i++) {
    const Sequence &sequence = *live_[i];
    SequenceView &view = views_[i];
    view.length = static_cast<int> (sequence.tokens.size ());
    view.kv_tokens = sequence.kv.tokens;
    view.draft_room = sequence.max_tokens - view.length - 1;
    view.generating = sequence.generated () > 0;
    view.follows = false;
    view.held = sequence.held;
    view.priority = sequence.request->priority;
    view.idle_steps = sequence.idle_steps;
    for (int group = 0; group < kv_->groups (); group++)
      view.entries[static_cast<size_t> (group)] =
          static_cast<int> (sequence.kv.tables[static_cast<size_t> (group)].size ());
    if (short_of_memory)
      view.releasable = kv_->releasable (sequence.kv);
  }
  for (size_t i = 1; i < next_blocks_.size (); i++) {
    if (next_blocks_[i].first == next_blocks_[i - 1].first)
      views_[static_cast<size_t> (next_blocks_[i].second)].follows = true;
  }
}

void
Scheduler::preempt (std::unique_ptr<Sequence> &sequence)
{
  release (*sequence);
  sequence->pool.reset ();
  sequence->state = RequestState::kBlockedOnMemory;
  sequence->request->statistics.preemptions++;
  statistics_.preemptions++;
  report_.preempted++;
  insert_by_rank (waiting_, std::move (sequence));
}

void
Scheduler::add_rows (Step &step)
{
  work_ = {};
  for (const auto &sequence : live_) {
    if (sequence && !sequence->held)
      sequence->idle_steps++;
  }
  for (const int index : plan_.blocked) {
    if (auto &sequence = live_[static_cast<size_t> (index)])
      sequence->state = RequestState::kBlockedOnMemory;
  }
  for (const RowPlan &planned : plan_.rows) {
    Sequence &sequence = *live_[static_cast<size_t> (planned.sequence)];
    const int end =
        sequence.kv.tokens + planned.prefill_tokens + (planned.scored ? 1 + planned.draft_limit : 0);
    if (!kv_->reserve (sequence.kv, end))
      continue; // the plan's arithmetic forbids it; the next plan sees what there really is
    Row &row = step.rows.emplace_back ();
    row.sequence = &sequence;
    row.position = sequence.kv.tokens;
    row.prefill_tokens = planned.prefill_tokens;
    row.scored = planned.scored;
    row.draft_limit = planned.draft_limit;
    sequence.state = RequestState::kRunning;
    sequence.idle_steps = 0;
    sequence.request->statistics.steps++;
    work_.prefill_tokens += row.prefill_tokens;
    work_.prefill_positions += row.prefill_tokens * (row.position + 0.5 * row.prefill_tokens);
    work_.prefill_lengths += row.prefill_tokens > 0 ? row.position : 0;
  }
}

void
Scheduler::plan_rows (Step &step, int64_t now)
{
  start_waiting (now);
  while (all_held () && give_way ())
    start_waiting (now);
  if (all_held ())
    return;
  share_progress ();
  view_sequences ();
  Budgets budgets;
  budgets.prefill_tokens = settings_.prefill_tokens;
  budgets.max_draft = settings_.max_draft;
  budgets.max_step_ms = settings_.max_step_ms;
  budgets.max_growth = std::max (kCautiousPrefill, 2 * recent_prefill_);
  budgets.cost = settings_.learn_cost ? &cost_ : nullptr;
  budgets.decode_only = mixed_steps_ >= kMixedSteps;
  budgets.groups = layout_;
  for (int group = 0; group < kv_->groups (); group++)
    budgets.available[static_cast<size_t> (group)] = kv_->available (group);
  budgets.whole_blocks = kv_->has_recurrent () && settings_.prefix_cache;
  if (settings_.plan)
    settings_.plan (views_, budgets, plan_);
  else
    planner_.plan (views_, budgets, plan_);
  for (const int index : plan_.preempted)
    preempt (live_[static_cast<size_t> (index)]);
  add_rows (step);
  std::erase_if (live_, [] (const auto &sequence) { return !sequence; });
}

/// Somebody could run and got no row. Cannot happen while the planner keeps its promise to the first in rank. Better a
/// failed request than a hang.
void
Scheduler::end_stuck ()
{
  const auto ready = std::ranges::find_if (live_, [] (const auto &sequence) { return !sequence->held; });
  Sequence *stuck = ready != live_.end () ? ready->get () : nullptr;
  if (!stuck && live_.empty () && !candidates_.empty ())
    stuck = waiting_[static_cast<size_t> (candidates_.front ())].get ();
  stalled_ = !stuck;
  if (!stuck)
    return;
  stuck->request->error = {"internal", {}, "the scheduler found no way to run this request"};
  stuck->request->end (FinishReason::kError);
  remove_ended ();
}

bool
Scheduler::plan (Step &step)
{
  const int64_t began = settings_.clock ();
  step.number = statistics_.steps;
  step.clock = settings_.clock;
  step.context = context_.get ();
  step.drafting = &drafting_;
  step.drafting_us = 0;
  step.vocab = model_->spec.vocab;
  step.rows.clear ();
  step.top_logprobs.clear ();
  step.stage_times.clear ();
  step.slice_tokens.reserve (static_cast<size_t> (context_->max_tokens ()));
  step.recurrent_groups.clear ();
  for (int group = 0; group < kv_->groups (); group++) {
    if (layout_[static_cast<size_t> (group)].kind == KvGroup::Kind::kRecurrent)
      step.recurrent_groups.push_back (group);
  }

  expire (began);
  remove_ended ();
  note_holds ();
  stalled_ = false;
  report_.preempted = 0;
  plan_.rows.clear ();
  plan_.blocked.clear ();
  // A plan that could only preempt leaves no row; with what that freed, the next one has some.
  for (int attempt = 0; attempt < kPlanAttempts && step.rows.empty (); attempt++)
    plan_rows (step, began);
  if (step.rows.empty () && leaving_.empty () && !idle ())
    end_stuck ();

  for (const auto &sequence : leaving_) {
    Row &row = step.rows.emplace_back ();
    row.sequence = sequence.get ();
    row.finish = sequence->request->finish_early;
  }
  planned_us_ = settings_.clock ();
  report_.plan_us = planned_us_ - began;
  return !step.rows.empty ();
}

} // namespace millrace
