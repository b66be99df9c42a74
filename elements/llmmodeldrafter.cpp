/**
 * SECTION:element-llmmodeldrafter
 * @title: llmmodeldrafter
 *
 * Guesses the next tokens by running a smaller model with the same vocabulary.
 *
 * All requests of a step share its passes. It computes a request's prompt when it first drafts for it, in shares that do
 * not hold up the others, and rests where its guesses are not worth the time they take. Behind another
 * drafter it guesses what that one has no good idea of, or goes on where that one ends. As with every drafter the output
 * never changes.
 *
 * Its passes run between those of the target model, on the same threads. A draft model whose vocabulary is not
 * the target's is refused when caps arrive.
 *
 * ## Example launch line
 * |[
 * echo "def fibonacci(n):" | gst-launch-1.0 -q fdsrc ! llmprompt max-tokens=32 ! llmtokenizer ! llmscheduler ! llmprefill ! llmmodeldrafter draft-model=demo-draft ! llmverifier ! llmsampler ! llmdetokenizer ! fdsink
 * ]| Drafts with the draft model that comes with the demo model.
 *
 * Since: 0.1
 */

#include "elements/elements.hpp"

#include "elements/drafter_element.hpp"
#include "engine/drafting/model_drafter.hpp"
#include "library/model.hpp"

#include <memory>
#include <string>

struct LlmModelDrafter {
  LlmDrafter parent;
  // OBJECT_LOCK
  std::string path;
  MillraceWeights weights;
  guint64 kv_memory;

  millrace::Ref<MillraceModel> model; // from NULL → READY to READY → NULL
};

struct LlmModelDrafterClass {
  LlmDrafterClass parent;
};

G_DEFINE_TYPE (LlmModelDrafter, llm_model_drafter, LLM_TYPE_DRAFTER)

enum { PROP_DRAFT_MODEL = LLM_DRAFTER_PROP_LAST, PROP_DRAFT_WEIGHTS, PROP_KV_MEMORY };

static LlmModelDrafter *
drafter_cast (gpointer object)
{
  return reinterpret_cast<LlmModelDrafter *> (object);
}

/// The draft model that comes with the target, if one does.
static std::string
embedded_draft_model (const millrace::Model &target)
{
  g_autofree char *demo = millrace_find_model ("demo");
  g_autofree char *draft = millrace_find_model ("demo-draft");
  std::error_code error;
  return std::filesystem::equivalent (target.directory, demo, error) ? draft : "";
}

static bool
open_draft_model (LlmModelDrafter *self)
{
  const auto target = millrace::element_model (LLM_ELEMENT (self));
  g_autofree char *weight_cache = nullptr;
  gboolean lock_memory = FALSE;
  g_object_get (self, "weight-cache", &weight_cache, "lock-memory", &lock_memory, nullptr);
  GST_OBJECT_LOCK (self);
  std::string path = self->path;
  millrace::ModelOptions options;
  options.weights = static_cast<millrace::WeightFormat> (self->weights);
  GST_OBJECT_UNLOCK (self);
  options.cpu.share = target->compiled->thread_pool ();
  options.weight_cache = weight_cache ? weight_cache : "";
  options.lock_memory = lock_memory != FALSE;

  if (path.empty ())
    path = embedded_draft_model (*target);
  if (path.empty ()) {
    GST_ELEMENT_ERROR (self, RESOURCE, SETTINGS,
                       ("%s needs a draft model for %s.", GST_OBJECT_NAME (self), target->directory.c_str ()),
                       ("set draft-model to a smaller model with the same tokenizer"));
    return false;
  }
  GError *error = nullptr;
  self->model = millrace::Ref<MillraceModel>::adopt (millrace::open_model (path, options, &error));
  if (!self->model) {
    GST_ELEMENT_ERROR (self, RESOURCE, NOT_FOUND, ("%s", error->message), ("draft-model=%s", path.c_str ()));
    g_clear_error (&error);
    return false;
  }
  const std::string warning = millrace::engine_model (self->model.get ())->compiled->load_warning ();
  if (!warning.empty ())
    GST_ELEMENT_WARNING (self, RESOURCE, WRITE, ("%s", warning.c_str ()), ("draft-model=%s", path.c_str ()));
  return true;
}

static std::unique_ptr<millrace::Drafter>
llm_model_drafter_create (LlmDrafter *drafter, const millrace::DrafterSettings &settings)
{
  auto *self = drafter_cast (drafter);
  GST_OBJECT_LOCK (self);
  const size_t kv_memory = self->kv_memory;
  GST_OBJECT_UNLOCK (self);
  return std::make_unique<millrace::ModelDrafter> (
      millrace::engine_model (self->model.get ()),
      millrace::ModelDrafterSettings{
          .max_draft = settings.max_draft, .gate = settings.gate, .kv_bytes = kv_memory});
}

static bool
llm_model_drafter_accept (LlmStage *stage, const char *vocab)
{
  auto *self = drafter_cast (stage);
  const char *ours = millrace_model_get_vocabulary_digest (self->model.get ());
  if (!vocab || g_strcmp0 (vocab, ours) == 0)
    return true;
  const auto target = millrace::element_model (LLM_ELEMENT (self));
  GST_ELEMENT_ERROR (
      self, STREAM, WRONG_TYPE,
      ("The draft model %s does not have the vocabulary of %s.", millrace_model_get_path (self->model.get ()),
       target->directory.c_str ()),
      ("caps say vocab=%s, the draft model has %s: set draft-model to a smaller model with the "
       "same tokenizer, or leave %s out",
       vocab, ours, GST_OBJECT_NAME (self)));
  return false;
}

