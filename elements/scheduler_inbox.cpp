#include "elements/scheduler_inbox.hpp"

#include <algorithm>
#include <iterator>

namespace millrace
{

void
SchedulerInbox::open (guint max_queued, int blocks)
{
  std::lock_guard lock (mutex_);
  max_queued_ = max_queued;
  blocks_ = blocks;
  totals_ = {};
}

GstFlowReturn
SchedulerInbox::submit (MillraceRequest *request)
{
  std::unique_lock lock (mutex_);
  room_.wait (lock,
              [&] { return flushing_ || flow_ != GST_FLOW_OK || queue_.size () + waiting_ < max_queued_; });
  if (flushing_)
    return GST_FLOW_FLUSHING;
  if (flow_ != GST_FLOW_OK)
    return flow_;
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
    std::move (queue_.begin (), queue_.end (), std::back_inserter (arrived));
    queue_.clear ();
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
  live_ = scheduler.live ();
  blocks_used_ = scheduler.blocks ().used ();
  totals_ = scheduler.statistics ();
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
  waiting_ = live_ = blocks_used_ = 0;
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
  return gst_structure_new (
      "application/x-llm-scheduler-stats", "steps", G_TYPE_UINT64, totals_.steps, "running", G_TYPE_INT,
      live_, "queued", G_TYPE_INT, static_cast<int> (queue_.size ()) + waiting_, "finished", G_TYPE_UINT64,
      totals_.finished, "prompt-tokens", G_TYPE_UINT64, totals_.prompt_tokens, "generated-tokens",
      G_TYPE_UINT64, totals_.generated_tokens, "drafted-tokens", G_TYPE_UINT64, totals_.drafted,
      "accepted-tokens", G_TYPE_UINT64, totals_.accepted, "kv-blocks", G_TYPE_INT, blocks_, "kv-blocks-used",
      G_TYPE_INT, blocks_used_, nullptr);
}

} // namespace millrace
