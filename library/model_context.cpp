#include "library/model_context.hpp"

#include "library/model.hpp"

GST_DEBUG_CATEGORY_STATIC (llm_context_debug);
#define GST_CAT_DEFAULT llm_context_debug

namespace millrace
{

static constexpr const char *kDefaultModel = "demo";
/// Set on a query's context when the owner of the model could not open it, so that the asker fails too
/// instead of falling back to another model.
static constexpr const char *kFailedField = "failed";

static void
ensure_debug_category ()
{
  static std::once_flag once;
  std::call_once (
      once, [] { GST_DEBUG_CATEGORY_INIT (llm_context_debug, "llmcontext", 0, "Millrace model sharing"); });
}

Ref<MillraceModel>
current_model (ModelHolder &holder)
{
  std::lock_guard lock (holder.mutex);
  return holder.model;
}

void
drop_model (ModelHolder &holder)
{
  std::lock_guard lock (holder.mutex);
  holder.model = nullptr;
}

static ModelOptions
options_of (GstElement *element, const ModelHolder &holder)
{
  ModelOptions options;
  GST_OBJECT_LOCK (element);
  options.weights = static_cast<WeightFormat> (holder.weights);
  options.cpu.threads = static_cast<int> (holder.threads);
  options.weight_cache = holder.weight_cache;
  options.lock_memory = holder.lock_memory;
  GST_OBJECT_UNLOCK (element);
  return options;
}

static bool
open_into (GstElement *element, ModelHolder &holder, const std::string &path)
{
  // Not under holder.mutex: opening takes long and posts messages. Two askers at once are possible only
  // before the pipeline runs; the first to finish wins.
  GError *error = nullptr;
  auto model = Ref<MillraceModel>::adopt (open_model (path, options_of (element, holder), &error));
  if (!model) {
    GST_ELEMENT_ERROR (element, RESOURCE, NOT_FOUND, ("%s", error->message), ("model=%s", path.c_str ()));
    g_clear_error (&error);
    return false;
  }
  {
    std::lock_guard lock (holder.mutex);
    if (!holder.model)
      holder.model = std::move (model);
    model = holder.model;
  }
  if (const std::string warning = engine_model (model.get ())->load_warning (); !warning.empty ())
    GST_ELEMENT_WARNING (element, RESOURCE, WRITE, ("%s", warning.c_str ()), ("model=%s", path.c_str ()));
  g_autofree char *description = millrace_model_describe (model.get ());
  GST_INFO_OBJECT (element, "opened %s: %s", path.c_str (), description);
  auto context = Ref<GstContext>::adopt (millrace_model_to_context (model.get ()));
  gst_element_post_message (element, gst_message_new_have_context (GST_OBJECT (element), context.release ()));
  return true;
}

static bool
open_own (GstElement *element, ModelHolder &holder, bool &has_path)
{
  GST_OBJECT_LOCK (element);
  const std::string path = holder.path;
  GST_OBJECT_UNLOCK (element);
  has_path = !path.empty ();
  return has_path && open_into (element, holder, path);
}

// True when a neighbour answered; `failed` when one has a model that does not open.
static bool
ask (GstElement *element, ModelHolder &holder, GstPadDirection direction, bool &failed)
{
  auto query = Ref<GstQuery>::adopt (gst_query_new_context (MILLRACE_MODEL_CONTEXT));
  struct Question {
    GstQuery *query;
    bool answered;
  } question{query.get (), false};

  const auto each = [] (GstElement *, GstPad *pad, gpointer data) -> gboolean {
    auto *asked = static_cast<Question *> (data);
    asked->answered = gst_pad_peer_query (pad, asked->query);
    return !asked->answered;
  };
  if (direction == GST_PAD_SRC)
    gst_element_foreach_src_pad (element, each, &question);
  else
    gst_element_foreach_sink_pad (element, each, &question);

  GstContext *context = nullptr;
  if (question.answered)
    gst_query_parse_context (query.get (), &context);
  if (!context)
    return false;
  if (gst_structure_has_field (gst_context_get_structure (context), kFailedField)) {
    failed = true;
    return false;
  }
  handle_set_context (holder, context);
  return static_cast<bool> (current_model (holder));
}

bool
ensure_model (GstElement *element, ModelHolder &holder)
{
  ensure_debug_category ();
  if (current_model (holder))
    return true;
  bool failed = false;
  if (open_own (element, holder, failed))
    return true;
  if (failed)
    return false;
  if (ask (element, holder, GST_PAD_SRC, failed) || (!failed && ask (element, holder, GST_PAD_SINK, failed)))
    return true;
  if (failed)
    return false;

  gst_element_post_message (element,
                            gst_message_new_need_context (GST_OBJECT (element), MILLRACE_MODEL_CONTEXT));
  if (current_model (holder))
    return true;

  g_autofree char *path = millrace_find_model (kDefaultModel);
  return open_into (element, holder, path);
}

void
handle_set_context (ModelHolder &holder, GstContext *context)
{
  auto model = Ref<MillraceModel>::adopt (context ? millrace_model_from_context (context) : nullptr);
  if (!model)
    return;
  std::lock_guard lock (holder.mutex);
  holder.model = std::move (model);
}

bool
handle_context_query (GstElement *element, ModelHolder &holder, GstQuery *query)
{
  ensure_debug_category ();
  const gchar *type = nullptr;
  if (GST_QUERY_TYPE (query) != GST_QUERY_CONTEXT || !gst_query_parse_context_type (query, &type) ||
      g_strcmp0 (type, MILLRACE_MODEL_CONTEXT) != 0)
    return false;

  auto model = current_model (holder);
  bool has_path = false;
  if (!model && open_own (element, holder, has_path))
    model = current_model (holder);
  if (!model && !has_path)
    return false;

  Ref<GstContext> context;
  if (model) {
    context = Ref<GstContext>::adopt (millrace_model_to_context (model.get ()));
  } else {
    context = Ref<GstContext>::adopt (gst_context_new (MILLRACE_MODEL_CONTEXT, TRUE));
    gst_structure_set (gst_context_writable_structure (context.get ()), kFailedField, G_TYPE_BOOLEAN, TRUE,
                       nullptr);
  }
  gst_query_set_context (query, context.get ());
  return true;
}

} // namespace millrace