static GstStateChangeReturn
llm_model_drafter_change_state (GstElement *element, GstStateChange transition)
{
  auto *self = drafter_cast (element);
  const auto change = GST_ELEMENT_CLASS (llm_model_drafter_parent_class)->change_state;
  const auto result = change (element, transition);
  if (transition == GST_STATE_CHANGE_NULL_TO_READY && result != GST_STATE_CHANGE_FAILURE &&
      !open_draft_model (self)) {
    change (element, GST_STATE_CHANGE_READY_TO_NULL);
    return GST_STATE_CHANGE_FAILURE;
  }
  if (transition == GST_STATE_CHANGE_READY_TO_NULL)
    self->model = nullptr;
  return result;
}

static void
llm_model_drafter_set_property (GObject *object, guint id, const GValue *value, GParamSpec *spec)
{
  if (id < LLM_DRAFTER_PROP_LAST) {
    G_OBJECT_CLASS (llm_model_drafter_parent_class)->set_property (object, id, value, spec);
    return;
  }
  auto *self = drafter_cast (object);
  GST_OBJECT_LOCK (self);
  switch (id) {
  case PROP_DRAFT_MODEL: {
    const char *path = g_value_get_string (value);
    self->path = path ? path : "";
    break;
  }
  case PROP_DRAFT_WEIGHTS:
    self->weights = static_cast<MillraceWeights> (g_value_get_enum (value));
    break;
  case PROP_KV_MEMORY:
    self->kv_memory = g_value_get_uint64 (value);
    break;
  default:
    G_OBJECT_WARN_INVALID_PROPERTY_ID (object, id, spec);
  }
  GST_OBJECT_UNLOCK (self);
}

static void
llm_model_drafter_get_property (GObject *object, guint id, GValue *value, GParamSpec *spec)
{
  if (id < LLM_DRAFTER_PROP_LAST) {
    G_OBJECT_CLASS (llm_model_drafter_parent_class)->get_property (object, id, value, spec);
    return;
  }
  auto *self = drafter_cast (object);
  GST_OBJECT_LOCK (self);
  switch (id) {
  case PROP_DRAFT_MODEL:
    g_value_set_string (value, self->path.empty () ? nullptr : self->path.c_str ());
    break;
  case PROP_DRAFT_WEIGHTS:
    g_value_set_enum (value, self->weights);
    break;
  case PROP_KV_MEMORY:
    g_value_set_uint64 (value, self->kv_memory);
    break;
  default:
    G_OBJECT_WARN_INVALID_PROPERTY_ID (object, id, spec);
  }
  GST_OBJECT_UNLOCK (self);
}

static void
llm_model_drafter_finalize (GObject *object)
{
  auto *self = drafter_cast (object);
  std::destroy_at (&self->model);
  std::destroy_at (&self->path);
  G_OBJECT_CLASS (llm_model_drafter_parent_class)->finalize (object);
}

static void
llm_model_drafter_init (LlmModelDrafter *self)
{
  std::construct_at (&self->path);
  std::construct_at (&self->model);
  self->weights = MILLRACE_WEIGHTS_AUTO;
}

static void
llm_model_drafter_class_init (LlmModelDrafterClass *klass)
{
  GObjectClass *object_class = G_OBJECT_CLASS (klass);
  object_class->set_property = llm_model_drafter_set_property;
  object_class->get_property = llm_model_drafter_get_property;
  object_class->finalize = llm_model_drafter_finalize;
  GST_ELEMENT_CLASS (klass)->change_state = llm_model_drafter_change_state;
  const auto flags =
      static_cast<GParamFlags> (G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS | GST_PARAM_MUTABLE_READY);
  g_object_class_install_property (
      object_class, PROP_DRAFT_MODEL,
      g_param_spec_string (
          "draft-model", "Draft model",
          "The smaller model, named like model. It must have the tokenizer of the target; unset: "
          "the embedded one, for the embedded demo model only",
          nullptr, flags));
  g_object_class_install_property (object_class, PROP_DRAFT_WEIGHTS,
                                   g_param_spec_enum ("draft-weights", "Draft weights",
                                                      "How the matrices of the draft model are held",
                                                      MILLRACE_TYPE_WEIGHTS, MILLRACE_WEIGHTS_AUTO, flags));
  g_object_class_install_property (
      object_class, PROP_KV_MEMORY,
      g_param_spec_uint64 (
          "kv-memory", "KV memory",
          "Bytes of the draft model's KV cache; 0: a sixteenth of the memory that machine and "
          "control groups leave at start, at most what 32 requests can use",
          0, G_MAXUINT64, 0, flags));
  reinterpret_cast<LlmStageClass *> (klass)->accept = llm_model_drafter_accept;
  reinterpret_cast<LlmDrafterClass *> (klass)->create_drafter = llm_model_drafter_create;
  gst_element_class_set_static_metadata (GST_ELEMENT_CLASS (klass), "LLM model drafter", "Filter/LLM",
                                         "Guesses next tokens with a smaller model", "The Millrace authors");
}
