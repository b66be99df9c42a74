// MillraceRequest: what is to be generated, and one generation on its way through a pipeline.
//
// An application fills in the form (prompt, parameters) and sends it as often as it likes; each time a request of the
// pipeline's own is made of it. That one is passed along on buffers; one element touches it at a time.
// millrace_request_cancel () may be called from any thread at any time.

#include "library/request.hpp"
#include "library/error.hpp"
#include "library/reply.hpp"
#include "library/sampling_properties.hpp"

#include <cstring>
#include <memory>
#include <utility>

/**
 * MillraceRequest:
 *
 * What is to be generated: a prompt, messages or token ids, and parameters.
 *
 * It can be sent any number of times, and changed in between: sending takes what it says then. Parameters that are not
 * set are the pipeline's.
 */
struct _MillraceRequest {
  GObject parent;
  millrace::RequestForm form;
  millrace::Request request;
  millrace::RequestTiming timing;
  millrace::ReplySlot slot;
};

G_DEFINE_FINAL_TYPE (MillraceRequest, millrace_request, G_TYPE_OBJECT)

enum {
  PROP_0,
  PROP_ID,
  PROP_MODEL,
  PROP_PROMPT,
  PROP_PREDICTION,
  PROP_PRIORITY,
  PROP_TIMEOUT_MS,
  PROP_BUFFER_SIZE,
  PROP_SAMPLING
};

GType
millrace_priority_get_type (void)
{
  static const GEnumValue values[] = {{MILLRACE_PRIORITY_LOW, "MILLRACE_PRIORITY_LOW", "low"},
                                      {MILLRACE_PRIORITY_NORMAL, "MILLRACE_PRIORITY_NORMAL", "normal"},
                                      {MILLRACE_PRIORITY_HIGH, "MILLRACE_PRIORITY_HIGH", "high"},
                                      {0, nullptr, nullptr}};
  static const GType type = g_enum_register_static ("MillracePriority", values);
  return type;
}

GType
millrace_pooling_get_type (void)
{
  static const GEnumValue values[] = {{MILLRACE_POOLING_LAST, "MILLRACE_POOLING_LAST", "last"},
                                      {MILLRACE_POOLING_MEAN, "MILLRACE_POOLING_MEAN", "mean"},
                                      {MILLRACE_POOLING_CLS, "MILLRACE_POOLING_CLS", "cls"},
                                      {0, nullptr, nullptr}};
  static const GType type = g_enum_register_static ("MillracePooling", values);
  return type;
}

static const char *
string_or_null (const std::string &text)
{
  return text.empty () ? nullptr : text.c_str ();
}

static std::string
string_of (const GValue *value)
{
  const char *text = g_value_get_string (value);
  return text ? text : "";
}

static void
millrace_request_get_property (GObject *object, guint id, GValue *value, GParamSpec *spec)
{
  const auto &form = MILLRACE_REQUEST (object)->form;
  switch (id) {
  case PROP_ID:
    g_value_set_string (value, millrace_request_get_id (MILLRACE_REQUEST (object)));
    break;
  case PROP_MODEL:
    g_value_set_string (value, string_or_null (form.model));
    break;
  case PROP_PROMPT:
    g_value_set_string (value, form.has_input && form.input.kind == millrace::PromptInput::Kind::kText
                                   ? form.input.text.c_str ()
                                   : nullptr);
    break;
  case PROP_PREDICTION:
    g_value_set_string (value, string_or_null (form.prediction));
    break;
  case PROP_PRIORITY:
    g_value_set_enum (value, static_cast<int> (form.priority));
    break;
  case PROP_TIMEOUT_MS:
    g_value_set_int (value, form.timeout_ms);
    break;
  case PROP_BUFFER_SIZE:
    g_value_set_uint (value, form.buffer_bytes);
    break;
  default:
    if (!millrace::get_sampling_property (form.sampling, PROP_SAMPLING, id, value))
      G_OBJECT_WARN_INVALID_PROPERTY_ID (object, id, spec);
  }
}

static void
millrace_request_set_property (GObject *object, guint id, const GValue *value, GParamSpec *spec)
{
  auto &form = MILLRACE_REQUEST (object)->form;
  switch (id) {
  case PROP_ID:
    form.id = string_of (value);
    break;
  case PROP_MODEL:
    form.model = string_of (value);
    break;
  case PROP_PROMPT:
    millrace_request_set_prompt (MILLRACE_REQUEST (object), g_value_get_string (value));
    break;
  case PROP_PREDICTION:
    form.prediction = string_of (value);
    break;
  case PROP_PRIORITY:
    form.priority = static_cast<millrace::Priority> (g_value_get_enum (value));
    break;
  case PROP_TIMEOUT_MS:
    form.timeout_ms = g_value_get_int (value);
    break;
  case PROP_BUFFER_SIZE:
    form.buffer_bytes = g_value_get_uint (value);
    break;
  default:
    if (millrace::set_sampling_property (form.sampling, PROP_SAMPLING, id, value))
      form.said.set (id - PROP_SAMPLING);
    else
      G_OBJECT_WARN_INVALID_PROPERTY_ID (object, id, spec);
  }
}

