// Text ↔ token ids with a model's tokenizer, and loading models without blocking.

#include "library/background.hpp"
#include "library/error.hpp"
#include "library/model.hpp"

#include <memory>
#include <string>
#include <utility>
#include <vector>

using namespace millrace;

namespace
{

/// An engine function's result, or its trouble as an error.
template <typename F>
bool
guard (GError **error, F &&work)
{
  try {
    RequestError problem = work ();
    if (problem)
      set_gerror (error, problem);
    return !problem;
  } catch (const std::exception &problem) {
    g_set_error (error, MILLRACE_ERROR, MILLRACE_ERROR_INTERNAL, "%s", problem.what ());
    return false;
  }
}

RequestError
no_tokenizer (const Model &model)
{
  return {"invalid_request", "", "the model in " + model.directory.string () + " has no tokenizer"};
}

bool
tokenize (MillraceModel *self, const std::string &text, const EncodeOptions &options,
          std::vector<TokenId> &tokens, GError **error)
{
  return guard (error, [&] () -> RequestError {
    const Model &model = *engine_model (self);
    size_t offset = 0;
    if (!model.tokenizer)
      return no_tokenizer (model);
    if (!valid_utf8 (text, &offset))
      return {"invalid_utf8", "text", "byte " + std::to_string (offset) + " is not valid UTF-8"};
    tokens = model.tokenizer->encode (text, options);
    return {};
  });
}

bool
detokenize (MillraceModel *self, const std::vector<TokenId> &tokens, std::string &text, GError **error)
{
  return guard (error, [&] () -> RequestError {
    const Model &model = *engine_model (self);
    if (!model.tokenizer)
      return no_tokenizer (model);
    for (size_t i = 0; i < tokens.size (); i++) {
      if (tokens[i] < 0 || tokens[i] >= model.spec.vocab)
        return {"invalid_request", "tokens",
                "entry " + std::to_string (i) + " must be between 0 and " +
                    std::to_string (model.spec.vocab - 1) + ", got " + std::to_string (tokens[i])};
    }
    text = model.tokenizer->decode (tokens);
    return {};
  });
}

gint32 *
copy_tokens (const std::vector<TokenId> &tokens, gsize *n_tokens)
{
  *n_tokens = tokens.size ();
  return static_cast<gint32 *> (g_memdup2 (tokens.data (), tokens.size () * sizeof (TokenId)));
}

template <typename T>
void
free_as (gpointer data)
{
  delete static_cast<T *> (data);
}

} // namespace

/**
 * millrace_model_load_async:
 * @path: a folder with config.json, safetensors and tokenizer.json, a GGUF file, or a name for millrace_find_model()
 * @weights: how to hold the matrices
 * @threads: lanes of computation, 0 for the usable cores
 * @cancellable: (nullable): ends the loading
 * @callback: (scope async): called when it is there
 * @user_data: for @callback
 *
 * Opens a model in another thread. When it is cancelled, what has been read is dropped and @callback called soon; a process
 * that ends meanwhile does not wait for the rest either. Of many models at once eight are loaded at a time.
 */
void
millrace_model_load_async (const char *path, MillraceWeights weights, guint threads,
                           GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  g_return_if_fail (path);
  GTask *task = g_task_new (nullptr, cancellable, callback, user_data);
  g_task_set_source_tag (task, reinterpret_cast<gpointer> (millrace_model_load_async));
  ModelOptions options;
  options.weights = static_cast<WeightFormat> (weights);
  options.cpu.threads = static_cast<int> (MIN (threads, 1024u));
  run_in_background (task,
                     [name = std::string (path), options] (GTask *self, const std::stop_token &stop) mutable {
                       GError *error = nullptr;
                       options.stop = stop;
                       if (MillraceModel *model = open_model (name, options, &error)) {
                         log_load_warning (model);
                         g_task_return_pointer (self, model, g_object_unref);
                       } else
                         g_task_return_error (self, error);
                     });
  g_object_unref (task);
}

/**
 * millrace_model_load_finish:
 * @result: what the callback got
 * @error: return location for a #GError
 *
 * Returns: (transfer full) (nullable): the model, or %NULL on error
 */
MillraceModel *
millrace_model_load_finish (GAsyncResult *result, GError **error)
{
  g_return_val_if_fail (g_task_is_valid (result, nullptr), nullptr);
  return static_cast<MillraceModel *> (g_task_propagate_pointer (G_TASK (result), error));
}

/**
 * millrace_model_tokenize:
 * @text: valid UTF-8
 * @add_special: put the tokens around it that the tokenizer puts around a prompt
 * @parse_special: take the text of a special token for that token
 * @n_tokens: (out): how many
 * @error: return location for a #GError
 *
 * Turns text into token ids. Takes about a millisecond for each 10 kB; any thread.
 *
 * Returns: (transfer full) (array length=n_tokens) (nullable): the ids, or %NULL on error and of no text
 */
gint32 *
millrace_model_tokenize (MillraceModel *self, const char *text, gboolean add_special, gboolean parse_special,
                         gsize *n_tokens, GError **error)
{
  g_return_val_if_fail (MILLRACE_IS_MODEL (self), nullptr);
  g_return_val_if_fail (text && n_tokens, nullptr);
  *n_tokens = 0;
  std::vector<TokenId> tokens;
  return tokenize (self, text,
                   {.add_special_tokens = add_special != FALSE, .parse_special = parse_special != FALSE},
                   tokens, error)
             ? copy_tokens (tokens, n_tokens)
             : nullptr;
}

