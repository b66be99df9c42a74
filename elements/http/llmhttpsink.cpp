/**
 * SECTION:element-llmhttpsink
 * @title: llmhttpsink
 *
 * Gives each request's text back to the client that it came from, through the reply that llmhttpsrc attached. It
 * formats events and hands them to the server's thread, and never waits for a client. Put a queue before it, so that
 * this is not done in the decode thread.
 *
 * ## Example launch line
 * |[
 * gst-launch-1.0 -e llmhttpsrc port=8080 ! llmbin prompt::max-tokens=0 scheduler::when-full=reject ! queue ! llmhttpsink
 * ]| Serves the demo model.
 *
 * Since: 0.1
 */

#include "elements/elements.hpp"
#include "elements/http/thread_latency.hpp"

#include "library/error.hpp"
#include "library/meta.hpp"
#include "library/ref.hpp"
#include "library/reply.hpp"

#include <gst/base/gstbasesink.h>

struct LlmHttpSink {
  GstBaseSink parent;
  gboolean warned; // streaming thread
};

struct LlmHttpSinkClass {
  GstBaseSinkClass parent;
};

G_DEFINE_TYPE (LlmHttpSink, llm_http_sink, GST_TYPE_BASE_SINK)

static bool
follows_queue (LlmHttpSink *self)
{
  const auto peer = millrace::Ref<GstPad>::adopt (gst_pad_get_peer (GST_BASE_SINK_PAD (self)));
  const auto element =
      millrace::Ref<GstElement>::adopt (peer ? gst_pad_get_parent_element (peer.get ()) : nullptr);
  GstElementFactory *factory = element ? gst_element_get_factory (element.get ()) : nullptr;
  return factory && g_strcmp0 (GST_OBJECT_NAME (factory), "queue") == 0;
}

static void
deliver (LlmHttpSink *self, GstBuffer *buffer)
{
  if (millrace::deliver_text (buffer) || self->warned)
    return;
  if (!millrace_buffer_get_request_meta (buffer))
    GST_ELEMENT_WARNING (self, STREAM, FAILED, ("Text that belongs to no HTTP request is dropped."),
                         ("put llmhttpsrc at the beginning of the pipeline"));
  self->warned = TRUE;
}

static GstFlowReturn
llm_http_sink_render (GstBaseSink *sink, GstBuffer *buffer)
{
  auto *self = reinterpret_cast<LlmHttpSink *> (sink);
  return millrace::guarded (GST_ELEMENT (sink), [&] { deliver (self, buffer); }) ? GST_FLOW_OK
                                                                                 : GST_FLOW_ERROR;
}

static GstFlowReturn
llm_http_sink_render_list (GstBaseSink *sink, GstBufferList *list)
{
  auto *self = reinterpret_cast<LlmHttpSink *> (sink);
  const bool done = millrace::guarded (GST_ELEMENT (sink), [&] {
    for (guint i = 0; i < gst_buffer_list_length (list); i++)
      deliver (self, gst_buffer_list_get (list, i));
  });
  return done ? GST_FLOW_OK : GST_FLOW_ERROR;
}

// The thread of the queue before the sink, if there is one, does nothing but this. Without a queue it is the decode
// thread, which computes and must not be in a hurry.
static gboolean
llm_http_sink_event (GstBaseSink *sink, GstEvent *event)
{
  auto *self = reinterpret_cast<LlmHttpSink *> (sink);
  if (GST_EVENT_TYPE (event) == GST_EVENT_STREAM_START && follows_queue (self))
    millrace::prefer_latency ();
  return GST_BASE_SINK_CLASS (llm_http_sink_parent_class)->event (sink, event);
}

static GstStaticPadTemplate sink_template = GST_STATIC_PAD_TEMPLATE (
    "sink", GST_PAD_SINK, GST_PAD_ALWAYS, GST_STATIC_CAPS ("text/x-raw, format=(string)utf8"));

static void
llm_http_sink_init (LlmHttpSink *self)
{
  gst_base_sink_set_sync (GST_BASE_SINK (self), FALSE);
  gst_base_sink_set_async_enabled (GST_BASE_SINK (self), FALSE);
  gst_base_sink_set_last_sample_enabled (GST_BASE_SINK (self), FALSE); // it would keep a request alive
}

static void
llm_http_sink_class_init (LlmHttpSinkClass *klass)
{
  GstBaseSinkClass *sink_class = GST_BASE_SINK_CLASS (klass);
  sink_class->render = llm_http_sink_render;
  sink_class->event = llm_http_sink_event;
  sink_class->render_list = llm_http_sink_render_list;
  gst_element_class_add_static_pad_template (GST_ELEMENT_CLASS (klass), &sink_template);
  gst_element_class_set_static_metadata (GST_ELEMENT_CLASS (klass), "LLM HTTP sink", "Sink/Network/LLM",
                                         "Gives text back to the HTTP clients that asked for it",
                                         "The Millrace authors");
}
