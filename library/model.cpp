// MillraceModel: an opened model as a GObject. Immutable after construction; any thread.

#include "library/model.hpp"
#include "library/error.hpp"
#include "library/model_path.hpp"

/**
 * MillraceModel:
 *
 * An opened model: weights, tokenizer, chat template. Immutable; any number of generators and pipelines may share it, in
 * any thread.
 */
struct _MillraceModel {
  GObject parent;
  std::shared_ptr<const millrace::Model> model;
  std::string path, name;
  std::string digest;
  double load_ms;
};

G_DEFINE_FINAL_TYPE (MillraceModel, millrace_model, G_TYPE_OBJECT)

enum {
  PROP_0,
  PROP_PATH,
  PROP_NAME,
  PROP_FAMILY,
  PROP_VOCABULARY_DIGEST,
  PROP_CONTEXT_LENGTH,
  PROP_WEIGHT_BYTES,
  PROP_BACKEND
};

GType
millrace_weights_get_type (void)
{
  static const GEnumValue values[] = {{MILLRACE_WEIGHTS_AUTO, "As the file has them", "auto"},
                                      {MILLRACE_WEIGHTS_F32, "32-bit floats", "f32"},
                                      {MILLRACE_WEIGHTS_F16, "IEEE half precision", "f16"},
                                      {MILLRACE_WEIGHTS_BF16, "bfloat16", "bf16"},
                                      {MILLRACE_WEIGHTS_INT8, "8-bit integers, a scale per 32", "int8"},
                                      {MILLRACE_WEIGHTS_INT4, "4-bit integers in blocks of 256", "int4"},
                                      {0, nullptr, nullptr}};
  static const GType type = g_enum_register_static ("MillraceWeights", values);
  return type;
}

static void
millrace_model_get_property (GObject *object, guint id, GValue *value, GParamSpec *spec)
{
  MillraceModel *self = MILLRACE_MODEL (object);
  switch (id) {
  case PROP_PATH:
    g_value_set_string (value, self->path.c_str ());
    break;
  case PROP_NAME:
    g_value_set_string (value, self->name.c_str ());
    break;
  case PROP_FAMILY:
    g_value_set_string (value, self->model->spec.family.c_str ());
    break;
  case PROP_VOCABULARY_DIGEST:
    g_value_set_string (value, self->digest.c_str ());
    break;
  case PROP_CONTEXT_LENGTH:
    g_value_set_int (value, self->model->spec.max_positions);
    break;
  case PROP_WEIGHT_BYTES:
    g_value_set_uint64 (value, self->model->compiled->weight_bytes ());
    break;
  case PROP_BACKEND:
    g_value_set_string (value, self->model->compiled->description ().c_str ());
    break;
  default:
    G_OBJECT_WARN_INVALID_PROPERTY_ID (object, id, spec);
  }
}

static void
millrace_model_finalize (GObject *object)
{
  MillraceModel *self = MILLRACE_MODEL (object);
  std::destroy_at (&self->model);
  std::destroy_at (&self->path);
  std::destroy_at (&self->name);
  std::destroy_at (&self->digest);
  G_OBJECT_CLASS (millrace_model_parent_class)->finalize (object);
}

static void
millrace_model_init (MillraceModel *self)
{
  std::construct_at (&self->model);
  std::construct_at (&self->path);
  std::construct_at (&self->name);
  std::construct_at (&self->digest);
}

static void
millrace_model_class_init (MillraceModelClass *klass)
{
  GObjectClass *object_class = G_OBJECT_CLASS (klass);
  const auto flags = static_cast<GParamFlags> (G_PARAM_READABLE | G_PARAM_STATIC_STRINGS);
  object_class->get_property = millrace_model_get_property;
  object_class->finalize = millrace_model_finalize;
  g_object_class_install_property (
      object_class, PROP_PATH,
      g_param_spec_string ("path", "Path", "Folder or GGUF file it was opened from", nullptr, flags));
  g_object_class_install_property (
      object_class, PROP_NAME,
      g_param_spec_string ("name", "Name", "Last part of the path, without .gguf", nullptr, flags));
  g_object_class_install_property (
      object_class, PROP_FAMILY,
      g_param_spec_string ("family", "Family",
                           "Architecture (config.json's model_type, GGUF's general.architecture)", nullptr,
                           flags));
  g_object_class_install_property (
      object_class, PROP_VOCABULARY_DIGEST,
      g_param_spec_string ("vocabulary-digest", "Vocabulary digest",
                           "16 hex digits; equal digests mean interchangeable token ids", nullptr, flags));
  g_object_class_install_property (object_class, PROP_CONTEXT_LENGTH,
                                   g_param_spec_int ("context-length", "Context length",
                                                     "Tokens of prompt and answer together", 0, G_MAXINT, 0,
                                                     flags));
  g_object_class_install_property (object_class, PROP_WEIGHT_BYTES,
                                   g_param_spec_uint64 ("weight-bytes", "Weight bytes",
                                                        "Memory of the weights, in bytes", 0, G_MAXUINT64, 0,
                                                        flags));
  g_object_class_install_property (
      object_class, PROP_BACKEND,
      g_param_spec_string ("backend", "Backend", "What runs it: device, instruction set, weights, threads",
                           nullptr, flags));
}

