// What a generator is asked for: streams, whole texts, embeddings.
//
// All of it is a StreamCore with a request in a model's pipeline; these functions differ in how they wait for it.

#include "library/error.hpp"
#include "library/generator.hpp"
#include "library/request.hpp"
#include "library/stream.hpp"

#include <memory>
#include <string>
#include <utility>
#include <vector>

using namespace millrace;

namespace
{

/// A generation that is waited for as a whole, kept by its task.
struct Whole {
  std::shared_ptr<ModelPipeline> pipeline;
  std::shared_ptr<StreamCore> core;
  GTask *answer = nullptr; ///< the application's
  GCancellable *cancellable = nullptr;
  gulong handler = 0;

  Whole () = default;
  Whole (const Whole &) = delete;
  Whole &operator= (const Whole &) = delete;
  ~Whole ()
  {
    if (handler)
      g_signal_handler_disconnect (cancellable, handler);
    g_clear_object (&cancellable);
    g_clear_object (&answer);
  }
};

void
on_cancelled (GCancellable *, gpointer data)
{
  (*static_cast<std::shared_ptr<StreamCore> *> (data))->cancel ();
}

void
free_core (gpointer data)
{
  delete static_cast<std::shared_ptr<StreamCore> *> (data);
}

/// Ends the generation, not just the wait for it.
gulong
cancel_with (GCancellable *cancellable, const std::shared_ptr<StreamCore> &core)
{
  return cancellable ? g_cancellable_connect (cancellable, G_CALLBACK (on_cancelled),
                                              new std::shared_ptr<StreamCore> (core), free_core)
                     : 0;
}

void
on_whole (GObject *, GAsyncResult *result, gpointer data)
{
  const std::unique_ptr<Whole> whole (static_cast<Whole *> (data));
  GError *error = nullptr;
  gpointer value = g_task_propagate_pointer (G_TASK (result), &error);
  if (error)
    g_task_return_error (whole->answer, error);
  else if (g_task_get_source_tag (whole->answer) ==
           reinterpret_cast<gpointer> (millrace_generator_embed_async))
    g_task_return_pointer (whole->answer, value,
                           [] (gpointer floats) { delete static_cast<std::vector<float> *> (floats); });
  else
    g_task_return_pointer (whole->answer, value, g_free);
}

/// Takes over `answer`.
void
generate_whole (std::shared_ptr<ModelPipeline> pipeline, std::string json, GTask *answer)
{
  auto whole = std::make_unique<Whole> ();
  whole->core = std::make_shared<StreamCore> (pipeline, 0);
  whole->pipeline = std::move (pipeline);
  whole->answer = answer;
  const auto core = whole->core;
  core->start (std::move (json));
  if (GCancellable *cancellable = g_task_get_cancellable (answer)) {
    whole->cancellable = G_CANCELLABLE (g_object_ref (cancellable));
    whole->handler = cancel_with (cancellable, core);
  }
  core->wait_async (StreamCore::Until::kEnd, g_task_new (nullptr, nullptr, on_whole, whole.release ()));
}

/// Null with an error when there is nothing to send it to, or something is wrong with it.
std::shared_ptr<ModelPipeline>
check_request (MillraceGenerator *self, MillraceRequest *request, GError **error)
{
  return millrace_request_validate (request, error)
             ? find_pipeline (self, request_form (request).model.c_str (), error)
             : nullptr;
}

EmbeddingParams
embedding_params (MillracePooling pooling, guint dimensions)
{
  static_assert (static_cast<int> (Pooling::kLast) == MILLRACE_POOLING_LAST + 1 &&
                 static_cast<int> (Pooling::kCls) == MILLRACE_POOLING_CLS + 1);
  return {.pooling = static_cast<Pooling> (static_cast<int> (pooling) + 1),
          .normalize = true,
          .dimensions = static_cast<int> (MIN (dimensions, static_cast<guint> (G_MAXINT)))};
}

gfloat *
copy_floats (const std::vector<float> &values, gsize *n_values)
{
  if (n_values)
    *n_values = values.size ();
  return static_cast<gfloat *> (g_memdup2 (values.data (), values.size () * sizeof (float)));
}

} // namespace

