// Plug-in "millrace": the elements that turn text into text, and a tracer of them.

#define GST_USE_UNSTABLE_API
#include "elements/elements.hpp"
#include "plugins/llm_tracer.hpp"

#include <gst/gsttracerfactory.h>

static gboolean
plugin_init (GstPlugin *plugin)
{
  static constexpr struct {
    const char *name;
    GType (*type) ();
  } kElements[] = {{"llmprompt", llm_prompt_get_type},
                   {"llmtokenizer", llm_tokenizer_get_type},
                   {"llmscheduler", llm_scheduler_get_type},
                   {"llmprefill", llm_prefill_get_type},
                   {"llmngramdrafter", llm_ngram_drafter_get_type},
                   {"llmmodeldrafter", llm_model_drafter_get_type},
                   {"llmverifier", llm_verifier_get_type},
                   {"llmsampler", llm_sampler_get_type},
                   {"llmdetokenizer", llm_detokenizer_get_type},
                   {"llmbin", llm_bin_get_type}};
  gboolean registered = TRUE;
  for (const auto &[name, type] : kElements)
    registered = gst_element_register (plugin, name, GST_RANK_NONE, type ()) && registered;
  return gst_tracer_register (plugin, "llm", llm_tracer_get_type ()) && registered;
}

GST_PLUGIN_DEFINE (GST_VERSION_MAJOR, GST_VERSION_MINOR, millrace, "LLM inference as pipelines", plugin_init,
                   MILLRACE_VERSION, GST_LICENSE_UNKNOWN, "millrace", "Unknown package origin")