namespace millrace
{

const std::shared_ptr<const Model> &
engine_model (MillraceModel *model)
{
  return model->model;
}

MillraceModel *
wrap_model (std::shared_ptr<const Model> model)
{
  auto *self = static_cast<MillraceModel *> (g_object_new (MILLRACE_TYPE_MODEL, nullptr));
  self->path = model->directory.string ();
  const auto &file = model->directory;
  self->name = (file.extension () == ".gguf" ? file.stem () : file.filename ()).string ();
  if (self->name.empty ()) // a folder's path that ends with a slash
    self->name = file.parent_path ().filename ().string ();
  // Without a tokenizer any two models of the same vocabulary size are taken to be compatible.
  self->digest = model->tokenizer ? model->tokenizer->digest () : "ids-" + std::to_string (model->spec.vocab);
  self->model = std::move (model);
  return self;
}

MillraceModel *
open_model (const std::string &name, const ModelOptions &options, GError **error)
{
  try {
    const gint64 began = g_get_monotonic_time ();
    MillraceModel *self = wrap_model (Model::open (find_model (name), options));
    self->load_ms = static_cast<double> (g_get_monotonic_time () - began) / 1000;
    return self;
  } catch (const LoadStopped &) {
    g_set_error_literal (error, G_IO_ERROR, G_IO_ERROR_CANCELLED, "loading was cancelled");
    return nullptr;
  } catch (const std::exception &problem) {
    g_set_error (error, MILLRACE_ERROR, MILLRACE_ERROR_LOAD, "%s", problem.what ());
    return nullptr;
  }
}

void
log_load_warning (MillraceModel *model)
{
  if (const std::string warning = model->model->load_warning (); !warning.empty ())
    GST_WARNING_OBJECT (model, "%s", warning.c_str ());
}

} // namespace millrace

/**
 * millrace_find_model:
 * @name: a path, or the name of a folder or file in the model path
 *
 * Finds a model's folder or file. A name that is no file here is looked for in the folders of `$MILLRACE_MODEL_PATH`
 * (colon-separated; default: where Millrace's own models are installed), then among the models that `millrace download`
 * has fetched, which are named OWNER/NAME.
 *
 * Returns: (transfer full): the path; @name itself when nothing was found
 */
char *
millrace_find_model (const char *name)
{
  g_return_val_if_fail (name, nullptr);
  return g_strdup (millrace::find_model (name).c_str ());
}

/**
 * millrace_model_open:
 * @path: a folder with config.json, safetensors and tokenizer.json, a GGUF file, or a name for millrace_find_model()
 * @weights: how to hold the matrices
 * @threads: lanes of computation, 0 for the usable cores
 * @error: return location for a #GError of %MILLRACE_ERROR
 *
 * Opens a model; blocks while it loads. Any thread.
 *
 * Returns: (transfer full) (nullable): the model, or %NULL on error
 */
MillraceModel *
millrace_model_open (const char *path, MillraceWeights weights, guint threads, GError **error)
{
  g_return_val_if_fail (path, nullptr);
  return millrace_model_open_full (path, weights, threads, nullptr, FALSE, error);
}

/**
 * millrace_model_open_full:
 * @path: a folder with config.json, safetensors and tokenizer.json, a GGUF file, or a name for millrace_find_model()
 * @weights: how to hold the matrices
 * @threads: lanes of computation, 0 for the usable cores
 * @weight_cache: (nullable): folder where packed weights are kept for the next start, `model` for the model's own
 *   folder, %NULL for none. Trouble with it is logged and costs only the saving.
 * @lock_memory: keep the weights in RAM; an error when the process may not lock so much
 * @error: return location for a #GError of %MILLRACE_ERROR
 *
 * Opens a model; blocks while it loads. Any thread.
 *
 * Returns: (transfer full) (nullable): the model, or %NULL on error
 */
