// How models come into a generator and leave it.

#include "library/generator.hpp"

#include <millrace/millrace-error.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

using namespace millrace;

// Takes it out of the list and says so; the caller stops it. False: it was not there any more.
static bool
take_out (MillraceGenerator *self, const std::shared_ptr<ModelPipeline> &pipeline)
{
  guint position = 0;
  {
    auto &state = generator_state (self);
    std::lock_guard lock (state.mutex);
    auto &all = state.pipelines;
    const auto found = std::find (all.begin (), all.end (), pipeline);
    if (found == all.end ())
      return false;
    position = static_cast<guint> (found - all.begin ());
    all.erase (found);
  }
  g_list_model_items_changed (G_LIST_MODEL (self), position, 1, 0);
  notify_state (self);
  return true;
}

namespace
{

/// News of a failed pipeline on its way to the generator's context.
struct Failure {
  GWeakRef generator;
  std::weak_ptr<ModelPipeline> pipeline;
  GError *error = nullptr;

  Failure (MillraceGenerator *self, std::weak_ptr<ModelPipeline> failed)
      : pipeline (std::move (failed))
  {
    g_weak_ref_init (&generator, self);
  }
  Failure (const Failure &) = delete;
  Failure &operator= (const Failure &) = delete;
  ~Failure ()
  {
    g_weak_ref_clear (&generator);
    g_clear_error (&error);
  }
};

} // namespace

static gboolean
handle_failure (gpointer data)
{
  auto &failure = **static_cast<std::shared_ptr<Failure> *> (data);
  auto *self = static_cast<MillraceGenerator *> (g_weak_ref_get (&failure.generator));
  if (!self)
    return G_SOURCE_REMOVE;
  if (auto pipeline = failure.pipeline.lock ()) {
    pipeline->mark_failed ();
    if (take_out (self, pipeline)) {
      emit_error (self, pipeline->model (), failure.error);
      emit_unloaded (self, pipeline->model ());
    }
    ModelPipeline::stop_later (std::move (pipeline)); // what waits for it hears of it then
  }
  g_object_unref (self);
  return G_SOURCE_REMOVE;
}

static void
free_failure (gpointer data)
{
  delete static_cast<std::shared_ptr<Failure> *> (data);
}

// Reserves the model's name. False with an error.
static bool
begin_adding (MillraceGenerator *self, MillraceModel *model, GError **error)
{
  const std::string name = millrace_model_get_name (model);
  {
    auto &state = generator_state (self);
    std::lock_guard lock (state.mutex);
    const auto &all = state.pipelines;
    const auto &starting = state.starting;
    if (state.broken) {
      g_propagate_error (error, g_error_copy (state.broken));
      return false;
    }
    if (state.closed) {
      g_set_error_literal (error, MILLRACE_ERROR, MILLRACE_ERROR_CLOSED, "the generator has been closed");
      return false;
    }
    if (std::ranges::any_of (
            all, [&] (const auto &other) { return name == millrace_model_get_name (other->model ()); }) ||
        std::ranges::find (starting, name) != starting.end ()) {
      g_set_error (error, MILLRACE_ERROR, MILLRACE_ERROR_INVALID_REQUEST,
                   "the generator has a model named %s already", name.c_str ());
      return false;
    }
    state.starting.push_back (name);
  }
  notify_state (self);
  return true;
}

// For any thread that may wait.
static std::shared_ptr<ModelPipeline>
start_pipeline (MillraceGenerator *self, MillraceModel *model, GError **error)
{
  auto pipeline = std::make_shared<ModelPipeline> (model);
  auto failure = std::make_shared<Failure> (self, pipeline);
  const auto on_error =
      [failure, context = std::shared_ptr<GMainContext> (g_main_context_ref (generator_state (self).context),
                                                         g_main_context_unref)] (const GError *problem) {
        failure->error = g_error_copy (problem);
        GSource *source = g_idle_source_new ();
        g_source_set_priority (source, G_PRIORITY_DEFAULT);
        g_source_set_callback (source, handle_failure, new std::shared_ptr<Failure> (failure), free_failure);
        g_source_attach (source, context.get ());
        g_source_unref (source);
      };
  if (pipeline->start (on_error, error))
    return pipeline;
  if (failure->error && error) { // the elements know better why
    g_clear_error (error);
    g_set_error (error, MILLRACE_ERROR, MILLRACE_ERROR_INTERNAL, "%s", failure->error->message);
  }
  return nullptr;
}

