/**
 * SECTION:element-llmscheduler
 * @title: llmscheduler
 *
 * Multiplexes requests from any number of sink pads through one loop of steps.
 *
 * A task on the source pad waits for work, plans a step, and pushes one memory-less buffer that refers to it;
 * everything up to llmdetokenizer runs inside that push, and when it returns the step is committed. Requests
 * join and leave between steps. The element owns the sequences and the paged KV cache: requests that begin alike
 * share it, what ended requests leave stays cached, and when memory runs short the newest requests make way and
 * are computed again later, exactly. Long prompts are cut so that running requests keep their pace. See
 * docs/scheduling.md.
 *
 * The event `LlmCancel` (see millrace_event_new_cancel()) and the action signal #llmscheduler::cancel end a
 * request before the next step. An out-of-band event `LlmHold` (`id`: string, `held`: boolean) makes a request
 * pause where it is, for as long as its reader is slow, or go on. The custom query `LlmStats` gets what the property
 * #llmscheduler:stats says. Each ended request posts an element message `llm-request` with its counts and
 * times; with `stats-interval` steps post `llm-step`. EOS is forwarded when all sink pads have it and no request is left.
 *
 * Timestamps of a prompt stay on its tokens. With one sink pad its segments are forwarded, in their place among the
 * requests; with several, timestamps become running times. GAP and other serialized events leave when the requests before
 * them have ended. QoS events go no further: a late text is still wanted, and `timeout-ms` of llmprompt bounds its time.
 *
 * ## Example launch line
 * |[
 * echo "import os" | gst-launch-1.0 -q fdsrc ! llmprompt max-tokens=16 ! llmtokenizer ! llmscheduler max-batch=4 ! llmprefill ! llmverifier ! llmsampler ! llmdetokenizer ! fdsink
 * ]| At most four requests at a time.
 *
 * Since: 0.1
 */

#include "elements/elements.hpp"
#include "elements/request_structure.hpp"
#include "elements/scheduler_control.hpp"
#include "elements/scheduler_settings.hpp"

#include "engine/scheduling/scheduler.hpp"
#include "library/element.hpp"
#include "library/error.hpp"
#include "library/meta.hpp"
#include "library/ref.hpp"
#include "library/request.hpp"

#include <atomic>
#include <cstdio>
#include <optional>
#include <utility>

GST_DEBUG_CATEGORY_STATIC (llm_scheduler_debug);
#define GST_CAT_DEFAULT llm_scheduler_debug

namespace
{

struct Loop { // the task of the src pad; built in READY→PAUSED
  std::optional<millrace::Scheduler> scheduler;
  millrace::Step step;
  millrace::SchedulerInbox::Arrivals arrived;
  bool started = false;      // stream-start and caps have been sent
  bool segment_sent = false; // since the start or flush
  bool flushed = false;      // out of its own push
  int stats_interval_ms = -1;
  int64_t stats_posted_us = 0;
};

} // namespace

struct LlmScheduler {
  LlmElement parent;
  GstPad *src;
  guint pads; // OBJECT_LOCK
  millrace::SchedulerElementSettings settings;
  millrace::SchedulerInbox inbox;
  std::atomic<guint32> seqnum; // of what the sources have sent last: of their seek, or stream
  Loop loop;
};

struct LlmSchedulerClass {
  LlmElementClass parent;
};

G_DEFINE_TYPE (LlmScheduler, llm_scheduler, LLM_TYPE_ELEMENT)

enum { PROP_0, PROP_STATS, PROP_SETTINGS };
enum { SIGNAL_CANCEL, SIGNAL_LAST };
static guint signals[SIGNAL_LAST];

static thread_local const LlmScheduler *looping; // whose loop this thread runs

static LlmScheduler *
scheduler_cast (gpointer object)
{
  return reinterpret_cast<LlmScheduler *> (object);
}

// --- the loop -----------------------------------------------------------------------------------

