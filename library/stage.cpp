#include "library/stage.hpp"

#include "library/error.hpp"
#include "library/meta.hpp"

struct LlmStagePrivate {
  GstPad *sink, *src;
};

G_DEFINE_ABSTRACT_TYPE_WITH_PRIVATE (LlmStage, llm_stage, LLM_TYPE_ELEMENT)

static LlmStagePrivate *
private_of (LlmStage *self)
{
  return static_cast<LlmStagePrivate *> (llm_stage_get_instance_private (self));
}

static GstFlowReturn
llm_stage_chain (GstPad *, GstObject *parent, GstBuffer *buffer)
{
  auto *self = LLM_STAGE (parent);
  auto *klass = LLM_STAGE_GET_CLASS (self);
  auto *meta = millrace::get_step_meta (buffer);
  if (!meta || !gst_buffer_is_writable (buffer)) {
    GST_ELEMENT_ERROR (self, STREAM, WRONG_TYPE,
                       ("%s got a buffer that is not the scheduler's step, or that others hold too.",
                        GST_OBJECT_NAME (self)),
                       ("no tee and no queue between llmscheduler and llmsampler"));
    gst_buffer_unref (buffer);
    return GST_FLOW_ERROR;
  }
  millrace::Step &step = *meta->step;
  const int64_t began = step.clock ();
  if (!millrace::guarded (GST_ELEMENT (self), [&] { klass->process (self, step); })) {
    gst_buffer_unref (buffer);
    return GST_FLOW_ERROR;
  }
  millrace::StageTime &time = step.stage_times.emplace_back ();
  g_strlcpy (time.name, GST_OBJECT_NAME (self), sizeof time.name);
  time.us = step.clock () - began;
  LLM_LOG (self, "step %" G_GUINT64_FORMAT ": %zu rows, %" G_GINT64_FORMAT " µs", step.number,
           step.rows.size (), time.us);
  GstPad *src = private_of (self)->src;
  return klass->output ? klass->output (self, src, buffer, step) : gst_pad_push (src, buffer);
}

static gboolean
llm_stage_sink_event (GstPad *pad, GstObject *parent, GstEvent *event)
{
  auto *self = LLM_STAGE (parent);
  auto *klass = LLM_STAGE_GET_CLASS (self);
  switch (GST_EVENT_TYPE (event)) {
  case GST_EVENT_CAPS: {
    GstCaps *caps = nullptr;
    gst_event_parse_caps (event, &caps);
    const char *vocab = gst_structure_get_string (gst_caps_get_structure (caps, 0), "vocab");
    const bool fits = millrace::check_vocabulary (LLM_ELEMENT (self), caps) &&
                      (!klass->accept || klass->accept (self, vocab));
    GstCaps *outgoing = millrace::caps_with_vocabulary (klass->src_caps, vocab ? vocab : "");
    gst_event_unref (event);
    const gboolean pushed =
        fits && gst_pad_push_event (private_of (self)->src, gst_event_new_caps (outgoing));
    gst_caps_unref (outgoing);
    return pushed;
  }
  case GST_EVENT_FLUSH_STOP:
    if (klass->reset)
      klass->reset (self);
    break;
  default:
    break;
  }
  return gst_pad_event_default (pad, parent, event);
}

static GstStateChangeReturn
llm_stage_change_state (GstElement *element, GstStateChange transition)
{
  const auto result = GST_ELEMENT_CLASS (llm_stage_parent_class)->change_state (element, transition);
  auto *klass = LLM_STAGE_GET_CLASS (element);
  if (transition == GST_STATE_CHANGE_PAUSED_TO_READY && klass->reset)
    klass->reset (LLM_STAGE (element));
  return result;
}

static void
llm_stage_constructed (GObject *object)
{
  G_OBJECT_CLASS (llm_stage_parent_class)->constructed (object);
  auto *self = LLM_STAGE (object);
  auto *priv = private_of (self);
  GstElementClass *element_class = GST_ELEMENT_GET_CLASS (self);
  priv->sink = gst_pad_new_from_template (gst_element_class_get_pad_template (element_class, "sink"), "sink");
  priv->src = gst_pad_new_from_template (gst_element_class_get_pad_template (element_class, "src"), "src");
  gst_pad_set_chain_function (priv->sink, llm_stage_chain);
  gst_pad_set_event_function (priv->sink, llm_stage_sink_event);
  gst_pad_set_query_function (priv->sink, millrace::llm_element_query);
  gst_pad_set_query_function (priv->src, millrace::llm_element_query);
  gst_element_add_pad (GST_ELEMENT (self), priv->sink);
  gst_element_add_pad (GST_ELEMENT (self), priv->src);
}

static void
llm_stage_init (LlmStage *)
{
}

static void
llm_stage_class_init (LlmStageClass *klass)
{
  G_OBJECT_CLASS (klass)->constructed = llm_stage_constructed;
  GST_ELEMENT_CLASS (klass)->change_state = llm_stage_change_state;
  gst_type_mark_as_plugin_api (LLM_TYPE_STAGE, static_cast<GstPluginAPIFlags> (0));
}

namespace millrace
{

void
add_stage_pads (LlmStageClass *klass, const char *sink_caps, const char *src_caps)
{
  GstElementClass *element_class = GST_ELEMENT_CLASS (klass);
  const auto add = [&] (const char *name, GstPadDirection direction, const char *text) {
    GstCaps *caps = gst_caps_from_string (text);
    gst_element_class_add_pad_template (element_class,
                                        gst_pad_template_new (name, direction, GST_PAD_ALWAYS, caps));
    gst_caps_unref (caps);
  };
  add ("sink", GST_PAD_SINK, sink_caps);
  add ("src", GST_PAD_SRC, src_caps);
  klass->src_caps = src_caps;
}

} // namespace millrace
