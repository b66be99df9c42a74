#include "elements/scheduler_inbox.hpp"

#include <algorithm>
#include <chrono>
#include <iterator>
#include <utility>

namespace millrace
{

SchedulerInbox::SchedulerInbox ()
{
  gst_segment_init (&segment_, GST_FORMAT_TIME);
}

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
SchedulerInbox::submit (GstPad *pad, MillraceRequest *request)
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
    if (refuses (pad) || flushing_)
      return refuses (pad);
    return flow_ != GST_FLOW_OK ||
           (wanted.error || when_full_ == WhenFull::kReject ? rejected_ : queued ()) < max_queued_;
  });
  if (refuses (pad))
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
  request_timing (request).number = next_number_;
  open_.insert (next_number_++);
  waits_.known.insert_or_assign (millrace_request_get_id (request), Ref<MillraceRequest>::share (request));
  waits_.queue.push_back (share_request (request));
  work_.notify_one ();
  lock.unlock ();
  if (accepted)
    reply.accepted ();
  return GST_FLOW_OK;
}

bool
SchedulerInbox::submit_event (GstPad *pad, GstEvent *event)
{
  auto placed = Ref<GstEvent>::adopt (event);
  std::unique_lock lock (mutex_);
  room_.wait (lock, [&] { return refuses (pad) || !flushing_; });
  if (refuses (pad) || flow_ != GST_FLOW_OK)
    return false;
  if (GST_EVENT_TYPE (event) == GST_EVENT_SEGMENT)
    gst_event_copy_segment (event, &segment_);
  // A stream that is silent for long says so again and again; the last of it is all that matters.
  if (GST_EVENT_TYPE (event) == GST_EVENT_GAP && !waits_.events.empty () &&
      waits_.events.back ().before == next_number_ &&
      GST_EVENT_TYPE (waits_.events.back ().event.get ()) == GST_EVENT_GAP)
    waits_.events.pop_back ();
  waits_.events.push_back ({next_number_, std::move (placed)});
  work_.notify_one ();
  return true;
}

GstClockTime
SchedulerInbox::convert_time (GstPad *pad, GstClockTime time)
{
  const auto sticky = Ref<GstEvent>::adopt (gst_pad_get_sticky_event (pad, GST_EVENT_SEGMENT, 0));
  if (!sticky || !GST_CLOCK_TIME_IS_VALID (time))
    return time;
  const GstSegment *theirs = nullptr;
  gst_event_parse_segment (sticky.get (), &theirs);
  const std::lock_guard lock (mutex_);
  if (theirs->format != GST_FORMAT_TIME || gst_segment_is_equal (theirs, &segment_))
    return time;
  return gst_segment_position_from_running_time (&segment_, GST_FORMAT_TIME,
                                                 gst_segment_to_running_time (theirs, GST_FORMAT_TIME, time));
}

// Those before which everything has ended.
void
SchedulerInbox::take_events (std::vector<Ref<GstEvent>> &events)
{
  while (!waits_.events.empty () && (open_.empty () || *open_.begin () >= waits_.events.front ().before)) {
    events.push_back (std::move (waits_.events.front ().event));
    waits_.events.pop_front ();
  }
}

// Up to the next change of segment.
void
SchedulerInbox::take_requests (std::deque<std::shared_ptr<Request>> &requests)
{
  const auto barrier =
      std::find_if (waits_.events.begin (), waits_.events.end (), [] (const PlacedEvent &placed) {
        return GST_EVENT_TYPE (placed.event.get ()) == GST_EVENT_SEGMENT;
      });
  const uint64_t end = barrier == waits_.events.end () ? next_number_ : barrier->before;
  size_t failed = 0;
  for (uint64_t number = next_number_ - waits_.queue.size (); number < end; number++) {
    failed += static_cast<bool> (waits_.queue.front ()->error);
    waiting_ += !waits_.queue.front ()->error; // until settle () knows better
    requests.push_back (std::move (waits_.queue.front ()));
    waits_.queue.pop_front ();
  }
  rejected_ -= failed;
  if (failed > 0)
    room_.notify_all ();
}