static void
start_stream (LlmScheduler *self)
{
  if (std::exchange (self->loop.started, true))
    return;
  // Several sink pads have no common upstream id, so the element invents one, as GstAggregator does.
  g_autofree char *stream_id = g_strdup_printf ("llm-%08x", g_random_int ());
  gst_pad_push_event (self->src, gst_event_new_stream_start (stream_id));
  auto caps = millrace::Ref<GstCaps>::adopt (millrace::caps_with_vocabulary (
      millrace::kPlannedCaps, millrace::vocabulary_digest (LLM_ELEMENT (self))));
  gst_pad_push_event (self->src, gst_event_new_caps (caps.get ()));
}

// Before anything with a timestamp, and EOS.
static void
ensure_segment (LlmScheduler *self)
{
  start_stream (self);
  if (std::exchange (self->loop.segment_sent, true))
    return;
  gst_pad_push_event (self->src, millrace::time_segment_event (self->seqnum));
}

static void
push_event (LlmScheduler *self, GstEvent *event)
{
  start_stream (self);
  if (GST_EVENT_TYPE (event) == GST_EVENT_SEGMENT)
    self->loop.segment_sent = true;
  else
    ensure_segment (self);
  gst_pad_push_event (self->src, event);
}

static void
post_finished (LlmScheduler *self, const millrace::Request &request)
{
  const auto &statistics = request.statistics;
  LLM_DEBUG (self,
             "request %s: ended after %" G_GINT64_FORMAT " µs, first token after %" G_GINT64_FORMAT
             " µs; %d tokens in %d steps, %d of the prompt cached, %d preemptions",
             request.id.c_str (), statistics.total_us, statistics.first_token_us, statistics.generated,
             statistics.steps, statistics.cached_tokens, statistics.preemptions);
  gst_element_post_message (
      GST_ELEMENT (self),
      gst_message_new_element (GST_OBJECT (self), millrace::ended_request_structure (request)));
}

static void
post_step (LlmScheduler *self)
{
  auto &loop = self->loop;
  if (loop.stats_interval_ms < 0)
    return;
  const int64_t now = millrace::steady_now_us ();
  if (loop.stats_posted_us > 0 && now - loop.stats_posted_us < int64_t{loop.stats_interval_ms} * 1000)
    return;
  loop.stats_posted_us = now;
  millrace::SchedulerSnapshot snapshot;
  snapshot.take (*loop.scheduler);
  gst_element_post_message (GST_ELEMENT (self),
                            gst_message_new_element (GST_OBJECT (self), snapshot.to_structure ("llm-step")));
}

static void
settle (LlmScheduler *self)
{
  auto &scheduler = *self->loop.scheduler;
  scheduler.commit (self->loop.step);
  for (const auto &request : scheduler.finished ())
    post_finished (self, *request);
  post_step (self);
  if (auto *disk = scheduler.kv ().disk ()) {
    if (const std::string warning = disk->take_warning (); !warning.empty ())
      GST_ELEMENT_WARNING (self, RESOURCE, WRITE, ("%s", warning.c_str ()),
                           ("prefixes are still cached in memory; see cache-directory and cache-size"));
  }
  self->inbox.settle (scheduler);
}

// One turn: plan → push → commit. Everything downstream runs inside the push, in this thread.
static GstFlowReturn
turn (LlmScheduler *self)
{
  auto &loop = self->loop;
  GstFlowReturn flow = GST_FLOW_OK;
  const bool done = millrace::guarded (GST_ELEMENT (self), [&] {
    flow = self->inbox.take (loop.arrived, *loop.scheduler);
    if (flow != GST_FLOW_OK)
      return;
    if (std::exchange (loop.arrived.new_stream, false))
      loop.started = loop.segment_sent = false;
    for (auto &event : loop.arrived.events) {
      if (!loop.flushed)
        push_event (self, event.release ());
    }
    if (loop.flushed)
      return;
    loop.arrived.events.clear ();
    for (auto &request : loop.arrived.requests)
      loop.scheduler->admit (std::move (request));
    loop.arrived.requests.clear ();
    ensure_segment (self);
    if (!loop.scheduler->plan (loop.step))
      return;
    self->inbox.planned (*loop.scheduler);
    flow = gst_pad_push (self->src, millrace::new_step_buffer (loop.step));
    if (!loop.flushed)
      settle (self);
  });
  return done ? flow : GST_FLOW_ERROR;
}

