#include "library/element.hpp"

#include "library/model.hpp"

struct LlmElementPrivate {
  millrace::ModelHolder holder;
};

G_DEFINE_ABSTRACT_TYPE_WITH_PRIVATE (LlmElement, llm_element, GST_TYPE_ELEMENT)

enum { PROP_0, PROP_MODEL, PROP_WEIGHTS, PROP_THREADS, PROP_WEIGHT_CACHE, PROP_LOCK_MEMORY };

static millrace::ModelHolder &
holder_of (LlmElement *self)
{
  return static_cast<LlmElementPrivate *> (llm_element_get_instance_private (self))->holder;
}

static void
llm_element_set_property (GObject *object, guint id, const GValue *value, GParamSpec *spec)
{
  auto &holder = holder_of (LLM_ELEMENT (object));
  GST_OBJECT_LOCK (object);
  switch (id) {
  case PROP_MODEL: {
    const char *path = g_value_get_string (value);
    holder.path = path ? path : "";
    break;
  }
  case PROP_WEIGHTS:
    holder.weights = static_cast<MillraceWeights> (g_value_get_enum (value));
    break;
  case PROP_THREADS:
    holder.threads = g_value_get_uint (value);
    break;
  case PROP_WEIGHT_CACHE: {
    const char *folder = g_value_get_string (value);
    holder.weight_cache = folder ? folder : "";
    break;
  }
  case PROP_LOCK_MEMORY:
    holder.lock_memory = g_value_get_boolean (value);
    break;
  default:
    G_OBJECT_WARN_INVALID_PROPERTY_ID (object, id, spec);
  }
  GST_OBJECT_UNLOCK (object);
}

static void
llm_element_get_property (GObject *object, guint id, GValue *value, GParamSpec *spec)
{
  auto &holder = holder_of (LLM_ELEMENT (object));
  GST_OBJECT_LOCK (object);
  switch (id) {
  case PROP_MODEL:
    g_value_set_string (value, holder.path.empty () ? nullptr : holder.path.c_str ());
    break;
  case PROP_WEIGHTS:
    g_value_set_enum (value, holder.weights);
    break;
  case PROP_THREADS:
    g_value_set_uint (value, holder.threads);
    break;
  case PROP_WEIGHT_CACHE:
    g_value_set_string (value, holder.weight_cache.empty () ? nullptr : holder.weight_cache.c_str ());
    break;
  case PROP_LOCK_MEMORY:
    g_value_set_boolean (value, holder.lock_memory);
    break;
  default:
    G_OBJECT_WARN_INVALID_PROPERTY_ID (object, id, spec);
  }
  GST_OBJECT_UNLOCK (object);
}

static void
llm_element_set_context (GstElement *element, GstContext *context)
{
  // GstElement keeps what it is given until it is finalized; a model is big, and an element that has stopped
  // must let go of it. On the next start the bin, which keeps contexts too, answers need-context.
  if (context && gst_context_has_context_type (context, MILLRACE_MODEL_CONTEXT))
    millrace::handle_set_context (holder_of (LLM_ELEMENT (element)), context);
  else
    GST_ELEMENT_CLASS (llm_element_parent_class)->set_context (element, context);
}

static GstStateChangeReturn
llm_element_change_state (GstElement *element, GstStateChange transition)
{
  auto *self = LLM_ELEMENT (element);
  if (transition == GST_STATE_CHANGE_NULL_TO_READY && !millrace::ensure_model (element, holder_of (self)))
    return GST_STATE_CHANGE_FAILURE;
  const auto result = GST_ELEMENT_CLASS (llm_element_parent_class)->change_state (element, transition);
  if (transition == GST_STATE_CHANGE_READY_TO_NULL)
    millrace::drop_model (holder_of (self));
  return result;
}

// The element's name is its type's in lower case.
static void
llm_element_constructed (GObject *object)
{
  auto *klass = LLM_ELEMENT_GET_CLASS (object);
  if (g_once_init_enter (&klass->category)) {
    g_autofree char *name = g_ascii_strdown (G_OBJECT_TYPE_NAME (object), -1);
    // A category of that name that is there already is the one.
    g_once_init_leave (&klass->category, _gst_debug_category_new (name, 0, "Millrace element"));
  }
  G_OBJECT_CLASS (llm_element_parent_class)->constructed (object);
}

static void
llm_element_finalize (GObject *object)
{
  std::destroy_at (
      static_cast<LlmElementPrivate *> (llm_element_get_instance_private (LLM_ELEMENT (object))));
  G_OBJECT_CLASS (llm_element_parent_class)->finalize (object);
}

