/**
 * SECTION:element-llmhttpsrc
 * @title: llmhttpsrc
 *
 * An HTTP server whose requests become buffers: the beginning of an OpenAI-compatible endpoint.
 *
 * Each generation that a client asks for leaves as one buffer of JSON (docs/requests.md) with the request and the
 * way back to its client attached, so that llmhttpsink needs no connection to this element. The server has a thread
 * of its own; the source pad's task hands the buffers on. A client that leaves cancels its requests; what is wrong
 * with a request is said to its client. Routes and fields are in docs/http-api.md.
 *
 * EOS (`gst-launch-1.0 -e`, or gst_element_send_event()) drains: nothing new is taken, what runs comes to its end.
 *
 * ## Example launch line
 * |[
 * gst-launch-1.0 -e llmhttpsrc port=8080 ! llmprompt max-tokens=0 ! llmtokenizer ! llmscheduler when-full=reject ! llmprefill ! llmngramdrafter ! llmverifier ! llmsampler ! llmdetokenizer ! queue ! llmhttpsink
 * ]| Serves the demo model.
 *
 * Since: 0.1
 */

#include "elements/elements.hpp"
#include "elements/http/http_settings.hpp"

#include "library/element.hpp"
#include "library/error.hpp"
#include "library/meta.hpp"

#include <condition_variable>
#include <deque>
#include <optional>

GST_DEBUG_CATEGORY_STATIC (llm_http_src_debug);
#define GST_CAT_DEFAULT llm_http_src_debug

namespace
{

/// Between the server's thread and the source pad's task.
struct Pending {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<millrace::HttpJob> jobs;
  size_t limit = 0;
  bool flushing = true, playing = false, draining = false;
};

struct State {
  std::optional<millrace::HttpService> service; // READY→PAUSED … PAUSED→READY
  bool started = false;                         // stream-start, caps and segment have been sent
};

} // namespace

struct LlmHttpSrc {
  LlmElement parent;
  GstPad *src;
  millrace::HttpSourceSettings settings; // OBJECT_LOCK
  Pending pending;
  State state;
  millrace::HttpPipeline *pipeline;
};

struct LlmHttpSrcClass {
  LlmElementClass parent;
};

G_DEFINE_TYPE (LlmHttpSrc, llm_http_src, LLM_TYPE_ELEMENT)

enum { PROP_0, PROP_BOUND_PORT, PROP_SETTINGS };

static LlmHttpSrc *
http_src_cast (gpointer object)
{
  return reinterpret_cast<LlmHttpSrc *> (object);
}

// --- what the server sees of the pipeline -------------------------------------------------------

namespace
{

class SourcePipeline final : public millrace::HttpPipeline
{
public:
  explicit SourcePipeline (LlmHttpSrc *self)
      : self_ (self)
  {
  }

  bool submit (std::vector<millrace::HttpJob> &jobs) override
  {
    Pending &pending = self_->pending;
    std::lock_guard lock (pending.mutex);
    if (pending.flushing || pending.draining || pending.jobs.size () + jobs.size () > pending.limit)
      return false;
    for (auto &job : jobs)
      pending.jobs.push_back (std::move (job));
    pending.changed.notify_one ();
    return true;
  }

  void hold (MillraceRequest *request, bool held) override
  {
    millrace::engine_request (request).held = held;
    GstStructure *structure =
        gst_structure_new ("LlmHold", "id", G_TYPE_STRING, millrace_request_get_id (request), "held",
                           G_TYPE_BOOLEAN, static_cast<gboolean> (held), nullptr);
    gst_pad_push_event (self_->src, gst_event_new_custom (GST_EVENT_CUSTOM_BOTH_OOB, structure));
  }

  GstStructure *statistics () override
  {
    auto query = millrace::Ref<GstQuery>::adopt (
        gst_query_new_custom (GST_QUERY_CUSTOM, gst_structure_new_empty ("LlmStats")));
    if (!gst_pad_peer_query (self_->src, query.get ()))
      return nullptr;
    const GValue *stats = gst_structure_get_value (gst_query_get_structure (query.get ()), "stats");
    return stats ? static_cast<GstStructure *> (g_value_dup_boxed (stats)) : nullptr;
  }

private:
  LlmHttpSrc *self_;
};

} // namespace

// --- the task -----------------------------------------------------------------------------------

static void
start_stream (LlmHttpSrc *self)
{
  if (std::exchange (self->state.started, true))
    return;
  g_autofree char *stream_id = gst_pad_create_stream_id (self->src, GST_ELEMENT (self), "http");
  gst_pad_push_event (self->src, gst_event_new_stream_start (stream_id));
  auto caps = millrace::Ref<GstCaps>::adopt (gst_caps_new_empty_simple ("application/json"));
  gst_pad_push_event (self->src, gst_event_new_caps (caps.get ()));
  GstSegment segment;
  gst_segment_init (&segment, GST_FORMAT_TIME);
  gst_pad_push_event (self->src, gst_event_new_segment (&segment));
}

