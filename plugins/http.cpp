// Plug-in "millracehttp": the elements that serve HTTP.

#include "elements/elements.hpp"

static gboolean
plugin_init (GstPlugin *plugin)
{
  return gst_element_register (plugin, "llmhttpsrc", GST_RANK_NONE, llm_http_src_get_type ()) &&
         gst_element_register (plugin, "llmhttpsink", GST_RANK_NONE, llm_http_sink_get_type ());
}

GST_PLUGIN_DEFINE (GST_VERSION_MAJOR, GST_VERSION_MINOR, millracehttp, "LLM inference over HTTP", plugin_init,
                   MILLRACE_VERSION, GST_LICENSE_UNKNOWN, "millrace", "Unknown package origin")
