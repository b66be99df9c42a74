/**
 * SECTION:element-llmprompt
 * @title: llmprompt
 *
 * Cuts input into requests and gives each its parameters.
 *
 * Input is text, or JSON Lines with `boundary=jsonl`, one request in each line:
 * `{"id": "a", "prompt": "def f(", "max_tokens": 20, "temperature": 0.7, "stop": ["\n\n"]}`; instead of
 * `prompt` a line may have `messages` (rendered with the model's chat template) or `tokens`. Input without
 * caps, as from fdsrc or filesrc, is taken as UTF-8, and where it is cut into buffers does not matter; with caps
 * application/json, as from llmhttpsrc, each buffer is a request. Of pango-markup, as from subparse, the model sees the
 * text without its tags. A request that is wrong ends with an error result; the others go on.
 *
 * A request has the timestamp of the buffer in which it begins, and lasts until the end of the one in which it ends. In a
 * live pipeline the latency grows by `timeout-ms`: until then a request has ended.
 *
 * The properties are defaults: a line's own fields win. They may be changed while playing and hold for
 * requests that arrive afterwards.
 *
 * ## Example launch line
 * |[
 * echo "def fibonacci(n):" | gst-launch-1.0 -q fdsrc ! llmprompt max-tokens=48 ! llmtokenizer ! llmscheduler ! llmprefill ! llmverifier ! llmsampler ! llmdetokenizer ! fdsink
 * ]| Completes a line of code.
 *
 * Since: 0.1
 */

#include "elements/elements.hpp"

#include "engine/chat/reasoning.hpp"
#include "engine/model/chat_prompt.hpp"
#include "engine/scheduling/markup.hpp"
#include "engine/scheduling/request_json.hpp"
#include "engine/scheduling/request_splitter.hpp"
#include "library/element.hpp"
#include "library/error.hpp"
#include "library/meta.hpp"
#include "library/ref.hpp"
#include "library/request.hpp"
#include "library/sampling_properties.hpp"

#include <optional>
#include <utility>

enum LlmPromptBoundary { BOUNDARY_AUTO, BOUNDARY_BUFFER, BOUNDARY_LINE, BOUNDARY_EOS, BOUNDARY_JSONL };

namespace
{

struct Settings { // OBJECT_LOCK
  LlmPromptBoundary boundary = BOUNDARY_AUTO;
  bool chat = false;
  bool model_defaults = false;
  std::string system_prompt;
  millrace::Priority priority = millrace::Priority::kNormal;
  guint timeout_ms = 0;
  millrace::SamplingParams sampling;
};

// The stretch of time that a prompt's bytes came in.
struct Span {
  GstClockTime start = GST_CLOCK_TIME_NONE, end = GST_CLOCK_TIME_NONE;
};

struct State { // streaming thread
  std::optional<millrace::RequestSplitter> splitter;
  bool has_caps = false;
  bool json_caps = false;   // each buffer is a request in JSON
  bool markup_caps = false; // text comes with Pango's markup
  bool caps_sent = false, segment_sent = false;
  guint32 segment_seqnum = GST_SEQNUM_INVALID; // of the source's last segment in bytes
  Span pending;                                // of what the splitter holds
  uint64_t requests = 0;
};

} // namespace

struct LlmPrompt {
  LlmElement parent;
  GstPad *sink, *src;
  Settings settings;
  State state;
};

struct LlmPromptClass {
  LlmElementClass parent;
};

G_DEFINE_TYPE (LlmPrompt, llm_prompt, LLM_TYPE_ELEMENT)

enum {
  PROP_0,
  PROP_BOUNDARY,
  PROP_CHAT,
  PROP_MODEL_DEFAULTS,
  PROP_SYSTEM_PROMPT,
  PROP_PRIORITY,
  PROP_TIMEOUT_MS,
  PROP_SAMPLING
};

static LlmPrompt *
prompt_cast (gpointer object)
{
  return reinterpret_cast<LlmPrompt *> (object);
}