static GstFlowReturn
take (LlmHttpSrc *self, millrace::HttpJob &job)
{
  Pending &pending = self->pending;
  std::unique_lock lock (pending.mutex);
  for (;;) {
    if (pending.flushing)
      return GST_FLOW_FLUSHING;
    if (pending.playing && !pending.jobs.empty ()) {
      job = std::move (pending.jobs.front ());
      pending.jobs.pop_front ();
      return GST_FLOW_OK;
    }
    if (pending.draining && pending.jobs.empty ())
      return GST_FLOW_EOS;
    pending.changed.wait (lock);
  }
}

static GstBuffer *
json_buffer (std::string json)
{
  auto *kept = new std::string (std::move (json));
  return gst_buffer_new_wrapped_full (GST_MEMORY_FLAG_READONLY, kept->data (), kept->size (), 0,
                                      kept->size (), kept,
                                      [] (gpointer data) { delete static_cast<std::string *> (data); });
}

static void
drop_pending (LlmHttpSrc *self)
{
  std::deque<millrace::HttpJob> dropped; // their clients are told when they go, without the lock
  std::lock_guard lock (self->pending.mutex);
  dropped.swap (self->pending.jobs);
}

static void
llm_http_src_loop (gpointer data)
{
  auto *self = http_src_cast (data);
  millrace::HttpJob job;
  GstFlowReturn flow = take (self, job);
  if (flow == GST_FLOW_OK) {
    start_stream (self);
    GstBuffer *buffer = json_buffer (std::move (job.json));
    millrace_buffer_add_request_meta (buffer, job.request.get (), nullptr);
    job.request = nullptr;
    flow = gst_pad_push (self->src, buffer);
  }
  if (flow == GST_FLOW_OK)
    return;
  GST_DEBUG_OBJECT (self, "pausing: %s", gst_flow_get_name (flow));
  gst_pad_pause_task (self->src);
  if (flow == GST_FLOW_FLUSHING)
    return;
  {
    std::lock_guard lock (self->pending.mutex);
    self->pending.draining = true;
  }
  self->state.service->drain ();
  drop_pending (self);
  start_stream (self);
  if (flow == GST_FLOW_NOT_LINKED || flow < GST_FLOW_EOS)
    GST_ELEMENT_FLOW_ERROR (self, flow);
  gst_pad_push_event (self->src, gst_event_new_eos ());
}

// --- states -------------------------------------------------------------------------------------

static gboolean
llm_http_src_activate_mode (GstPad *pad, GstObject *parent, GstPadMode mode, gboolean active)
{
  auto *self = http_src_cast (parent);
  if (mode != GST_PAD_MODE_PUSH)
    return FALSE;
  {
    std::lock_guard lock (self->pending.mutex);
    self->pending.flushing = !active;
    self->pending.draining = false;
    self->pending.changed.notify_all ();
  }
  if (active)
    return gst_pad_start_task (pad, llm_http_src_loop, self, nullptr);
  const gboolean stopped = gst_pad_stop_task (pad);
  drop_pending (self);
  return stopped;
}

static void
set_playing (LlmHttpSrc *self, bool playing)
{
  std::lock_guard lock (self->pending.mutex);
  self->pending.playing = playing;
  self->pending.changed.notify_all ();
}

static bool
open (LlmHttpSrc *self)
{
  GST_OBJECT_LOCK (self);
  const auto settings = self->settings;
  GST_OBJECT_UNLOCK (self);
  const auto model = millrace::element_model (LLM_ELEMENT (self));
  const bool opened = millrace::guarded (GST_ELEMENT (self), [&] {
    auto name =
        (model->directory.extension () == ".gguf" ? model->directory.stem () : model->directory.filename ())
            .string ();
    if (name.empty ())
      name = model->directory.parent_path ().filename ().string ();
    self->state.service.emplace (millrace::resolve (settings, name), model, *self->pipeline);
    self->state.service->start ();
  });
  if (!opened) {
    self->state.service.reset ();
    return false;
  }
  {
    std::lock_guard lock (self->pending.mutex);
    self->pending.limit = static_cast<size_t> (settings.max_pending);
  }
  GST_INFO_OBJECT (self, "listening on %s:%d", settings.service.server.address.c_str (),
                   self->state.service->port ());
  g_object_notify (G_OBJECT (self), "bound-port");
  return true;
}

