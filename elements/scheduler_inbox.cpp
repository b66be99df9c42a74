#include "elements/scheduler_inbox.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

namespace millrace
{

void
SchedulerInbox::open (guint max_queued, WhenFull when_full, const Scheduler &scheduler)
{
  std::lock_guard lock (mutex_);
  max_queued_ = max_queued;
  when_full_ = when_full;
  all_rejected_ = 0;
  snapshot_.take (scheduler);
}

GstFlowReturn
SchedulerInbox::submit (MillraceRequest *request)
{
  Request &wanted = engine_request (request);
  wanted.submitted_us = steady_now_us ();
  std::unique_lock lock (mutex_);
  // Rejected requests pass the queue too, and must not grow it without bound either.
  room_.wait (lock, [&] {
    return flushing_ || flow_ != GST_FLOW_OK ||
           (when_full_ == WhenFull::kReject ? rejected_ : queued ()) < max_queued_;
  });
  if (flushing_)
    return GST_FLOW_FLUSHING;
  if (flow_ != GST_FLOW_OK)
    return flow_;
  if (when_full_ == WhenFull::kReject && queued () >= max_queued_ && !wanted.error) {
    wanted.retry_after_ms = retry_after_ms_;
    wanted.error = {"queue_full", "",
                    std::to_string (queued ()) +
                        " requests wait already, as many as max-queued allows; try again in " +
                        std::to_string ((retry_after_ms_ + 999) / 1000) + " s"};
    rejected_++;
    all_rejected_++;
  }
  known_.insert_or_assign (millrace_request_get_id (request), Ref<MillraceRequest>::share (request));
  queue_.push_back (share_request (request));
  work_.notify_one ();
  return GST_FLOW_OK;
}

GstFlowReturn
SchedulerInbox::take (std::deque<std::shared_ptr<Request>> &arrived, bool idle)
{
  std::unique_lock lock (mutex_);
  for (;;) {
    if (flushing_)
      return GST_FLOW_FLUSHING;
    waiting_ += static_cast<int> (queue_.size () - rejected_); // until settle () knows better
    std::move (queue_.begin (), queue_.end (), std::back_inserter (arrived));
    queue_.clear ();
    if (std::exchange (rejected_, 0) > 0)
      room_.notify_all ();
    if (!idle || !arrived.empty ())
      return GST_FLOW_OK;
    if (all_eos ())
      return GST_FLOW_EOS;
    work_.wait (lock);
  }
}

bool
SchedulerInbox::cancel (const char *id)
{
  Ref<MillraceRequest> request;
  {
    std::lock_guard lock (mutex_);
    if (auto found = known_.find (id); found != known_.end ())
      request = found->second;
  }
  if (request)
    millrace_request_cancel (request.get ());
  return static_cast<bool> (request);
}

void
SchedulerInbox::settle (const Scheduler &scheduler)
{
  std::lock_guard lock (mutex_);
  for (const auto &request : scheduler.finished ()) {
    auto found = known_.find (request->id);
    if (found != known_.end () && found->second.get () == request_object (*request))
      known_.erase (found);
  }
  const bool may_have_room = scheduler.waiting () < waiting_ || !scheduler.finished ().empty ();
  waiting_ = scheduler.waiting ();
  retry_after_ms_ = scheduler.retry_after_ms ();
  snapshot_.take (scheduler);
  if (may_have_room)
    room_.notify_all ();
}

void
SchedulerInbox::stop (GstFlowReturn flow)
{
  std::lock_guard lock (mutex_);
  flow_ = flow;
  room_.notify_all ();
}

void
SchedulerInbox::clear ()
{
  std::lock_guard lock (mutex_);
  queue_.clear ();
  known_.clear ();
  rejected_ = 0;
  waiting_ = 0;
  snapshot_.clear_load ();
  room_.notify_all ();
}

void
SchedulerInbox::set_flushing (bool flushing)
{
  std::lock_guard lock (mutex_);
  flushing_ = flushing;
  if (!flushing)
    flow_ = GST_FLOW_OK;
  work_.notify_all ();
  room_.notify_all ();
}

void
SchedulerInbox::set_eos (GstPad *pad, bool eos)
{
  std::lock_guard lock (mutex_);
  eos_[pad] = eos;
  work_.notify_all ();
}

void
SchedulerInbox::forget_pad (GstPad *pad)
{
  std::lock_guard lock (mutex_);
  eos_.erase (pad);
  work_.notify_all (); // it may have been the last one without EOS
}

void
SchedulerInbox::clear_eos ()
{
  std::lock_guard lock (mutex_);
  for (auto &[pad, eos] : eos_)
    eos = false;
}

bool
SchedulerInbox::all_eos () const
{
  return !eos_.empty () &&
         std::all_of (eos_.begin (), eos_.end (), [] (const auto &pad) { return pad.second; });
}

GstStructure *
SchedulerInbox::statistics ()
{
  std::lock_guard lock (mutex_);
  GstStructure *structure = snapshot_.to_structure ("application/x-llm-scheduler-stats");
  gst_structure_set (structure, "queued", G_TYPE_INT, static_cast<int> (queued ()), "rejected", G_TYPE_UINT64,
                     all_rejected_, nullptr);
  return structure;
}

} // namespace millrace
