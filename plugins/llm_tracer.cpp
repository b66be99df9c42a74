/**
 * SECTION:tracer-llm
 *
 * Prints what each element takes of a step, and what requests get of the steps, as structured records of the category
 * GST_TRACER (GST_DEBUG="GST_TRACER:7"), and a summary on standard error at the end. Described in docs/gstreamer.md.
 *
 * An element's time is what its chain function takes without what it pushes to. Whatever is not an element of
 * Millrace, a sink for example, is not counted; the time that a step spends there is the difference to the step's time.
 *
 * Parameters: `llm(summary=false)`: records only.
 */

#define GST_USE_UNSTABLE_API
#include "plugins/llm_tracer.hpp"

#include "engine/clock.hpp"
#include "library/element.hpp"
#include "library/meta.hpp"
#include "library/ref.hpp"
#include "library/request.hpp"
#include "plugins/time_histogram.hpp"

#include <gst/gst.h>
#include <gst/gsttracer.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

using millrace::Ref;
using millrace::TimeHistogram;

namespace
{

/// One push under way in a thread.
struct Push {
  GstPad *pad;
  std::string element;            // that is pushed to; empty: none of ours
  GstClockTime began, inner = 0;  // inner: of the pushes inside
  millrace::Step *step = nullptr; // of the push that is a step
};

struct Thread {
  std::vector<Push> pushes;
  bool in_step = false;
  std::vector<std::pair<std::string, GstClockTime>> elements; // of the step
};
thread_local Thread thread;

struct Running {
  int64_t last_us = 0; // when its last tokens came
  int64_t first_us = 0;
  uint64_t drafted = 0, right = 0;
};

struct Totals {                                  // under the mutex
  std::map<std::string, TimeHistogram> elements; // of a step, or of a push outside of steps
  TimeHistogram steps, first_token, between_tokens;
  uint64_t requests = 0, tokens = 0, drafted = 0, right = 0;
  std::unordered_map<uint64_t, Running> running; // by serial
};

/// What a record says, kept until the mutex is free: whoever reads records is called by logging them.
struct ElementNote {
  std::string element;
  bool in_step;
  guint64 step;
  GstClockTime time;
};
struct TokensNote {
  const millrace::Request *request; ///< of a row of the step, whose push has not returned
  guint tokens, drafted, right;
  bool first;
  guint64 time;
};
struct RequestNote {
  const millrace::Request *request;
  const char *finish;
  guint prompt_tokens, completion_tokens, drafted, right;
  guint64 first_token_time, total_time;
};
struct Notes {
  std::vector<ElementNote> elements;
  std::vector<TokensNote> tokens;
  std::vector<RequestNote> requests;
};

struct State {
  std::mutex mutex;
  Totals totals;
  bool summary = true;
};

/// Two tracers in one thread would take each other's pushes for their own.
std::atomic<bool> one_is_active = false;

GstTracerRecord *element_record, *step_record, *token_record, *request_record;

} // namespace

struct LlmTracer {
  GstTracer parent;
  State state;
  gboolean active;
};

struct LlmTracerClass {
  GstTracerClass parent;
};

G_DEFINE_TYPE (LlmTracer, llm_tracer, GST_TYPE_TRACER)

static LlmTracer *
tracer_cast (gpointer object)
{
  return static_cast<LlmTracer *> (object);
}

// --- hooks --------------------------------------------------------------------------------------

static std::string
receiver (GstPad *pad)
{
  const auto peer = Ref<GstPad>::adopt (gst_pad_get_peer (pad));
  if (!peer)
    return {};
  // A ghost pad's inner pad has the ghost pad for a parent.
  const auto parent = Ref<GstObject>::adopt (gst_object_get_parent (GST_OBJECT (peer.get ())));
  if (!parent || !LLM_IS_ELEMENT (parent.get ()))
    return {};
  g_autofree char *name = gst_object_get_name (parent.get ());
  return name;
}

static void
push_begins (GstClockTime now, GstPad *pad, GstBuffer *buffer)
{
  Push push{.pad = pad, .element = receiver (pad), .began = now};
  if (auto *meta = buffer && !thread.in_step ? millrace::get_step_meta (buffer) : nullptr) {
    push.step = meta->step;
    thread.in_step = true;
    thread.elements.clear ();
  }
  thread.pushes.push_back (std::move (push));
}