static GType
llm_prompt_boundary_get_type ()
{
  static const GEnumValue values[] = {
      {BOUNDARY_AUTO, "Each buffer where the source names a format, else all up to the end", "auto"},
      {BOUNDARY_BUFFER, "Each buffer is a prompt", "buffer"},
      {BOUNDARY_LINE, "Each line is a prompt", "line"},
      {BOUNDARY_EOS, "Everything up to the end of the stream is one prompt", "eos"},
      {BOUNDARY_JSONL, "Each line is a request in JSON", "jsonl"},
      {0, nullptr, nullptr}};
  static const GType type = g_enum_register_static ("LlmPromptBoundary", values);
  return type;
}

static GType
llm_prompt_priority_get_type ()
{
  using millrace::Priority;
  static const GEnumValue values[] = {
      {static_cast<int> (Priority::kLow), "After requests that came up to 5 s later", "low"},
      {static_cast<int> (Priority::kNormal), "In order of arrival", "normal"},
      {static_cast<int> (Priority::kHigh), "Before requests that came up to 5 s earlier", "high"},
      {0, nullptr, nullptr}};
  static const GType type = g_enum_register_static ("LlmPromptPriority", values);
  return type;
}

static millrace::Boundary
splitting (const LlmPrompt *self, LlmPromptBoundary boundary)
{
  switch (boundary) {
  case BOUNDARY_BUFFER:
    return millrace::Boundary::kBuffer;
  case BOUNDARY_LINE:
  case BOUNDARY_JSONL:
    return millrace::Boundary::kLine;
  case BOUNDARY_EOS:
    return millrace::Boundary::kEnd;
  case BOUNDARY_AUTO:
    break;
  }
  return self->state.has_caps ? millrace::Boundary::kBuffer : millrace::Boundary::kEnd;
}

static Settings
snapshot (LlmPrompt *self)
{
  GST_OBJECT_LOCK (self);
  Settings settings = self->settings;
  GST_OBJECT_UNLOCK (self);
  return settings;
}

// Turns messages into text with the model's template; what is wrong becomes the request's error.
static std::string
render (LlmPrompt *self, millrace::Request &request, const std::string &messages, const std::string &tools,
        const std::string &kwargs)
{
  const auto model = millrace::element_model (LLM_ELEMENT (self));
  if (!model->chat_template) {
    request.error = {"invalid_request", "messages",
                     "the model in " + model->directory.string () +
                         " has no chat template: send a prompt instead"};
    return {};
  }
  try {
    request.rendered = true;
    std::string text =
        millrace::render_chat (*model, messages, tools, g_get_real_time () / G_USEC_PER_SEC, kwargs);
    request.starts_thinking = millrace::ends_thinking (text);
    return text;
  } catch (const millrace::ChatTemplateError &error) {
    request.error = {"invalid_request", "messages", std::string ("chat template: ") + error.what ()};
    return {};
  }
}

// As transformers does when nobody says otherwise; where the model says nothing, 1 as in OpenAI's API.
static void
apply_model_defaults (const millrace::GenerationConfig &model, millrace::SamplingParams &sampling)
{
  sampling.temperature = model.temperature.value_or (1);
  sampling.top_p = model.top_p.value_or (sampling.top_p);
  sampling.top_k = model.top_k.value_or (sampling.top_k);
  sampling.min_p = model.min_p.value_or (sampling.min_p);
  sampling.repetition_penalty = model.repetition_penalty.value_or (sampling.repetition_penalty);
}

