/* Subtitles that a model has worked on: each cue becomes what it answers, at the same time as before.
 *
 * subtitles IN.srt OUT.srt FRAMES SECONDS [SYSTEM-PROMPT] writes the new subtitles to OUT.srt, and the pictures of a
 * video of that length with them on it, two a second, to the folder FRAMES.
 *
 * cc subtitles.c $(pkg-config --cflags --libs gstreamer-1.0) -o subtitles
 */
#include <gst/gst.h>
#include <stdio.h>
#include <stdlib.h>

#define FRAMES_PER_SECOND 2
#define PIPELINE                                                                                             \
  "filesrc name=source ! subparse ! "                                                                        \
  "llmbin name=llm detokenizer::format=whole ! tee name=cues "                                               \
  "cues. ! queue ! fakesink name=written sync=false async=false signal-handoffs=true "                       \
  "cues. ! queue ! overlay.text_sink "                                                                       \
  "videotestsrc name=video pattern=blue ! video/x-raw,width=640,height=360,framerate=2/1 ! "                 \
  "textoverlay name=overlay font-desc=\"Sans 16\" shaded-background=true ! videoconvert ! pngenc ! "         \
  "multifilesink name=frames"

static void
write_time (FILE *file, GstClockTime time)
{
  fprintf (file, "%02u:%02u:%02u,%03u", (guint)(time / (GST_SECOND * 3600)),
           (guint)(time / (GST_SECOND * 60) % 60), (guint)(time / GST_SECOND % 60),
           (guint)(time / GST_MSECOND % 1000));
}

/* One buffer is one cue: format=whole. */
static void
on_cue (GstElement *sink, GstBuffer *buffer, GstPad *pad, gpointer file)
{
  static int number;
  GstMapInfo text;
  (void)sink, (void)pad;
  if (!gst_buffer_map (buffer, &text, GST_MAP_READ))
    return;
  fprintf (file, "%d\n", ++number);
  write_time (file, GST_BUFFER_PTS (buffer));
  fputs (" --> ", file);
  write_time (file, GST_BUFFER_PTS (buffer) + GST_BUFFER_DURATION (buffer));
  fputc ('\n', file);
  /* A subtitle ends at an empty line, so its text must have none. */
  for (gsize i = 0; i < text.size; i++) {
    if (text.data[i] != '\n' || (i > 0 && text.data[i - 1] != '\n'))
      fputc (text.data[i], file);
  }
  fputs ("\n\n", file);
  gst_buffer_unmap (buffer, &text);
}

/* To the end of the stream or an error; 0: it ended well. */
static int
run (GstElement *pipeline)
{
  int failed;
  gst_element_set_state (pipeline, GST_STATE_PLAYING);
  GstBus *bus = gst_element_get_bus (pipeline);
  GstMessage *message =
      gst_bus_timed_pop_filtered (bus, GST_CLOCK_TIME_NONE, GST_MESSAGE_EOS | GST_MESSAGE_ERROR);
  failed = GST_MESSAGE_TYPE (message) == GST_MESSAGE_ERROR;
  if (failed) {
    GError *error = NULL;
    gst_message_parse_error (message, &error, NULL);
    fprintf (stderr, "%s\n", error->message);
    g_error_free (error);
  }
  gst_element_set_state (pipeline, GST_STATE_NULL);
  gst_message_unref (message);
  gst_object_unref (bus);
  return failed;
}

static void
set (GstElement *pipeline, const char *element, const char *property, const char *value)
{
  GstElement *child = gst_bin_get_by_name (GST_BIN (pipeline), element);
  gst_util_set_object_arg (G_OBJECT (child), property, value);
  gst_object_unref (child);
}

int
main (int argc, char **argv)
{
  GError *error = NULL;
  gst_init (&argc, &argv);
  if (argc < 5) {
    fprintf (stderr, "usage: %s IN.srt OUT.srt FRAMES SECONDS [SYSTEM-PROMPT]\n", argv[0]);
    return 2;
  }
  FILE *file = fopen (argv[2], "w");
  if (!file) {
    perror (argv[2]);
    return 1;
  }
  GstElement *pipeline = gst_parse_launch (PIPELINE, &error);
  if (error) {
    fprintf (stderr, "%s\n", error->message);
    return 1;
  }
  char *pictures = g_build_filename (argv[3], "%03d.png", NULL);
  char *count = g_strdup_printf ("%d", MAX (atoi (argv[4]), 1) * FRAMES_PER_SECOND);
  set (pipeline, "source", "location", argv[1]);
  set (pipeline, "frames", "location", pictures);
  set (pipeline, "video", "num-buffers", count);
  set (pipeline, "prompt", "max-tokens", "24");
  set (pipeline, "prompt", "system-prompt", argc > 5 ? argv[5] : "Say it in other words.");
  GstElement *written = gst_bin_get_by_name (GST_BIN (pipeline), "written");
  g_signal_connect (written, "handoff", G_CALLBACK (on_cue), file);

  int failed = run (pipeline);

  gst_object_unref (written);
  gst_object_unref (pipeline);
  g_free (pictures);
  g_free (count);
  return fclose (file) != 0 || failed;
}
