/**
 * SECTION:element-llmdetokenizer
 * @title: llmdetokenizer
 *
 * Turns token buffers into text, request by request: whole characters only, never revised, stop strings held
 * back until they can no longer match.
 *
 * With `format=text` each buffer of text leaves as soon as it is certain. A failed request has no place in a
 * text stream: unless its sender is told, as with llmhttpsrc, it is posted as a warning, and at EOS as an error when `fail-at-eos` is set, so that a program
 * around the pipeline exits with an error. With `format=jsonl` one line leaves for each request when it has
 * ended: `id`, `text`, `finish_reason`, `usage`, `logprobs` or `error`,
 * and with `statistics` what it cost.
 *
 * Two formats are for what shows text in time, as textoverlay does: with `format=whole` one buffer leaves for each
 * request, with all its text, when it has ended; with `format=growing` each buffer holds all of the text so far. In both the
 * replies leave in the order of the requests, however they ran.
 *
 * A reply's buffers have the timestamp and the duration of the prompt. With `timing=spread` they divide them: each token
 * is worth the same share, `max-tokens` of them fill the duration, and the last buffer lasts until its end.
 *
 * ## Example launch line
 * |[
 * echo '{"id":"a","prompt":"import os","max_tokens":8}' | gst-launch-1.0 -q fdsrc ! llmprompt boundary=jsonl ! llmtokenizer ! llmscheduler ! llmverifier ! llmsampler ! llmdetokenizer format=jsonl ! fdsink
 * ]| JSON Lines in and out.
 *
 * Since: 0.1
 */

#include "elements/elements.hpp"
#include "elements/reply_order.hpp"

#include "engine/scheduling/text_stream.hpp"
#include "library/element.hpp"
#include "library/error.hpp"
#include "library/meta.hpp"
#include "library/ref.hpp"
#include "library/reply.hpp"
#include "library/request.hpp"

#include <algorithm>
#include <unordered_map>
#include <utility>
#include <vector>

enum LlmDetokenizerFormat { FORMAT_TEXT, FORMAT_JSONL, FORMAT_WHOLE, FORMAT_GROWING };
enum LlmDetokenizerTiming { TIMING_SHARE, TIMING_SPREAD };

namespace
{

struct Settings { // OBJECT_LOCK
  LlmDetokenizerFormat format = FORMAT_TEXT;
  LlmDetokenizerTiming timing = TIMING_SHARE;
  bool fail_at_eos = true;
  bool statistics = false;
};

struct Stream {
  millrace::TextStream text;
  std::string whole = {};                 // the text so far; not with format=text
  millrace::ResultLogprobs logprobs = {}; // format=jsonl
  millrace::TextDetails details = {};     // format=text with a reply: what has not left yet
  int described = 0;                      // tokens of which details were made
  bool replied = false;                   // somebody waits for the answer
  bool begun = false;                     // some text has left
  GstClockTime shown = 0;                 // timing=spread: how much of the duration earlier text has
};

struct State {                                  // streaming thread
  std::unordered_map<uint64_t, Stream> streams; // by the request's serial
  std::string piece;
  millrace::ReplyOrder order; // format=whole, growing
  std::vector<millrace::Ref<GstBuffer>> leaving;
  uint64_t ended = 0, failed = 0;
  std::string first_failure;
};

} // namespace

struct LlmDetokenizer {
  LlmElement parent;
  GstPad *sink, *src;
  Settings settings;
  State state;
};

struct LlmDetokenizerClass {
  LlmElementClass parent;
};

G_DEFINE_TYPE (LlmDetokenizer, llm_detokenizer, LLM_TYPE_ELEMENT)

enum { PROP_0, PROP_FORMAT, PROP_TIMING, PROP_FAIL_AT_EOS, PROP_STATISTICS };

static LlmDetokenizer *
detokenizer_cast (gpointer object)
{
  return reinterpret_cast<LlmDetokenizer *> (object);
}