// Rows of a step that has just run, before the scheduler takes what they say.
static void
note_rows (Totals &totals, const millrace::Step &step, Notes &notes)
{
  const int64_t now_us = millrace::steady_now_us ();
  for (const millrace::Row &row : step.rows) {
    const millrace::Request &request = *row.sequence->request;
    Running &running = totals.running[request.serial];
    const auto drafted = static_cast<uint64_t> (row.draft.count),
               right = static_cast<uint64_t> (row.right_drafts ());
    running.drafted += drafted;
    running.right += right;
    totals.drafted += drafted;
    totals.right += right;
    if (row.accepted_count > 0) {
      const bool first = row.sequence->generated () == 0;
      const int64_t since_us = now_us - (first ? row.sequence->submitted_us : running.last_us);
      const auto since = static_cast<uint64_t> (std::max<int64_t> (since_us, 0)) * GST_USECOND;
      if (first)
        running.first_us = since_us;
      // Tokens of one step come together: those after the first token with it, others share the time.
      const auto count = static_cast<uint64_t> (row.accepted_count);
      if (first)
        totals.first_token.add (since);
      for (uint64_t i = first; i < count; i++)
        totals.between_tokens.add (first ? 0 : since / count);
      running.last_us = now_us;
      totals.tokens += static_cast<uint64_t> (row.accepted_count);
      notes.tokens.push_back ({&request, static_cast<guint> (row.accepted_count),
                               static_cast<guint> (drafted), static_cast<guint> (right), first, since});
    }
    if (!row.ended ())
      continue;
    totals.requests++;
    notes.requests.push_back ({&request, millrace::finish_reason_name (row.finish),
                               static_cast<guint> (row.sequence->prompt_tokens),
                               static_cast<guint> (row.sequence->generated () + row.accepted_count),
                               static_cast<guint> (running.drafted), static_cast<guint> (running.right),
                               static_cast<guint64> (running.first_us) * GST_USECOND,
                               static_cast<guint64> (now_us - row.sequence->submitted_us) * GST_USECOND});
    totals.running.erase (request.serial);
  }
}

static void
note_element (Totals &totals, const std::string &element, const millrace::Step *step, GstClockTime time,
              Notes &notes)
{
  totals.elements[element].add (time);
  notes.elements.push_back ({element, step != nullptr, step ? step->number : 0, time});
}

static void
log_notes (const Notes &notes, guint64 step)
{
  for (const ElementNote &note : notes.elements)
    gst_tracer_record_log (element_record, note.element.c_str (), note.in_step, note.step, note.time);
  for (const TokensNote &note : notes.tokens)
    gst_tracer_record_log (token_record, note.request->id.c_str (), step, note.tokens, note.drafted,
                           note.right, note.first, note.time);
  for (const RequestNote &note : notes.requests)
    gst_tracer_record_log (request_record, note.request->id.c_str (), note.finish, note.prompt_tokens,
                           note.completion_tokens, note.drafted, note.right, note.first_token_time,
                           note.total_time);
}

static void
push_ends (LlmTracer *self, GstClockTime now, GstPad *pad)
{
  // A tracer that is made while pushes are under way has not seen them begin.
  if (thread.pushes.empty () || thread.pushes.back ().pad != pad)
    return;
  const Push push = std::move (thread.pushes.back ());
  thread.pushes.pop_back ();
  const GstClockTime whole = now - push.began;
  const GstClockTime own = whole - std::min (push.inner, whole);
  if (!thread.pushes.empty ())
    thread.pushes.back ().inner += whole;
  if (!push.element.empty () && thread.in_step)
    thread.elements.emplace_back (push.element, own);

  Notes notes;
  Totals &totals = self->state.totals;
  if (!push.step) {
    if (push.element.empty () || thread.in_step)
      return;
    {
      const std::lock_guard lock (self->state.mutex);
      note_element (totals, push.element, nullptr, own, notes);
    }
    log_notes (notes, 0);
    return;
  }
  const millrace::Step &step = *push.step;
  {
    const std::lock_guard lock (self->state.mutex);
    for (const auto &[element, time] : thread.elements)
      note_element (totals, element, &step, time, notes);
    totals.steps.add (whole);
    note_rows (totals, step, notes);
  }
  guint prefilled = 0, scored = 0, accepted = 0;
  for (const millrace::Row &row : step.rows) {
    prefilled += static_cast<guint> (row.prefill_tokens);
    scored += row.scored ? static_cast<guint> (1 + row.draft.count) : 0;
    accepted += static_cast<guint> (row.accepted_count);
  }
  gst_tracer_record_log (step_record, step.number, static_cast<guint> (step.rows.size ()), prefilled, scored,
                         accepted, whole);
  log_notes (notes, step.number);
  thread.in_step = false;
}