GstFlowReturn
SchedulerInbox::take (Arrivals &arrived, const Scheduler &scheduler)
{
  const bool idle = scheduler.idle (), stalled = scheduler.stalled ();
  const auto until =
      std::chrono::steady_clock::now () +
      std::chrono::microseconds (
          stalled ? std::clamp<int64_t> (scheduler.next_deadline_us () - steady_now_us (), 0, kRecheckUs)
                  : 0);
  std::unique_lock lock (mutex_);
  for (;;) {
    if (!active_ || flushing_)
      return GST_FLOW_FLUSHING;
    arrived.new_stream |= std::exchange (new_stream_, false);
    take_events (arrived.events);
    take_requests (arrived.requests);
    if (!arrived.events.empty () || !arrived.requests.empty ())
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
  const auto found = waits_.known.find (id);
  return found != waits_.known.end () ? found->second : Ref<MillraceRequest> ();
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
    open_.erase (request_timing (request_object (*request)).number);
    auto found = waits_.known.find (request->id);
    if (found != waits_.known.end () && found->second.get () == request_object (*request))
      waits_.known.erase (found);
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
  Waiting dropped; // let go of without the lock: whoever hears of it may ask the element something
  std::lock_guard lock (mutex_);
  flow_ = flow;
  dropped = drop ();
}

void
SchedulerInbox::clear ()
{
  Waiting dropped; // as above
  std::lock_guard lock (mutex_);
  dropped = drop ();
}

SchedulerInbox::Waiting
SchedulerInbox::drop ()
{
  Waiting dropped = std::exchange (waits_, {});
  open_.clear ();
  next_number_ = 0;
  gst_segment_init (&segment_, GST_FORMAT_TIME);
  rejected_ = 0;
  waiting_ = 0;
  snapshot_.clear_load ();
  room_.notify_all ();
  return dropped;
}

void
SchedulerInbox::set_active (bool active)
{
  std::unique_lock lock (mutex_);
  active_ = active;
  flushing_ = new_stream_ = false;
  for (auto &[pad, input] : inputs_)
    input.flushing = input.awaited = false;
  if (active)
    flow_ = GST_FLOW_OK;
  work_.notify_all ();
  room_.notify_all ();
  room_.wait (lock, [&] { return active || !ending_; });
}

bool
SchedulerInbox::refuses (GstPad *pad) const
{
  const auto found = inputs_.find (pad);
  return !active_ || (found != inputs_.end () && found->second.flushing);
}

bool
SchedulerInbox::start_flush (GstPad *pad)
{
  std::lock_guard lock (mutex_);
  if (!active_)
    return false;
  inputs_[pad].flushing = true;
  work_.notify_all ();
  room_.notify_all ();
  return !std::exchange (flushing_, true);
}

bool
SchedulerInbox::last_has_flushed ()
{
  const bool last = flushing_ && std::none_of (inputs_.begin (), inputs_.end (), [] (const auto &input) {
                      return input.second.flushing || input.second.awaited;
                    });
  ending_ = ending_ || last;
  return last;
}

bool
SchedulerInbox::stop_flush (GstPad *pad)
{
  std::lock_guard lock (mutex_);
  inputs_[pad] = {}; // at its end no more, either
  room_.notify_all ();
  return last_has_flushed ();
}

void
SchedulerInbox::await_flushes ()
{
  std::lock_guard lock (mutex_);
  for (auto &[pad, input] : inputs_)
    input.awaited = true;
}

bool
SchedulerInbox::await_no_more ()
{
  std::lock_guard lock (mutex_);
  bool awaited = false; // else the flush has been ended by the last pad
  for (auto &[pad, input] : inputs_)
    awaited |= std::exchange (input.awaited, false);
  return awaited && last_has_flushed ();
}

void
SchedulerInbox::end_flush ()
{
  std::lock_guard lock (mutex_);
  flushing_ = false;
  flow_ = GST_FLOW_OK;
  room_.notify_all ();
}

void
SchedulerInbox::ended_flush ()
{
  std::lock_guard lock (mutex_);
  ending_ = false;
  room_.notify_all ();
}

void
SchedulerInbox::add_pad (GstPad *pad)
{
  std::lock_guard lock (mutex_);
  inputs_[pad] = {};
}

bool
SchedulerInbox::forget_pad (GstPad *pad)
{
  std::lock_guard lock (mutex_);
  const auto found = inputs_.find (pad);
  if (found == inputs_.end ())
    return false;
  const bool flushed = found->second.flushing || found->second.awaited;
  inputs_.erase (found);
  work_.notify_all (); // it may have been the last one without EOS
  return flushed && last_has_flushed ();
}

void
SchedulerInbox::set_eos (GstPad *pad)
{
  std::lock_guard lock (mutex_);
  inputs_[pad].eos = true;
  work_.notify_all ();
}

bool
SchedulerInbox::clear_eos (GstPad *pad)
{
  std::lock_guard lock (mutex_);
  inputs_[pad].eos = false;
  if (flow_ != GST_FLOW_EOS || !active_ || flushing_)
    return false;
  flow_ = GST_FLOW_OK;
  return new_stream_ = true;
}

void
SchedulerInbox::clear_eos ()
{
  std::lock_guard lock (mutex_);
  for (auto &[pad, input] : inputs_)
    input.eos = false;
}

std::vector<uint64_t>
SchedulerInbox::open_numbers ()
{
  std::lock_guard lock (mutex_);
  std::vector<uint64_t> numbers (open_.begin (), open_.end ());
  numbers.push_back (next_number_);
  return numbers;
}

bool
SchedulerInbox::all_eos () const
{
  return !inputs_.empty () &&
         std::all_of (inputs_.begin (), inputs_.end (), [] (const auto &input) { return input.second.eos; });
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