/**
 * millrace_model_tokenize_async:
 * @text: valid UTF-8
 * @add_special: put the tokens around it that the tokenizer puts around a prompt
 * @parse_special: take the text of a special token for that token
 * @cancellable: (nullable): ends the wait
 * @callback: (scope async): called when it is done
 * @user_data: for @callback
 *
 * Turns text of any length into token ids, in another thread.
 */
void
millrace_model_tokenize_async (MillraceModel *self, const char *text, gboolean add_special,
                               gboolean parse_special, GCancellable *cancellable,
                               GAsyncReadyCallback callback, gpointer user_data)
{
  g_return_if_fail (MILLRACE_IS_MODEL (self));
  g_return_if_fail (text);
  GTask *task = g_task_new (self, cancellable, callback, user_data);
  g_task_set_source_tag (task, reinterpret_cast<gpointer> (millrace_model_tokenize_async));
  const EncodeOptions options{.add_special_tokens = add_special != FALSE,
                              .parse_special = parse_special != FALSE};
  run_in_background (task, [text = std::string (text), options] (GTask *work, const std::stop_token &) {
    auto tokens = std::make_unique<std::vector<TokenId>> ();
    GError *error = nullptr;
    if (tokenize (MILLRACE_MODEL (g_task_get_source_object (work)), text, options, *tokens, &error))
      g_task_return_pointer (work, tokens.release (), free_as<std::vector<TokenId>>);
    else
      g_task_return_error (work, error);
  });
  g_object_unref (task);
}

/**
 * millrace_model_tokenize_finish:
 * @result: what the callback got
 * @n_tokens: (out): how many
 * @error: return location for a #GError
 *
 * Returns: (transfer full) (array length=n_tokens) (nullable): the ids, or %NULL on error and of no text
 */
gint32 *
millrace_model_tokenize_finish (MillraceModel *self, GAsyncResult *result, gsize *n_tokens, GError **error)
{
  g_return_val_if_fail (g_task_is_valid (result, self), nullptr);
  g_return_val_if_fail (n_tokens, nullptr);
  *n_tokens = 0;
  const std::unique_ptr<std::vector<TokenId>> tokens (
      static_cast<std::vector<TokenId> *> (g_task_propagate_pointer (G_TASK (result), error)));
  return tokens ? copy_tokens (*tokens, n_tokens) : nullptr;
}

/**
 * millrace_model_detokenize:
 * @tokens: (array length=n_tokens): token ids
 * @n_tokens: how many
 * @error: return location for a #GError
 *
 * Turns token ids into text; what is no valid UTF-8 in it becomes U+FFFD. Any thread.
 *
 * Returns: (transfer full) (nullable): the text, or %NULL on error
 */
char *
millrace_model_detokenize (MillraceModel *self, const gint32 *tokens, gsize n_tokens, GError **error)
{
  g_return_val_if_fail (MILLRACE_IS_MODEL (self), nullptr);
  g_return_val_if_fail (tokens || n_tokens == 0, nullptr);
  std::string text;
  return detokenize (self, {tokens, tokens + n_tokens}, text, error) ? g_strndup (text.data (), text.size ())
                                                                     : nullptr;
}

/**
 * millrace_model_detokenize_async:
 * @tokens: (array length=n_tokens): token ids
 * @n_tokens: how many
 * @cancellable: (nullable): ends the wait
 * @callback: (scope async): called when it is done
 * @user_data: for @callback
 *
 * Turns any number of token ids into text, in another thread.
 */
void
millrace_model_detokenize_async (MillraceModel *self, const gint32 *tokens, gsize n_tokens,
                                 GCancellable *cancellable, GAsyncReadyCallback callback, gpointer user_data)
{
  g_return_if_fail (MILLRACE_IS_MODEL (self));
  g_return_if_fail (tokens || n_tokens == 0);
  GTask *task = g_task_new (self, cancellable, callback, user_data);
  g_task_set_source_tag (task, reinterpret_cast<gpointer> (millrace_model_detokenize_async));
  run_in_background (
      task, [ids = std::vector<TokenId> (tokens, tokens + n_tokens)] (GTask *work, const std::stop_token &) {
        std::string text;
        GError *error = nullptr;
        if (detokenize (MILLRACE_MODEL (g_task_get_source_object (work)), ids, text, &error))
          g_task_return_pointer (work, g_strndup (text.data (), text.size ()), g_free);
        else
          g_task_return_error (work, error);
      });
  g_object_unref (task);
}

/**
 * millrace_model_detokenize_finish:
 * @result: what the callback got
 * @error: return location for a #GError
 *
 * Returns: (transfer full) (nullable): the text, or %NULL on error
 */
char *
millrace_model_detokenize_finish (MillraceModel *self, GAsyncResult *result, GError **error)
{
  g_return_val_if_fail (g_task_is_valid (result, self), nullptr);
  return static_cast<char *> (g_task_propagate_pointer (G_TASK (result), error));
}
