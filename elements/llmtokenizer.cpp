/**
 * SECTION:element-llmtokenizer
 * @title: llmtokenizer
 *
 * Turns each text buffer into the model's token ids (32-bit little-endian integers).
 *
 * One buffer is one prompt. The caps of what leaves name the vocabulary, so ids never reach a model that
 * would misread them. Text that is not valid UTF-8 ends its own request with an error.
 *
 * ## Example launch line
 * |[
 * echo -n "Hello" | gst-launch-1.0 -q fdsrc ! llmtokenizer ! llmdetokenizer ! fdsink
 * ]| Text to ids and back.
 *
 * Since: 0.1
 */

#include "elements/elements.hpp"

#include "library/element.hpp"
#include "library/error.hpp"
#include "library/meta.hpp"
#include "library/ref.hpp"
#include "library/request.hpp"

#include <utility>

struct LlmTokenizer {
  LlmElement parent;
  GstPad *sink, *src;
  gboolean parse_special; // OBJECT_LOCK
  // streaming thread
  bool caps_sent, segment_sent;
  guint32 segment_seqnum; // of the source's last segment in bytes
};

struct LlmTokenizerClass {
  LlmElementClass parent;
};

G_DEFINE_TYPE (LlmTokenizer, llm_tokenizer, LLM_TYPE_ELEMENT)

enum { PROP_0, PROP_PARSE_SPECIAL };

static LlmTokenizer *
tokenizer_cast (gpointer object)
{
  return reinterpret_cast<LlmTokenizer *> (object);
}

static void
send_caps (LlmTokenizer *self)
{
  if (std::exchange (self->caps_sent, true))
    return;
  auto caps = millrace::Ref<GstCaps>::adopt (millrace::caps_with_vocabulary (
      millrace::kTokenCaps, millrace::vocabulary_digest (LLM_ELEMENT (self))));
  gst_pad_push_event (self->src, gst_event_new_caps (caps.get ()));
}

// Bytes are no time: where the source has no segment in time, all of it is one that begins at 0.
static void
start_stream (LlmTokenizer *self)
{
  send_caps (self);
  if (std::exchange (self->segment_sent, true))
    return;
  gst_pad_push_event (self->src, millrace::time_segment_event (self->segment_seqnum));
}

static std::vector<millrace::TokenId>
tokenize (LlmTokenizer *self, millrace::Request &request, std::string_view text)
{
  if (request.error)
    return {};
  const auto model = millrace::element_model (LLM_ELEMENT (self));
  if (!request.prediction_text.empty () && model->tokenizer)
    request.prediction = model->tokenizer->encode (std::exchange (request.prediction_text, {}),
                                                   {.add_special_tokens = false, .parse_special = false});
  if (text.empty () && !request.prompt.empty ())
    return request.prompt; // came as token ids
  if (!model->tokenizer) {
    request.error = {"invalid_request", "prompt",
                     "the model in " + model->directory.string () +
                         " has no tokenizer.json: send tokens instead"};
    return {};
  }
  size_t offset = 0;
  if (!millrace::valid_utf8 (text, &offset)) {
    request.error = {"invalid_utf8", "prompt", "byte " + std::to_string (offset) + " is not valid UTF-8"};
    return {};
  }
  GST_OBJECT_LOCK (self);
  const bool parse_special = self->parse_special;
  GST_OBJECT_UNLOCK (self);
  return model->tokenizer->encode (
      text, {.add_special_tokens = !request.rendered, .parse_special = parse_special || request.rendered});
}

static GstFlowReturn
llm_tokenizer_chain (GstPad *, GstObject *parent, GstBuffer *buffer)
{
  auto *self = tokenizer_cast (parent);
  const auto input = millrace::Ref<GstBuffer>::adopt (buffer);
  start_stream (self);

  auto request = millrace::request_of (buffer);
  std::vector<millrace::TokenId> tokens;
  const bool done = millrace::guarded (GST_ELEMENT (self), [&] {
    const millrace::MappedBuffer mapped (buffer);
    tokens = tokenize (self, millrace::engine_request (request.get ()), {mapped.chars (), mapped.size ()});
  });
  if (!done)
    return GST_FLOW_ERROR;

  GstBuffer *output = millrace::new_token_buffer (tokens);
  millrace_buffer_add_request_meta (output, request.get (), nullptr);
  GST_BUFFER_PTS (output) = GST_BUFFER_PTS (buffer);
  GST_BUFFER_DURATION (output) = GST_BUFFER_DURATION (buffer);
  LLM_DEBUG (self, "request %s: %zu tokens", millrace_request_get_id (request.get ()), tokens.size ());
  return gst_pad_push (self->src, output);
}

