/**
 * SECTION:element-llmbin
 * @title: llmbin
 *
 * The whole generator in one element: text or JSON Lines in, text or JSON Lines out.
 *
 * Its children are ordinary elements, named prompt, tokenizer, scheduler, prefill, drafter, verifier, sampler
 * and detokenizer, and their properties are set through it: `llmbin scheduler::max-batch=16`.
 *
 * The property #llmbin:drafter exchanges what guesses tokens, or takes it out, in any state. While requests run that is done
 * between two steps, so none of them is lost and no byte of their text changes.
 *
 * ## Example launch line
 * |[
 * echo "def fibonacci(n):" | gst-launch-1.0 -q fdsrc ! llmbin prompt::max-tokens=64 ! fdsink
 * ]| Completes a line of code.
 *
 * Since: 0.1
 */

#include "elements/elements.hpp"

#include "library/error.hpp"
#include "library/model_context.hpp"
#include "library/ref.hpp"

#include <condition_variable>
#include <memory>
#include <mutex>
#include <utility>

GST_DEBUG_CATEGORY_STATIC (llm_bin_debug);
#define GST_CAT_DEFAULT llm_bin_debug

using millrace::Ref;

namespace
{

/// Of threads that exchange the drafter.
struct Turns {
  std::mutex mutex;
  std::condition_variable free;
  bool taken = false;
};

} // namespace

struct LlmBin {
  GstBin parent;
  GstElement *tokenizer, *prefill, *verifier; // owned by the bin

  // OBJECT_LOCK
  Ref<GstElement> drafter; // linked between prefill and verifier; null: they are linked
  Ref<GstElement> wanted;  // what is to be there instead, from the next step on
  bool exchanging;         // wanted counts
  gulong probe;            // that was added last

  Turns turns;
};

struct LlmBinClass {
  GstBinClass parent;
};

G_DEFINE_TYPE (LlmBin, llm_bin, GST_TYPE_BIN)

enum { PROP_0, PROP_DRAFTER, PROP_MODEL, PROP_WEIGHTS, PROP_THREADS, PROP_WEIGHT_CACHE, PROP_LOCK_MEMORY };

// --- the drafter --------------------------------------------------------------------------------

static bool
link_drafter (LlmBin *self, GstElement *drafter)
{
  if (!drafter)
    return gst_element_link (self->prefill, self->verifier);
  return gst_element_link_pads (self->prefill, "src", drafter, "sink") &&
         gst_element_link_pads (drafter, "src", self->verifier, "sink");
}

static void
unlink_drafter (LlmBin *self, GstElement *drafter)
{
  if (!drafter) {
    gst_element_unlink (self->prefill, self->verifier);
    return;
  }
  gst_element_unlink (self->prefill, drafter);
  gst_element_unlink (drafter, self->verifier);
}

static void
discard (LlmBin *self, Ref<GstElement> drafter)
{
  if (!drafter)
    return;
  // A change of the bin's state that is under way must not wake it again, so it stays locked.
  gst_element_set_locked_state (drafter.get (), TRUE);
  gst_bin_remove (GST_BIN (self), drafter.get ());
  gst_element_set_state (drafter.get (), GST_STATE_NULL);
}

// Puts `next` where `old` is. No step is on its way.
static void
replace_drafter (LlmBin *self, const Ref<GstElement> &old, const Ref<GstElement> &next)
{
  unlink_drafter (self, old.get ());
  if (!link_drafter (self, next.get ())) {
    GST_ELEMENT_WARNING (self, CORE, PAD, ("%s cannot draft.", GST_OBJECT_NAME (next.get ())),
                         ("its pads are not those of a drafter; requests go on without one"));
    unlink_drafter (self, next.get ());
    link_drafter (self, nullptr);
    GST_OBJECT_LOCK (self);
    self->drafter = nullptr;
    GST_OBJECT_UNLOCK (self);
    discard (self, next);
  }
  GST_INFO_OBJECT (self, "drafter %s takes the place of %s", next ? GST_OBJECT_NAME (next.get ()) : "(none)",
                   old ? GST_OBJECT_NAME (old.get ()) : "(none)");
  discard (self, old);
}