static void
on_push_pre (GObject *, GstClockTime now, GstPad *pad, GstBuffer *buffer)
{
  push_begins (now, pad, buffer);
}

static void
on_push_list_pre (GObject *, GstClockTime now, GstPad *pad, GstBufferList *)
{
  push_begins (now, pad, nullptr);
}

static void
on_push_post (GObject *self, GstClockTime now, GstPad *pad, GstFlowReturn)
{
  push_ends (tracer_cast (self), now, pad);
}

// --- the summary --------------------------------------------------------------------------------

static void
print_times (const char *name, const TimeHistogram &times)
{
  const auto ms = [] (double ns) { return ns / GST_MSECOND; };
  std::fprintf (stderr, "  %-22s %9" G_GUINT64_FORMAT " %12.3f %10.3f %10.3f %10.3f\n", name, times.count (),
                ms (static_cast<double> (times.sum ())), ms (times.quantile (0.5)),
                ms (times.quantile (0.95)), ms (static_cast<double> (times.most ())));
}

static void
print_summary (const Totals &totals)
{
  std::fprintf (stderr, "llm tracer: %" G_GUINT64_FORMAT " requests, %" G_GUINT64_FORMAT " tokens\n",
                totals.requests, totals.tokens);
  std::fprintf (stderr, "  %-22s %9s %12s %10s %10s %10s\n", "times in ms", "count", "sum", "median", "95 %",
                "most");
  for (const auto &[element, times] : totals.elements)
    print_times (element.c_str (), times);
  print_times ("step", totals.steps);
  print_times ("time to first token", totals.first_token);
  print_times ("between tokens", totals.between_tokens);
  std::fprintf (
      stderr, "  drafts: %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT " verified were right (%.1f %%)\n",
      totals.right, totals.drafted,
      totals.drafted > 0 ? 100.0 * static_cast<double> (totals.right) / static_cast<double> (totals.drafted)
                         : 0.0);
}

// --- the object ---------------------------------------------------------------------------------

static bool
wants_summary (LlmTracer *self)
{
  g_autofree char *params = nullptr;
  g_object_get (self, "params", &params, nullptr);
  if (!params)
    return true;
  g_autofree char *text = g_strdup_printf ("llm,%s", params);
  GstStructure *structure = gst_structure_from_string (text, nullptr);
  gboolean wanted = TRUE;
  if (!structure ||
      (gst_structure_n_fields (structure) > 0 && !gst_structure_get_boolean (structure, "summary", &wanted)))
    g_warning ("tracer llm: parameters are summary=true or summary=false, not \"%s\"", params);
  if (structure)
    gst_structure_free (structure);
  return wanted;
}

static void
llm_tracer_constructed (GObject *object)
{
  G_OBJECT_CLASS (llm_tracer_parent_class)->constructed (object);
  auto *self = tracer_cast (object);
  self->active = !one_is_active.exchange (true);
  if (!self->active)
    return;
  self->state.summary = wants_summary (self);
  GstTracer *tracer = GST_TRACER (self);
  gst_tracing_register_hook (tracer, "pad-push-pre", G_CALLBACK (on_push_pre));
  gst_tracing_register_hook (tracer, "pad-push-list-pre", G_CALLBACK (on_push_list_pre));
  gst_tracing_register_hook (tracer, "pad-push-post", G_CALLBACK (on_push_post));
  gst_tracing_register_hook (tracer, "pad-push-list-post", G_CALLBACK (on_push_post));
}

static void
llm_tracer_finalize (GObject *object)
{
  auto *self = tracer_cast (object);
  if (self->active && self->state.summary && self->state.totals.steps.count () > 0)
    print_summary (self->state.totals);
  if (self->active)
    one_is_active = false;
  std::destroy_at (&self->state);
  G_OBJECT_CLASS (llm_tracer_parent_class)->finalize (object);
}

static void
llm_tracer_init (LlmTracer *self)
{
  std::construct_at (&self->state);
}