/**
 * millrace_generator_stream:
 * @request: what to generate; it may be sent again and changed afterwards
 * @cancellable: (nullable): cancels the generation
 * @error: return location for a #GError
 *
 * Starts a generation. Does not wait for anything; any thread.
 *
 * Returns: (transfer full) (nullable): its text, or %NULL: @error says which field of the request is wrong, or that
 *   there is no such model
 */
MillraceStream *
millrace_generator_stream (MillraceGenerator *self, MillraceRequest *request, GCancellable *cancellable,
                           GError **error)
{
  g_return_val_if_fail (MILLRACE_IS_GENERATOR (self), nullptr);
  g_return_val_if_fail (MILLRACE_IS_REQUEST (request), nullptr);
  auto pipeline = check_request (self, request, error);
  if (!pipeline)
    return nullptr;
  const RequestForm &form = request_form (request);
  return new_stream (std::move (pipeline), request, form.to_json (), form.buffer_bytes, cancellable);
}

/**
 * millrace_generator_generate_async:
 * @request: what to generate
 * @cancellable: (nullable): cancels the generation
 * @callback: (scope async): called when it has ended
 * @user_data: for @callback
 *
 * Generates a whole text.
 */
void
millrace_generator_generate_async (MillraceGenerator *self, MillraceRequest *request,
                                   GCancellable *cancellable, GAsyncReadyCallback callback,
                                   gpointer user_data)
{
  g_return_if_fail (MILLRACE_IS_GENERATOR (self));
  g_return_if_fail (MILLRACE_IS_REQUEST (request));
  GTask *task = g_task_new (self, cancellable, callback, user_data);
  g_task_set_source_tag (task, reinterpret_cast<gpointer> (millrace_generator_generate_async));
  GError *error = nullptr;
  if (auto pipeline = check_request (self, request, &error))
    return generate_whole (std::move (pipeline), request_form (request).to_json (), task);
  g_task_return_error (task, error);
  g_object_unref (task);
}

/**
 * millrace_generator_generate_finish:
 * @result: what the callback got
 * @error: return location for a #GError
 *
 * Returns: (transfer full) (nullable): the text, or %NULL on error
 */
char *
millrace_generator_generate_finish (MillraceGenerator *self, GAsyncResult *result, GError **error)
{
  g_return_val_if_fail (g_task_is_valid (result, self), nullptr);
  return static_cast<char *> (g_task_propagate_pointer (G_TASK (result), error));
}

/**
 * millrace_generator_generate:
 * @request: what to generate
 * @cancellable: (nullable): cancels the generation
 * @error: return location for a #GError
 *
 * Generates a whole text, and blocks meanwhile; needs no main loop.
 *
 * Returns: (transfer full) (nullable): the text, or %NULL on error
 */
char *
millrace_generator_generate (MillraceGenerator *self, MillraceRequest *request, GCancellable *cancellable,
                             GError **error)
{
  g_return_val_if_fail (MILLRACE_IS_GENERATOR (self), nullptr);
  g_return_val_if_fail (MILLRACE_IS_REQUEST (request), nullptr);
  const auto pipeline = check_request (self, request, error);
  if (!pipeline)
    return nullptr;
  const auto core = std::make_shared<StreamCore> (pipeline, 0);
  core->start (request_form (request).to_json ());
  char *text = core->wait (StreamCore::Until::kEnd, cancellable, error);
  core->cancel (); // when the wait was cancelled
  return text;
}

/**
 * millrace_generator_embed_async:
 * @request: its prompt, messages or tokens; nothing is sampled
 * @pooling: what becomes the embedding
 * @dimensions: only the first so many numbers; 0: all
 * @cancellable: (nullable): cancels it
 * @callback: (scope async): called when it is there
 * @user_data: for @callback
 *
 * Computes an embedding, normalized to length 1.
 */
void
millrace_generator_embed_async (MillraceGenerator *self, MillraceRequest *request, MillracePooling pooling,
                                guint dimensions, GCancellable *cancellable, GAsyncReadyCallback callback,
                                gpointer user_data)
{
  g_return_if_fail (MILLRACE_IS_GENERATOR (self));
  g_return_if_fail (MILLRACE_IS_REQUEST (request));
  GTask *task = g_task_new (self, cancellable, callback, user_data);
  g_task_set_source_tag (task, reinterpret_cast<gpointer> (millrace_generator_embed_async));
  GError *error = nullptr;
  if (auto pipeline = check_request (self, request, &error)) {
    const EmbeddingParams embed = embedding_params (pooling, dimensions);
    return generate_whole (std::move (pipeline), request_form (request).to_json (&embed), task);
  }
  g_task_return_error (task, error);
  g_object_unref (task);
}