// `pipeline` null: it did not start. Whether the model is there now; else with an error, unless there is one.
static bool
end_adding (MillraceGenerator *self, MillraceModel *model, const std::shared_ptr<ModelPipeline> &pipeline,
            GError **error)
{
  guint position = 0;
  bool closed = false, works = false;
  {
    auto &state = generator_state (self);
    std::lock_guard lock (state.mutex);
    auto &starting = state.starting;
    starting.erase (std::ranges::find (starting, std::string (millrace_model_get_name (model))));
    closed = state.closed;
    // With the lock: one that fails from here on is found in the list by handle_failure ().
    works = pipeline && !pipeline->failed ();
    position = static_cast<guint> (state.pipelines.size ());
    if (works && !closed)
      state.pipelines.push_back (pipeline);
  }
  if (pipeline && closed)
    g_set_error_literal (error, MILLRACE_ERROR, MILLRACE_ERROR_CLOSED, "the generator has been closed");
  else if (pipeline && !works)
    g_set_error (error, MILLRACE_ERROR, MILLRACE_ERROR_INTERNAL, "the pipeline of %s failed as it started",
                 millrace_model_get_path (model));
  const bool added = works && !closed;
  if (added)
    g_list_model_items_changed (G_LIST_MODEL (self), position, 0, 1);
  notify_state (self);
  if (added)
    emit_loaded (self, model);
  return added;
}

namespace
{

/// What a task for adding brings home.
using Started = std::shared_ptr<ModelPipeline>;

void
free_started (gpointer data)
{
  delete static_cast<Started *> (data);
}

} // namespace

static void
add_in_thread (GTask *task, gpointer source, gpointer data, GCancellable *)
{
  GError *error = nullptr;
  auto pipeline = start_pipeline (MILLRACE_GENERATOR (source), MILLRACE_MODEL (data), &error);
  g_task_set_task_data (task, nullptr, nullptr); // lets go of the model before anybody hears of it
  if (pipeline)
    g_task_return_pointer (task, new Started (std::move (pipeline)), free_started);
  else
    g_task_return_error (task, error);
}

// The thread's answer, in the generator's context: only now the model is in the list.
static void
on_started (GObject *source, GAsyncResult *result, gpointer data)
{
  auto *self = MILLRACE_GENERATOR (source);
  auto *task = G_TASK (data);
  auto *model = MILLRACE_MODEL (g_task_get_task_data (task));
  GError *error = nullptr;
  auto *started = static_cast<Started *> (g_task_propagate_pointer (G_TASK (result), &error));
  if (end_adding (self, model, started ? *started : nullptr, &error))
    g_task_return_boolean (task, TRUE);
  else
    g_task_return_error (task, error);
  delete started;
  g_object_unref (task);
}

/**
 * millrace_generator_add_model_async:
 * @model: the model; no other of the same name may be there
 * @cancellable: (nullable): optional
 * @callback: (scope async): called when it can be used, or cannot
 * @user_data: for @callback
 *
 * Starts a pipeline for a model. Others go on meanwhile.
 */
void
millrace_generator_add_model_async (MillraceGenerator *self, MillraceModel *model, GCancellable *cancellable,
                                    GAsyncReadyCallback callback, gpointer user_data)
{
  g_return_if_fail (MILLRACE_IS_GENERATOR (self));
  g_return_if_fail (MILLRACE_IS_MODEL (model));
  GTask *task = g_task_new (self, cancellable, callback, user_data);
  g_task_set_source_tag (task, reinterpret_cast<gpointer> (millrace_generator_add_model_async));
  g_task_set_task_data (task, g_object_ref (model), g_object_unref);
  GError *error = nullptr;
  if (!begin_adding (self, model, &error)) {
    g_task_return_error (task, error);
    g_object_unref (task);
    return;
  }
  GTask *work = g_task_new (self, nullptr, on_started, task);
  g_task_set_task_data (work, g_object_ref (model), g_object_unref);
  g_task_run_in_thread (work, add_in_thread);
  g_object_unref (work);
}

/**
 * millrace_generator_add_model_finish:
 * @result: what the callback got
 * @error: return location for a #GError
 *
 * Returns: whether the model can be used
 */
gboolean
millrace_generator_add_model_finish (MillraceGenerator *self, GAsyncResult *result, GError **error)
{
  g_return_val_if_fail (g_task_is_valid (result, self), FALSE);
  return g_task_propagate_boolean (G_TASK (result), error);
}

/**
 * millrace_generator_add_model:
 * @model: the model; no other of the same name may be there
 * @cancellable: (nullable): optional
 * @error: return location for a #GError
 *
 * Starts a pipeline for a model, and blocks meanwhile.
 *
 * Returns: whether the model can be used
 */
gboolean
millrace_generator_add_model (MillraceGenerator *self, MillraceModel *model, GCancellable *cancellable,
                              GError **error)
{
  g_return_val_if_fail (MILLRACE_IS_GENERATOR (self), FALSE);
  g_return_val_if_fail (MILLRACE_IS_MODEL (model), FALSE);
  if (g_cancellable_set_error_if_cancelled (cancellable, error) || !begin_adding (self, model, error))
    return FALSE;
  GError *problem = nullptr;
  const bool added = end_adding (self, model, start_pipeline (self, model, &problem), &problem);
  if (problem)
    g_propagate_error (error, problem);
  return added;
}

