/* A conversation in a terminal: type a line, read the answer as it comes; Ctrl-C ends an answer, Ctrl-D the talk.
 *
 * cc chat.c $(pkg-config --cflags --libs millrace-1.0 gio-unix-2.0) -o chat && ./chat
 */
#include <gio/gunixinputstream.h>
#include <glib-unix.h>
#include <millrace/millrace.h>
#include <stdio.h>
#include <unistd.h>

typedef struct {
  GMainLoop *loop;
  MillraceGenerator *generator;
  MillraceRequest *conversation;
  MillraceStream *answer; /* the one that is being given */
  GString *said;
  GDataInputStream *input;
  int status;
} Chat;

static void ask (Chat *chat);

static void
fail (Chat *chat, GError *error)
{
  fprintf (stderr, "error: %s\n", error->message);
  g_error_free (error);
  chat->status = 1;
  g_main_loop_quit (chat->loop);
}

static void
on_text (MillraceStream *stream, const char *text, gpointer data)
{
  Chat *chat = data;
  (void)stream;
  fputs (text, stdout);
  fflush (stdout);
  g_string_append (chat->said, text);
}

static void
on_finished (MillraceStream *stream, MillraceFinishReason reason, gpointer data)
{
  Chat *chat = data;
  GError *error = NULL;
  if (reason == MILLRACE_FINISH_REASON_ERROR && !millrace_stream_get_error (stream, &error)) {
    fprintf (stderr, "error: %s", error->message); /* of this answer; the talk goes on */
    g_error_free (error);
  }
  puts (reason == MILLRACE_FINISH_REASON_CANCELLED ? " [stopped]" : "");
  millrace_request_add_message (chat->conversation, "assistant", chat->said->str);
  g_clear_object (&chat->answer);
  ask (chat);
}

static void
on_line (GObject *source, GAsyncResult *result, gpointer data)
{
  Chat *chat = data;
  GError *error = NULL;
  char *line = g_data_input_stream_read_line_finish_utf8 (G_DATA_INPUT_STREAM (source), result, NULL, &error);
  if (error) {
    fail (chat, error);
    return;
  }
  if (!line) {
    g_main_loop_quit (chat->loop);
    return;
  }
  if (!*line) {
    g_free (line);
    ask (chat);
    return;
  }
  millrace_request_add_message (chat->conversation, "user", line);
  g_free (line);
  g_string_truncate (chat->said, 0);
  chat->answer = millrace_generator_stream (chat->generator, chat->conversation, NULL, &error);
  if (!chat->answer) {
    fail (chat, error);
    return;
  }
  g_signal_connect (chat->answer, "text", G_CALLBACK (on_text), chat);
  g_signal_connect (chat->answer, "finished", G_CALLBACK (on_finished), chat);
}

static void
ask (Chat *chat)
{
  if (isatty (STDIN_FILENO))
    fputs ("> ", stdout);
  fflush (stdout);
  g_data_input_stream_read_line_async (chat->input, G_PRIORITY_DEFAULT, NULL, on_line, chat);
}

static void
on_added (GObject *source, GAsyncResult *result, gpointer data)
{
  GError *error = NULL;
  if (millrace_generator_add_model_finish (MILLRACE_GENERATOR (source), result, &error))
    ask (data);
  else
    fail (data, error);
}

static void
on_loaded (GObject *source, GAsyncResult *result, gpointer data)
{
  Chat *chat = data;
  GError *error = NULL;
  MillraceModel *model = millrace_model_load_finish (result, &error);
  (void)source;
  if (!model) {
    fail (chat, error);
    return;
  }
  millrace_generator_add_model_async (chat->generator, model, NULL, on_added, chat);
  g_object_unref (model);
}

static gboolean
on_interrupt (gpointer data)
{
  Chat *chat = data;
  if (chat->answer)
    millrace_stream_cancel (chat->answer);
  else
    g_main_loop_quit (chat->loop);
  return G_SOURCE_CONTINUE;
}

int
main (int argc, char **argv)
{
  gst_init (&argc, &argv);
  Chat chat = {0};
  chat.loop = g_main_loop_new (NULL, FALSE);
  chat.generator = millrace_generator_new ();
  chat.conversation = millrace_request_new ();
  g_object_set (chat.conversation, "max-tokens", 128, NULL);
  chat.said = g_string_new (NULL);
  GInputStream *terminal = g_unix_input_stream_new (STDIN_FILENO, FALSE);
  chat.input = g_data_input_stream_new (terminal);
  guint interrupt = g_unix_signal_add (SIGINT, on_interrupt, &chat);
  millrace_model_load_async (argc > 1 ? argv[1] : "demo", MILLRACE_WEIGHTS_AUTO, 0, NULL, on_loaded, &chat);

  g_main_loop_run (chat.loop);

  g_source_remove (interrupt);
  g_object_unref (chat.input);
  g_object_unref (terminal);
  g_string_free (chat.said, TRUE);
  g_object_unref (chat.conversation);
  g_object_unref (chat.generator);
  g_main_loop_unref (chat.loop);
  return chat.status;
}