static GType
llm_detokenizer_format_get_type ()
{
  static const GEnumValue values[] = {{FORMAT_TEXT, "Text as it is generated", "text"},
                                      {FORMAT_JSONL, "One line of JSON for each ended request", "jsonl"},
                                      {FORMAT_WHOLE, "All of a reply's text at its end, in order", "whole"},
                                      {FORMAT_GROWING, "All of the text so far, again and again", "growing"},
                                      {0, nullptr, nullptr}};
  static const GType type = g_enum_register_static ("LlmDetokenizerFormat", values);
  return type;
}

static GType
llm_detokenizer_timing_get_type ()
{
  static const GEnumValue values[] = {
      {TIMING_SHARE, "All buffers of a reply have the prompt's timestamp and duration", "share"},
      {TIMING_SPREAD, "They divide the prompt's duration, each token an equal part", "spread"},
      {0, nullptr, nullptr}};
  static const GType type = g_enum_register_static ("LlmDetokenizerTiming", values);
  return type;
}

static Settings
snapshot (LlmDetokenizer *self)
{
  GST_OBJECT_LOCK (self);
  const Settings settings = self->settings;
  GST_OBJECT_UNLOCK (self);
  return settings;
}

static void
note_failure (LlmDetokenizer *self, const millrace::Request &request)
{
  const auto &error = request.error;
  self->state.failed++;
  const std::string text =
      "Request " + request.id + ": " + (error.field.empty () ? "" : error.field + ": ") + error.message;
  if (self->state.first_failure.empty ())
    self->state.first_failure = text;
  GST_ELEMENT_WARNING (self, STREAM, FAILED, ("%s", text.c_str ()), ("%s", error.code));
}

// The tokens' log-probabilities, as far as they belong to the text.
static void
collect_logprobs (Stream &stream, const MillraceRequestMeta *meta)
{
  const auto *details = millrace::token_details (meta);
  if (!details)
    return;
  auto &kept = stream.logprobs;
  for (millrace::SampledToken token : details->tokens) {
    if (static_cast<int> (kept.tokens.size ()) >= stream.text.usage ().completion_tokens)
      break;
    const auto first = details->top.begin () + token.top_begin;
    token.top_begin = static_cast<int> (kept.top.size ());
    kept.top.insert (kept.top.end (), first, first + token.top_count);
    kept.tokens.push_back (token);
  }
}

static millrace::TokenText
describe (millrace::TokenId token, float logprob, const millrace::Tokenizer &tokenizer)
{
  const millrace::TokenId ids[] = {token};
  return {.text = tokenizer.decode (ids),
          .bytes = std::string (tokenizer.token_bytes (token)),
          .id = token,
          .logprob = logprob,
          .top = {}};
}

// Whoever formats the answer has no tokenizer: it gets the log-probabilities as text.
static void
collect_details (Stream &stream, const MillraceRequestMeta *meta, const millrace::Tokenizer &tokenizer)
{
  const auto *details = millrace::token_details (meta);
  if (!details)
    return;
  for (const millrace::SampledToken &token : details->tokens) {
    if (stream.described == stream.text.usage ().completion_tokens)
      break;
    stream.described++;
    auto text = describe (token.token, token.logprob, tokenizer);
    for (int i = 0; i < token.top_count; i++) {
      const auto &top = details->top[static_cast<size_t> (token.top_begin + i)];
      text.top.push_back (describe (top.token, top.logprob, tokenizer));
    }
    stream.details.tokens.push_back (std::move (text));
  }
}

static GstBuffer *
text_buffer (GstBuffer *tokens, MillraceRequest *request, const std::string &text, const char *finish)
{
  GstBuffer *buffer = text.empty () ? gst_buffer_new () : gst_buffer_new_memdup (text.data (), text.size ());
  GST_BUFFER_PTS (buffer) = GST_BUFFER_PTS (tokens);
  GST_BUFFER_DURATION (buffer) = GST_BUFFER_DURATION (tokens);
  GST_BUFFER_OFFSET (buffer) = GST_BUFFER_OFFSET (tokens);
  if (finish)
    GST_BUFFER_FLAG_SET (buffer, GST_BUFFER_FLAG_MARKER);
  millrace_buffer_add_request_meta (buffer, request, finish);
  return buffer;
}