// In the loop's thread, before it pushes, or in any other while the pads are inactive. The two may meet when the bin
// starts, so they take turns.
static void
exchange (LlmBin *self)
{
  std::unique_lock turn (self->turns.mutex);
  self->turns.free.wait (turn, [&] { return !self->turns.taken; });
  self->turns.taken = true;
  turn.unlock ();

  GST_OBJECT_LOCK (self);
  const bool due = std::exchange (self->exchanging, false); // or another call was quicker
  const Ref<GstElement> next = due ? std::exchange (self->wanted, nullptr) : nullptr;
  const Ref<GstElement> old = due ? std::exchange (self->drafter, next) : nullptr;
  GST_OBJECT_UNLOCK (self);
  if (due)
    replace_drafter (self, old, next);

  turn.lock ();
  self->turns.taken = false;
  self->turns.free.notify_one ();
}

// Takes `element` over (it may be null) and returns at once; the exchange follows before the next step.
static void
set_drafter (LlmBin *self, GstElement *element)
{
  auto next = Ref<GstElement>::adopt (element);
  GST_OBJECT_LOCK (self);
  const bool there = next.get () == (self->exchanging ? self->wanted : self->drafter).get ();
  GST_OBJECT_UNLOCK (self);
  if (there)
    return;
  if (next) {
    gst_element_set_locked_state (next.get (), FALSE); // it may have been one before
    // It opens its model here, while the loop runs on, and is ready when it is linked.
    if (!gst_bin_add (GST_BIN (self), next.get ()) || !gst_element_sync_state_with_parent (next.get ())) {
      GST_ELEMENT_WARNING (self, RESOURCE, FAILED, ("%s does not start.", GST_OBJECT_NAME (next.get ())),
                           ("the drafter stays what it was"));
      discard (self, next);
      return;
    }
  }
  GST_OBJECT_LOCK (self);
  const Ref<GstElement> overtaken = std::exchange (self->wanted, next);
  const bool awaited = std::exchange (self->exchanging, true);
  GST_OBJECT_UNLOCK (self);
  if (awaited) {
    discard (self, overtaken);
    return;
  }

  // An idle probe would not do while the loop runs: GStreamer 1.22 takes a pad for idle that is about to push, and what
  // is linked then gets data before its stream-start.
  auto pad = Ref<GstPad>::adopt (gst_element_get_static_pad (self->prefill, "src"));
  const auto when = static_cast<GstPadProbeType> (gst_pad_is_active (pad.get ())
                                                      ? GST_PAD_PROBE_TYPE_BLOCK | GST_PAD_PROBE_TYPE_BUFFER
                                                      : GST_PAD_PROBE_TYPE_IDLE);
  const gulong probe = gst_pad_add_probe (
      pad.get (), when,
      [] (GstPad *, GstPadProbeInfo *, gpointer data) {
        exchange (static_cast<LlmBin *> (data));
        return GST_PAD_PROBE_REMOVE;
      },
      self, nullptr);
  GST_OBJECT_LOCK (self);
  self->probe = probe;
  GST_OBJECT_UNLOCK (self);
}

// A drafter that starts before it is linked has no neighbours to ask for the model.
static void
llm_bin_handle_message (GstBin *bin, GstMessage *message)
{
  auto *self = reinterpret_cast<LlmBin *> (bin);
  const char *type = nullptr;
  if (GST_MESSAGE_TYPE (message) == GST_MESSAGE_NEED_CONTEXT &&
      GST_MESSAGE_SRC (message) != GST_OBJECT (self->tokenizer) &&
      gst_message_parse_context_type (message, &type) && g_strcmp0 (type, MILLRACE_MODEL_CONTEXT) == 0) {
    auto query = Ref<GstQuery>::adopt (gst_query_new_context (type));
    auto pad = Ref<GstPad>::adopt (gst_element_get_static_pad (self->tokenizer, "sink"));
    GstContext *context = nullptr;
    if (gst_pad_query (pad.get (), query.get ()))
      gst_query_parse_context (query.get (), &context);
    if (context) {
      gst_element_set_context (GST_ELEMENT (GST_MESSAGE_SRC (message)), context);
      gst_message_unref (message);
      return;
    }
  }
  GST_BIN_CLASS (llm_bin_parent_class)->handle_message (bin, message);
}

