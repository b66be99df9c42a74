// What one turn of the loop costs besides the model: plan, six elements, sampling, text, commit.
//
//   step_overhead [RUNS]
//
// The model computes nothing (its logits always favour one token), so whatever time a step takes is overhead.
// For each batch size the median over RUNS (default 9) runs of 2,000 steps is printed, for the pipeline
// `llmscheduler ! llmprefill ! llmngramdrafter ! llmverifier ! llmsampler ! llmdetokenizer ! fakesink` and
// for the six calls without GStreamer, beside the bound of 5 µs + 1 µs × batch. Exit code 1 when a bound is
// missed.

#include "bench/empty_model.hpp"
#include "bench/measure.hpp"

#include "engine/drafting/lookup_policy.hpp"
#include "engine/model/forward.hpp"
#include "engine/scheduling/scheduler.hpp"
#include "library/meta.hpp"
#include "library/model.hpp"
#include "library/request.hpp"

#include <gst/gst.h>
#include <millrace/millrace.h>

#include <cstdio>
#include <cstdlib>
#include <iterator>

using namespace millrace;
using bench::median;
using bench::seconds_since;

namespace
{

constexpr int kVocab = 32;
constexpr int kSteps = 2000;

std::shared_ptr<const Model>
model_with_tokenizer ()
{
  g_autofree char *demo = millrace_find_model ("demo");
  auto model = bench::empty_model (kVocab, 2 * kSteps, 64);
  model->tokenizer = Tokenizer::load (std::filesystem::path (demo) / "tokenizer.json");
  return model;
}

void
fill (Request &request)
{
  // No drafts are planned for (max-draft=0): each step then is one token, and the steps can be counted.
  request.prompt = {1, 2, 3, 4, 5, 6, 7, 8};
  request.sampling.max_tokens = kSteps;
}

double
bare_loop_us (const std::shared_ptr<const Model> &model, int batch)
{
  Scheduler scheduler (model, {.max_batch = batch, .max_draft = 0});
  const auto drafter = make_lookup_drafter ();
  Sampler sampler;
  Step step;
  for (int i = 0; i < batch; i++) {
    auto request = std::make_shared<Request> ();
    fill (*request);
    scheduler.admit (request);
  }
  const auto begin = std::chrono::steady_clock::now ();
  while (scheduler.plan (step)) {
    prefill (step);
    drafter->draft (step);
    verify (step);
    sampler.sample (step);
    scheduler.commit (step);
  }
  return seconds_since (begin) * 1e6 / static_cast<double> (scheduler.statistics ().steps);
}

double
pipeline_us (MillraceModel *model, int batch)
{
  g_autofree char *text = g_strdup_printf (
      "llmscheduler name=scheduler max-draft=0 max-batch=%d max-queued=%d ! llmprefill ! llmngramdrafter ! "
      "llmverifier ! llmsampler ! llmdetokenizer ! fakesink async=false",
      batch, batch + 1);
  GstElement *pipeline = gst_parse_launch (text, nullptr);
  auto context = Ref<GstContext>::adopt (millrace_model_to_context (model));
  gst_element_set_context (pipeline, context.get ());
  GstElement *scheduler = gst_bin_get_by_name (GST_BIN (pipeline), "scheduler");
  GstPad *pad = gst_element_request_pad_simple (scheduler, "sink_%u");
  gst_element_set_state (pipeline, GST_STATE_PAUSED);
  gst_pad_send_event (pad, gst_event_new_stream_start ("bench"));
  GstSegment segment;
  gst_segment_init (&segment, GST_FORMAT_TIME);
  gst_pad_send_event (pad, gst_event_new_segment (&segment));
  gst_element_set_state (pipeline, GST_STATE_PLAYING);

  std::vector<GstBuffer *> buffers;
  for (int i = 0; i < batch; i++) {
    MillraceRequest *request = millrace_request_new ();
    fill (engine_request (request));
    engine_request (request).id = std::to_string (i);
    buffers.push_back (new_token_buffer (engine_request (request).prompt));
    millrace_buffer_add_request_meta (buffers.back (), request, nullptr);
    g_object_unref (request);
  }
  const auto begin = std::chrono::steady_clock::now ();
  for (GstBuffer *buffer : buffers)
    gst_pad_chain (pad, buffer);
  gst_pad_send_event (pad, gst_event_new_eos ());
  GstBus *bus = gst_element_get_bus (pipeline);
  GstMessage *message = gst_bus_timed_pop_filtered (
      bus, GST_CLOCK_TIME_NONE, static_cast<GstMessageType> (GST_MESSAGE_EOS | GST_MESSAGE_ERROR));
  const double seconds = seconds_since (begin);
  if (GST_MESSAGE_TYPE (message) == GST_MESSAGE_ERROR)
    std::abort ();
  gst_message_unref (message);
  gst_object_unref (bus);

  GstStructure *statistics = nullptr;
  guint64 steps = 1;
  g_object_get (scheduler, "stats", &statistics, nullptr);
  gst_structure_get_uint64 (statistics, "steps", &steps);
  gst_structure_free (statistics);
  gst_element_set_state (pipeline, GST_STATE_NULL);
  gst_element_release_request_pad (scheduler, pad);
  gst_object_unref (pad);
  gst_object_unref (scheduler);
  gst_object_unref (pipeline);
  return seconds * 1e6 / static_cast<double> (steps);
}

} // namespace

int
main (int argc, char **argv)
{
  gst_init (&argc, &argv);
  const int runs = argc > 1 ? std::atoi (argv[1]) : 9;
  const auto engine = model_with_tokenizer ();
  auto model = Ref<MillraceModel>::adopt (wrap_model (engine));

  bool within = true;
  std::printf ("batch   six calls     pipeline        bound   (µs a step, medians of %d runs)\n", runs);
  constexpr int kBatches[] = {1, 2, 4, 8, 16, 32, 64};
  std::vector<double> bare[std::size (kBatches)], piped[std::size (kBatches)];
  // Round after round through all sizes, so that a slow phase of the machine does not fall on one of them.
  for (int run = 0; run < runs; run++) {
    for (size_t i = 0; i < std::size (kBatches); i++) {
      bare[i].push_back (bare_loop_us (engine, kBatches[i]));
      piped[i].push_back (pipeline_us (model.get (), kBatches[i]));
    }
  }
  for (size_t i = 0; i < std::size (kBatches); i++) {
    const double bound = 5 + kBatches[i];
    const bool met = median (piped[i]) <= bound;
    within = within && met;
    std::printf ("%5d %11.2f %12.2f %12.2f%s\n", kBatches[i], median (bare[i]), median (piped[i]), bound,
                 met ? "" : "   MISSED");
  }
  return within ? 0 : 1;
}