static GstStructure *
value_field (GType type, const char *description)
{
  return gst_structure_new ("value", "type", G_TYPE_GTYPE, type, "description", G_TYPE_STRING, description,
                            nullptr);
}

static GstStructure *
related_field (GType type, const char *description)
{
  return gst_structure_new ("scope", "type", G_TYPE_GTYPE, type, "related-to", GST_TYPE_TRACER_VALUE_SCOPE,
                            GST_TRACER_VALUE_SCOPE_ELEMENT, "description", G_TYPE_STRING, description,
                            nullptr);
}

static void
llm_tracer_class_init (LlmTracerClass *klass)
{
  GObjectClass *object_class = G_OBJECT_CLASS (klass);
  object_class->constructed = llm_tracer_constructed;
  object_class->finalize = llm_tracer_finalize;

  const auto value = [] (GType type, const char *description) { return value_field (type, description); };
  element_record = gst_tracer_record_new (
      "llm-element.class", "element", GST_TYPE_STRUCTURE,
      related_field (G_TYPE_STRING, "name of the element"), "in-step", GST_TYPE_STRUCTURE,
      value (G_TYPE_BOOLEAN, "whether a step was under way"), "step", GST_TYPE_STRUCTURE,
      value (G_TYPE_UINT64, "number of the step"), "time", GST_TYPE_STRUCTURE,
      value (G_TYPE_UINT64, "ns in its chain function, without what it pushed to"), nullptr);
  step_record = gst_tracer_record_new (
      "llm-step.class", "step", GST_TYPE_STRUCTURE, value (G_TYPE_UINT64, "number of the step"), "rows",
      GST_TYPE_STRUCTURE, value (G_TYPE_UINT, "requests in it"), "prefill-tokens", GST_TYPE_STRUCTURE,
      value (G_TYPE_UINT, "prompt tokens computed"), "scored-tokens", GST_TYPE_STRUCTURE,
      value (G_TYPE_UINT, "pending tokens and drafts verified"), "accepted-tokens", GST_TYPE_STRUCTURE,
      value (G_TYPE_UINT, "tokens that requests got"), "time", GST_TYPE_STRUCTURE,
      value (G_TYPE_UINT64, "ns of the push that is the step"), nullptr);
  token_record = gst_tracer_record_new (
      "llm-tokens.class", "request", GST_TYPE_STRUCTURE, value (G_TYPE_STRING, "id of the request"), "step",
      GST_TYPE_STRUCTURE, value (G_TYPE_UINT64, "number of the step"), "tokens", GST_TYPE_STRUCTURE,
      value (G_TYPE_UINT, "tokens it got"), "drafted", GST_TYPE_STRUCTURE,
      value (G_TYPE_UINT, "drafts verified"), "right", GST_TYPE_STRUCTURE,
      value (G_TYPE_UINT, "of them accepted"), "first", GST_TYPE_STRUCTURE,
      value (G_TYPE_BOOLEAN, "whether these are its first"), "time", GST_TYPE_STRUCTURE,
      value (G_TYPE_UINT64, "ns since its last tokens; with the first, since it came"), nullptr);
  request_record = gst_tracer_record_new (
      "llm-request.class", "request", GST_TYPE_STRUCTURE, value (G_TYPE_STRING, "id of the request"),
      "finish-reason", GST_TYPE_STRUCTURE, value (G_TYPE_STRING, "why it ended"), "prompt-tokens",
      GST_TYPE_STRUCTURE, value (G_TYPE_UINT, "tokens of its prompt"), "completion-tokens",
      GST_TYPE_STRUCTURE, value (G_TYPE_UINT, "tokens it got"), "drafted", GST_TYPE_STRUCTURE,
      value (G_TYPE_UINT, "drafts verified"), "right", GST_TYPE_STRUCTURE,
      value (G_TYPE_UINT, "of them accepted"), "first-token-time", GST_TYPE_STRUCTURE,
      value (G_TYPE_UINT64, "ns from its arrival to its first token"), "total-time", GST_TYPE_STRUCTURE,
      value (G_TYPE_UINT64, "ns from its arrival to its end"), nullptr);
  // They are as long there as the class, which is never unloaded.
  for (auto *record : {element_record, step_record, token_record, request_record})
    GST_OBJECT_FLAG_SET (record, GST_OBJECT_FLAG_MAY_BE_LEAKED);
}
