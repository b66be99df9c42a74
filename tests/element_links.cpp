// labels: element
// What may be linked to what: a wrong order is refused when the pipeline is built, a wrong vocabulary when it
// starts.

#include "tests/pipeline_runner.hpp"

using namespace millrace::testing;

namespace
{

std::string
link_error (const std::string &text)
{
  gst_init (nullptr, nullptr);
  GError *error = nullptr;
  GstElement *pipeline = gst_parse_launch_full (text.c_str (), nullptr, GST_PARSE_FLAG_FATAL_ERRORS, &error);
  if (pipeline)
    gst_object_unref (pipeline);
  std::string message = error ? error->message : "";
  g_clear_error (&error);
  return message;
}

} // namespace

TEST (Links, AWrongOrderIsRefused)
{
  for (const char *wrong : {
           "llmprompt ! llmscheduler",
           "llmtokenizer ! llmprefill",
           "llmscheduler ! llmsampler",
           "llmprefill ! llmsampler",
           "llmngramdrafter ! llmsampler",
           "llmverifier ! llmprefill",
           "llmverifier ! llmngramdrafter",
           "llmmodeldrafter ! llmsampler",
           "llmverifier ! llmmodeldrafter",
           "llmverifier ! llmverifier",
           "llmverifier ! llmdetokenizer",
           "llmsampler ! llmverifier",
           "llmsampler ! llmprompt",
           "llmscheduler ! llmdetokenizer",
           "llmdetokenizer ! llmscheduler",
           "llmscheduler ! llmbin",
       })
    EXPECT_NE (link_error (wrong).find ("could not link"), std::string::npos)
        << wrong << ": " << link_error (wrong);
}

TEST (Links, EveryRightOrderIsTaken)
{
  for (const char *right : {
           "llmprompt ! llmtokenizer ! llmscheduler ! llmprefill ! llmngramdrafter ! llmverifier ! "
           "llmsampler ! "
           "llmdetokenizer ! fakesink",
           "fdsrc ! llmprompt ! llmtokenizer ! llmscheduler ! llmngramdrafter ! llmprefill ! llmverifier ! "
           "llmsampler ! "
           "llmdetokenizer ! fdsink",
           "llmscheduler ! llmngramdrafter ! llmmodeldrafter ! llmverifier",
           "filesrc ! llmtokenizer ! llmdetokenizer ! fdsink",
           "fdsrc ! llmbin ! fdsink",
           "llmbin ! llmbin ! fakesink",
           "llmtokenizer name=t ! llmscheduler name=s ! llmverifier llmtokenizer ! s. ",
       })
    EXPECT_EQ (link_error (right), "") << right;
}

TEST (Links, ATeeInsideTheLoopIsAnErrorNotARace)
{
  const auto result =
      run_pipeline ("llmprompt ! llmtokenizer model=demo-draft ! llmscheduler ! tee name=t ! llmverifier ! "
                    "llmsampler ! llmdetokenizer ! fakesink t. ! llmverifier ! llmsampler ! llmdetokenizer",
                    {"import os"});
  EXPECT_NE (result.error.find ("not the scheduler's step"), std::string::npos) << result.error;
}

TEST (Links, ABadPropertyValueIsRefused)
{
  EXPECT_NE (link_error ("llmprompt boundary=nonsense ! fakesink"), "");
  EXPECT_NE (link_error ("llmprompt max-tokenz=4 ! fakesink"), "");
  EXPECT_NE (link_error ("llmtokenizer weights=float128 ! fakesink"), "");
}