MillraceModel *
millrace_model_open_full (const char *path, MillraceWeights weights, guint threads, const char *weight_cache,
                          gboolean lock_memory, GError **error)
{
  g_return_val_if_fail (path, nullptr);
  millrace::ModelOptions options;
  options.weights = static_cast<millrace::WeightFormat> (weights);
  options.cpu.threads = static_cast<int> (MIN (threads, 1024u));
  options.weight_cache = weight_cache ? weight_cache : "";
  options.lock_memory = lock_memory != FALSE;
  MillraceModel *self = millrace::open_model (path, options, error);
  if (self)
    millrace::log_load_warning (self);
  return self;
}

/**
 * millrace_model_get_name:
 *
 * Returns: (transfer none): what requests and generators call it: the last part of its path, without `.gguf`
 */
const char *
millrace_model_get_name (MillraceModel *self)
{
  g_return_val_if_fail (MILLRACE_IS_MODEL (self), nullptr);
  return self->name.c_str ();
}

/**
 * millrace_model_get_path:
 *
 * Returns: (transfer none): the folder or file it was opened from
 */
const char *
millrace_model_get_path (MillraceModel *self)
{
  g_return_val_if_fail (MILLRACE_IS_MODEL (self), nullptr);
  return self->path.c_str ();
}

/**
 * millrace_model_get_vocabulary_digest:
 *
 * Returns: (transfer none): 16 hex digits; equal digests mean interchangeable token ids
 */
const char *
millrace_model_get_vocabulary_digest (MillraceModel *self)
{
  g_return_val_if_fail (MILLRACE_IS_MODEL (self), nullptr);
  return self->digest.c_str ();
}

/**
 * millrace_model_describe:
 *
 * Returns: (transfer full): one line for people: family, layers, context, backend
 */
char *
millrace_model_describe (MillraceModel *self)
{
  g_return_val_if_fail (MILLRACE_IS_MODEL (self), nullptr);
  const auto &spec = self->model->spec;
  return g_strdup_printf ("%s, %zu layers, vocabulary %d, context %d, %s", spec.family.c_str (),
                          spec.layers.size (), spec.vocab, spec.max_positions,
                          self->model->compiled->description ().c_str ());
}

/**
 * millrace_model_get_statistics:
 *
 * What it costs: `weight-bytes` (of memory), `load-ms` (milliseconds it took to open), `layers`, `vocabulary`,
 * `context-length`, `hidden` (numbers of a whole embedding).
 *
 * Returns: (transfer full): a dictionary, `a{sv}`
 */
GVariant *
millrace_model_get_statistics (MillraceModel *self)
{
  g_return_val_if_fail (MILLRACE_IS_MODEL (self), nullptr);
  const auto &spec = self->model->spec;
  GVariantDict dict;
  g_variant_dict_init (&dict, nullptr);
  g_variant_dict_insert (&dict, "weight-bytes", "t", guint64{self->model->compiled->weight_bytes ()});
  g_variant_dict_insert (&dict, "load-ms", "d", self->load_ms);
  g_variant_dict_insert (&dict, "layers", "i", static_cast<int> (spec.layers.size ()));
  g_variant_dict_insert (&dict, "vocabulary", "i", spec.vocab);
  g_variant_dict_insert (&dict, "context-length", "i", spec.max_positions);
  g_variant_dict_insert (&dict, "hidden", "i", spec.hidden);
  return g_variant_ref_sink (g_variant_dict_end (&dict));
}

/**
 * millrace_model_to_context:
 *
 * Wraps a model so that gst_element_set_context() gives it to a pipeline. Several pipelines may share it.
 *
 * Returns: (transfer full): a context of type %MILLRACE_MODEL_CONTEXT
 */
GstContext *
millrace_model_to_context (MillraceModel *self)
{
  g_return_val_if_fail (MILLRACE_IS_MODEL (self), nullptr);
  GstContext *context = gst_context_new (MILLRACE_MODEL_CONTEXT, TRUE);
  gst_structure_set (gst_context_writable_structure (context), "model", MILLRACE_TYPE_MODEL, self, nullptr);
  return context;
}

/**
 * millrace_model_from_context:
 *
 * Returns: (transfer full) (nullable): the model in @context, %NULL when it holds none
 */
MillraceModel *
millrace_model_from_context (GstContext *context)
{
  g_return_val_if_fail (GST_IS_CONTEXT (context), nullptr);
  MillraceModel *model = nullptr;
  if (gst_context_has_context_type (context, MILLRACE_MODEL_CONTEXT))
    gst_structure_get (gst_context_get_structure (context), "model", MILLRACE_TYPE_MODEL, &model, nullptr);
  return model;
}
