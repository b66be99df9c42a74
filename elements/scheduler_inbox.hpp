// Where the scheduler's sources and its loop meet: requests and events come in, the loop takes them out.
//
// Events keep their place among the requests: one leaves when all requests before it have ended, and behind a SEGMENT
// event no request is taken before that, since its timestamps are of the new segment.
//
// Any thread may call anything; take () belongs to the loop's thread. No lock is held on return, and nothing is
// called out to while one is held.
#pragma once

#include "elements/scheduler_snapshot.hpp"
#include "library/ref.hpp"
#include "library/request.hpp"

#include <gst/gst.h>

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

namespace millrace
{

class SchedulerInbox
{
public:
  SchedulerInbox ();

  enum class WhenFull { kBlock, kReject };

  /// Starts afresh for a scheduler that has just been built.
  void open (guint max_queued, WhenFull when_full, const Scheduler &scheduler);

  /// Hands a request over. With a full queue it waits, or (kReject) ends the request with the error queue_full. What can
  /// never run has its error when this returns; it does not wait, and ends by passing the loop like all others.
  /// FLUSHING or the loop's last flow when it has stopped. While other pads flush it waits: what this one has belongs behind
  /// the flush.
  GstFlowReturn submit (GstPad *pad, MillraceRequest *request);

  /// Puts a serialized event in its place; takes it over. False: the loop has stopped, or the pad flushes.
  bool submit_event (GstPad *pad, GstEvent *event);

  /// A time in the sink pad's segment as one in the source pad's: that of the last SEGMENT event that came here, at first one
  /// that begins at 0. They differ only where several sink pads have segments of their own.
  GstClockTime convert_time (GstPad *pad, GstClockTime time);

  /// What has come, in order: events first, then requests.
  struct Arrivals {
    std::vector<Ref<GstEvent>> events;
    std::deque<std::shared_ptr<Request>> requests;
    bool new_stream = false; ///< the last one has ended
  };
  /// Appends what has come to `arrived`; waits when nothing has and the scheduler is idle, or stalled: then until
  /// somebody is let go, cancelled or out of time, at most kRecheckUs. FLUSHING: stop. EOS: all inputs have ended, the
  /// queue is empty and the scheduler is idle.
  GstFlowReturn take (Arrivals &arrived, const Scheduler &scheduler);

  // False when no unfinished request has this id. Of two with one id the newer is meant. A loop that waits is woken.
  bool cancel (const char *id);
  /// Sets Request::held.
  bool hold (const char *id, bool held);

  /// After a plan: requests that it admitted do not wait any more, however long the step takes.
  void planned (const Scheduler &scheduler);
  /// After a commit: what has finished is forgotten, and sources that wait may go on.
  void settle (const Scheduler &scheduler);
  /// The loop has stopped with `flow`, and what waits is dropped; submit () returns it from now on.
  void stop (GstFlowReturn flow);
  /// Drops everything that waits.
  void clear ();

  /// Of the source pad. While it is inactive nothing is taken; when it becomes active no pad flushes. To become inactive waits
  /// for who is about to end a flush.
  void set_active (bool active);

  // A flush of one pad is a flush of all, and those that overlap are one, as when a seek makes one source flush after the
  // other: whoever starts the first and stops the last has to do the work.

  /// True: the first; the loop must stop.
  bool start_flush (GstPad *pad);
  /// True: the last. Then end_flush () is due, and when the loop has been started again, ended_flush ().
  bool stop_flush (GstPad *pad);
  /// A flush that starts from now on lasts until all pads have flushed, or await_no_more (), which returns as stop_flush ().
  void await_flushes ();
  bool await_no_more ();
  void end_flush ();
  void ended_flush ();

  void add_pad (GstPad *pad);
  /// As stop_flush ().
  bool forget_pad (GstPad *pad);
  void set_eos (GstPad *pad);
  /// A stream begins or goes on behind EOS. True: the loop has stopped at EOS and must be started; its next arrivals say
  /// so.
  bool clear_eos (GstPad *pad);
  void clear_eos ();

  /// The numbers of requests that have not ended, ascending, and then the next one's.
  std::vector<uint64_t> open_numbers ();

  /// For the element's property "stats"; transfer full.
  GstStructure *statistics ();

private:
  /// An event, and the number of the first request behind it.
  struct PlacedEvent {
    uint64_t before;
    Ref<GstEvent> event;
  };

  struct Waiting {
    std::deque<std::shared_ptr<Request>> queue;
    std::deque<PlacedEvent> events;
    std::unordered_map<std::string, Ref<MillraceRequest>> known; // by id, until they end
  };

  struct Input { // a sink pad
    bool eos = false, flushing = false, awaited = false;
  };

  bool refuses (GstPad *pad) const;
  bool last_has_flushed ();
  Waiting drop ();
  bool all_eos () const;
  void take_events (std::vector<Ref<GstEvent>> &events);
  void take_requests (std::deque<std::shared_ptr<Request>> &requests);
  Ref<MillraceRequest> find (const char *id);
  void wake ();
  size_t queued () const { return waits_.queue.size () - rejected_ + static_cast<size_t> (waiting_); }

  /// A request that is ended behind the inbox's back (millrace_request_cancel ()) does not wake a stalled loop: it looks
  /// again this often.
  static constexpr int64_t kRecheckUs = 100'000;

  std::mutex mutex_;
  std::condition_variable work_, room_;
  std::shared_ptr<const AdmissionLimits> limits_;
  bool woken_ = false; // a stalled scheduler may find something new
  Waiting waits_;
  uint64_t next_number_ = 0; // RequestTiming::number
  std::set<uint64_t> open_;  // numbers of the requests that have not ended
  GstSegment segment_;
  std::unordered_map<GstPad *, Input> inputs_;
  guint max_queued_ = 64;
  WhenFull when_full_ = WhenFull::kBlock;
  size_t rejected_ = 0; // of those in the queue, with an error: they only leave through the loop
  int waiting_ = 0;     // in the scheduler's own queue
  bool active_ = false, flushing_ = false;
  bool ending_ = false; // somebody ends the flush
  bool new_stream_ = false;
  GstFlowReturn flow_ = GST_FLOW_OK;
  uint64_t all_rejected_ = 0;
  int64_t retry_after_ms_ = 1000;
  SchedulerSnapshot snapshot_; // of the last commit
};

} // namespace millrace
