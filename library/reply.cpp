#include "library/reply.hpp"

#include "library/meta.hpp"
#include "library/ref.hpp"

namespace millrace
{

bool
deliver_text (GstBuffer *buffer)
{
  auto *meta = millrace_buffer_get_request_meta (buffer);
  if (!meta || !has_reply (meta->request))
    return false;
  const auto request = Ref<MillraceRequest>::share (meta->request);
  const Request &engine = engine_request (request.get ());
  const MappedBuffer mapped (buffer);
  GenerationDelta delta;
  delta.text = {mapped.chars (), mapped.size ()};
  delta.starts_thinking = engine.starts_thinking;
  if (const auto *details = text_details (meta)) {
    delta.tokens = details->tokens;
    delta.usage = details->usage;
    delta.stop_string = details->stop_string;
  }
  if (meta->finish) {
    delta.finish = finish_of (meta);
    delta.error = &engine.error;
    delta.retry_after_ms = engine.retry_after_ms;
    delta.embedding = engine.embedding;
    delta.cached_tokens = engine.statistics.cached_tokens;
    delta.accepted_drafts = static_cast<int> (engine.statistics.drafting.accepted);
    delta.rejected_drafts = static_cast<int> (engine.statistics.drafting.rejected ());
    delta.queued_us = engine.statistics.queued_us;
  }
  notify_delta (request.get (), delta);
  return true;
}

} // namespace millrace