// The task is paused, or it is the caller.
static void
drop_work (LlmScheduler *self)
{
  if (self->loop.scheduler)
    self->loop.scheduler->clear ();
  self->loop.arrived = {};
}

static void
llm_scheduler_loop (gpointer data)
{
  auto *self = scheduler_cast (data);
  looping = self;
  if (std::exchange (self->loop.flushed, false))
    drop_work (self);
  const GstFlowReturn flow = turn (self);
  if (flow == GST_FLOW_OK || self->loop.flushed)
    return;

  GST_DEBUG_OBJECT (self, "pausing: %s", gst_flow_get_name (flow));
  gst_pad_pause_task (self->src); // first: whoever hears that it has stopped may start it again
  drop_work (self);
  self->inbox.stop (flow);
  const bool failed = flow == GST_FLOW_NOT_LINKED || flow < GST_FLOW_EOS;
  if (failed)
    GST_ELEMENT_FLOW_ERROR (self, flow);
  if (failed || flow == GST_FLOW_EOS) {
    ensure_segment (self);
    gst_pad_push_event (self->src, millrace::with_seqnum (gst_event_new_eos (), self->seqnum));
  }
}

static void
start_loop (LlmScheduler *self)
{
  if (gst_pad_is_active (self->src))
    gst_pad_start_task (self->src, llm_scheduler_loop, self, nullptr);
  // Whoever deactivated it in between may have looked for the task too early.
  if (!gst_pad_is_active (self->src))
    gst_pad_stop_task (self->src);
}

// --- input --------------------------------------------------------------------------------------

static GstFlowReturn
llm_scheduler_chain (GstPad *pad, GstObject *parent, GstBuffer *buffer)
{
  auto *self = scheduler_cast (parent);
  const auto input = millrace::Ref<GstBuffer>::adopt (buffer);
  GstFlowReturn flow = GST_FLOW_OK;
  const bool done = millrace::guarded (GST_ELEMENT (self), [&] {
    const auto request = millrace::request_of (buffer);
    {
      const millrace::MappedBuffer mapped (buffer);
      const auto *tokens = reinterpret_cast<const millrace::TokenId *> (mapped.chars ());
      millrace::engine_request (request.get ())
          .prompt.assign (tokens, tokens + mapped.size () / sizeof (millrace::TokenId));
    }
    millrace::request_timing (request.get ()) = {.pts =
                                                     self->inbox.convert_time (pad, GST_BUFFER_PTS (buffer)),
                                                 .duration = GST_BUFFER_DURATION (buffer)};
    const bool refused = static_cast<bool> (millrace::engine_request (request.get ()).error);
    LLM_DEBUG (self, "request %s: comes%s", millrace_request_get_id (request.get ()),
               refused ? ", with an error" : "");
    flow = self->inbox.submit (pad, request.get ());
  });
  return done ? flow : GST_FLOW_ERROR;
}

static void
llm_scheduler_cancel_signal (LlmScheduler *self, const char *id, gpointer)
{
  if (id)
    self->inbox.cancel (id);
}

// `event`: the FLUSH_STOP.
static void
end_flush (LlmScheduler *self, GstEvent *event)
{
  gst_pad_pause_task (self->src); // where one thread starts the flush and another ends it
  if (looping == self)            // somebody downstream seeks while a step is with him
    self->loop.flushed = true;
  else
    drop_work (self);
  self->inbox.clear ();
  self->loop.segment_sent = false;
  gst_pad_push_event (self->src, event);
  self->inbox.end_flush ();
  start_loop (self);
  self->inbox.ended_flush ();
}

