// A source of timed prompts that can be sought, as a demuxer of subtitles is: cue i begins at second i and lasts one.
//
// It pushes from a task of its own, and GstBaseSrc does the seeks. Its requests in JSON are named after the cue.
#pragma once

#include <gst/base/gstpushsrc.h>
#include <gtest/gtest.h>

#include <mutex>
#include <string>
#include <vector>

namespace millrace::testing
{

struct CueSource {
  GstPushSrc parent;
  int count;                      ///< set before the start, as the next two are
  int (*tokens) (int cue);        ///< how many tokens the answer to a cue has
  GstEvent *(*between) (int cue); ///< what to send before a cue; may be null, and may return null
  int next;                       // streaming thread; in a seek GstBaseSrc holds its lock
  std::mutex mutex;               // guards the next
  std::vector<int> pushed;
};

struct CueSourceClass {
  GstPushSrcClass parent;
};

G_DEFINE_TYPE (CueSource, cue_source, GST_TYPE_PUSH_SRC)

inline CueSource *
cue_source_cast (gpointer object)
{
  return reinterpret_cast<CueSource *> (object);
}

inline GstFlowReturn
cue_source_create (GstPushSrc *source, GstBuffer **buffer)
{
  auto *self = cue_source_cast (source);
  if (self->next >= self->count)
    return GST_FLOW_EOS;
  const int cue = self->next++;
  if (GstEvent *event = self->between ? self->between (cue) : nullptr)
    gst_pad_push_event (GST_BASE_SRC_PAD (source), event);
  const std::string id = std::to_string (cue);
  const std::string line = R"({"id":")" + id + R"(","prompt":"x = )" + id + R"(","max_tokens":)" +
                           std::to_string (self->tokens (cue)) + R"(,"ignore_eos":true})";
  *buffer = gst_buffer_new_memdup (line.data (), line.size ());
  GST_BUFFER_PTS (*buffer) = static_cast<GstClockTime> (cue) * GST_SECOND;
  GST_BUFFER_DURATION (*buffer) = GST_SECOND;
  const std::lock_guard lock (self->mutex);
  self->pushed.push_back (cue);
  return GST_FLOW_OK;
}

inline gboolean
cue_source_do_seek (GstBaseSrc *source, GstSegment *segment)
{
  cue_source_cast (source)->next = static_cast<int> (segment->position / GST_SECOND);
  return TRUE;
}

inline gboolean
cue_source_is_seekable (GstBaseSrc *)
{
  return TRUE;
}

inline void
cue_source_finalize (GObject *object)
{
  std::destroy_at (&cue_source_cast (object)->mutex);
  std::destroy_at (&cue_source_cast (object)->pushed);
  G_OBJECT_CLASS (cue_source_parent_class)->finalize (object);
}

inline void
cue_source_init (CueSource *self)
{
  std::construct_at (&self->mutex);
  std::construct_at (&self->pushed);
  self->count = 10;
  self->tokens = [] (int) { return 4; };
  gst_base_src_set_format (GST_BASE_SRC (self), GST_FORMAT_TIME);
}

inline void
cue_source_class_init (CueSourceClass *klass)
{
  static GstStaticPadTemplate src_template =
      GST_STATIC_PAD_TEMPLATE ("src", GST_PAD_SRC, GST_PAD_ALWAYS, GST_STATIC_CAPS ("application/json"));
  G_OBJECT_CLASS (klass)->finalize = cue_source_finalize;
  GST_PUSH_SRC_CLASS (klass)->create = cue_source_create;
  GST_BASE_SRC_CLASS (klass)->do_seek = cue_source_do_seek;
  GST_BASE_SRC_CLASS (klass)->is_seekable = cue_source_is_seekable;
  gst_element_class_add_static_pad_template (GST_ELEMENT_CLASS (klass), &src_template);
  gst_element_class_set_static_metadata (GST_ELEMENT_CLASS (klass), "Cues", "Source", "Timed prompts",
                                         "Tests");
}

/// Puts a source in front of the pipeline's element `first`; borrowed.
inline CueSource *
add_cue_source (GstElement *pipeline, const char *first)
{
  auto *source = static_cast<GstElement *> (g_object_new (cue_source_get_type (), nullptr));
  GstElement *element = gst_bin_get_by_name (GST_BIN (pipeline), first);
  gst_bin_add (GST_BIN (pipeline), source);
  EXPECT_TRUE (gst_element_link (source, element));
  gst_object_unref (element);
  return cue_source_cast (source);
}

} // namespace millrace::testing