static void
stop_in_thread (GTask *task, gpointer, gpointer data, GCancellable *)
{
  auto &pipelines = *static_cast<std::vector<Started> *> (data);
  for (const auto &pipeline : pipelines)
    pipeline->stop ();
  pipelines.clear ();
  g_task_return_boolean (task, TRUE);
}

static void
on_stopped (GObject *source, GAsyncResult *, gpointer data)
{
  auto *self = MILLRACE_GENERATOR (source);
  auto *task = G_TASK (data);
  auto &pipelines = *static_cast<std::vector<Started> *> (g_task_get_task_data (task));
  for (const auto &pipeline : pipelines)
    emit_unloaded (self, pipeline->model ());
  // Before anybody hears of it: who does may end an interpreter, and models that belong to one can then be let go of in no thread.
  pipelines.clear ();
  g_task_return_boolean (task, TRUE);
  g_object_unref (task);
}

// Takes over the task, whose data becomes the pipelines.
static void
stop_all (MillraceGenerator *self, std::vector<Started> pipelines, GTask *task)
{
  for (const auto &pipeline : pipelines)
    take_out (self, pipeline);
  const auto free_list = [] (gpointer data) { delete static_cast<std::vector<Started> *> (data); };
  g_task_set_task_data (task, new std::vector<Started> (pipelines), free_list);
  GTask *work = g_task_new (self, nullptr, on_stopped, task);
  g_task_set_task_data (work, new std::vector<Started> (std::move (pipelines)), free_list);
  g_task_run_in_thread (work, stop_in_thread);
  g_object_unref (work);
}

/**
 * millrace_generator_remove_model_async:
 * @name: (nullable): the model's name, %NULL for the first
 * @cancellable: (nullable): optional
 * @callback: (scope async): called when its pipeline has stopped
 * @user_data: for @callback
 *
 * Takes a model out at once; what it is generating ends with %MILLRACE_ERROR_CLOSED.
 */
void
millrace_generator_remove_model_async (MillraceGenerator *self, const char *name, GCancellable *cancellable,
                                       GAsyncReadyCallback callback, gpointer user_data)
{
  g_return_if_fail (MILLRACE_IS_GENERATOR (self));
  GTask *task = g_task_new (self, cancellable, callback, user_data);
  g_task_set_source_tag (task, reinterpret_cast<gpointer> (millrace_generator_remove_model_async));
  GError *error = nullptr;
  if (auto pipeline = find_pipeline (self, name, &error)) {
    stop_all (self, {std::move (pipeline)}, task);
  } else {
    g_task_return_error (task, error);
    g_object_unref (task);
  }
}

/**
 * millrace_generator_remove_model_finish:
 * @result: what the callback got
 * @error: return location for a #GError
 *
 * Returns: whether there was such a model
 */
gboolean
millrace_generator_remove_model_finish (MillraceGenerator *self, GAsyncResult *result, GError **error)
{
  g_return_val_if_fail (g_task_is_valid (result, self), FALSE);
  return g_task_propagate_boolean (G_TASK (result), error);
}

static std::vector<Started>
begin_closing (MillraceGenerator *self)
{
  auto &state = generator_state (self);
  std::lock_guard lock (state.mutex);
  state.closed = true;
  return state.pipelines;
}

/**
 * millrace_generator_close_async:
 * @cancellable: (nullable): optional
 * @callback: (scope async): called when all pipelines have stopped
 * @user_data: for @callback
 *
 * Removes all models, for good. A generator that is dropped without it does the same when its last stream is dropped.
 */
void
millrace_generator_close_async (MillraceGenerator *self, GCancellable *cancellable,
                                GAsyncReadyCallback callback, gpointer user_data)
{
  g_return_if_fail (MILLRACE_IS_GENERATOR (self));
  GTask *task = g_task_new (self, cancellable, callback, user_data);
  g_task_set_source_tag (task, reinterpret_cast<gpointer> (millrace_generator_close_async));
  stop_all (self, begin_closing (self), task);
  notify_state (self);
}

/**
 * millrace_generator_close_finish:
 * @result: what the callback got
 * @error: return location for a #GError
 *
 * Returns: %TRUE
 */
gboolean
millrace_generator_close_finish (MillraceGenerator *self, GAsyncResult *result, GError **error)
{
  g_return_val_if_fail (g_task_is_valid (result, self), FALSE);
  return g_task_propagate_boolean (G_TASK (result), error);
}

/**
 * millrace_generator_close:
 *
 * As millrace_generator_close_async(), but blocks until all pipelines have stopped.
 */
void
millrace_generator_close (MillraceGenerator *self)
{
  g_return_if_fail (MILLRACE_IS_GENERATOR (self));
  for (const auto &pipeline : begin_closing (self)) {
    if (!take_out (self, pipeline))
      continue;
    pipeline->stop ();
    emit_unloaded (self, pipeline->model ());
  }
  notify_state (self);
}