static void
millrace_request_finalize (GObject *object)
{
  MillraceRequest *self = MILLRACE_REQUEST (object);
  if (self->slot.reply)
    self->slot.reply->abandoned (self->slot.index);
  std::destroy_at (&self->slot);
  std::destroy_at (&self->form);
  std::destroy_at (&self->request);
  std::destroy_at (&self->timing);
  G_OBJECT_CLASS (millrace_request_parent_class)->finalize (object);
}

static void
millrace_request_init (MillraceRequest *self)
{
  std::construct_at (&self->form);
  std::construct_at (&self->request);
  std::construct_at (&self->timing);
  std::construct_at (&self->slot);
  self->request.owner = self;
}

static void
millrace_request_class_init (MillraceRequestClass *klass)
{
  GObjectClass *object_class = G_OBJECT_CLASS (klass);
  object_class->finalize = millrace_request_finalize;
  object_class->get_property = millrace_request_get_property;
  object_class->set_property = millrace_request_set_property;
  const auto flags = static_cast<GParamFlags> (G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS);
  const auto install_string = [&] (guint id, const char *name, const char *nick, const char *blurb) {
    g_object_class_install_property (object_class, id,
                                     g_param_spec_string (name, nick, blurb, nullptr, flags));
  };
  install_string (PROP_ID, "id", "Id", "The application's name for it; need not be unique");
  install_string (PROP_MODEL, "model", "Model", "Name of the generator's model to use; unset: the first");
  install_string (PROP_PROMPT, "prompt", "Prompt", "Text to continue");
  install_string (PROP_PREDICTION, "prediction", "Prediction",
                  "What the text will be like: drafters guess from it, the text never depends on it");
  g_object_class_install_property (
      object_class, PROP_PRIORITY,
      g_param_spec_enum ("priority", "Priority", "Class; each is worth 5 s of waiting",
                         MILLRACE_TYPE_PRIORITY, MILLRACE_PRIORITY_NORMAL, flags));
  g_object_class_install_property (
      object_class, PROP_TIMEOUT_MS,
      g_param_spec_int ("timeout-ms", "Timeout",
                        "Milliseconds from its arrival to its end, with what text it has by then; 0: none",
                        G_MININT, G_MAXINT, 0, flags));
  g_object_class_install_property (
      object_class, PROP_BUFFER_SIZE,
      g_param_spec_uint ("buffer-size", "Buffer size",
                         "Bytes of text that may wait in a stream until it is read; when there are more, the "
                         "generation pauses. 0: any number",
                         0, G_MAXUINT, 16384, flags));
  millrace::install_sampling_properties (object_class, PROP_SAMPLING, millrace::SamplingStyle::kObject);
}

