/**
 * SECTION:element-llmbin
 * @title: llmbin
 *
 * The whole generator in one element: text or JSON Lines in, text or JSON Lines out.
 *
 * Its children are ordinary elements, named prompt, tokenizer, scheduler, prefill, drafter, verifier, sampler
 * and detokenizer, and their properties are set through it: `llmbin scheduler::max-batch=16`.
 *
 * ## Example launch line
 * |[
 * echo "def fibonacci(n):" | gst-launch-1.0 -q fdsrc ! llmbin prompt::max-tokens=64 ! fdsink
 * ]| Completes a line of code.
 *
 * Since: 0.1
 */

#include "elements/elements.hpp"

#include "library/model_context.hpp"

struct LlmBin {
  GstBin parent;
  GstElement *tokenizer; // owned by the bin
};

struct LlmBinClass {
  GstBinClass parent;
};

G_DEFINE_TYPE (LlmBin, llm_bin, GST_TYPE_BIN)

enum { PROP_0, PROP_MODEL, PROP_WEIGHTS, PROP_THREADS, PROP_WEIGHT_CACHE, PROP_LOCK_MEMORY };

// The tokenizer owns the model: its properties are the bin's.
static void
llm_bin_set_property (GObject *object, guint, const GValue *value, GParamSpec *spec)
{
  g_object_set_property (G_OBJECT (reinterpret_cast<LlmBin *> (object)->tokenizer), spec->name, value);
}

static void
llm_bin_get_property (GObject *object, guint, GValue *value, GParamSpec *spec)
{
  g_object_get_property (G_OBJECT (reinterpret_cast<LlmBin *> (object)->tokenizer), spec->name, value);
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

  GstElement *first = nullptr, *last = nullptr;
  for (const auto &[name, type] : kChildren) {
    auto *child = GST_ELEMENT (g_object_new (type (), "name", name, nullptr));
    gst_bin_add (GST_BIN (self), child);
    if (last && !gst_element_link (last, child))
      GST_ERROR_OBJECT (self, "cannot link %s to %s", GST_OBJECT_NAME (last), name);
    if (type == llm_tokenizer_get_type)
      self->tokenizer = child;
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
  GObjectClass *object_class = G_OBJECT_CLASS (klass);
  GstElementClass *element_class = GST_ELEMENT_CLASS (klass);
  object_class->set_property = llm_bin_set_property;
  object_class->get_property = llm_bin_get_property;
  const auto flags =
      static_cast<GParamFlags> (G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS | GST_PARAM_MUTABLE_READY);
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