// Gives `text` the part of the prompt's duration that its tokens are worth, the last one all that is left.
static void
spread (Stream &stream, const millrace::Request &request, int max_tokens, bool last, GstBuffer *text)
{
  const GstClockTime start = GST_BUFFER_PTS (text), whole = GST_BUFFER_DURATION (text);
  if (!GST_CLOCK_TIME_IS_VALID (start) || !GST_CLOCK_TIME_IS_VALID (whole))
    return;
  const int most = request.sampling.max_tokens > 0 ? request.sampling.max_tokens : max_tokens;
  const int so_far = std::clamp (stream.text.usage ().completion_tokens, 0, most);
  const GstClockTime end = last || most <= 0 ? whole : gst_util_uint64_scale_int (whole, so_far, most);
  GST_BUFFER_PTS (text) = start + stream.shown;
  GST_BUFFER_DURATION (text) = end - stream.shown;
  stream.shown = end;
}

// The text that a token buffer makes certain; null when there is none.
static GstBuffer *
convert (LlmDetokenizer *self, const Settings &settings, const millrace::Model &model, GstBuffer *buffer)
{
  const millrace::Tokenizer &tokenizer = *model.tokenizer;
  auto &state = self->state;
  const auto object = millrace::request_of (buffer);
  millrace::Request &request = millrace::engine_request (object.get ());
  const auto *meta = millrace_buffer_get_request_meta (buffer);
  // Token ids without a request, as from llmtokenizer alone, are a whole text.
  const auto end = meta && meta->finish                          ? millrace::finish_of (meta)
                   : meta && GST_BUFFER_OFFSET_IS_VALID (buffer) ? millrace::FinishReason::kNone
                                                                 : millrace::FinishReason::kLength;

  auto found = state.streams.find (request.serial);
  if (found == state.streams.end ())
    found = state.streams
                .emplace (request.serial, Stream{.text = millrace::TextStream (request, tokenizer),
                                                 .replied = millrace::has_reply (object.get ())})
                .first;
  Stream &stream = found->second;
  const bool was_finished = stream.text.finish () != millrace::FinishReason::kNone;
  {
    const millrace::MappedBuffer mapped (buffer);
    const auto *tokens = reinterpret_cast<const millrace::TokenId *> (mapped.chars ());
    state.piece.clear ();
    stream.text.push ({tokens, mapped.size () / sizeof (millrace::TokenId)}, end, state.piece);
  }
  const auto finish = stream.text.finish ();
  const bool ends_now = finish != millrace::FinishReason::kNone && !was_finished;
  if (ends_now) {
    state.ended++;
    if (end == millrace::FinishReason::kNone)
      request.end (finish); // a stop string: the scheduler drops the request before its next step
  }

  GstBuffer *output = nullptr;
  const char *finish_name = ends_now ? millrace::finish_reason_name (finish) : nullptr;
  if (settings.format != FORMAT_TEXT)
    stream.whole += state.piece;
  if (settings.format == FORMAT_JSONL) {
    if (!was_finished && meta)
      collect_logprobs (stream, meta);
    if (ends_now) {
      const bool wanted = request.sampling.logprobs >= 0 && !request.error;
      const std::string line =
          millrace::result_json (request, stream.whole, finish, stream.text.usage (),
                                 wanted ? &stream.logprobs : nullptr, settings.statistics, tokenizer) +
          "\n";
      output = text_buffer (buffer, object.get (), line, finish_name);
    }
  } else {
    const bool replied = stream.replied;
    if (ends_now && finish == millrace::FinishReason::kError && !replied)
      note_failure (self, request);
    if (!was_finished && meta && replied && request.sampling.logprobs >= 0)
      collect_details (stream, meta, tokenizer);
    if (ends_now || (!state.piece.empty () && settings.format != FORMAT_WHOLE))
      output = text_buffer (buffer, object.get (),
                            settings.format == FORMAT_TEXT ? state.piece : stream.whole, finish_name);
    if (output && replied && (ends_now || !stream.details.tokens.empty ())) {
      stream.details.usage = stream.text.usage ();
      stream.details.stop_string = stream.text.stop_string ();
      millrace::set_text_details (
          millrace_buffer_get_request_meta (output),
          std::make_shared<const millrace::TextDetails> (std::exchange (stream.details, {})));
    }
  }
  if (output && settings.timing == TIMING_SPREAD)
    spread (stream, request, model.spec.max_positions - stream.text.usage ().prompt_tokens, ends_now, output);
  // The first tokens of a generation may be no text yet; its first text is what begins it here.
  if (output && !std::exchange (stream.begun, true)) {
    GST_BUFFER_FLAG_SET (output, GST_BUFFER_FLAG_DISCONT);
    LLM_DEBUG (self, "request %s: first text", request.id.c_str ());
  }
  if (ends_now)
    LLM_DEBUG (self, "request %s: ends, %s", request.id.c_str (), finish_name);
  if (end != millrace::FinishReason::kNone)
    state.streams.erase (request.serial);
  return output;
}