static std::string
prepare (LlmPrompt *self, const Settings &settings, millrace::Request &request,
         const millrace::RequestSplitter::Prompt &prompt)
{
  request.sampling = settings.sampling;
  if (settings.model_defaults)
    apply_model_defaults (millrace::element_model (LLM_ELEMENT (self))->generation, request.sampling);
  request.priority = settings.priority;
  request.timeout_us = int64_t{settings.timeout_ms} * 1000;
  if (request.id.empty ()) // a source may have named it
    request.id = "req-" + std::to_string (++self->state.requests);
  if (prompt.too_long) {
    request.error = {"invalid_request", "prompt",
                     "a request of more than " + std::to_string (millrace::kMaxRequestBytes) + " bytes"};
    return {};
  }
  if (settings.boundary == BOUNDARY_JSONL || self->state.json_caps) {
    millrace::PromptInput input;
    request.error = millrace::parse_request (prompt.text, request, input);
    if (request.error)
      return {};
    if (input.kind == millrace::PromptInput::Kind::kMessages)
      return render (self, request, input.messages_json, input.tools_json, input.kwargs_json);
    request.prompt = std::move (input.tokens);
    return std::move (input.text);
  }
  if (!settings.chat && settings.system_prompt.empty ())
    return std::string (prompt.text);
  size_t offset = 0;
  if (!millrace::valid_utf8 (prompt.text, &offset)) {
    request.error = {"invalid_utf8", "prompt", "byte " + std::to_string (offset) + " is not valid UTF-8"};
    return {};
  }
  return render (self, request, millrace::single_turn_messages (settings.system_prompt, prompt.text), {}, {});
}

// `input` is null at the end of the stream.
static GstFlowReturn
push_request (LlmPrompt *self, const Settings &settings, const millrace::RequestSplitter::Prompt &prompt,
              GstBuffer *input, const Span &span)
{
  // With JSON from a source that waits for the answer the request is there already.
  const auto *meta = input && self->state.json_caps ? millrace_buffer_get_request_meta (input) : nullptr;
  auto request = meta ? millrace::Ref<MillraceRequest>::share (meta->request)
                      : millrace::Ref<MillraceRequest>::adopt (millrace_request_new ());
  const std::string text = prepare (self, settings, millrace::engine_request (request.get ()), prompt);
  GstBuffer *buffer = text.empty () ? gst_buffer_new () : gst_buffer_new_memdup (text.data (), text.size ());
  millrace_buffer_add_request_meta (buffer, request.get (), nullptr);
  GST_BUFFER_PTS (buffer) = span.start;
  if (GST_CLOCK_TIME_IS_VALID (span.start) && GST_CLOCK_TIME_IS_VALID (span.end) && span.end >= span.start)
    GST_BUFFER_DURATION (buffer) = span.end - span.start;
  LLM_DEBUG (self, "request %s: %zu bytes at %" GST_TIME_FORMAT, millrace_request_get_id (request.get ()),
             text.size (), GST_TIME_ARGS (span.start));
  return gst_pad_push (self->src, buffer);
}

static void
send_caps (LlmPrompt *self)
{
  if (std::exchange (self->state.caps_sent, true))
    return;
  auto caps = millrace::Ref<GstCaps>::adopt (gst_caps_from_string (millrace::kTextCaps));
  gst_pad_push_event (self->src, gst_event_new_caps (caps.get ()));
}

// Bytes are no time: where the source has no segment in time, all of it is one that begins at 0.
static void
start_stream (LlmPrompt *self)
{
  send_caps (self);
  if (std::exchange (self->state.segment_sent, true))
    return;
  gst_pad_push_event (self->src, millrace::time_segment_event (self->state.segment_seqnum));
}

static Span
span_of (GstBuffer *buffer)
{
  Span span{.start = GST_BUFFER_PTS (buffer)};
  if (GST_BUFFER_PTS_IS_VALID (buffer) && GST_BUFFER_DURATION_IS_VALID (buffer))
    span.end = span.start + GST_BUFFER_DURATION (buffer);
  return span;
}

