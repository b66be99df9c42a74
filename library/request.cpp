// MillraceRequest: one request, from its parameters to its end.
//
// It is filled in before it enters a pipeline and then passed along on buffers; one element touches it at
// a time. millrace_request_cancel () may be called from any thread at any time.

#include "library/request.hpp"
#include "library/error.hpp"
#include "library/reply.hpp"

#include <memory>
#include <utility>

struct _MillraceRequest {
  GObject parent;
  millrace::Request request;
  millrace::RequestTiming timing;
  millrace::ReplySlot slot;
};

G_DEFINE_FINAL_TYPE (MillraceRequest, millrace_request, G_TYPE_OBJECT)

static void
millrace_request_finalize (GObject *object)
{
  MillraceRequest *self = MILLRACE_REQUEST (object);
  if (self->slot.reply)
    self->slot.reply->abandoned (self->slot.index);
  std::destroy_at (&self->slot);
  std::destroy_at (&self->request);
  std::destroy_at (&self->timing);
  G_OBJECT_CLASS (millrace_request_parent_class)->finalize (object);
}

static void
millrace_request_init (MillraceRequest *self)
{
  std::construct_at (&self->request);
  std::construct_at (&self->timing);
  std::construct_at (&self->slot);
  self->request.owner = self;
}

static void
millrace_request_class_init (MillraceRequestClass *klass)
{
  G_OBJECT_CLASS (klass)->finalize = millrace_request_finalize;
}

namespace millrace
{

Request &
engine_request (MillraceRequest *request)
{
  return request->request;
}

std::shared_ptr<Request>
share_request (MillraceRequest *request)
{
  return {&request->request,
          [keep = MILLRACE_REQUEST (g_object_ref (request))] (Request *) { g_object_unref (keep); }};
}

RequestTiming &
request_timing (MillraceRequest *request)
{
  return request->timing;
}

void
set_reply (MillraceRequest *request, std::shared_ptr<Reply> reply, int index)
{
  request->slot = {std::move (reply), index};
}

bool
has_reply (MillraceRequest *request)
{
  return request->slot.reply != nullptr;
}

ReplySlot
reply_slot (MillraceRequest *request)
{
  return request->slot;
}

void
ReplySlot::accepted () const
{
  if (reply)
    reply->accepted (index);
}

void
notify_delta (MillraceRequest *request, GenerationDelta &delta)
{
  if (!request->slot.reply)
    return;
  delta.index = request->slot.index;
  if (delta.finish == FinishReason::kNone) {
    request->slot.reply->deliver (delta);
    return;
  }
  const auto reply = std::exchange (request->slot.reply, nullptr);
  reply->deliver (delta);
}

} // namespace millrace

/**
 * millrace_request_new:
 *
 * Returns: (transfer full): a request with default parameters: greedy, 256 tokens
 */
MillraceRequest *
millrace_request_new (void)
{
  return static_cast<MillraceRequest *> (g_object_new (MILLRACE_TYPE_REQUEST, nullptr));
}

/**
 * millrace_request_parse_json:
 * @json: a JSON object with sampling parameters (and possibly a prompt, which is ignored here)
 * @length: bytes of @json, or -1 when it is NUL-terminated
 * @error: return location for a #GError of %MILLRACE_ERROR
 *
 * Sets parameters from JSON, by the names of the element llmprompt's `boundary=jsonl`.
 *
 * Returns: whether every field was valid; if not, @error names the first that is wrong
 */
gboolean
millrace_request_parse_json (MillraceRequest *self, const char *json, gssize length, GError **error)
{
  g_return_val_if_fail (MILLRACE_IS_REQUEST (self), FALSE);
  g_return_val_if_fail (json, FALSE);
  millrace::PromptInput ignored;
  const std::string_view text (json, length < 0 ? strlen (json) : static_cast<size_t> (length));
  if (auto problem = millrace::parse_request (text, self->request, ignored)) {
    millrace::set_gerror (error, problem);
    return FALSE;
  }
  return TRUE;
}

/**
 * millrace_request_get_id:
 *
 * Returns: (transfer none): the user's name for the request
 */
const char *
millrace_request_get_id (MillraceRequest *self)
{
  g_return_val_if_fail (MILLRACE_IS_REQUEST (self), nullptr);
  return self->request.id.c_str ();
}

/**
 * millrace_request_get_serial:
 *
 * Returns: a number that no other request of this process has
 */
guint64
millrace_request_get_serial (MillraceRequest *self)
{
  g_return_val_if_fail (MILLRACE_IS_REQUEST (self), 0);
  return self->request.serial;
}

/**
 * millrace_request_cancel:
 *
 * Ends the request before the next step starts, wherever it is. Any thread; harmless when it has ended.
 */
void
millrace_request_cancel (MillraceRequest *self)
{
  g_return_if_fail (MILLRACE_IS_REQUEST (self));
  self->request.end (millrace::FinishReason::kCancelled);
}

/**
 * millrace_request_get_error:
 * @error: return location for what went wrong
 *
 * Valid once the request has ended.
 *
 * Returns: whether it ended without an error
 */
gboolean
millrace_request_get_error (MillraceRequest *self, GError **error)
{
  g_return_val_if_fail (MILLRACE_IS_REQUEST (self), FALSE);
  if (!self->request.error)
    return TRUE;
  millrace::set_gerror (error, self->request.error);
  return FALSE;
}

/**
 * millrace_event_new_cancel:
 * @id: the request's id
 *
 * An out-of-band event that cancels a request: send it upstream from a sink or downstream from a source.
 *
 * Returns: (transfer full): the event
 */
GstEvent *
millrace_event_new_cancel (const char *id)
{
  g_return_val_if_fail (id, nullptr);
  return gst_event_new_custom (GST_EVENT_CUSTOM_BOTH_OOB,
                               gst_structure_new ("LlmCancel", "id", G_TYPE_STRING, id, nullptr));
}

/**
 * millrace_event_parse_cancel:
 * @id: (out) (transfer none): the request's id
 *
 * Returns: whether @event is a cancel event
 */
gboolean
millrace_event_parse_cancel (GstEvent *event, const char **id)
{
  g_return_val_if_fail (GST_IS_EVENT (event), FALSE);
  const GstStructure *structure = gst_event_get_structure (event);
  if (GST_EVENT_TYPE (event) != GST_EVENT_CUSTOM_BOTH_OOB || !gst_structure_has_name (structure, "LlmCancel"))
    return FALSE;
  *id = gst_structure_get_string (structure, "id");
  return *id != nullptr;
}