static GstStateChangeReturn
llm_http_src_change_state (GstElement *element, GstStateChange transition)
{
  auto *self = http_src_cast (element);
  if (transition == GST_STATE_CHANGE_READY_TO_PAUSED && !open (self))
    return GST_STATE_CHANGE_FAILURE;
  if (transition == GST_STATE_CHANGE_PLAYING_TO_PAUSED)
    set_playing (self, false);
  if (transition == GST_STATE_CHANGE_PAUSED_TO_READY && self->state.service)
    self->state.service->stop (); // its clients hear of it before their requests are dropped
  auto result = GST_ELEMENT_CLASS (llm_http_src_parent_class)->change_state (element, transition);
  if (transition == GST_STATE_CHANGE_PAUSED_TO_PLAYING)
    set_playing (self, true);
  if (transition == GST_STATE_CHANGE_PAUSED_TO_READY) {
    self->state.service.reset ();
    self->state.started = false;
  }
  const bool live =
      transition == GST_STATE_CHANGE_READY_TO_PAUSED || transition == GST_STATE_CHANGE_PLAYING_TO_PAUSED;
  return live && result == GST_STATE_CHANGE_SUCCESS ? GST_STATE_CHANGE_NO_PREROLL : result;
}

static gboolean
llm_http_src_send_event (GstElement *element, GstEvent *event)
{
  auto *self = http_src_cast (element);
  if (GST_EVENT_TYPE (event) != GST_EVENT_EOS)
    return GST_ELEMENT_CLASS (llm_http_src_parent_class)->send_event (element, event);
  gst_event_unref (event);
  std::lock_guard lock (self->pending.mutex);
  self->pending.draining = true;
  self->pending.changed.notify_all ();
  return TRUE;
}

static gboolean
llm_http_src_query (GstPad *pad, GstObject *parent, GstQuery *query)
{
  if (GST_QUERY_TYPE (query) == GST_QUERY_LATENCY) {
    gst_query_set_latency (query, TRUE, 0, GST_CLOCK_TIME_NONE);
    return TRUE;
  }
  return millrace::llm_element_query (pad, parent, query);
}

static void
llm_http_src_set_property (GObject *object, guint id, const GValue *value, GParamSpec *spec)
{
  auto *self = http_src_cast (object);
  GST_OBJECT_LOCK (self);
  if (!millrace::set_http_property (self->settings, PROP_SETTINGS, id, value))
    G_OBJECT_WARN_INVALID_PROPERTY_ID (object, id, spec);
  GST_OBJECT_UNLOCK (self);
}

static void
llm_http_src_get_property (GObject *object, guint id, GValue *value, GParamSpec *spec)
{
  auto *self = http_src_cast (object);
  if (id == PROP_BOUND_PORT) {
    g_value_set_int (value, self->state.service ? self->state.service->port () : 0);
    return;
  }
  GST_OBJECT_LOCK (self);
  if (!millrace::get_http_property (self->settings, PROP_SETTINGS, id, value))
    G_OBJECT_WARN_INVALID_PROPERTY_ID (object, id, spec);
  GST_OBJECT_UNLOCK (self);
}

static void
llm_http_src_finalize (GObject *object)
{
  auto *self = http_src_cast (object);
  std::destroy_at (&self->state);
  std::destroy_at (&self->pending);
  std::destroy_at (&self->settings);
  delete self->pipeline;
  G_OBJECT_CLASS (llm_http_src_parent_class)->finalize (object);
}

static GstStaticPadTemplate src_template =
    GST_STATIC_PAD_TEMPLATE ("src", GST_PAD_SRC, GST_PAD_ALWAYS, GST_STATIC_CAPS ("application/json"));

static void
llm_http_src_init (LlmHttpSrc *self)
{
  std::construct_at (&self->settings);
  std::construct_at (&self->pending);
  std::construct_at (&self->state);
  self->pipeline = new SourcePipeline (self);
  self->src = gst_pad_new_from_static_template (&src_template, "src");
  gst_pad_set_activatemode_function (self->src, llm_http_src_activate_mode);
  gst_pad_set_query_function (self->src, llm_http_src_query);
  gst_element_add_pad (GST_ELEMENT (self), self->src);
  GST_OBJECT_FLAG_SET (self, GST_ELEMENT_FLAG_SOURCE);
}

static void
llm_http_src_class_init (LlmHttpSrcClass *klass)
{
  GST_DEBUG_CATEGORY_INIT (llm_http_src_debug, "llmhttpsrc", 0, "Millrace HTTP source");
  GObjectClass *object_class = G_OBJECT_CLASS (klass);
  GstElementClass *element_class = GST_ELEMENT_CLASS (klass);
  object_class->set_property = llm_http_src_set_property;
  object_class->get_property = llm_http_src_get_property;
  object_class->finalize = llm_http_src_finalize;
  element_class->change_state = llm_http_src_change_state;
  element_class->send_event = llm_http_src_send_event;
  g_object_class_install_property (
      object_class, PROP_BOUND_PORT,
      g_param_spec_int ("bound-port", "Bound port", "TCP port that the server listens on; 0: it does not", 0,
                        65535, 0, static_cast<GParamFlags> (G_PARAM_READABLE | G_PARAM_STATIC_STRINGS)));
  millrace::install_http_properties (object_class, PROP_SETTINGS);
  gst_element_class_add_static_pad_template (element_class, &src_template);
  gst_element_class_set_static_metadata (element_class, "LLM HTTP source", "Source/Network/LLM",
                                         "Serves an OpenAI-compatible HTTP endpoint", "The Millrace authors");
}