static void
llm_element_init (LlmElement *self)
{
  std::construct_at (static_cast<LlmElementPrivate *> (llm_element_get_instance_private (self)));
}

static void
llm_element_class_init (LlmElementClass *klass)
{
  GObjectClass *object_class = G_OBJECT_CLASS (klass);
  GstElementClass *element_class = GST_ELEMENT_CLASS (klass);
  object_class->set_property = llm_element_set_property;
  object_class->get_property = llm_element_get_property;
  object_class->constructed = llm_element_constructed;
  object_class->finalize = llm_element_finalize;
  element_class->set_context = llm_element_set_context;
  element_class->change_state = llm_element_change_state;

  const auto flags =
      static_cast<GParamFlags> (G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS | GST_PARAM_MUTABLE_READY);
  g_object_class_install_property (
      object_class, PROP_MODEL,
      g_param_spec_string (
          "model", "Model",
          "GGUF file, or folder with config.json, safetensors and tokenizer.json, or a name in "
          "$MILLRACE_MODEL_PATH. One element of a pipeline is enough; unset: asks the others, then "
          "takes the embedded demo model",
          nullptr, flags));
  g_object_class_install_property (
      object_class, PROP_WEIGHTS,
      g_param_spec_enum ("weights", "Weights", "How this element holds the matrices of the model it opens",
                         MILLRACE_TYPE_WEIGHTS, MILLRACE_WEIGHTS_AUTO, flags));
  g_object_class_install_property (
      object_class, PROP_THREADS,
      g_param_spec_uint ("threads", "Threads",
                         "Threads of computation for the model this element opens; 0: the usable cores", 0,
                         1024, 0, flags));
  g_object_class_install_property (
      object_class, PROP_WEIGHT_CACHE,
      g_param_spec_string (
          "weight-cache", "Weight cache",
          "Folder where the packed weights of the model this element opens are kept, so that "
          "the next start maps them; \"model\": the model's own folder; unset: none are kept",
          nullptr, flags));
  g_object_class_install_property (
      object_class, PROP_LOCK_MEMORY,
      g_param_spec_boolean ("lock-memory", "Lock memory",
                            "Keep the weights of the model this element opens in RAM; an error when "
                            "RLIMIT_MEMLOCK does not allow it",
                            FALSE, flags));
  gst_type_mark_as_plugin_api (MILLRACE_TYPE_WEIGHTS, static_cast<GstPluginAPIFlags> (0));
  gst_type_mark_as_plugin_api (LLM_TYPE_ELEMENT, static_cast<GstPluginAPIFlags> (0));
}

namespace millrace
{

std::shared_ptr<const Model>
element_model (LlmElement *element)
{
  auto model = current_model (holder_of (element));
  return model ? engine_model (model.get ()) : nullptr;
}

std::string
vocabulary_digest (LlmElement *element)
{
  auto model = current_model (holder_of (element));
  return model ? millrace_model_get_vocabulary_digest (model.get ()) : "";
}

gboolean
llm_element_query (GstPad *pad, GstObject *parent, GstQuery *query)
{
  if (handle_context_query (GST_ELEMENT (parent), holder_of (LLM_ELEMENT (parent)), query))
    return TRUE;
  return gst_pad_query_default (pad, parent, query);
}

GstCaps *
caps_with_vocabulary (const char *base, const std::string &vocab)
{
  GstCaps *caps = gst_caps_from_string (base);
  if (!vocab.empty ())
    gst_caps_set_simple (caps, "vocab", G_TYPE_STRING, vocab.c_str (), nullptr);
  return caps;
}

GstEvent *
with_seqnum (GstEvent *event, guint32 seqnum)
{
  if (seqnum != GST_SEQNUM_INVALID)
    gst_event_set_seqnum (event, seqnum);
  return event;
}

GstEvent *
time_segment_event (guint32 seqnum)
{
  GstSegment segment;
  gst_segment_init (&segment, GST_FORMAT_TIME);
  return with_seqnum (gst_event_new_segment (&segment), seqnum);
}

bool
check_vocabulary (LlmElement *element, GstCaps *caps)
{
  const char *theirs = gst_structure_get_string (gst_caps_get_structure (caps, 0), "vocab");
  const std::string ours = vocabulary_digest (element);
  if (!theirs || ours.empty () || ours == theirs)
    return true;
  GST_ELEMENT_ERROR (
      element, STREAM, WRONG_TYPE,
      ("Token ids of another vocabulary arrive at %s.", GST_OBJECT_NAME (element)),
      ("caps say vocab=%s, this element's model has %s: name the same model on both", theirs, ours.c_str ()));
  return false;
}

} // namespace millrace
