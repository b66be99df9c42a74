/* Generates text in a GApplication: nothing here ever blocks the main loop.
 *
 * cc application.c $(pkg-config --cflags --libs millrace-1.0) -o application
 * ./application --model=demo-draft --max-tokens=24 "def fibonacci(n):"
 */
#include <millrace/millrace.h>

typedef struct {
  GApplication *application; /* held until the text has ended */
  GApplicationCommandLine *line;
  MillraceGenerator *generator;
  MillraceStream *stream;
  char *prompt;
  int max_tokens;
} Job;

static int status = 0;

static void
finish (Job *job, GError *error)
{
  if (error)
    g_application_command_line_printerr (job->line, "error: %s\n", error->message);
  else
    g_application_command_line_print (job->line, "\n");
  status = error ? 1 : 0;
  g_clear_error (&error);
  g_clear_object (&job->stream);
  g_clear_object (&job->generator);
  g_clear_object (&job->line);
  g_application_release (job->application);
  g_free (job->prompt);
  g_free (job);
}

static void
on_text (MillraceStream *stream, const char *text, gpointer data)
{
  Job *job = data;
  (void)stream;
  g_application_command_line_print (job->line, "%s", text);
}

static void
on_finished (MillraceStream *stream, MillraceFinishReason reason, gpointer data)
{
  GError *error = NULL;
  (void)reason;
  millrace_stream_get_error (stream, &error);
  finish (data, error);
}

static void
on_added (GObject *source, GAsyncResult *result, gpointer data)
{
  Job *job = data;
  GError *error = NULL;
  if (!millrace_generator_add_model_finish (MILLRACE_GENERATOR (source), result, &error)) {
    finish (job, error);
    return;
  }
  MillraceRequest *request = millrace_request_new_for_prompt (job->prompt);
  g_object_set (request, "max-tokens", job->max_tokens, NULL);
  job->stream = millrace_generator_stream (job->generator, request, NULL, &error);
  g_object_unref (request);
  if (!job->stream) {
    finish (job, error);
    return;
  }
  g_signal_connect (job->stream, "text", G_CALLBACK (on_text), job);
  g_signal_connect (job->stream, "finished", G_CALLBACK (on_finished), job);
}

static void
on_loaded (GObject *source, GAsyncResult *result, gpointer data)
{
  Job *job = data;
  GError *error = NULL;
  MillraceModel *model = millrace_model_load_finish (result, &error);
  (void)source;
  if (!model) {
    finish (job, error);
    return;
  }
  job->generator = millrace_generator_new ();
  millrace_generator_add_model_async (job->generator, model, NULL, on_added, job);
  g_object_unref (model);
}

static int
on_command_line (GApplication *application, GApplicationCommandLine *line)
{
  GVariantDict *options = g_application_command_line_get_options_dict (line);
  const char *model = "demo";
  int count = 0;
  char **arguments = g_application_command_line_get_arguments (line, &count);
  Job *job = g_new0 (Job, 1);
  job->application = application;
  g_application_hold (application);
  job->line = g_object_ref (line);
  job->prompt = g_strdup (count > 1 ? arguments[1] : "import os");
  job->max_tokens = 64;
  g_variant_dict_lookup (options, "max-tokens", "i", &job->max_tokens);
  g_variant_dict_lookup (options, "model", "&s", &model);
  millrace_model_load_async (model, MILLRACE_WEIGHTS_AUTO, 0, NULL, on_loaded, job);
  g_strfreev (arguments);
  return 0;
}

int
main (int argc, char **argv)
{
  gst_init (NULL, NULL);
  GApplication *application =
      g_application_new (NULL, G_APPLICATION_HANDLES_COMMAND_LINE | G_APPLICATION_NON_UNIQUE);
  g_application_add_main_option (application, "model", 'm', 0, G_OPTION_ARG_STRING, "Model", "NAME");
  g_application_add_main_option (application, "max-tokens", 'n', 0, G_OPTION_ARG_INT, "Tokens at most", "N");
  g_signal_connect (application, "command-line", G_CALLBACK (on_command_line), NULL);
  int usage = g_application_run (application, argc, argv);
  g_object_unref (application);
  return usage ? usage : status;
}