// --- properties ---------------------------------------------------------------------------------

// The tokenizer owns the model: its properties are the bin's.
static void
llm_bin_set_property (GObject *object, guint id, const GValue *value, GParamSpec *spec)
{
  auto *self = reinterpret_cast<LlmBin *> (object);
  if (id == PROP_DRAFTER)
    set_drafter (self, static_cast<GstElement *> (g_value_dup_object (value)));
  else
    g_object_set_property (G_OBJECT (self->tokenizer), spec->name, value);
}

static void
llm_bin_get_property (GObject *object, guint id, GValue *value, GParamSpec *spec)
{
  auto *self = reinterpret_cast<LlmBin *> (object);
  if (id != PROP_DRAFTER) {
    g_object_get_property (G_OBJECT (self->tokenizer), spec->name, value);
    return;
  }
  GST_OBJECT_LOCK (self);
  const Ref<GstElement> drafter = self->exchanging ? self->wanted : self->drafter;
  GST_OBJECT_UNLOCK (self);
  g_value_set_object (value, drafter.get ());
}

static void
llm_bin_dispose (GObject *object)
{
  auto *self = reinterpret_cast<LlmBin *> (object);
  // It does not hold the bin, which would never end otherwise, so it must not outlive it.
  if (self->exchanging && self->probe != 0) {
    auto pad = Ref<GstPad>::adopt (gst_element_get_static_pad (self->prefill, "src"));
    gst_pad_remove_probe (pad.get (), std::exchange (self->probe, 0));
  }
  self->drafter = self->wanted = nullptr;
  self->exchanging = false;
  G_OBJECT_CLASS (llm_bin_parent_class)->dispose (object);
}

static void
llm_bin_finalize (GObject *object)
{
  auto *self = reinterpret_cast<LlmBin *> (object);
  std::destroy_at (&self->drafter);
  std::destroy_at (&self->wanted);
  std::destroy_at (&self->turns);
  G_OBJECT_CLASS (llm_bin_parent_class)->finalize (object);
}

static void
llm_bin_init (LlmBin *self)
{
  static constexpr struct {
    const char *name;
    GType (*type) ();
  } kChildren[] = {{"prompt", llm_prompt_get_type},         {"tokenizer", llm_tokenizer_get_type},
                   {"scheduler", llm_scheduler_get_type},   {"prefill", llm_prefill_get_type},
                   {"drafter", llm_ngram_drafter_get_type}, {"verifier", llm_verifier_get_type},
                   {"sampler", llm_sampler_get_type},       {"detokenizer", llm_detokenizer_get_type}};

  std::construct_at (&self->drafter);
  std::construct_at (&self->wanted);
  std::construct_at (&self->turns);
  GstElement *first = nullptr, *last = nullptr;
  for (const auto &[name, type] : kChildren) {
    auto *child = GST_ELEMENT (g_object_new (type (), "name", name, nullptr));
    gst_bin_add (GST_BIN (self), child);
    if (last && !gst_element_link (last, child))
      GST_ERROR_OBJECT (self, "cannot link %s to %s", GST_OBJECT_NAME (last), name);
    if (type == llm_tokenizer_get_type)
      self->tokenizer = child;
    else if (type == llm_prefill_get_type)
      self->prefill = child;
    else if (type == llm_ngram_drafter_get_type)
      self->drafter = Ref<GstElement>::share (child);
    else if (type == llm_verifier_get_type)
      self->verifier = child;
    first = first ? first : child;
    last = child;
  }
  const auto expose = [self] (GstElement *child, const char *name) {
    GstPad *pad = gst_element_get_static_pad (child, name);
    GstPadTemplate *templ = gst_element_class_get_pad_template (GST_ELEMENT_GET_CLASS (self), name);
    gst_element_add_pad (GST_ELEMENT (self), gst_ghost_pad_new_from_template (name, pad, templ));
    gst_object_unref (pad);
  };
  expose (first, "sink");
  expose (last, "src");
}

