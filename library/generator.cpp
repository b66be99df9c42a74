// MillraceGenerator: an engine of any number of models, each run by a pipeline of its own.
//
// Signals and the list's changes come in the main context that was the thread's default when the generator was made; the
// asynchronous functions are for that thread. Starting and stopping pipelines is left to other threads.

#include "library/generator.hpp"

#include "library/variant.hpp"

#include <millrace/millrace-error.h>

#include <memory>
#include <mutex>

/**
 * MillraceGenerator:
 *
 * An engine: a list of models, each run by a pipeline of its own, and what is generated with them.
 *
 * Models are added and removed while others run. Signals and changes of the list come in the main context that was the
 * thread's default when the generator was made; the functions about models are for that thread, those about requests for
 * any. Dropping the last reference stops the pipelines once their streams are gone too.
 */
struct _MillraceGenerator {
  GObject parent;
  millrace::GeneratorState state;
};

static void millrace_generator_list_init (GListModelInterface *interface);
G_DEFINE_FINAL_TYPE_WITH_CODE (MillraceGenerator, millrace_generator, G_TYPE_OBJECT,
                               G_IMPLEMENT_INTERFACE (G_TYPE_LIST_MODEL, millrace_generator_list_init))

enum { PROP_0, PROP_STATE, PROP_COUNT };
enum { SIGNAL_MODEL_LOADED, SIGNAL_MODEL_UNLOADED, SIGNAL_ERROR, SIGNAL_LAST };
static GParamSpec *properties[PROP_COUNT];
static guint signals[SIGNAL_LAST];

namespace millrace
{

GeneratorState &
generator_state (MillraceGenerator *generator)
{
  return generator->state;
}

void
notify_state (MillraceGenerator *generator)
{
  g_object_notify_by_pspec (G_OBJECT (generator), properties[PROP_STATE]);
}

void
emit_loaded (MillraceGenerator *generator, MillraceModel *model)
{
  g_signal_emit (generator, signals[SIGNAL_MODEL_LOADED], 0, model);
}

void
emit_unloaded (MillraceGenerator *generator, MillraceModel *model)
{
  g_signal_emit (generator, signals[SIGNAL_MODEL_UNLOADED], 0, model);
}

void
emit_error (MillraceGenerator *generator, MillraceModel *model, const GError *error)
{
  g_signal_emit (generator, signals[SIGNAL_ERROR], 0, model, error);
}

} // namespace millrace

GType
millrace_generator_state_get_type (void)
{
  static const GEnumValue values[] = {
      {MILLRACE_GENERATOR_STATE_EMPTY, "MILLRACE_GENERATOR_STATE_EMPTY", "empty"},
      {MILLRACE_GENERATOR_STATE_LOADING, "MILLRACE_GENERATOR_STATE_LOADING", "loading"},
      {MILLRACE_GENERATOR_STATE_READY, "MILLRACE_GENERATOR_STATE_READY", "ready"},
      {MILLRACE_GENERATOR_STATE_CLOSED, "MILLRACE_GENERATOR_STATE_CLOSED", "closed"},
      {0, nullptr, nullptr}};
  static const GType type = g_enum_register_static ("MillraceGeneratorState", values);
  return type;
}

// --- the list -----------------------------------------------------------------------------------

static GType
millrace_generator_get_item_type (GListModel *)
{
  return MILLRACE_TYPE_MODEL;
}

static guint
millrace_generator_get_n_items (GListModel *list)
{
  auto &state = MILLRACE_GENERATOR (list)->state;
  std::lock_guard lock (state.mutex);
  return static_cast<guint> (state.pipelines.size ());
}

static gpointer
millrace_generator_get_item (GListModel *list, guint position)
{
  auto &state = MILLRACE_GENERATOR (list)->state;
  std::lock_guard lock (state.mutex);
  return position < state.pipelines.size () ? g_object_ref (state.pipelines[position]->model ()) : nullptr;
}

static void
millrace_generator_list_init (GListModelInterface *interface)
{
  interface->get_item_type = millrace_generator_get_item_type;
  interface->get_n_items = millrace_generator_get_n_items;
  interface->get_item = millrace_generator_get_item;
}

// --- looking ------------------------------------------------------------------------------------

namespace millrace
{

std::shared_ptr<ModelPipeline>
find_pipeline (MillraceGenerator *self, const char *name, GError **error)
{
  std::lock_guard lock (self->state.mutex);
  for (const auto &pipeline : self->state.pipelines) {
    if (!name || !*name || g_strcmp0 (name, millrace_model_get_name (pipeline->model ())) == 0)
      return pipeline;
  }
  if (self->state.closed)
    g_set_error_literal (error, MILLRACE_ERROR, MILLRACE_ERROR_CLOSED, "the generator has been closed");
  else if (name && *name)
    g_set_error (error, MILLRACE_ERROR, MILLRACE_ERROR_NO_MODEL, "the generator has no model named %s", name);
  else
    g_set_error_literal (error, MILLRACE_ERROR, MILLRACE_ERROR_NO_MODEL, "the generator has no model");
  return nullptr;
}

} // namespace millrace

/**
 * millrace_generator_get_model:
 * @name: (nullable): the model's name, %NULL for the first
 *
 * Returns: (transfer full) (nullable): the model, %NULL when there is none of that name
 */
MillraceModel *
millrace_generator_get_model (MillraceGenerator *self, const char *name)
{
  g_return_val_if_fail (MILLRACE_IS_GENERATOR (self), nullptr);
  const auto pipeline = millrace::find_pipeline (self, name, nullptr);
  return pipeline ? MILLRACE_MODEL (g_object_ref (pipeline->model ())) : nullptr;
}