// The scheduler knows which replies are to come; this element may have been put in its place in mid-stream.
static std::vector<uint64_t>
open_requests (LlmDetokenizer *self)
{
  auto query = millrace::Ref<GstQuery>::adopt (
      gst_query_new_custom (GST_QUERY_CUSTOM, gst_structure_new_empty ("LlmOpen")));
  std::vector<uint64_t> numbers;
  if (!gst_pad_peer_query (self->sink, query.get ()))
    return numbers;
  const GValue *list = gst_structure_get_value (gst_query_get_structure (query.get ()), "numbers");
  for (guint i = 0; list && i < gst_value_array_get_size (list); i++)
    numbers.push_back (g_value_get_uint64 (gst_value_array_get_value (list, i)));
  return numbers;
}

// Appends the text of a token buffer, and what may leave because of it, to state.leaving.
static void
take (LlmDetokenizer *self, const Settings &settings, const millrace::Model &model, GstBuffer *tokens)
{
  auto text = millrace::Ref<GstBuffer>::adopt (convert (self, settings, model, tokens));
  if (!text)
    return;
  auto &state = self->state;
  if (settings.format != FORMAT_WHOLE && settings.format != FORMAT_GROWING) {
    state.leaving.push_back (std::move (text));
    return;
  }
  const auto *meta = millrace_buffer_get_request_meta (text.get ());
  const uint64_t number = millrace::request_timing (meta->request).number;
  const bool ends = meta->finish;
  if (!state.order.begun ())
    state.order.begin (open_requests (self));
  state.order.add (number, ends, std::move (text), state.leaving);
}

static GstFlowReturn
push_leaving (LlmDetokenizer *self)
{
  auto &leaving = self->state.leaving; // keeps its memory from step to step
  if (leaving.empty ())
    return GST_FLOW_OK;
  if (leaving.size () == 1) {
    GstBuffer *text = leaving[0].release ();
    leaving.clear ();
    return gst_pad_push (self->src, text);
  }
  GstBufferList *list = gst_buffer_list_new_sized (static_cast<guint> (leaving.size ()));
  for (auto &text : leaving)
    gst_buffer_list_add (list, text.release ());
  leaving.clear ();
  return gst_pad_push_list (self->src, list);
}

static GstFlowReturn
llm_detokenizer_chain_list (GstPad *, GstObject *parent, GstBufferList *list)
{
  auto *self = detokenizer_cast (parent);
  const auto input = millrace::Ref<GstBufferList>::adopt (list);
  const Settings settings = snapshot (self);
  const auto model = millrace::element_model (LLM_ELEMENT (self));
  const bool done = millrace::guarded (GST_ELEMENT (self), [&] {
    for (guint i = 0; i < gst_buffer_list_length (list); i++)
      take (self, settings, *model, gst_buffer_list_get (list, i));
  });
  return done ? push_leaving (self) : GST_FLOW_ERROR;
}