// Runs the splitter; `input` null means the end of the stream.
static GstFlowReturn
split (LlmPrompt *self, GstBuffer *input)
{
  const Settings settings = snapshot (self);
  auto &splitter = self->state.splitter;
  auto &pending = self->state.pending;
  if (!splitter)
    splitter.emplace (splitting (self, settings.boundary), millrace::kMaxRequestBytes);
  start_stream (self);

  const Span now = input ? span_of (input) : pending;
  if (!splitter->pending ())
    pending = now;
  pending.end = now.end;
  GstFlowReturn flow = GST_FLOW_OK;
  const auto emit = [&] (const millrace::RequestSplitter::Prompt &prompt) {
    if (flow == GST_FLOW_OK)
      flow = push_request (self, settings, prompt, input, std::exchange (pending, now));
  };
  const bool done = millrace::guarded (GST_ELEMENT (self), [&] {
    if (!input) {
      splitter->finish (emit);
      return;
    }
    const millrace::MappedBuffer mapped (input);
    const std::string_view bytes (mapped.chars (), mapped.size ());
    if (self->state.markup_caps)
      splitter->push (millrace::text_of_markup (bytes), emit);
    else
      splitter->push (bytes, emit);
  });
  return done ? flow : GST_FLOW_ERROR;
}

static GstFlowReturn
llm_prompt_chain (GstPad *, GstObject *parent, GstBuffer *buffer)
{
  const auto input = millrace::Ref<GstBuffer>::adopt (buffer);
  return split (prompt_cast (parent), input.get ());
}

// What is left is a prompt. The source has done its part and looks at no flow return any more: what goes wrong here is said
// here.
static void
drain (LlmPrompt *self)
{
  if (const GstFlowReturn flow = split (self, nullptr); flow == GST_FLOW_NOT_LINKED || flow < GST_FLOW_EOS)
    GST_ELEMENT_FLOW_ERROR (self, flow);
  self->state.splitter.reset ();
}

// A prompt's time lies in one segment.
static void
drain_rest (LlmPrompt *self)
{
  if (self->state.splitter && self->state.splitter->pending ())
    drain (self);
}

static gboolean
llm_prompt_sink_event (GstPad *pad, GstObject *parent, GstEvent *event)
{
  auto *self = prompt_cast (parent);
  switch (GST_EVENT_TYPE (event)) {
  case GST_EVENT_CAPS: {
    GstCaps *caps = nullptr;
    gst_event_parse_caps (event, &caps);
    const GstStructure *format = gst_caps_get_structure (caps, 0);
    self->state.has_caps = true;
    self->state.json_caps =
        gst_structure_has_name (format, "application/json") && snapshot (self).boundary == BOUNDARY_AUTO;
    self->state.markup_caps = g_strcmp0 (gst_structure_get_string (format, "format"), "pango-markup") == 0;
    gst_event_unref (event);
    send_caps (self);
    return TRUE;
  }
  case GST_EVENT_SEGMENT: {
    const GstSegment *segment = nullptr;
    gst_event_parse_segment (event, &segment);
    if (segment->format != GST_FORMAT_TIME) {
      self->state.segment_seqnum = gst_event_get_seqnum (event);
      gst_event_unref (event);
      return TRUE;
    }
    drain_rest (self);
    send_caps (self);
    self->state.segment_sent = true;
    return gst_pad_push_event (self->src, event);
  }
  case GST_EVENT_GAP:
    start_stream (self);
    return gst_pad_event_default (pad, parent, event);
  case GST_EVENT_SEGMENT_DONE:
    drain_rest (self);
    return gst_pad_event_default (pad, parent, event);
  case GST_EVENT_EOS:
    drain (self);
    return gst_pad_event_default (pad, parent, event);
  case GST_EVENT_FLUSH_STOP:
    self->state.splitter.reset ();
    self->state.segment_sent = false;
    return gst_pad_event_default (pad, parent, event);
  default:
    return gst_pad_event_default (pad, parent, event);
  }
}

// A live pipeline must know how late text may be: a request has ended by its timeout. Without one nobody can say, and
// what comes late is late.
static gboolean
llm_prompt_src_query (GstPad *pad, GstObject *parent, GstQuery *query)
{
  if (GST_QUERY_TYPE (query) != GST_QUERY_LATENCY)
    return millrace::llm_element_query (pad, parent, query);
  auto *self = prompt_cast (parent);
  if (!gst_pad_peer_query (self->sink, query))
    return FALSE;
  gboolean live = FALSE;
  GstClockTime least = 0;
  gst_query_parse_latency (query, &live, &least, nullptr);
  if (live)
    least += snapshot (self).timeout_ms * GST_MSECOND;
  // Requests wait in a queue without harm, so any more latency is bearable.
  gst_query_set_latency (query, live, least, GST_CLOCK_TIME_NONE);
  return TRUE;
}

