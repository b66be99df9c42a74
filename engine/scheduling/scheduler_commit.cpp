// After a step: what the stages wrote is taken over, what has ended lets go.
#include "engine/model/forward.hpp"
#include "engine/scheduling/scheduler.hpp"

#include <algorithm>

namespace millrace
{

namespace
{

constexpr int kMinSavedTokens = 256; ///< shorter ones are computed as fast as read

std::span<const TokenId>
computed (const Sequence &sequence)
{
  return std::span (sequence.tokens).first (static_cast<size_t> (sequence.kv.tokens));
}

} // namespace

void
Scheduler::release (Sequence &sequence)
{
  if (sequence.slot < 0)
    return;
  kv_->release (sequence.kv, computed (sequence));
  free_slots_.push_back (sequence.slot);
  sequence.slot = -1;
}

/// Takes over what the stages wrote. True when the request has ended.
bool
Scheduler::settle_row (Row &row, int64_t now)
{
  Sequence &sequence = *row.sequence;
  RequestStatistics &request = sequence.request->statistics;
  if (sequence.slot >= 0 && row.finish != FinishReason::kError) {
    request.prefill_tokens += row.prefill_tokens;
    statistics_.prefill_tokens += static_cast<uint64_t> (row.prefill_tokens);
    int valid = row.position + row.prefill_tokens; // positions with KV
    if (sequence.pool.active () && row.finish == FinishReason::kStop)
      valid++; // the pending token's too
    if (row.accepted_count > 0) {
      if (request.first_token_us == 0)
        request.first_token_us = now - sequence.submitted_us;
      for (int i = 0; i < row.accepted_count; i++)
        sequence.tokens.push_back (row.accepted[static_cast<size_t> (i)].token);
      request.generated += row.accepted_count;
      statistics_.generated_tokens += static_cast<uint64_t> (row.accepted_count);
      if (row.draft.count > 0)
        statistics_.drafting.count (row.draft, row.right_drafts ());
      drafting_.settle (row);
      // All but the newest token have their KV: rejected drafts lie beyond and will be overwritten.
      valid += row.accepted_count;
      if (kv_->has_recurrent () && row.accepted_count <= row.draft.count) {
        kv_->restore_checkpoint (sequence.kv, row.checkpoint);
        valid = row.checkpoint;
      }
    }
    kv_->commit (sequence.kv, std::span (sequence.tokens).first (static_cast<size_t> (valid)),
                 sequence.generated () > 0);
  }
  if (!row.ended ())
    return false;
  statistics_.drafting.pauses += request.drafting.pauses;
  statistics_.drafting.drafting_us += request.drafting.drafting_us;
  statistics_.drafting.verifying_us += request.drafting.verifying_us;
  statistics_.drafting.saved_us += request.drafting.saved_us;
  if (request.total_us == 0)
    request.total_us = now - sequence.submitted_us;
  sequence.state = row.finish == FinishReason::kError ? RequestState::kFailed
                   : row.finish == FinishReason::kStop || row.finish == FinishReason::kLength
                       ? RequestState::kFinished
                       : RequestState::kCancelled;
  if (sequence.slot >= 0 && sequence.prompt_tokens >= kMinSavedTokens)
    kv_->save (sequence.kv);
  release (sequence);
  return true;
}

void
Scheduler::commit (Step &step)
{
  const int64_t now = settings_.clock ();
  statistics_.steps++;
  finished_.clear ();
  report_.number = step.number;
  report_.rows = static_cast<int> (step.rows.size ());
  report_.accepted_tokens = 0;
  double scored_length = 0;
  int largest_chunk = 0;
  for (Row &row : step.rows) {
    largest_chunk = std::max (largest_chunk, row.prefill_tokens);
    if (row.scored && row.sequence->slot >= 0) {
      work_.scored_tokens += 1 + row.draft.count;
      scored_length += static_cast<double> (row.sequence->tokens.size ());
      work_.scored_positions += (1 + row.draft.count) * static_cast<double> (row.sequence->tokens.size ());
    }
    report_.accepted_tokens += row.accepted_count;
    if (settle_row (row, now)) {
      finished_.push_back (row.sequence->request);
      statistics_.finished++;
      if (last_end_us_ > 0)
        ms_per_request_ += (static_cast<double> (now - last_end_us_) / 1000 - ms_per_request_) * 0.1;
      last_end_us_ = now;
    }
  }
  const double milliseconds = static_cast<double> (now - planned_us_) / 1000;
  if (settings_.learn_cost)
    cost_.learn (work_, milliseconds);
  // What is computed again after a broken draft runs beside the scored tokens, as one pass.
  if (work_.scored_tokens > 0 && largest_chunk <= kDeferBelow)
    drafting_.learn (work_.scored_tokens + work_.prefill_tokens, scored_length, cost_.position_ms (),
                     milliseconds - static_cast<double> (step.drafting_us) / 1000);
  if (work_.prefill_tokens > 0 && work_.scored_tokens > 0)
    recent_prefill_ = work_.prefill_tokens;
  if (work_.scored_tokens > 0)
    mixed_steps_ = work_.prefill_tokens > 0 ? mixed_steps_ + 1 : 0;

  report_.prefill_tokens = work_.prefill_tokens;
  report_.scored_tokens = work_.scored_tokens;
  report_.prefill_budget = plan_.prefill_budget;
  report_.blocked = static_cast<int> (plan_.blocked.size ());
  report_.predicted_ms = plan_.predicted_ms;
  report_.step_us = now - planned_us_;
  report_.stages.assign (step.stage_times.begin (), step.stage_times.end ());

  if (!finished_.empty ()) {
    leaving_.clear ();
    std::erase_if (live_, [] (const auto &sequence) { return sequence->slot < 0; });
  }
  report_.running = live ();
  report_.waiting = waiting ();
  work_ = {};
  step.rows.clear ();
}

int64_t
Scheduler::retry_after_ms () const
{
  return std::clamp<int64_t> (static_cast<int64_t> (ms_per_request_ * (waiting () + 1)), 1000, 60'000);
}

void
Scheduler::clear ()
{
  waiting_.clear ();
  leaving_.clear ();
  finished_.clear ();
  for (auto &sequence : live_)
    release (*sequence);
  live_.clear ();
  drafting_.clear ();
  work_ = {};
  stalled_ = false;
}

std::string
Scheduler::inconsistency () const
{
  std::vector<const SequenceKv *> sequences;
  for (const auto &sequence : live_)
    sequences.push_back (&sequence->kv);
  return kv_->inconsistency (sequences);
}

} // namespace millrace
