// Tokens a second of `llmbin` against the bare six-call loop, on the demo model.
//
//   decode [RUNS [MODEL]]
//
// One greedy stream of 256 tokens, runs alternating, medians of RUNS (default 11); time from the first token
// to the last. Both with the n-gram drafter and without it. Exit code 1 when llmbin reaches less than 97 %.

#include "bench/measure.hpp"

#include "engine/drafting/lookup_policy.hpp"
#include "engine/model/forward.hpp"
#include "engine/scheduling/scheduler.hpp"
#include "library/model.hpp"
#include "library/ref.hpp"

#include <gst/gst.h>
#include <millrace/millrace.h>

#include <cstdio>
#include <cstdlib>
#include <string>

using namespace millrace;
using bench::median;
using bench::seconds_since;

namespace
{

constexpr int kTokens = 256;
const std::string kPrompt = "def fibonacci(n):";

double
bare_loop (const std::shared_ptr<const Model> &model, int max_draft)
{
  Scheduler scheduler (model, {.max_draft = max_draft});
  const auto drafter = make_lookup_drafter ();
  Sampler sampler;
  Step step;
  auto request = std::make_shared<Request> ();
  request->prompt = model->tokenizer->encode (kPrompt);
  request->sampling.max_tokens = kTokens;
  request->sampling.ignore_eos = true;
  scheduler.admit (request);
  while (scheduler.plan (step)) {
    prefill (step);
    drafter->draft (step);
    verify (step);
    sampler.sample (step);
    scheduler.commit (step);
  }
  const auto &times = request->statistics;
  return (kTokens - 1) * 1e6 / static_cast<double> (times.total_us - times.first_token_us);
}

double
through_llmbin (MillraceModel *model, int max_draft)
{
  g_autofree char *text = g_strdup_printf (
      "appsrc name=in caps=text/x-raw,format=utf8 ! llmbin prompt::max-tokens=%d prompt::ignore-eos=true "
      "scheduler::max-draft=%d ! fakesink",
      kTokens, max_draft);
  GstElement *pipeline = gst_parse_launch (text, nullptr);
  auto context = Ref<GstContext>::adopt (millrace_model_to_context (model));
  gst_element_set_context (pipeline, context.get ());
  GstElement *source = gst_bin_get_by_name (GST_BIN (pipeline), "in");
  gst_element_set_state (pipeline, GST_STATE_PLAYING);
  GstBuffer *buffer = gst_buffer_new_memdup (kPrompt.data (), kPrompt.size ());
  GstFlowReturn flow;
  g_signal_emit_by_name (source, "push-buffer", buffer, &flow);
  g_signal_emit_by_name (source, "end-of-stream", &flow);
  gst_buffer_unref (buffer);

  double rate = 0;
  GstBus *bus = gst_element_get_bus (pipeline);
  for (bool done = false; !done;) {
    GstMessage *message = gst_bus_timed_pop (bus, GST_CLOCK_TIME_NONE);
    done = GST_MESSAGE_TYPE (message) == GST_MESSAGE_EOS || GST_MESSAGE_TYPE (message) == GST_MESSAGE_ERROR;
    const GstStructure *structure = gst_message_get_structure (message);
    guint64 first = 0, total = 0;
    if (structure && gst_structure_has_name (structure, "llm-request")) {
      gst_structure_get (structure, "first-token-time", G_TYPE_UINT64, &first, "total-time", G_TYPE_UINT64,
                         &total, nullptr);
      rate = (kTokens - 1) * 1e9 / static_cast<double> (total - first);
    }
    gst_message_unref (message);
  }
  gst_object_unref (bus);
  gst_element_set_state (pipeline, GST_STATE_NULL);
  gst_object_unref (source);
  gst_object_unref (pipeline);
  return rate;
}

} // namespace

int
main (int argc, char **argv)
{
  gst_init (&argc, &argv);
  const int runs = argc > 1 ? std::atoi (argv[1]) : 11;
  GError *error = nullptr;
  auto model = Ref<MillraceModel>::adopt (
      millrace_model_open (argc > 2 ? argv[2] : "demo", MILLRACE_WEIGHTS_AUTO, 0, &error));
  if (!model) {
    std::fprintf (stderr, "error: %s\n", error->message);
    return 2;
  }
  bool within = true;
  std::printf ("%-16s %12s %12s %8s   (tokens/s, medians of %d)\n", "", "six calls", "llmbin", "ratio", runs);
  for (int max_draft : {0, 8}) {
    std::vector<double> bare, piped, ratios;
    for (int run = 0; run < runs; run++) {
      // Who goes first alternates, and ratios are of neighbours: a slow phase of the machine then hits both.
      if (run % 2)
        piped.push_back (through_llmbin (model.get (), max_draft));
      bare.push_back (bare_loop (engine_model (model.get ()), max_draft));
      if (run % 2 == 0)
        piped.push_back (through_llmbin (model.get (), max_draft));
      ratios.push_back (piped.back () / bare.back ());
    }
    const double ratio = median (ratios);
    within = within && ratio >= 0.97;
    std::printf ("%-16s %12.1f %12.1f %7.1f%%\n", max_draft ? "n-gram drafts" : "no drafts", median (bare),
                 median (piped), 100 * ratio);
  }
  return within ? 0 : 1;
}