static void
llm_prompt_set_property (GObject *object, guint id, const GValue *value, GParamSpec *spec)
{
  auto *self = prompt_cast (object);
  bool latency_changed = false;
  GST_OBJECT_LOCK (self);
  switch (id) {
  case PROP_BOUNDARY:
    self->settings.boundary = static_cast<LlmPromptBoundary> (g_value_get_enum (value));
    break;
  case PROP_CHAT:
    self->settings.chat = g_value_get_boolean (value);
    break;
  case PROP_MODEL_DEFAULTS:
    self->settings.model_defaults = g_value_get_boolean (value);
    break;
  case PROP_SYSTEM_PROMPT: {
    const char *text = g_value_get_string (value);
    self->settings.system_prompt = text ? text : "";
    break;
  }
  case PROP_PRIORITY:
    self->settings.priority = static_cast<millrace::Priority> (g_value_get_enum (value));
    break;
  case PROP_TIMEOUT_MS:
    latency_changed = self->settings.timeout_ms != g_value_get_uint (value);
    self->settings.timeout_ms = g_value_get_uint (value);
    break;
  default:
    if (!millrace::set_sampling_property (self->settings.sampling, PROP_SAMPLING, id, value))
      G_OBJECT_WARN_INVALID_PROPERTY_ID (object, id, spec);
  }
  GST_OBJECT_UNLOCK (self);
  if (latency_changed)
    gst_element_post_message (GST_ELEMENT (self), gst_message_new_latency (GST_OBJECT (self)));
}

static void
llm_prompt_get_property (GObject *object, guint id, GValue *value, GParamSpec *spec)
{
  auto *self = prompt_cast (object);
  GST_OBJECT_LOCK (self);
  switch (id) {
  case PROP_BOUNDARY:
    g_value_set_enum (value, self->settings.boundary);
    break;
  case PROP_CHAT:
    g_value_set_boolean (value, self->settings.chat);
    break;
  case PROP_MODEL_DEFAULTS:
    g_value_set_boolean (value, self->settings.model_defaults);
    break;
  case PROP_SYSTEM_PROMPT:
    g_value_set_string (value, self->settings.system_prompt.c_str ());
    break;
  case PROP_PRIORITY:
    g_value_set_enum (value, static_cast<int> (self->settings.priority));
    break;
  case PROP_TIMEOUT_MS:
    g_value_set_uint (value, self->settings.timeout_ms);
    break;
  default:
    if (!millrace::get_sampling_property (self->settings.sampling, PROP_SAMPLING, id, value))
      G_OBJECT_WARN_INVALID_PROPERTY_ID (object, id, spec);
  }
  GST_OBJECT_UNLOCK (self);
}

static GstStateChangeReturn
llm_prompt_change_state (GstElement *element, GstStateChange transition)
{
  const auto result = GST_ELEMENT_CLASS (llm_prompt_parent_class)->change_state (element, transition);
  if (transition == GST_STATE_CHANGE_PAUSED_TO_READY)
    prompt_cast (element)->state = State{};
  return result;
}

static void
llm_prompt_finalize (GObject *object)
{
  auto *self = prompt_cast (object);
  std::destroy_at (&self->settings);
  std::destroy_at (&self->state);
  G_OBJECT_CLASS (llm_prompt_parent_class)->finalize (object);
}

static GstStaticPadTemplate sink_template = GST_STATIC_PAD_TEMPLATE (
    "sink", GST_PAD_SINK, GST_PAD_ALWAYS,
    GST_STATIC_CAPS ("text/x-raw, format=(string){ utf8, pango-markup }; application/json"));
