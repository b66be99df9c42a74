#include "elements/scheduler_inbox.hpp"

#include <algorithm>
#include <chrono>
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
  limits_ = std::make_shared<const AdmissionLimits> (scheduler.limits ());
  snapshot_.take (scheduler);
}

GstFlowReturn
SchedulerInbox::submit (MillraceRequest *request)
{
  Request &wanted = engine_request (request);
  wanted.submitted_us = steady_now_us ();
  const ReplySlot reply = reply_slot (request); // the loop may end the request before this returns
  std::unique_lock lock (mutex_);
  if (const auto limits = limits_) {
    lock.unlock ();
    wanted.error = limits->check (wanted);
    lock.lock ();
  }
  // Rejected requests pass the queue too, and must not grow it without bound either.
  room_.wait (lock, [&] {
    return flushing_ || flow_ != GST_FLOW_OK ||
           (wanted.error || when_full_ == WhenFull::kReject ? rejected_ : queued ()) < max_queued_;
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
    all_rejected_++;
  }
  const bool accepted = !wanted.error;
  rejected_ += !accepted;
  known_.insert_or_assign (millrace_request_get_id (request), Ref<MillraceRequest>::share (request));
  queue_.push_back (share_request (request));
  work_.notify_one ();
  lock.unlock ();
  if (accepted)
    reply.accepted ();
  return GST_FLOW_OK;
}

GstFlowReturn
SchedulerInbox::take (std::deque<std::shared_ptr<Request>> &arrived, const Scheduler &scheduler)
{
  const bool idle = scheduler.idle (), stalled = scheduler.stalled ();
  const auto until =
      std::chrono::steady_clock::now () +
      std::chrono::microseconds (
          stalled ? std::clamp<int64_t> (scheduler.next_deadline_us () - steady_now_us (), 0, kRecheckUs)
                  : 0);
  std::unique_lock lock (mutex_);
  for (;;) {
    if (flushing_)
      return GST_FLOW_FLUSHING;
    waiting_ += static_cast<int> (queue_.size () - rejected_); // until settle () knows better
    std::move (queue_.begin (), queue_.end (), std::back_inserter (arrived));
    queue_.clear ();
    if (std::exchange (rejected_, 0) > 0)
      room_.notify_all ();
    if (!arrived.empty ())
      return GST_FLOW_OK;
    const bool woken = std::exchange (woken_, false);
    if (idle) {
      if (all_eos ())
        return GST_FLOW_EOS;
      work_.wait (lock);
    } else if (!stalled || woken || work_.wait_until (lock, until) == std::cv_status::timeout) {
      return GST_FLOW_OK;
    }
  }
}

Ref<MillraceRequest>
SchedulerInbox::find (const char *id)
{
  std::lock_guard lock (mutex_);
  const auto found = known_.find (id);
  return found != known_.end () ? found->second : Ref<MillraceRequest> ();
}

/// After what the loop is to see has been done.
void
SchedulerInbox::wake ()
{
  std::lock_guard lock (mutex_);
  woken_ = true;
  work_.notify_all ();
}

bool
SchedulerInbox::cancel (const char *id)
{
  const auto request = find (id);
  if (!request)
    return false;
  millrace_request_cancel (request.get ());
  wake ();
  return true;
}

bool
SchedulerInbox::hold (const char *id, bool held)
{
  const auto request = find (id);
  if (!request)
    return false;
  engine_request (request.get ()).held = held;
  if (!held)
    wake ();
  return true;
}

void
SchedulerInbox::planned (const Scheduler &scheduler)
{
  std::lock_guard lock (mutex_);
  if (scheduler.waiting () < waiting_)
    room_.notify_all ();
  waiting_ = snapshot_.waiting = scheduler.waiting ();
  snapshot_.running = scheduler.live ();
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