namespace millrace
{

Request &
engine_request (MillraceRequest *request)
{
  return request->request;
}

const RequestForm &
request_form (MillraceRequest *request)
{
  return request->form;
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
 * Returns: (transfer full): a request with the pipeline's parameters: greedy, 256 tokens, unless somebody changed
 *   the properties of its llmprompt
 */
MillraceRequest *
millrace_request_new (void)
{
  return static_cast<MillraceRequest *> (g_object_new (MILLRACE_TYPE_REQUEST, nullptr));
}

/**
 * millrace_request_new_for_prompt:
 * @prompt: text to continue, valid UTF-8
 *
 * Returns: (transfer full): a request to continue @prompt
 */
MillraceRequest *
millrace_request_new_for_prompt (const char *prompt)
{
  g_return_val_if_fail (prompt, nullptr);
  MillraceRequest *self = millrace_request_new ();
  millrace_request_set_prompt (self, prompt);
  return self;
}

/**
 * millrace_request_new_for_message:
 * @system: (nullable): the system message
 * @message: what the user says
 *
 * Returns: (transfer full): a request to answer @message, in the model's chat template
 */
MillraceRequest *
millrace_request_new_for_message (const char *system, const char *message)
{
  g_return_val_if_fail (message, nullptr);
  MillraceRequest *self = millrace_request_new ();
  if (system)
    millrace_request_add_message (self, "system", system);
  millrace_request_add_message (self, "user", message);
  return self;
}

/**
 * millrace_request_set_prompt:
 * @prompt: (nullable): text to continue, valid UTF-8
 *
 * Replaces prompt, tokens and messages.
 */
void
millrace_request_set_prompt (MillraceRequest *self, const char *prompt)
{
  g_return_if_fail (MILLRACE_IS_REQUEST (self));
  self->form.input = {};
  self->form.messages.clear ();
  self->form.has_input = prompt;
  if (prompt)
    self->form.input.text = prompt;
}

/**
 * millrace_request_set_tokens:
 * @tokens: (array length=n_tokens): token ids to continue
 * @n_tokens: how many
 *
 * Replaces prompt, tokens and messages.
 */
void
millrace_request_set_tokens (MillraceRequest *self, const gint32 *tokens, gsize n_tokens)
{
  g_return_if_fail (MILLRACE_IS_REQUEST (self));
  g_return_if_fail (tokens || n_tokens == 0);
  self->form.input = {};
  self->form.input.kind = millrace::PromptInput::Kind::kTokens;
  self->form.input.tokens.assign (tokens, tokens + n_tokens);
  self->form.messages.clear ();
  self->form.has_input = true;
}

/**
 * millrace_request_add_message:
 * @role: `system`, `user`, `assistant`, or what else the model's chat template knows
 * @content: the message, valid UTF-8
 *
 * Appends to the conversation. A prompt or tokens set before are dropped.
 */
void
millrace_request_add_message (MillraceRequest *self, const char *role, const char *content)
{
  g_return_if_fail (MILLRACE_IS_REQUEST (self));
  g_return_if_fail (role && content);
  if (self->form.input.kind != millrace::PromptInput::Kind::kMessages)
    self->form.input = {};
  self->form.messages.emplace_back (role, content);
}

/**
 * millrace_request_clear_messages:
 *
 * Begins a new conversation.
 */
void
millrace_request_clear_messages (MillraceRequest *self)
{
  g_return_if_fail (MILLRACE_IS_REQUEST (self));
  self->form.messages.clear ();
  if (self->form.input.kind == millrace::PromptInput::Kind::kMessages) {
    self->form.input = {};
    self->form.has_input = false;
  }
}

/**
 * millrace_request_parse_json:
 * @json: a JSON object with a prompt, messages or tokens, and parameters
 * @length: bytes of @json, or -1 when it is NUL-terminated
 * @error: return location for a #GError of %MILLRACE_ERROR
 *
 * Fills in the request from JSON, by the names of the element llmprompt's `boundary=jsonl`. Also the way to parameters
 * without a property: `logit_bias`, `stop_token_ids`, `tools`, `chat_template_kwargs`, `embed`.
 *
 * Returns: whether every field was valid; if not, @error names the first that is wrong and nothing has changed
 */
gboolean
millrace_request_parse_json (MillraceRequest *self, const char *json, gssize length, GError **error)
{
  g_return_val_if_fail (MILLRACE_IS_REQUEST (self), FALSE);
  g_return_val_if_fail (json, FALSE);
  const std::string_view text (json, length < 0 ? strlen (json) : static_cast<size_t> (length));
  try {
    if (auto problem = millrace::read_form (text, self->form)) {
      millrace::set_gerror (error, problem);
      return FALSE;
    }
  } catch (const std::exception &problem) {
    g_set_error (error, MILLRACE_ERROR, MILLRACE_ERROR_INTERNAL, "%s", problem.what ());
    return FALSE;
  }
  return TRUE;
}

/**
 * millrace_request_to_json:
 *
 * Returns: (transfer full): the JSON object that the generator sends into its pipeline for this request
 */
char *
millrace_request_to_json (MillraceRequest *self)
{
  g_return_val_if_fail (MILLRACE_IS_REQUEST (self), nullptr);
  return g_strdup (self->form.to_json ().c_str ());
}

/**
 * millrace_request_validate:
 * @error: return location for a #GError of %MILLRACE_ERROR
 *
 * Checks what can be checked without a model. Sending a request does that too.
 *
 * Returns: whether it can be sent; if not, @error names the first field that is wrong, and its range
 */
gboolean
millrace_request_validate (MillraceRequest *self, GError **error)
{
  g_return_val_if_fail (MILLRACE_IS_REQUEST (self), FALSE);
  const auto problem = self->form.check ();
  if (problem)
    millrace::set_gerror (error, problem);
  return !problem;
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
  return (self->request.id.empty () ? self->form.id : self->request.id).c_str ();
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
