// labels: pipeline
// timeout: 900
// Starting and stopping pipelines, also in mid-generation, leaves nothing behind.

#include "tests/pipeline_runner.hpp"
#include "tests/resident_memory.hpp"

#include <gst/gst.h>
#include <gtest/gtest.h>
#include <millrace/millrace.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <fstream>
#include <malloc.h>
#include <mutex>

using millrace::Ref;
using millrace::testing::resident_kib;

namespace
{

constexpr int kCycles = millrace::testing::kSanitized ? 60 : 1000;

struct FirstText {
  std::mutex mutex;
  std::condition_variable condition;
  bool seen = false;
};

// `fakesrc … ! llmbin ! fakesink`. The bin's children are set up by hand: gst_parse_launch () of
// GStreamer 1.22 leaks a reference to the child in `child::property=value`.
Ref<GstElement>
launch (int buffers, int max_tokens, MillraceModel *model)
{
  g_autofree char *text =
      g_strdup_printf ("fakesrc num-buffers=%d sizetype=fixed sizemax=24 filltype=zero ! llmbin name=llm ! "
                       "fakesink name=out signal-handoffs=true",
                       buffers);
  auto pipeline = Ref<GstElement>::adopt (gst_parse_launch (text, nullptr));
  gst_object_ref_sink (pipeline.get ());
  auto bin = Ref<GstElement>::adopt (gst_bin_get_by_name (GST_BIN (pipeline.get ()), "llm"));
  auto prompt = Ref<GstElement>::adopt (gst_bin_get_by_name (GST_BIN (bin.get ()), "prompt"));
  gst_util_set_object_arg (G_OBJECT (prompt.get ()), "boundary", "buffer");
  g_object_set (prompt.get (), "max-tokens", max_tokens, "ignore-eos", TRUE, nullptr);
  auto context = Ref<GstContext>::adopt (millrace_model_to_context (model));
  gst_element_set_context (pipeline.get (), context.get ());
  return pipeline;
}

} // namespace

TEST (Lifecycle, AThousandStartsAndStopsLeaveNoMemory)
{
  // One arena: which of malloc's arenas a new thread gets, and how far each has grown, is chance.
  mallopt (M_ARENA_MAX, 1);
  gst_init (nullptr, nullptr);
  GError *error = nullptr;
  auto model =
      Ref<MillraceModel>::adopt (millrace_model_open ("demo-draft", MILLRACE_WEIGHTS_AUTO, 2, &error));
  ASSERT_TRUE (model) << error->message;

  double slowest_ms = 0;
  long after_warm_up = 0, highest = 0;
  for (int cycle = 0; cycle < kCycles; cycle++) {
    auto pipeline = launch (4, 0, model.get ());
    FirstText first;
    auto sink = Ref<GstElement>::adopt (gst_bin_get_by_name (GST_BIN (pipeline.get ()), "out"));
    g_signal_connect (sink.get (), "handoff",
                      G_CALLBACK (+[] (GstElement *, GstBuffer *, GstPad *, gpointer data) {
                        auto *into = static_cast<FirstText *> (data);
                        const std::lock_guard lock (into->mutex);
                        into->seen = true;
                        into->condition.notify_all ();
                      }),
                      &first);
    gst_element_set_state (pipeline.get (), GST_STATE_PLAYING);
    // Every other cycle is stopped while it generates, the others while they start.
    if (cycle % 2 == 0) {
      std::unique_lock lock (first.mutex);
      ASSERT_TRUE (first.condition.wait_for (lock, std::chrono::seconds (60), [&] { return first.seen; }));
    }
    const auto begin = std::chrono::steady_clock::now ();
    ASSERT_EQ (gst_element_set_state (pipeline.get (), GST_STATE_NULL), GST_STATE_CHANGE_SUCCESS);
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now () - begin;
    slowest_ms = std::max (slowest_ms, took.count ());
    if (cycle == kCycles / 5)
      after_warm_up = resident_kib ();
    if (cycle > kCycles / 5)
      highest = std::max (highest, resident_kib ());
  }
  std::printf (
      "%d cycles: slowest stop %.1f ms, resident memory %ld KiB after warm-up, %ld KiB at most later\n",
      kCycles, slowest_ms, after_warm_up, highest);
  if (!millrace::testing::kSanitized) {
    EXPECT_LE (highest - after_warm_up, 2048) << "KiB of growth";
  }
}