static gboolean
llm_scheduler_sink_event (GstPad *pad, GstObject *parent, GstEvent *event)
{
  auto *self = scheduler_cast (parent);
  switch (GST_EVENT_TYPE (event)) {
  case GST_EVENT_STREAM_START:
    gst_event_unref (event);
    if (self->inbox.clear_eos (pad))
      start_loop (self);
    return TRUE;
  case GST_EVENT_SEGMENT: {
    self->seqnum = gst_event_get_seqnum (event);
    if (self->inbox.clear_eos (pad)) // as after a seek without a flush
      start_loop (self);
    // Of several pads none has the source pad's segment: their times are converted.
    GST_OBJECT_LOCK (self);
    const bool alone = GST_ELEMENT (self)->numsinkpads == 1;
    GST_OBJECT_UNLOCK (self);
    if (alone)
      return self->inbox.submit_event (pad, event);
    gst_event_unref (event);
    return TRUE;
  }
  case GST_EVENT_GAP: {
    GstClockTime time, duration;
    gst_event_parse_gap (event, &time, &duration);
    gst_event_unref (event);
    time = self->inbox.convert_time (pad, time);
    return !GST_CLOCK_TIME_IS_VALID (time) ||
           self->inbox.submit_event (pad, gst_event_new_gap (time, duration));
  }
  case GST_EVENT_TAG:
    gst_event_unref (event); // the source pad has a stream of its own
    return TRUE;
  case GST_EVENT_CAPS: {
    GstCaps *caps = nullptr;
    gst_event_parse_caps (event, &caps);
    const bool fits = millrace::check_vocabulary (LLM_ELEMENT (self), caps);
    gst_event_unref (event);
    return fits;
  }
  case GST_EVENT_EOS:
    // Noted here because the core marks the pad only after this returns, too late to wake the loop by.
    self->seqnum = gst_event_get_seqnum (event);
    gst_event_unref (event);
    self->inbox.set_eos (pad);
    return TRUE;
  case GST_EVENT_FLUSH_START:
    self->seqnum = gst_event_get_seqnum (event);
    if (const auto owned = millrace::Ref<GstEvent>::adopt (event); self->inbox.start_flush (pad)) {
      gst_pad_push_event (self->src, gst_event_ref (event));
      gst_pad_pause_task (self->src);
    }
    return TRUE;
  case GST_EVENT_FLUSH_STOP:
    if (self->inbox.stop_flush (pad))
      end_flush (self, event);
    else
      gst_event_unref (event);
    return TRUE;
  case GST_EVENT_CUSTOM_BOTH_OOB:
    if (millrace::handle_request_event (self->inbox, event)) {
      gst_event_unref (event);
      return TRUE;
    }
    return gst_pad_event_default (pad, parent, event);
  default:
    return GST_EVENT_IS_SERIALIZED (event) ? self->inbox.submit_event (pad, event)
                                           : gst_pad_event_default (pad, parent, event);
  }
}

static gboolean
llm_scheduler_query (GstPad *pad, GstObject *parent, GstQuery *query)
{
  return millrace::answer_scheduler_query (scheduler_cast (parent)->inbox, query) ||
         millrace::llm_element_query (pad, parent, query);
}

// A flushing seek makes one source flush after the other; all of it is one flush, or the last would drop what the first
// have sent behind theirs.
static gboolean
pass_seek (LlmScheduler *self, GstPad *pad, GstEvent *event)
{
  GstSeekFlags flags;
  gst_event_parse_seek (event, nullptr, nullptr, &flags, nullptr, nullptr, nullptr, nullptr);
  if (!(flags & GST_SEEK_FLAG_FLUSH))
    return gst_pad_event_default (pad, GST_OBJECT (self), event);
  self->inbox.await_flushes ();
  const gboolean done = gst_pad_event_default (pad, GST_OBJECT (self), event);
  if (self->inbox.await_no_more ())
    end_flush (self, millrace::with_seqnum (gst_event_new_flush_stop (TRUE), self->seqnum));
  return done;
}

static gboolean
llm_scheduler_src_event (GstPad *pad, GstObject *parent, GstEvent *event)
{
  auto *self = scheduler_cast (parent);
  if (millrace::handle_request_event (self->inbox, event)) {
    gst_event_unref (event);
    return TRUE;
  }
  if (GST_EVENT_TYPE (event) == GST_EVENT_QOS) {
    gst_event_unref (event); // see the element's description
    return TRUE;
  }
  if (GST_EVENT_TYPE (event) == GST_EVENT_SEEK)
    return pass_seek (self, pad, event);
  return gst_pad_event_default (pad, parent, event);
}

