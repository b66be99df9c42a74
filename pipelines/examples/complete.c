/* Completes a prompt from C: any GStreamer application can do it.
 *
 * cc complete.c $(pkg-config --cflags --libs gstreamer-1.0) -o complete && ./complete "def fibonacci(n):"
 */
#include <gst/gst.h>
#include <stdio.h>
#include <string.h>

static void
on_text (GstElement *sink, GstBuffer *buffer, GstPad *pad, gpointer data)
{
  GstMapInfo text;
  (void)sink, (void)pad, (void)data;
  if (gst_buffer_map (buffer, &text, GST_MAP_READ)) {
    fwrite (text.data, 1, text.size, stdout);
    fflush (stdout);
    gst_buffer_unmap (buffer, &text);
  }
}

static void
on_need_data (GstElement *source, guint length, gpointer prompt)
{
  GstFlowReturn flow;
  (void)length;
  GstBuffer *buffer = gst_buffer_new_memdup (prompt, strlen (prompt));
  g_signal_emit_by_name (source, "push-buffer", buffer, &flow);
  g_signal_emit_by_name (source, "end-of-stream", &flow);
  gst_buffer_unref (buffer);
}

int
main (int argc, char **argv)
{
  GError *error = NULL;
  gst_init (&argc, &argv);
  GstElement *pipeline = gst_parse_launch ("appsrc name=source caps=text/x-raw,format=utf8 ! "
                                           "llmbin prompt::max-tokens=64 ! "
                                           "fakesink name=sink signal-handoffs=true",
                                           &error);
  if (error) {
    fprintf (stderr, "%s\n", error->message);
    return 1;
  }
  GstElement *source = gst_bin_get_by_name (GST_BIN (pipeline), "source");
  GstElement *sink = gst_bin_get_by_name (GST_BIN (pipeline), "sink");
  g_signal_connect (source, "need-data", G_CALLBACK (on_need_data), argc > 1 ? argv[1] : "import os");
  g_signal_connect (sink, "handoff", G_CALLBACK (on_text), NULL);

  gst_element_set_state (pipeline, GST_STATE_PLAYING);
  GstBus *bus = gst_element_get_bus (pipeline);
  GstMessage *message =
      gst_bus_timed_pop_filtered (bus, GST_CLOCK_TIME_NONE, GST_MESSAGE_EOS | GST_MESSAGE_ERROR);
  int failed = GST_MESSAGE_TYPE (message) == GST_MESSAGE_ERROR;
  if (failed) {
    gst_message_parse_error (message, &error, NULL);
    fprintf (stderr, "%s\n", error->message);
    g_error_free (error);
  } else {
    printf ("\n");
  }

  gst_element_set_state (pipeline, GST_STATE_NULL);
  gst_message_unref (message);
  gst_object_unref (bus);
  gst_object_unref (source);
  gst_object_unref (sink);
  gst_object_unref (pipeline);
  return failed;
}