TEST (Lifecycle, APausedPipelineResumesWhereItWas)
{
  gst_init (nullptr, nullptr);
  auto model =
      Ref<MillraceModel>::adopt (millrace_model_open ("demo-draft", MILLRACE_WEIGHTS_AUTO, 0, nullptr));
  std::string outputs[2];
  for (int pauses : {0, 1}) {
    auto pipeline = launch (1, 200, model.get ());
    auto sink = Ref<GstElement>::adopt (gst_bin_get_by_name (GST_BIN (pipeline.get ()), "out"));
    g_signal_connect (sink.get (), "handoff",
                      G_CALLBACK (+[] (GstElement *, GstBuffer *buffer, GstPad *, gpointer data) {
                        const millrace::MappedBuffer mapped (buffer);
                        static_cast<std::string *> (data)->append (mapped.chars (), mapped.size ());
                      }),
                      &outputs[pauses]);
    gst_element_set_state (pipeline.get (), GST_STATE_PLAYING);
    // GStreamer 1.22 gets stuck when a pipeline that prerolls while it is being started is paused before it plays;
    // stock elements (videotestsrc ! videoscale ! fakesink) do it too.
    gst_element_get_state (pipeline.get (), nullptr, nullptr, GST_CLOCK_TIME_NONE);
    for (int i = 0; i < 20 * pauses; i++) {
      gst_element_set_state (pipeline.get (), GST_STATE_PAUSED);
      gst_element_get_state (pipeline.get (), nullptr, nullptr, GST_SECOND);
      gst_element_set_state (pipeline.get (), GST_STATE_PLAYING);
      gst_element_get_state (pipeline.get (), nullptr, nullptr, GST_CLOCK_TIME_NONE);
    }
    auto bus = Ref<GstBus>::adopt (gst_element_get_bus (pipeline.get ()));
    GstMessage *message = gst_bus_timed_pop_filtered (
        bus.get (), 120 * GST_SECOND, static_cast<GstMessageType> (GST_MESSAGE_EOS | GST_MESSAGE_ERROR));
    ASSERT_NE (message, nullptr);
    EXPECT_EQ (GST_MESSAGE_TYPE (message), GST_MESSAGE_EOS);
    gst_message_unref (message);
    gst_element_set_state (pipeline.get (), GST_STATE_NULL);
  }
  EXPECT_GT (outputs[0].size (), 100u);
  EXPECT_EQ (outputs[1], outputs[0]);
}

TEST (Lifecycle, TwoPipelinesShareOneModel)
{
  gst_init (nullptr, nullptr);
  auto model =
      Ref<MillraceModel>::adopt (millrace_model_open ("demo-draft", MILLRACE_WEIGHTS_AUTO, 0, nullptr));
  const guint before = G_OBJECT (model.get ())->ref_count;
  {
    auto one = launch (1, 1, model.get ());
    auto two = launch (1, 1, model.get ());
    for (auto *pipeline : {one.get (), two.get ()})
      ASSERT_NE (gst_element_set_state (pipeline, GST_STATE_READY), GST_STATE_CHANGE_FAILURE);
    EXPECT_GT (G_OBJECT (model.get ())->ref_count, before + 10) << "every element holds the same model";
    for (auto *pipeline : {one.get (), two.get ()})
      gst_element_set_state (pipeline, GST_STATE_NULL);
  }
  EXPECT_EQ (G_OBJECT (model.get ())->ref_count, before) << "a stopped pipeline lets go of the model";
}