/**
 * millrace_generator_get_pipeline:
 * @model: (nullable): the model's name, %NULL for the first
 *
 * The pipeline that runs a model: `appsrc name=source ! llmbin name=llm ! queue name=output ! fakesink name=sink`. Its
 * elements may be looked at, tapped, and their properties set; its bus and its state are the generator's.
 *
 * Returns: (transfer full) (nullable): the pipeline, %NULL when there is no such model
 */
GstElement *
millrace_generator_get_pipeline (MillraceGenerator *self, const char *model)
{
  g_return_val_if_fail (MILLRACE_IS_GENERATOR (self), nullptr);
  const auto pipeline = millrace::find_pipeline (self, model, nullptr);
  return pipeline ? GST_ELEMENT (gst_object_ref (pipeline->pipeline ())) : nullptr;
}

/**
 * millrace_generator_get_state:
 *
 * Returns: what it does
 */
MillraceGeneratorState
millrace_generator_get_state (MillraceGenerator *self)
{
  g_return_val_if_fail (MILLRACE_IS_GENERATOR (self), MILLRACE_GENERATOR_STATE_CLOSED);
  std::lock_guard lock (self->state.mutex);
  return self->state.closed               ? MILLRACE_GENERATOR_STATE_CLOSED
         : !self->state.starting.empty () ? MILLRACE_GENERATOR_STATE_LOADING
         : self->state.pipelines.empty () ? MILLRACE_GENERATOR_STATE_EMPTY
                                          : MILLRACE_GENERATOR_STATE_READY;
}

/**
 * millrace_generator_get_statistics:
 * @model: (nullable): the model's name, %NULL for the first
 *
 * What llmscheduler's property `stats` says: totals since the start, what runs and waits, the KV cache, the last step.
 *
 * Returns: (transfer full) (nullable): a dictionary, `a{sv}`; %NULL when there is no such model
 */
GVariant *
millrace_generator_get_statistics (MillraceGenerator *self, const char *model)
{
  g_return_val_if_fail (MILLRACE_IS_GENERATOR (self), nullptr);
  const auto pipeline = millrace::find_pipeline (self, model, nullptr);
  if (!pipeline)
    return nullptr;
  GstStructure *stats = pipeline->statistics ();
  GVariant *variant = g_variant_ref_sink (millrace::variant_of (stats));
  if (stats)
    gst_structure_free (stats);
  return variant;
}

// --- the object ---------------------------------------------------------------------------------

static void
millrace_generator_get_property (GObject *object, guint id, GValue *value, GParamSpec *spec)
{
  if (id == PROP_STATE)
    g_value_set_enum (value, millrace_generator_get_state (MILLRACE_GENERATOR (object)));
  else
    G_OBJECT_WARN_INVALID_PROPERTY_ID (object, id, spec);
}

static void
millrace_generator_finalize (GObject *object)
{
  MillraceGenerator *self = MILLRACE_GENERATOR (object);
  g_main_context_unref (self->state.context);
  g_clear_error (&self->state.broken);
  std::destroy_at (&self->state);
  G_OBJECT_CLASS (millrace_generator_parent_class)->finalize (object);
}

static void
millrace_generator_init (MillraceGenerator *self)
{
  std::construct_at (&self->state);
  self->state.context = g_main_context_ref_thread_default ();
  millrace::ensure_elements (&self->state.broken);
}

static void
millrace_generator_class_init (MillraceGeneratorClass *klass)
{
  GObjectClass *object_class = G_OBJECT_CLASS (klass);
  object_class->get_property = millrace_generator_get_property;
  object_class->finalize = millrace_generator_finalize;
  properties[PROP_STATE] = g_param_spec_enum (
      "state", "State", "What it does", MILLRACE_TYPE_GENERATOR_STATE, MILLRACE_GENERATOR_STATE_EMPTY,
      static_cast<GParamFlags> (G_PARAM_READABLE | G_PARAM_STATIC_STRINGS | G_PARAM_EXPLICIT_NOTIFY));
  g_object_class_install_properties (object_class, PROP_COUNT, properties);

  const auto add = [] (const char *name, guint n_parameters, GType second) {
    return g_signal_new (name, MILLRACE_TYPE_GENERATOR, G_SIGNAL_RUN_LAST, 0, nullptr, nullptr, nullptr,
                         G_TYPE_NONE, n_parameters, MILLRACE_TYPE_MODEL, second);
  };
  /**
   * MillraceGenerator::model-loaded:
   * @self: the generator
   * @model: the model
   *
   * A model can be used.
   */
  signals[SIGNAL_MODEL_LOADED] = add ("model-loaded", 1, G_TYPE_NONE);
  /**
   * MillraceGenerator::model-unloaded:
   * @self: the generator
   * @model: the model
   *
   * A model has been removed, or its pipeline has failed.
   */
  signals[SIGNAL_MODEL_UNLOADED] = add ("model-unloaded", 1, G_TYPE_NONE);
  /**
   * MillraceGenerator::error:
   * @self: the generator
   * @model: whose pipeline has failed
   * @error: what went wrong
   *
   * A pipeline has failed; its model is removed, and what it was generating ends with an error.
   */
  signals[SIGNAL_ERROR] = add ("error", 2, G_TYPE_ERROR);
}

/**
 * millrace_generator_new:
 *
 * Initializes GStreamer if nobody has, which may take some time when its registry is new.
 *
 * Returns: (transfer full): a generator without models
 */
MillraceGenerator *
millrace_generator_new (void)
{
  return static_cast<MillraceGenerator *> (g_object_new (MILLRACE_TYPE_GENERATOR, nullptr));
}
