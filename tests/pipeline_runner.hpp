// Runs a pipeline string to its end: bytes in through `appsrc name=in`, bytes out of `fakesink name=out`.
#pragma once

#include "library/ref.hpp"

#include <gst/app/gstappsrc.h>
#include <gst/gst.h>
#include <gtest/gtest.h>

#include "tests/sanitized.hpp"

#include <array>
#include <mutex>
#include <regex>
#include <string>
#include <vector>

namespace millrace::testing
{

struct PipelineResult {
  std::string output;
  std::string error; ///< of the error message, empty: ended by EOS
  std::vector<std::string> warnings;
  std::vector<Ref<GstBuffer>> buffers;
  std::vector<std::string> finished; ///< ids of llm-request messages, in order
};

/// Takes `child::property=value` out of a pipeline string. gst_parse_launch () of GStreamer 1.22 leaks a reference to
/// the child of each, so the runner sets them itself, on the pipeline's llmbin.
inline std::vector<std::array<std::string, 3>>
take_child_properties (std::string &text)
{
  static const std::regex pattern (R"(([a-z]+)::([a-z-]+)=([^ ]+))");
  std::vector<std::array<std::string, 3>> found;
  for (std::smatch match; std::regex_search (text, match, pattern);) {
    found.push_back ({match[1], match[2], match[3]});
    text = match.prefix ().str () + match.suffix ().str ();
  }
  return found;
}

/// `chunks` become one buffer each. `caps` may be null: bytes without a format, as from fdsrc; with caps the
/// buffers are half a second long and one second apart.
inline PipelineResult
run_pipeline (const std::string &middle, const std::vector<std::string> &chunks, const char *caps = nullptr)
{
  static std::once_flag once;
  std::call_once (once, [] { gst_init (nullptr, nullptr); });
  PipelineResult result;
  GError *error = nullptr;
  std::string text = "appsrc name=in ! " + middle + " ! fakesink name=out signal-handoffs=true";
  const auto properties = take_child_properties (text);
  auto pipeline = Ref<GstElement>::adopt (
      gst_parse_launch_full (text.c_str (), nullptr, GST_PARSE_FLAG_FATAL_ERRORS, &error));
  if (!pipeline) {
    result.error = error->message;
    g_clear_error (&error);
    return result;
  }
  gst_object_ref_sink (pipeline.get ());
  for (const auto &[child, property, value] : properties) {
    auto element = Ref<GstElement>::adopt (gst_bin_get_by_name (GST_BIN (pipeline.get ()), child.c_str ()));
    gst_util_set_object_arg (G_OBJECT (element.get ()), property.c_str (), value.c_str ());
  }
  auto source = Ref<GstElement>::adopt (gst_bin_get_by_name (GST_BIN (pipeline.get ()), "in"));
  auto sink = Ref<GstElement>::adopt (gst_bin_get_by_name (GST_BIN (pipeline.get ()), "out"));
  if (caps) {
    auto format = Ref<GstCaps>::adopt (gst_caps_from_string (caps));
    gst_app_src_set_caps (GST_APP_SRC (source.get ()), format.get ());
    g_object_set (source.get (), "format", GST_FORMAT_TIME, nullptr);
  }
  g_signal_connect (sink.get (), "handoff",
                    G_CALLBACK (+[] (GstElement *, GstBuffer *buffer, GstPad *, gpointer data) {
                      auto *into = static_cast<PipelineResult *> (data);
                      const MappedBuffer mapped (buffer);
                      into->output.append (mapped.chars (), mapped.size ());
                      into->buffers.push_back (Ref<GstBuffer>::share (buffer));
                    }),
                    &result);

  gst_element_set_state (pipeline.get (), GST_STATE_PLAYING);
  GstClockTime time = 0;
  for (const std::string &chunk : chunks) {
    GstBuffer *buffer =
        chunk.empty () ? gst_buffer_new () : gst_buffer_new_memdup (chunk.data (), chunk.size ());
    if (caps) {
      GST_BUFFER_PTS (buffer) = time;
      GST_BUFFER_DURATION (buffer) = GST_SECOND / 2;
      time += GST_SECOND;
    }
    gst_app_src_push_buffer (GST_APP_SRC (source.get ()), buffer);
  }
  gst_app_src_end_of_stream (GST_APP_SRC (source.get ()));

  auto bus = Ref<GstBus>::adopt (gst_element_get_bus (pipeline.get ()));
  for (bool done = false; !done;) {
    GstMessage *message = gst_bus_timed_pop (bus.get (), 300 * GST_SECOND);
    if (!message) {
      result.error = "timed out";
      break;
    }
    switch (GST_MESSAGE_TYPE (message)) {
    case GST_MESSAGE_ERROR:
      gst_message_parse_error (message, &error, nullptr);
      result.error = error->message;
      g_clear_error (&error);
      done = true;
      break;
    case GST_MESSAGE_WARNING:
      gst_message_parse_warning (message, &error, nullptr);
      result.warnings.emplace_back (error->message);
      g_clear_error (&error);
      break;
    case GST_MESSAGE_EOS:
      done = true;
      break;
    case GST_MESSAGE_ELEMENT:
      if (gst_structure_has_name (gst_message_get_structure (message), "llm-request"))
        result.finished.emplace_back (gst_structure_get_string (gst_message_get_structure (message), "id"));
      break;
    default:
      break;
    }
    gst_message_unref (message);
  }
  gst_element_set_state (pipeline.get (), GST_STATE_NULL);
  return result;
}

} // namespace millrace::testing