/**
 * millrace_generator_embed_finish:
 * @result: what the callback got
 * @n_values: (out): how many numbers
 * @error: return location for a #GError
 *
 * Returns: (transfer full) (array length=n_values) (nullable): the embedding, or %NULL on error
 */
gfloat *
millrace_generator_embed_finish (MillraceGenerator *self, GAsyncResult *result, gsize *n_values,
                                 GError **error)
{
  g_return_val_if_fail (g_task_is_valid (result, self), nullptr);
  if (n_values)
    *n_values = 0;
  const std::unique_ptr<std::vector<float>> values (
      static_cast<std::vector<float> *> (g_task_propagate_pointer (G_TASK (result), error)));
  return values ? copy_floats (*values, n_values) : nullptr;
}

/**
 * millrace_generator_embed:
 * @request: its prompt, messages or tokens; nothing is sampled
 * @pooling: what becomes the embedding
 * @dimensions: only the first so many numbers; 0: all
 * @cancellable: (nullable): cancels it
 * @n_values: (out): how many numbers
 * @error: return location for a #GError
 *
 * Computes an embedding, normalized to length 1, and blocks meanwhile; needs no main loop.
 *
 * Returns: (transfer full) (array length=n_values) (nullable): the embedding, or %NULL on error
 */
gfloat *
millrace_generator_embed (MillraceGenerator *self, MillraceRequest *request, MillracePooling pooling,
                          guint dimensions, GCancellable *cancellable, gsize *n_values, GError **error)
{
  g_return_val_if_fail (MILLRACE_IS_GENERATOR (self), nullptr);
  g_return_val_if_fail (MILLRACE_IS_REQUEST (request), nullptr);
  if (n_values)
    *n_values = 0;
  const auto pipeline = check_request (self, request, error);
  if (!pipeline)
    return nullptr;
  const EmbeddingParams embed = embedding_params (pooling, dimensions);
  const auto core = std::make_shared<StreamCore> (pipeline, 0);
  core->start (request_form (request).to_json (&embed));
  g_autofree char *text = core->wait (StreamCore::Until::kEnd, cancellable, error);
  core->cancel (); // when the wait was cancelled
  return text ? copy_floats (core->embedding (), n_values) : nullptr;
}

/**
 * millrace_generator_warm_up_async:
 * @model: (nullable): the model's name, %NULL for the first
 * @cancellable: (nullable): cancels it
 * @callback: (scope async): called when it is done
 * @user_data: for @callback
 *
 * Generates one token, so that weights and caches are in memory when somebody waits.
 */
void
millrace_generator_warm_up_async (MillraceGenerator *self, const char *model, GCancellable *cancellable,
                                  GAsyncReadyCallback callback, gpointer user_data)
{
  g_return_if_fail (MILLRACE_IS_GENERATOR (self));
  GTask *task = g_task_new (self, cancellable, callback, user_data);
  g_task_set_source_tag (task, reinterpret_cast<gpointer> (millrace_generator_warm_up_async));
  GError *error = nullptr;
  if (auto pipeline = find_pipeline (self, model, &error))
    return generate_whole (std::move (pipeline), R"({"tokens":[0,0],"max_tokens":1,"ignore_eos":true})",
                           task);
  g_task_return_error (task, error);
  g_object_unref (task);
}

/**
 * millrace_generator_warm_up_finish:
 * @result: what the callback got
 * @error: return location for a #GError
 *
 * Returns: whether the model works
 */
gboolean
millrace_generator_warm_up_finish (MillraceGenerator *self, GAsyncResult *result, GError **error)
{
  g_return_val_if_fail (g_task_is_valid (result, self), FALSE);
  GError *problem = nullptr;
  g_free (g_task_propagate_pointer (G_TASK (result), &problem));
  if (problem)
    g_propagate_error (error, problem);
  return !problem;
}
