// labels: pipeline
// timeout: 120
// Two pipelines of a process share one model in memory, by GStreamer's own protocol of contexts.

#include "library/ref.hpp"
#include "tests/resident_memory.hpp"
#include "tests/sanitized.hpp"

#include <gst/gst.h>
#include <gtest/gtest.h>
#include <millrace/millrace.h>

#include <cstdio>
#include <set>

using millrace::Ref;
using millrace::testing::kSanitized;
using millrace::testing::resident_kib;

namespace
{

/// What an application does that has several pipelines: it keeps the context that one of them has, and gives it to those
/// that need one.
struct Application {
  Ref<GstContext> context;
  int asked = 0;

  GstBusSyncReply handle (GstMessage *message)
  {
    const char *type = nullptr;
    if (GST_MESSAGE_TYPE (message) == GST_MESSAGE_HAVE_CONTEXT) {
      GstContext *found = nullptr;
      gst_message_parse_have_context (message, &found);
      if (gst_context_has_context_type (found, MILLRACE_MODEL_CONTEXT))
        context = Ref<GstContext>::share (found);
      gst_context_unref (found);
    } else if (GST_MESSAGE_TYPE (message) == GST_MESSAGE_NEED_CONTEXT &&
               gst_message_parse_context_type (message, &type) &&
               g_strcmp0 (type, MILLRACE_MODEL_CONTEXT) == 0) {
      asked++;
      if (context)
        gst_element_set_context (GST_ELEMENT (GST_MESSAGE_SRC (message)), context.get ());
    }
    return GST_BUS_PASS;
  }
};

Ref<GstElement>
ready (const char *properties, Application *application)
{
  g_autofree char *text =
      g_strdup_printf ("fakesrc num-buffers=1 ! llmbin name=llm %s ! fakesink", properties);
  auto pipeline = Ref<GstElement>::adopt (gst_parse_launch (text, nullptr));
  gst_object_ref_sink (pipeline.get ());
  auto bus = Ref<GstBus>::adopt (gst_element_get_bus (pipeline.get ()));
  if (application)
    gst_bus_set_sync_handler (
        bus.get (),
        [] (GstBus *, GstMessage *message, gpointer data) {
          return static_cast<Application *> (data)->handle (message);
        },
        application, nullptr);
  EXPECT_EQ (gst_element_set_state (pipeline.get (), GST_STATE_READY), GST_STATE_CHANGE_SUCCESS);
  return pipeline;
}

void
stop (const Ref<GstElement> &pipeline)
{
  gst_element_set_state (pipeline.get (), GST_STATE_NULL);
}

} // namespace

TEST (Context, ASecondPipelineIsGivenTheModelOfTheFirst)
{
  gst_init (nullptr, nullptr);
  Application application;
  const long before = resident_kib ();
  auto first = ready ("model=demo", &application);
  const long one = resident_kib () - before;
  EXPECT_EQ (application.asked, 0) << "who names a model has one";
  ASSERT_TRUE (application.context);
  auto model = Ref<MillraceModel>::adopt (millrace_model_from_context (application.context.get ()));
  guint64 weights = 0;
  g_object_get (model.get (), "weight-bytes", &weights, nullptr);

  auto second = ready ("", &application);
  const long shared = resident_kib () - before;
  EXPECT_GE (application.asked, 1);
  EXPECT_EQ (millrace_model_from_context (application.context.get ()), model.get ())
      << "it opened none of its own";
  g_object_unref (model.get ()); // of the call in the line before

  auto third = ready ("model=demo", nullptr);
  const long apart = resident_kib () - before;
  std::printf (
      "weights %" G_GUINT64_FORMAT
      " KiB; resident: one pipeline %ld KiB, two that share %ld KiB, and a third that does not %ld KiB\n",
      weights / 1024, one, shared, apart);
  if (!kSanitized) {
    EXPECT_LT (shared - one, static_cast<long> (weights / 1024) / 8);
    EXPECT_GT (apart - shared, static_cast<long> (weights / 1024) / 4)
        << "the measure would see a second model";
  }
  for (const auto &pipeline : {first, second, third})
    stop (pipeline);
}