static GstStaticPadTemplate sink_template = GST_STATIC_PAD_TEMPLATE (
    "sink", GST_PAD_SINK, GST_PAD_ALWAYS,
    GST_STATIC_CAPS ("text/x-raw, format=(string){ utf8, pango-markup }; application/json"));
static GstStaticPadTemplate src_template = GST_STATIC_PAD_TEMPLATE (
    "src", GST_PAD_SRC, GST_PAD_ALWAYS, GST_STATIC_CAPS ("text/x-raw, format=(string)utf8"));

static void
llm_bin_class_init (LlmBinClass *klass)
{
  GST_DEBUG_CATEGORY_INIT (llm_bin_debug, "llmbin", 0, "Millrace generator bin");
  GObjectClass *object_class = G_OBJECT_CLASS (klass);
  GstElementClass *element_class = GST_ELEMENT_CLASS (klass);
  object_class->set_property = llm_bin_set_property;
  object_class->get_property = llm_bin_get_property;
  object_class->dispose = llm_bin_dispose;
  GST_BIN_CLASS (klass)->handle_message = llm_bin_handle_message;
  object_class->finalize = llm_bin_finalize;
  const auto flags =
      static_cast<GParamFlags> (G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS | GST_PARAM_MUTABLE_READY);
  g_object_class_install_property (
      object_class, PROP_DRAFTER,
      g_param_spec_object (
          "drafter", "Drafter",
          "What guesses tokens ahead: a drafter, a bin of several in series, or nothing. May be set in any "
          "state; "
          "requests that run go on, and their text stays the same. What was there is stopped and let go. "
          "Default: an "
          "llmngramdrafter",
          GST_TYPE_ELEMENT,
          static_cast<GParamFlags> (G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS | GST_PARAM_MUTABLE_PLAYING)));
  g_object_class_install_property (
      object_class, PROP_MODEL,
      g_param_spec_string ("model", "Model",
                           "GGUF file, or folder with config.json, safetensors and tokenizer.json, or a "
                           "name in $MILLRACE_MODEL_PATH; unset: the embedded demo model",
                           nullptr, flags));
  g_object_class_install_property (object_class, PROP_WEIGHTS,
                                   g_param_spec_enum ("weights", "Weights",
                                                      "How the model's matrices are held",
                                                      MILLRACE_TYPE_WEIGHTS, MILLRACE_WEIGHTS_AUTO, flags));
  g_object_class_install_property (object_class, PROP_THREADS,
                                   g_param_spec_uint ("threads", "Threads",
                                                      "Threads of computation; 0: the usable cores", 0, 1024,
                                                      0, flags));
  g_object_class_install_property (
      object_class, PROP_WEIGHT_CACHE,
      g_param_spec_string ("weight-cache", "Weight cache",
                           "Folder where packed weights are kept, so that the next start maps them; "
                           "\"model\": the model's own folder; unset: none are kept",
                           nullptr, flags));
  g_object_class_install_property (
      object_class, PROP_LOCK_MEMORY,
      g_param_spec_boolean ("lock-memory", "Lock memory",
                            "Keep the weights in RAM; an error when RLIMIT_MEMLOCK does not allow it", FALSE,
                            flags));
  gst_element_class_add_static_pad_template (element_class, &sink_template);
  gst_element_class_add_static_pad_template (element_class, &src_template);
  gst_element_class_set_static_metadata (element_class, "LLM generator", "Filter/LLM/Bin",
                                         "Generates text from text with a language model",
                                         "The Millrace authors");
}
