/* Requests in through an appsrc, text out of an appsink, in a pipeline of one's own: for applications that have one already
 * and want llmbin in it. Each prompt is a buffer; the text of each names its request.
 *
 * cc appsrc.c $(pkg-config --cflags --libs gstreamer-app-1.0 millrace-1.0) -o appsrc
 * ./appsrc "import os" "def area(r):"
 */
#include <gst/app/gstappsink.h>
#include <gst/app/gstappsrc.h>
#include <millrace/millrace.h>
#include <stdio.h>
#include <string.h>

int
main (int argc, char **argv)
{
  GError *error = NULL;
  gst_init (&argc, &argv);
  GstElement *pipeline = gst_parse_launch ("appsrc name=source caps=text/x-raw,format=utf8 format=time ! "
                                           "llmbin name=llm ! appsink name=sink sync=false",
                                           &error);
  if (error) {
    fprintf (stderr, "%s\n", error->message);
    return 1;
  }
  GstElement *source = gst_bin_get_by_name (GST_BIN (pipeline), "source");
  GstElement *sink = gst_bin_get_by_name (GST_BIN (pipeline), "sink");
  gst_child_proxy_set (GST_CHILD_PROXY (pipeline), "llm::prompt::max-tokens", 24, NULL);
  if (g_getenv ("MODEL"))
    gst_child_proxy_set (GST_CHILD_PROXY (pipeline), "llm::model", g_getenv ("MODEL"), NULL);
  gst_element_set_state (pipeline, GST_STATE_PLAYING);

  for (int i = 1; i < argc; i++)
    gst_app_src_push_buffer (GST_APP_SRC (source), gst_buffer_new_memdup (argv[i], strlen (argv[i])));
  gst_app_src_end_of_stream (GST_APP_SRC (source));

  /* Texts of requests that run together come in turns: each is collected by its request. */
  GHashTable *texts = g_hash_table_new_full (g_str_hash, g_str_equal, g_free, NULL);
  GstSample *sample;
  while ((sample = gst_app_sink_pull_sample (GST_APP_SINK (sink)))) {
    GstBuffer *buffer = gst_sample_get_buffer (sample);
    MillraceRequestMeta *meta = millrace_buffer_get_request_meta (buffer);
    const char *id = millrace_request_get_id (meta->request);
    GString *text = g_hash_table_lookup (texts, id);
    GstMapInfo map;
    if (!text)
      g_hash_table_insert (texts, g_strdup (id), text = g_string_new (NULL));
    if (gst_buffer_map (buffer, &map, GST_MAP_READ)) {
      g_string_append_len (text, (const char *)map.data, (gssize)map.size);
      gst_buffer_unmap (buffer, &map);
    }
    if (meta->finish) {
      printf ("%s (%s): %s\n", id, meta->finish, text->str);
      g_string_free (text, TRUE);
      g_hash_table_remove (texts, id);
    }
    gst_sample_unref (sample);
  }
  int failed = g_hash_table_size (texts) > 0; /* an error came before their ends */

  gst_element_set_state (pipeline, GST_STATE_NULL);
  g_hash_table_unref (texts);
  gst_object_unref (source);
  gst_object_unref (sink);
  gst_object_unref (pipeline);
  return failed;
}
