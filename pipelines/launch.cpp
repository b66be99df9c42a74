#include "pipelines/launch.hpp"

#include "library/model_path.hpp"
#include "library/ref.hpp"

#include <glib-unix.h>

#include <cstdio>

namespace millrace
{

std::string
quoted_value (const char *value)
{
  std::string text = "\"";
  for (; *value; value++) {
    if (*value == '"' || *value == '\\')
      text += '\\';
    text += *value;
  }
  return text + "\"";
}

std::string
number_value (double value)
{
  char text[G_ASCII_DTOSTR_BUF_SIZE];
  return g_ascii_dtostr (text, sizeof text, value);
}

namespace
{

struct Run {
  GMainLoop *loop;
  GstElement *pipeline;
  const PlayOptions &options;
  bool failed = false, interrupted = false, draining = false;
};

void
print_statistics (const GstStructure *message)
{
  int tokens = 0, prompt_tokens = 0, accepted = 0;
  guint64 first = 0, total = 0;
  gst_structure_get (message, "prompt-tokens", G_TYPE_INT, &prompt_tokens, "completion-tokens", G_TYPE_INT,
                     &tokens, "accepted-tokens", G_TYPE_INT, &accepted, "first-token-time", G_TYPE_UINT64,
                     &first, "total-time", G_TYPE_UINT64, &total, nullptr);
  const double seconds = static_cast<double> (total - MIN (first, total)) / GST_SECOND;
  std::fprintf (
      stderr,
      "\n%s: %d prompt tokens, first token after %.1f ms, %d tokens (%d of them drafted), %.1f tokens/s\n",
      gst_structure_get_string (message, "id"), prompt_tokens, static_cast<double> (first) / GST_MSECOND,
      tokens, accepted, tokens > 1 && seconds > 0 ? (tokens - 1) / seconds : 0.0);
}

gboolean
on_message (GstBus *, GstMessage *message, gpointer data)
{
  auto *run = static_cast<Run *> (data);
  switch (GST_MESSAGE_TYPE (message)) {
  case GST_MESSAGE_ERROR:
  case GST_MESSAGE_WARNING: {
    GError *error = nullptr;
    g_autofree char *debug = nullptr;
    const bool fatal = GST_MESSAGE_TYPE (message) == GST_MESSAGE_ERROR;
    if (fatal)
      gst_message_parse_error (message, &error, &debug);
    else
      gst_message_parse_warning (message, &error, &debug);
    std::fprintf (stderr, "%s: %s\n", fatal ? "error" : "warning", error->message);
    g_clear_error (&error);
    if (fatal) {
      run->failed = true;
      g_main_loop_quit (run->loop);
    }
    break;
  }
  case GST_MESSAGE_EOS:
    g_main_loop_quit (run->loop);
    break;
  case GST_MESSAGE_STATE_CHANGED: {
    GstState now = GST_STATE_NULL;
    gst_message_parse_state_changed (message, nullptr, &now, nullptr);
    if (GST_MESSAGE_SRC (message) == GST_OBJECT (run->pipeline) && now == GST_STATE_PLAYING &&
        run->options.on_playing)
      run->options.on_playing (run->pipeline);
    break;
  }
  case GST_MESSAGE_ELEMENT: {
    const GstStructure *structure = gst_message_get_structure (message);
    if (gst_structure_has_name (structure, "llm-request")) {
      run->failed |= run->options.fail_with_request && gst_structure_has_field (structure, "error");
      if (run->options.stats)
        print_statistics (structure);
    }
    break;
  }
  default:
    break;
  }
  return G_SOURCE_CONTINUE;
}

gboolean
on_drain_timeout (gpointer data)
{
  std::fprintf (stderr, "warning: requests are still running after the drain timeout; stopping them\n");
  g_main_loop_quit (static_cast<Run *> (data)->loop);
  return G_SOURCE_REMOVE;
}

gboolean
on_signal (gpointer data)
{
  auto *run = static_cast<Run *> (data);
  if (run->options.drain_timeout_s >= 0 && !run->draining) {
    run->draining = true;
    gst_element_send_event (run->pipeline, gst_event_new_eos ());
    g_timeout_add_seconds (static_cast<guint> (run->options.drain_timeout_s), on_drain_timeout, run);
    return G_SOURCE_CONTINUE;
  }
  run->interrupted = true;
  g_main_loop_quit (run->loop);
  return G_SOURCE_CONTINUE;
}

} // namespace

int
play (const std::string &text, const PlayOptions &options)
{
  GError *error = nullptr;
  auto pipeline = Ref<GstElement>::adopt (gst_parse_launch (text.c_str (), &error));
  if (pipeline)
    gst_object_ref_sink (pipeline.get ());
  if (error) {
    std::fprintf (stderr, "error: %s\n", error->message);
    g_clear_error (&error);
    return 1;
  }
  Run run{g_main_loop_new (nullptr, FALSE), pipeline.get (), options};
  GstBus *bus = gst_element_get_bus (pipeline.get ());
  const guint watch = gst_bus_add_watch (bus, on_message, &run);
  gst_object_unref (bus);
  const guint interrupt = g_unix_signal_add (SIGINT, on_signal, &run);
  const guint terminate = g_unix_signal_add (SIGTERM, on_signal, &run);

  gst_element_set_state (pipeline.get (), GST_STATE_PLAYING);
  g_main_loop_run (run.loop); // a failed state change posts an error, which ends it
  gst_element_set_state (pipeline.get (), GST_STATE_NULL);

  for (guint source : {watch, interrupt, terminate})
    g_source_remove (source);
  g_main_loop_unref (run.loop);
  return run.interrupted ? 130 : run.failed ? 1 : 0;
}

bool
ensure_plugin (const char *feature)
{
  const auto installed = library_folder () / "gstreamer-1.0";
  if (!gst_registry_check_feature_version (gst_registry_get (), feature, 0, 1, 0))
    gst_registry_scan_path (gst_registry_get (), installed.c_str ());
  if (gst_registry_check_feature_version (gst_registry_get (), feature, 0, 1, 0))
    return true;
  std::fprintf (stderr, "error: the GStreamer element %s was not found in GST_PLUGIN_PATH or %s\n", feature,
                installed.c_str ());
  return false;
}

} // namespace millrace