static GstFlowReturn
llm_detokenizer_chain (GstPad *, GstObject *parent, GstBuffer *buffer)
{
  auto *self = detokenizer_cast (parent);
  const auto input = millrace::Ref<GstBuffer>::adopt (buffer);
  const auto model = millrace::element_model (LLM_ELEMENT (self));
  const bool done =
      millrace::guarded (GST_ELEMENT (self), [&] { take (self, snapshot (self), *model, buffer); });
  return done ? push_leaving (self) : GST_FLOW_ERROR;
}

static void
report_failures (LlmDetokenizer *self)
{
  const auto &state = self->state;
  if (state.failed > 0 && snapshot (self).fail_at_eos)
    GST_ELEMENT_ERROR (
        self, STREAM, FAILED, ("%s", state.first_failure.c_str ()),
        ("%" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT " requests failed", state.failed, state.ended));
}

static gboolean
llm_detokenizer_sink_event (GstPad *pad, GstObject *parent, GstEvent *event)
{
  auto *self = detokenizer_cast (parent);
  switch (GST_EVENT_TYPE (event)) {
  case GST_EVENT_CAPS: {
    GstCaps *caps = nullptr;
    gst_event_parse_caps (event, &caps);
    const bool fits = millrace::check_vocabulary (LLM_ELEMENT (self), caps);
    gst_event_unref (event);
    auto text = millrace::Ref<GstCaps>::adopt (gst_caps_from_string (millrace::kTextCaps));
    return fits && gst_pad_push_event (self->src, gst_event_new_caps (text.get ()));
  }
  case GST_EVENT_EOS:
    self->state.order.finish (self->state.leaving);
    push_leaving (self);
    report_failures (self);
    break;
  case GST_EVENT_FLUSH_STOP:
    self->state = State{};
    break;
  default:
    break;
  }
  return gst_pad_event_default (pad, parent, event);
}

static void
llm_detokenizer_set_property (GObject *object, guint id, const GValue *value, GParamSpec *spec)
{
  auto *self = detokenizer_cast (object);
  GST_OBJECT_LOCK (self);
  switch (id) {
  case PROP_FORMAT:
    self->settings.format = static_cast<LlmDetokenizerFormat> (g_value_get_enum (value));
    break;
  case PROP_TIMING:
    self->settings.timing = static_cast<LlmDetokenizerTiming> (g_value_get_enum (value));
    break;
  case PROP_FAIL_AT_EOS:
    self->settings.fail_at_eos = g_value_get_boolean (value);
    break;
  case PROP_STATISTICS:
    self->settings.statistics = g_value_get_boolean (value);
    break;
  default:
    G_OBJECT_WARN_INVALID_PROPERTY_ID (object, id, spec);
  }
  GST_OBJECT_UNLOCK (self);
}

static void
llm_detokenizer_get_property (GObject *object, guint id, GValue *value, GParamSpec *spec)
{
  auto *self = detokenizer_cast (object);
  GST_OBJECT_LOCK (self);
  switch (id) {
  case PROP_FORMAT:
    g_value_set_enum (value, self->settings.format);
    break;
  case PROP_TIMING:
    g_value_set_enum (value, self->settings.timing);
    break;
  case PROP_FAIL_AT_EOS:
    g_value_set_boolean (value, self->settings.fail_at_eos);
    break;
  case PROP_STATISTICS:
    g_value_set_boolean (value, self->settings.statistics);
    break;
  default:
    G_OBJECT_WARN_INVALID_PROPERTY_ID (object, id, spec);
  }
  GST_OBJECT_UNLOCK (self);
}

static GstStateChangeReturn
llm_detokenizer_change_state (GstElement *element, GstStateChange transition)
{
  auto *self = detokenizer_cast (element);
  const auto result = GST_ELEMENT_CLASS (llm_detokenizer_parent_class)->change_state (element, transition);
  if (transition == GST_STATE_CHANGE_NULL_TO_READY && result != GST_STATE_CHANGE_FAILURE) {
    const auto model = millrace::element_model (LLM_ELEMENT (self));
    if (!model->tokenizer) {
      GST_ELEMENT_ERROR (
          self, RESOURCE, NOT_FOUND, ("%s: there is no tokenizer with this model", model->directory.c_str ()),
          ("text needs one: copy tokenizer.json from where the model comes from, or take a GGUF file "
           "with a vocabulary"));
      return GST_STATE_CHANGE_FAILURE;
    }
  }
  if (transition == GST_STATE_CHANGE_PAUSED_TO_READY)
    self->state = State{};
  return result;
}