// --- pads and states ----------------------------------------------------------------------------

// Two steps, as in gstqueue: first make everything that waits let go, then join the task.
static gboolean
llm_scheduler_src_activate_mode (GstPad *pad, GstObject *parent, GstPadMode mode, gboolean active)
{
  auto *self = scheduler_cast (parent);
  if (mode != GST_PAD_MODE_PUSH)
    return FALSE;
  if (active) {
    self->inbox.set_active (true);
    return gst_pad_start_task (pad, llm_scheduler_loop, self, nullptr);
  }
  self->inbox.set_active (false);
  const gboolean stopped = gst_pad_stop_task (pad);
  drop_work (self);
  self->inbox.clear ();
  return stopped;
}

static GstPad *
llm_scheduler_request_new_pad (GstElement *element, GstPadTemplate *templ, const gchar *requested,
                               const GstCaps *)
{
  auto *self = scheduler_cast (element);
  guint number = 0;
  GST_OBJECT_LOCK (self);
  if (requested && std::sscanf (requested, "sink_%u", &number) == 1)
    self->pads = MAX (self->pads, number + 1);
  else
    number = self->pads++;
  GST_OBJECT_UNLOCK (self);

  g_autofree char *name = g_strdup_printf ("sink_%u", number);
  GstPad *pad = gst_pad_new_from_template (templ, name);
  gst_pad_set_chain_function (pad, llm_scheduler_chain);
  gst_pad_set_event_function (pad, llm_scheduler_sink_event);
  gst_pad_set_query_function (pad, llm_scheduler_query);
  GST_PAD_SET_ACCEPT_INTERSECT (pad);
  self->inbox.add_pad (pad);
  if (gst_element_add_pad (element, pad))
    return pad;
  self->inbox.forget_pad (pad);
  return nullptr;
}

static void
llm_scheduler_release_pad (GstElement *element, GstPad *pad)
{
  gst_pad_set_active (pad, FALSE);
  auto *self = scheduler_cast (element);
  if (self->inbox.forget_pad (pad))
    end_flush (self, millrace::with_seqnum (gst_event_new_flush_stop (TRUE), self->seqnum));
  gst_element_remove_pad (element, pad);
}

static bool
build (LlmScheduler *self)
{
  const auto model = millrace::element_model (LLM_ELEMENT (self));
  GST_OBJECT_LOCK (self);
  const auto settings = self->settings;
  GST_OBJECT_UNLOCK (self);
  const bool built = millrace::guarded (GST_ELEMENT (self),
                                        [&] { self->loop.scheduler.emplace (model, settings.scheduler); });
  self->loop.stats_interval_ms = settings.stats_interval_ms;
  if (built)
    self->inbox.open (settings.max_queued, settings.when_full, *self->loop.scheduler);
  return built;
}

static GstStateChangeReturn
llm_scheduler_change_state (GstElement *element, GstStateChange transition)
{
  auto *self = scheduler_cast (element);
  if (transition == GST_STATE_CHANGE_READY_TO_PAUSED && !build (self))
    return GST_STATE_CHANGE_FAILURE;
  const auto result = GST_ELEMENT_CLASS (llm_scheduler_parent_class)->change_state (element, transition);
  // Pads are inactive and the task has been joined.
  if (transition == GST_STATE_CHANGE_PAUSED_TO_READY) {
    if (self->loop.scheduler)
      millrace::guarded (element, [&] { self->loop.scheduler->save (); });
    std::destroy_at (&self->loop);
    std::construct_at (&self->loop);
    self->inbox.clear_eos ();
    self->seqnum = GST_SEQNUM_INVALID;
  }
  return result;
}

static void
llm_scheduler_set_property (GObject *object, guint id, const GValue *value, GParamSpec *spec)
{
  auto *self = scheduler_cast (object);
  GST_OBJECT_LOCK (self);
  if (!millrace::set_scheduler_property (self->settings, PROP_SETTINGS, id, value))
    G_OBJECT_WARN_INVALID_PROPERTY_ID (object, id, spec);
  GST_OBJECT_UNLOCK (self);
}