static GstStaticPadTemplate src_template = GST_STATIC_PAD_TEMPLATE (
    "src", GST_PAD_SRC, GST_PAD_ALWAYS, GST_STATIC_CAPS ("text/x-raw, format=(string)utf8"));

static void
llm_prompt_init (LlmPrompt *self)
{
  std::construct_at (&self->settings);
  std::construct_at (&self->state);
  self->sink = gst_pad_new_from_static_template (&sink_template, "sink");
  self->src = gst_pad_new_from_static_template (&src_template, "src");
  gst_pad_set_chain_function (self->sink, llm_prompt_chain);
  gst_pad_set_event_function (self->sink, llm_prompt_sink_event);
  gst_pad_set_query_function (self->sink, millrace::llm_element_query);
  gst_pad_set_query_function (self->src, llm_prompt_src_query);
  gst_element_add_pad (GST_ELEMENT (self), self->sink);
  gst_element_add_pad (GST_ELEMENT (self), self->src);
}

static void
llm_prompt_class_init (LlmPromptClass *klass)
{
  GObjectClass *object_class = G_OBJECT_CLASS (klass);
  GstElementClass *element_class = GST_ELEMENT_CLASS (klass);
  object_class->set_property = llm_prompt_set_property;
  object_class->get_property = llm_prompt_get_property;
  object_class->finalize = llm_prompt_finalize;
  element_class->change_state = llm_prompt_change_state;

  const auto ready =
      static_cast<GParamFlags> (G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS | GST_PARAM_MUTABLE_READY);
  const auto playing =
      static_cast<GParamFlags> (G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS | GST_PARAM_MUTABLE_PLAYING);
  g_object_class_install_property (object_class, PROP_BOUNDARY,
                                   g_param_spec_enum ("boundary", "Boundary", "Where one request ends",
                                                      llm_prompt_boundary_get_type (), BOUNDARY_AUTO, ready));
  g_object_class_install_property (
      object_class, PROP_MODEL_DEFAULTS,
      g_param_spec_boolean (
          "model-defaults", "Model defaults",
          "Take temperature, top-k, top-p, min-p and repetition-penalty from the model's "
          "generation_config.json (temperature 1 where it has none) instead of the properties",
          FALSE, playing));
  g_object_class_install_property (
      object_class, PROP_CHAT,
      g_param_spec_boolean ("chat", "Chat",
                            "Take text as a user's message and render it with the chat template; a "
                            "system-prompt makes it one too",
                            FALSE, playing));
  g_object_class_install_property (
      object_class, PROP_SYSTEM_PROMPT,
      g_param_spec_string ("system-prompt", "System prompt",
                           "System message put before the user's; text is then taken as with chat=true", "",
                           playing));
  g_object_class_install_property (
      object_class, PROP_PRIORITY,
      g_param_spec_enum ("priority", "Priority", "Class of the requests; each class is worth 5 s of waiting",
                         llm_prompt_priority_get_type (), static_cast<int> (millrace::Priority::kNormal),
                         playing));
  g_object_class_install_property (
      object_class, PROP_TIMEOUT_MS,
      g_param_spec_uint (
          "timeout-ms", "Timeout",
          "Milliseconds from a request's arrival to its end, with what text it has by then; 0: none", 0,
          G_MAXINT, 0, playing));
  millrace::install_sampling_properties (object_class, PROP_SAMPLING, millrace::SamplingStyle::kElement);

  gst_element_class_add_static_pad_template (element_class, &sink_template);
  gst_element_class_add_static_pad_template (element_class, &src_template);
  gst_element_class_set_static_metadata (
      element_class, "LLM prompt", "Filter/LLM",
      "Cuts text or JSON Lines into generation requests with their parameters", "The Millrace authors");
  gst_type_mark_as_plugin_api (llm_prompt_boundary_get_type (), static_cast<GstPluginAPIFlags> (0));
  gst_type_mark_as_plugin_api (llm_prompt_priority_get_type (), static_cast<GstPluginAPIFlags> (0));
}
