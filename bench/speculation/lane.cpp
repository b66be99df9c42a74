#include "bench/speculation/lane.hpp"

#include "engine/kv/kv_layout.hpp"
#include "engine/model/forward.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

namespace millrace::bench
{

namespace
{

constexpr float kScripted = 1e6F; ///< a logit that no other token stands a chance against

SchedulerSettings
scheduler_settings (const Model &model, const LaneSettings &lane)
{
  SchedulerSettings settings{
      .max_batch = lane.streams, .max_draft = kMaxDraft, .kv_type = lane.kv_type, .clock = lane.clock};
  for (const KvGroup &group : model.compiled->kv_layout (lane.kv_type))
    settings.kv_bytes += group.block_bytes * static_cast<size_t> (table_size (group, lane.positions) + 2);
  settings.kv_bytes *= 2 * static_cast<size_t> (lane.streams);
  return settings;
}

size_t
job_of (const Row &row, std::span<const Job> jobs)
{
  return static_cast<size_t> (static_cast<const Job *> (row.sequence->request->owner) - jobs.data ());
}

std::shared_ptr<Request>
request_of (const Job &job)
{
  auto request = std::make_shared<Request> ();
  request->prompt.assign (job.prompt.begin (), job.prompt.end ());
  request->sampling = job.sampling;
  request->owner = const_cast<Job *> (&job); // comes back from row.sequence->request, const again
  return request;
}

} // namespace

Lane::Lane (std::shared_ptr<const Model> model, const Mode &mode, std::shared_ptr<const Model> draft_model,
            const LaneSettings &settings)
    : mode_ (mode)
    , clock_ (settings.clock)
    , scheduler_ (model, scheduler_settings (*model, settings))
    , drafters_ (make_drafters (mode, std::move (draft_model), settings.ungated))
{
}

/// Puts the prompts into the cache, so that the streams of a run start together.
void
Lane::prime (std::span<const Job> jobs)
{
  for (const Job &job : jobs) {
    auto request = request_of (job);
    request->sampling.max_tokens = 1;
    scheduler_.admit (request);
  }
  while (scheduler_.plan (step_)) {
    prefill (step_, kDeferBelow);
    verify (step_);
    sampler_.sample (step_);
    scheduler_.commit (step_);
  }
}

double
RunResult::speed () const
{
  double logs = 0;
  int streams = 0;
  for (const double rate : stream_rates) {
    if (rate <= 0)
      continue;
    logs += std::log (rate);
    streams++;
  }
  return streams > 0 ? streams * std::exp (logs / streams) : 0;
}

/// Microseconds.
double
Lane::draft ()
{
  if (drafters_.empty ())
    return 0;
  const int64_t began = clock_ ();
  for (const auto &drafter : drafters_)
    drafter->draft (step_);
  return static_cast<double> (clock_ () - began);
}

void
Lane::say_script ()
{
  for (Row &row : step_.rows) {
    if (row.ended () || !row.logits)
      continue;
    const std::vector<TokenId> *script = jobs_[job_of (row, jobs_)].script;
    if (!script)
      continue;
    auto next = static_cast<size_t> (row.sequence->generated ());
    for (int i = 0; i <= row.draft.count && next < script->size (); i++, next++)
      row.logits[static_cast<size_t> (i) * static_cast<size_t> (step_.vocab) +
                 static_cast<size_t> ((*script)[next])] = kScripted;
  }
}

void
Lane::note_end (size_t job)
{
  if (said_before_.empty ())
    return; // in begin ()
  const double seconds = result_.seconds + static_cast<double> (clock_ () - advance_began_) / 1e6;
  const size_t tokens = result_.outputs[job].size () - said_before_[job];
  result_.stream_rates[job] = seconds > 0 ? static_cast<double> (tokens) / seconds : 0;
}

/// False: nothing is left to be done.
bool
Lane::turn ()
{
  const int64_t began = clock_ ();
  if (!scheduler_.plan (step_))
    return false;
  Turn turn;
  prefill (step_, kDeferBelow);
  result_.drafters_us += draft ();
  if (hook_)
    for (Row &row : step_.rows)
      if (row.scored && !row.ended ())
        hook_ (row, job_of (row, jobs_));
  if (step_.drafting)
    step_.drafting->choose (step_);
  verify (step_);
  say_script ();
  sampler_.sample (step_);
  for (const Row &row : step_.rows) {
    if (row.finish == FinishReason::kError)
      throw std::runtime_error ("a request failed: " + row.sequence->request->error.message);
    const int right = row.right_drafts ();
    turn.scored += row.scored ? 1 + row.draft.count : 0;
    turn.right += right;
    if (row.draft.count > 0)
      result_.drafting.count (row.draft, right);
    auto &output = result_.outputs[job_of (row, jobs_)];
    for (int i = 0; i < row.accepted_count; i++)
      output.push_back (row.accepted[static_cast<size_t> (i)].token);
    result_.tokens += row.accepted_count;
    if (row.ended ())
      note_end (job_of (row, jobs_));
  }
  scheduler_.commit (step_);
  for (const auto &request : scheduler_.finished ())
    result_.drafting.pauses += request->statistics.drafting.pauses;
  turn.milliseconds = static_cast<double> (clock_ () - began) / 1e3;
  result_.turns.push_back (turn);
  return true;
}

void
Lane::begin (std::span<const Job> jobs, const DraftHook &hook)
{
  prime (jobs);
  jobs_ = jobs;
  hook_ = hook;
  for (const Job &job : jobs)
    scheduler_.admit (request_of (job));
  result_ = {};
  result_.outputs.resize (jobs.size ());
  result_.stream_rates.resize (jobs.size ());
  said_before_.clear ();
  size_t room = 0;
  for (const Job &job : jobs)
    room = std::max (room, static_cast<size_t> (job.sampling.max_tokens));
  result_.turns.reserve (room + jobs.size () + 1);
  for (auto &output : result_.outputs)
    output.reserve (room);
  const auto silent = [] (const auto &output) { return output.empty (); };
  while (std::ranges::any_of (result_.outputs, silent) && turn ()) {
  }
  for (const auto &output : result_.outputs)
    said_before_.push_back (output.size ());
  result_.turns.clear ();
  result_.tokens = 0;
  result_.drafters_us = 0;
}

bool
Lane::advance (int64_t tokens)
{
  advance_began_ = clock_ ();
  bool more = true;
  while (result_.tokens < tokens && more)
    more = turn ();
  result_.seconds += static_cast<double> (clock_ () - advance_began_) / 1e6;
  return more;
}

RunResult
Lane::finish ()
{
  jobs_ = {};
  hook_ = {};
  return std::move (result_);
}

RunResult
Lane::run (std::span<const Job> jobs, const DraftHook &hook)
{
  begin (jobs, hook);
  while (advance (std::numeric_limits<int64_t>::max ())) {
  }
  return finish ();
}

} // namespace millrace::bench
