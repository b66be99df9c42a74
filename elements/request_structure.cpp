#include "elements/request_structure.hpp"

#include "elements/draft_structure.hpp"

namespace millrace
{

GstStructure *
ended_request_structure (const Request &request)
{
  const auto &statistics = request.statistics;
  GstStructure *structure = gst_structure_new (
      "llm-request", "id", G_TYPE_STRING, request.id.c_str (), "prompt-tokens", G_TYPE_INT,
      static_cast<int> (request.prompt.size ()), "cached-tokens", G_TYPE_INT, statistics.cached_tokens,
      "prefill-tokens", G_TYPE_INT, statistics.prefill_tokens, "completion-tokens", G_TYPE_INT,
      statistics.generated, "drafted-tokens", G_TYPE_INT, static_cast<int> (statistics.drafting.drafted),
      "accepted-tokens", G_TYPE_INT, static_cast<int> (statistics.drafting.accepted), "preemptions",
      G_TYPE_INT, statistics.preemptions, "steps", G_TYPE_INT, statistics.steps, "queue-time", G_TYPE_UINT64,
      statistics.queued_us * GST_USECOND, "first-token-time", G_TYPE_UINT64,
      statistics.first_token_us * GST_USECOND, "total-time", G_TYPE_UINT64, statistics.total_us * GST_USECOND,
      nullptr);
  GstStructure *drafting = draft_structure (statistics.drafting);
  gst_structure_set (structure, "drafting", GST_TYPE_STRUCTURE, drafting, nullptr);
  gst_structure_free (drafting);
  if (request.error)
    gst_structure_set (structure, "error", G_TYPE_STRING, request.error.message.c_str (), nullptr);
  return structure;
}

} // namespace millrace