static gboolean
llm_tokenizer_sink_event (GstPad *pad, GstObject *parent, GstEvent *event)
{
  auto *self = tokenizer_cast (parent);
  switch (GST_EVENT_TYPE (event)) {
  case GST_EVENT_CAPS:
    gst_event_unref (event);
    send_caps (self);
    return TRUE;
  case GST_EVENT_SEGMENT: {
    const GstSegment *segment = nullptr;
    gst_event_parse_segment (event, &segment);
    if (segment->format != GST_FORMAT_TIME) {
      self->segment_seqnum = gst_event_get_seqnum (event);
      gst_event_unref (event);
      return TRUE;
    }
    send_caps (self);
    self->segment_sent = true;
    return gst_pad_push_event (self->src, event);
  }
  case GST_EVENT_GAP:
  case GST_EVENT_EOS:
    start_stream (self);
    return gst_pad_event_default (pad, parent, event);
  case GST_EVENT_FLUSH_STOP:
    self->segment_sent = false;
    return gst_pad_event_default (pad, parent, event);
  default:
    return gst_pad_event_default (pad, parent, event);
  }
}

static void
llm_tokenizer_set_property (GObject *object, guint id, const GValue *value, GParamSpec *spec)
{
  auto *self = tokenizer_cast (object);
  if (id != PROP_PARSE_SPECIAL) {
    G_OBJECT_WARN_INVALID_PROPERTY_ID (object, id, spec);
    return;
  }
  GST_OBJECT_LOCK (self);
  self->parse_special = g_value_get_boolean (value);
  GST_OBJECT_UNLOCK (self);
}

static void
llm_tokenizer_get_property (GObject *object, guint id, GValue *value, GParamSpec *spec)
{
  auto *self = tokenizer_cast (object);
  if (id != PROP_PARSE_SPECIAL) {
    G_OBJECT_WARN_INVALID_PROPERTY_ID (object, id, spec);
    return;
  }
  GST_OBJECT_LOCK (self);
  g_value_set_boolean (value, self->parse_special);
  GST_OBJECT_UNLOCK (self);
}

static GstStateChangeReturn
llm_tokenizer_change_state (GstElement *element, GstStateChange transition)
{
  const auto result = GST_ELEMENT_CLASS (llm_tokenizer_parent_class)->change_state (element, transition);
  if (transition == GST_STATE_CHANGE_PAUSED_TO_READY) {
    auto *self = tokenizer_cast (element);
    self->caps_sent = self->segment_sent = false;
    self->segment_seqnum = GST_SEQNUM_INVALID;
  }
  return result;
}

static GstStaticPadTemplate sink_template = GST_STATIC_PAD_TEMPLATE (
    "sink", GST_PAD_SINK, GST_PAD_ALWAYS, GST_STATIC_CAPS ("text/x-raw, format=(string)utf8"));
static GstStaticPadTemplate src_template = GST_STATIC_PAD_TEMPLATE (
    "src", GST_PAD_SRC, GST_PAD_ALWAYS, GST_STATIC_CAPS ("application/x-llm-tokens"));

static void
llm_tokenizer_init (LlmTokenizer *self)
{
  self->parse_special = TRUE;
  self->sink = gst_pad_new_from_static_template (&sink_template, "sink");
  self->src = gst_pad_new_from_static_template (&src_template, "src");
  gst_pad_set_chain_function (self->sink, llm_tokenizer_chain);
  gst_pad_set_event_function (self->sink, llm_tokenizer_sink_event);
  gst_pad_set_query_function (self->sink, millrace::llm_element_query);
  gst_pad_set_query_function (self->src, millrace::llm_element_query);
  gst_element_add_pad (GST_ELEMENT (self), self->sink);
  gst_element_add_pad (GST_ELEMENT (self), self->src);
}

static void
llm_tokenizer_class_init (LlmTokenizerClass *klass)
{
  GObjectClass *object_class = G_OBJECT_CLASS (klass);
  GstElementClass *element_class = GST_ELEMENT_CLASS (klass);
  object_class->set_property = llm_tokenizer_set_property;
  object_class->get_property = llm_tokenizer_get_property;
  element_class->change_state = llm_tokenizer_change_state;
  g_object_class_install_property (
      object_class, PROP_PARSE_SPECIAL,
      g_param_spec_boolean (
          "parse-special", "Parse special tokens",
          "Whether the text of a special token, such as <|im_end|>, in a plain prompt becomes that token",
          TRUE,
          static_cast<GParamFlags> (G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS | GST_PARAM_MUTABLE_PLAYING)));
  gst_element_class_add_static_pad_template (element_class, &sink_template);
  gst_element_class_add_static_pad_template (element_class, &src_template);
  gst_element_class_set_static_metadata (element_class, "LLM tokenizer", "Filter/LLM",
                                         "Turns text into the token ids of a language model",
                                         "The Millrace authors");
}