static void
llm_detokenizer_finalize (GObject *object)
{
  auto *self = detokenizer_cast (object);
  std::destroy_at (&self->settings);
  std::destroy_at (&self->state);
  G_OBJECT_CLASS (llm_detokenizer_parent_class)->finalize (object);
}

static GstStaticPadTemplate sink_template = GST_STATIC_PAD_TEMPLATE (
    "sink", GST_PAD_SINK, GST_PAD_ALWAYS, GST_STATIC_CAPS ("application/x-llm-tokens"));
static GstStaticPadTemplate src_template = GST_STATIC_PAD_TEMPLATE (
    "src", GST_PAD_SRC, GST_PAD_ALWAYS, GST_STATIC_CAPS ("text/x-raw, format=(string)utf8"));

static void
llm_detokenizer_init (LlmDetokenizer *self)
{
  std::construct_at (&self->settings);
  std::construct_at (&self->state);
  self->sink = gst_pad_new_from_static_template (&sink_template, "sink");
  self->src = gst_pad_new_from_static_template (&src_template, "src");
  gst_pad_set_chain_function (self->sink, llm_detokenizer_chain);
  gst_pad_set_chain_list_function (self->sink, llm_detokenizer_chain_list);
  gst_pad_set_event_function (self->sink, llm_detokenizer_sink_event);
  gst_pad_set_query_function (self->sink, millrace::llm_element_query);
  gst_pad_set_query_function (self->src, millrace::llm_element_query);
  gst_element_add_pad (GST_ELEMENT (self), self->sink);
  gst_element_add_pad (GST_ELEMENT (self), self->src);
}

static void
llm_detokenizer_class_init (LlmDetokenizerClass *klass)
{
  GObjectClass *object_class = G_OBJECT_CLASS (klass);
  GstElementClass *element_class = GST_ELEMENT_CLASS (klass);
  object_class->set_property = llm_detokenizer_set_property;
  object_class->get_property = llm_detokenizer_get_property;
  object_class->finalize = llm_detokenizer_finalize;
  element_class->change_state = llm_detokenizer_change_state;
  const auto ready =
      static_cast<GParamFlags> (G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS | GST_PARAM_MUTABLE_READY);
  g_object_class_install_property (
      object_class, PROP_FORMAT,
      g_param_spec_enum ("format", "Format", "What leaves: text in one of three ways, or lines of JSON",
                         llm_detokenizer_format_get_type (), FORMAT_TEXT, ready));
  g_object_class_install_property (
      object_class, PROP_TIMING,
      g_param_spec_enum ("timing", "Timing", "The timestamps of a reply that leaves in several buffers",
                         llm_detokenizer_timing_get_type (), TIMING_SHARE, ready));
  g_object_class_install_property (
      object_class, PROP_FAIL_AT_EOS,
      g_param_spec_boolean ("fail-at-eos", "Fail at EOS",
                            "Unless format=jsonl: post an error at EOS if any request failed", TRUE, ready));
  g_object_class_install_property (
      object_class, PROP_STATISTICS,
      g_param_spec_boolean ("statistics", "Statistics",
                            "With format=jsonl: add times (in milliseconds) and counts to each line", FALSE,
                            ready));
  gst_element_class_add_static_pad_template (element_class, &sink_template);
  gst_element_class_add_static_pad_template (element_class, &src_template);
  gst_element_class_set_static_metadata (element_class, "LLM detokenizer", "Filter/LLM",
                                         "Turns generated tokens into text", "The Millrace authors");
  gst_type_mark_as_plugin_api (llm_detokenizer_format_get_type (), static_cast<GstPluginAPIFlags> (0));
  gst_type_mark_as_plugin_api (llm_detokenizer_timing_get_type (), static_cast<GstPluginAPIFlags> (0));
}