static void
llm_scheduler_get_property (GObject *object, guint id, GValue *value, GParamSpec *spec)
{
  auto *self = scheduler_cast (object);
  if (id == PROP_STATS) {
    g_value_take_boxed (value, self->inbox.statistics ());
    return;
  }
  GST_OBJECT_LOCK (self);
  if (!millrace::get_scheduler_property (self->settings, PROP_SETTINGS, id, value))
    G_OBJECT_WARN_INVALID_PROPERTY_ID (object, id, spec);
  GST_OBJECT_UNLOCK (self);
}

static void
llm_scheduler_finalize (GObject *object)
{
  auto *self = scheduler_cast (object);
  std::destroy_at (&self->settings);
  std::destroy_at (&self->inbox);
  std::destroy_at (&self->loop);
  G_OBJECT_CLASS (llm_scheduler_parent_class)->finalize (object);
}

static GstStaticPadTemplate sink_template = GST_STATIC_PAD_TEMPLATE (
    "sink_%u", GST_PAD_SINK, GST_PAD_REQUEST, GST_STATIC_CAPS ("application/x-llm-tokens"));
static GstStaticPadTemplate src_template = GST_STATIC_PAD_TEMPLATE (
    "src", GST_PAD_SRC, GST_PAD_ALWAYS,
    GST_STATIC_CAPS ("application/x-llm-step(meta:LlmStepMeta), stage=(string)planned"));

static void
llm_scheduler_init (LlmScheduler *self)
{
  std::construct_at (&self->settings);
  std::construct_at (&self->inbox);
  std::construct_at (&self->seqnum, 0);
  std::construct_at (&self->loop);
  self->src = gst_pad_new_from_static_template (&src_template, "src");
  gst_pad_set_activatemode_function (self->src, llm_scheduler_src_activate_mode);
  gst_pad_set_event_function (self->src, llm_scheduler_src_event);
  gst_pad_set_query_function (self->src, llm_scheduler_query);
  gst_element_add_pad (GST_ELEMENT (self), self->src);
}

static void
llm_scheduler_class_init (LlmSchedulerClass *klass)
{
  GST_DEBUG_CATEGORY_INIT (llm_scheduler_debug, "llmscheduler", 0, "Millrace scheduler");
  GObjectClass *object_class = G_OBJECT_CLASS (klass);
  GstElementClass *element_class = GST_ELEMENT_CLASS (klass);
  object_class->set_property = llm_scheduler_set_property;
  object_class->get_property = llm_scheduler_get_property;
  object_class->finalize = llm_scheduler_finalize;
  element_class->change_state = llm_scheduler_change_state;
  element_class->request_new_pad = llm_scheduler_request_new_pad;
  element_class->release_pad = llm_scheduler_release_pad;
  millrace::install_scheduler_properties (object_class, PROP_SETTINGS);
  g_object_class_install_property (
      object_class, PROP_STATS,
      g_param_spec_boxed (
          "stats", "Statistics",
          "Totals since the start, what runs and waits now, KV blocks, prefix cache, and the last step "
          "with the time of each element, in nanoseconds",
          GST_TYPE_STRUCTURE, static_cast<GParamFlags> (G_PARAM_READABLE | G_PARAM_STATIC_STRINGS)));

  /**
   * llmscheduler::cancel:
   * @id: the request's id
   *
   * Ends a request before the next step; unknown ids are ignored.
   */
  signals[SIGNAL_CANCEL] = g_signal_new_class_handler (
      "cancel", G_TYPE_FROM_CLASS (klass), static_cast<GSignalFlags> (G_SIGNAL_RUN_LAST | G_SIGNAL_ACTION),
      G_CALLBACK (llm_scheduler_cancel_signal), nullptr, nullptr, nullptr, G_TYPE_NONE, 1, G_TYPE_STRING);

  gst_element_class_add_static_pad_template (element_class, &sink_template);
  gst_element_class_add_static_pad_template (element_class, &src_template);
  gst_element_class_set_static_metadata (element_class, "LLM scheduler", "Filter/LLM",
                                         "Runs many generation requests together, step by step",
                                         "The Millrace authors");
}
