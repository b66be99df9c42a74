// The program `millrace`: thin commands around pipeline strings that anyone could type.
//
//   millrace run "PROMPT"      completes a prompt; --print-pipeline prints the string that it runs
//   millrace run -             the prompt (or, with --jsonl, requests) from standard input

#include "library/ref.hpp"

#include <gst/gst.h>
#include <millrace/millrace.h>

#include <glib-unix.h>

#include <cstdio>
#include <cstring>
#include <string>
#include <sys/mman.h>
#include <unistd.h>

namespace
{

using millrace::Ref;

struct RunOptions {
  char *model = nullptr;
  char *weights = nullptr;
  int threads = 0;
  int max_tokens = 256;
  double temperature = 0;
  gint64 seed = 0;
  char *system = nullptr;
  gboolean chat = FALSE, jsonl = FALSE, print_pipeline = FALSE, stats = FALSE;
};

// In the syntax of gst_parse_launch: a value in double quotes, quotes and backslashes escaped.
std::string
quoted (const char *value)
{
  std::string text = "\"";
  for (; *value; value++) {
    if (*value == '"' || *value == '\\')
      text += '\\';
    text += *value;
  }
  return text + "\"";
}

std::string
number (double value)
{
  char text[G_ASCII_DTOSTR_BUF_SIZE];
  return g_ascii_dtostr (text, sizeof text, value);
}

std::string
pipeline_string (const RunOptions &options)
{
  std::string text = "fdsrc ! llmbin";
  if (options.model)
    text += " model=" + quoted (options.model);
  if (options.weights)
    text += " weights=" + quoted (options.weights);
  if (options.threads)
    text += " threads=" + std::to_string (options.threads);
  text += " prompt::max-tokens=" + std::to_string (options.max_tokens);
  if (options.temperature != 0)
    text += " prompt::temperature=" + number (options.temperature) +
            " prompt::seed=" + std::to_string (options.seed);
  if (options.chat)
    text += " prompt::chat=true";
  if (options.system)
    text += " prompt::system-prompt=" + quoted (options.system);
  text += options.jsonl ? " prompt::boundary=jsonl detokenizer::format=jsonl" : " prompt::boundary=eos";
  return text + " ! fdsink";
}

// Makes `prompt` this process's standard input, so that the pipeline is the one that a shell would run.
bool
feed (const char *prompt)
{
  const int fd = memfd_create ("prompt", MFD_CLOEXEC);
  const size_t length = std::strlen (prompt);
  return fd >= 0 && write (fd, prompt, length) == static_cast<ssize_t> (length) &&
         lseek (fd, 0, SEEK_SET) == 0 && dup2 (fd, STDIN_FILENO) >= 0 && close (fd) == 0;
}

struct Run {
  GMainLoop *loop;
  bool failed = false;
  bool interrupted = false;
  bool stats = false;
};

void
print_statistics (const GstStructure *message)
{
  int tokens = 0, prompt_tokens = 0, accepted = 0;
  guint64 first = 0, total = 0;
  gst_structure_get (message, "prompt-tokens", G_TYPE_INT, &prompt_tokens, "completion-tokens", G_TYPE_INT,
                     &tokens, "accepted-tokens", G_TYPE_INT, &accepted, "first-token-time", G_TYPE_UINT64,
                     &first, "total-time", G_TYPE_UINT64, &total, nullptr);
  const double seconds = static_cast<double> (total - MIN (first, total)) / GST_SECOND;
  std::fprintf (
      stderr,
      "\n%s: %d prompt tokens, first token after %.1f ms, %d tokens (%d of them drafted), %.1f tokens/s\n",
      gst_structure_get_string (message, "id"), prompt_tokens, static_cast<double> (first) / GST_MSECOND,
      tokens, accepted, tokens > 1 && seconds > 0 ? (tokens - 1) / seconds : 0.0);
}

gboolean
on_message (GstBus *, GstMessage *message, gpointer data)
{
  auto *run = static_cast<Run *> (data);
  switch (GST_MESSAGE_TYPE (message)) {
  case GST_MESSAGE_ERROR:
  case GST_MESSAGE_WARNING: {
    GError *error = nullptr;
    g_autofree char *debug = nullptr;
    const bool fatal = GST_MESSAGE_TYPE (message) == GST_MESSAGE_ERROR;
    if (fatal)
      gst_message_parse_error (message, &error, &debug);
    else
      gst_message_parse_warning (message, &error, &debug);
    std::fprintf (stderr, "%s: %s\n", fatal ? "error" : "warning", error->message);
    g_clear_error (&error);
    if (fatal) {
      run->failed = true;
      g_main_loop_quit (run->loop);
    }
    break;
  }
  case GST_MESSAGE_EOS:
    g_main_loop_quit (run->loop);
    break;
  case GST_MESSAGE_ELEMENT: {
    const GstStructure *structure = gst_message_get_structure (message);
    if (gst_structure_has_name (structure, "llm-request")) {
      run->failed = run->failed || gst_structure_has_field (structure, "error");
      if (run->stats)
        print_statistics (structure);
    }
    break;
  }
  default:
    break;
  }
  return G_SOURCE_CONTINUE;
}

gboolean
on_interrupt (gpointer data)
{
  auto *run = static_cast<Run *> (data);
  run->interrupted = true;
  g_main_loop_quit (run->loop);
  return G_SOURCE_CONTINUE;
}

int
play (const std::string &text, bool stats)
{
  GError *error = nullptr;
  auto pipeline = Ref<GstElement>::adopt (gst_parse_launch (text.c_str (), &error));
  if (pipeline)
    gst_object_ref_sink (pipeline.get ());
  if (error) {
    std::fprintf (stderr, "error: %s\n", error->message);
    g_clear_error (&error);
    return 1;
  }
  Run run{g_main_loop_new (nullptr, FALSE)};
  run.stats = stats;
  GstBus *bus = gst_element_get_bus (pipeline.get ());
  const guint watch = gst_bus_add_watch (bus, on_message, &run);
  gst_object_unref (bus);
  const guint interrupt = g_unix_signal_add (SIGINT, on_interrupt, &run);
  const guint terminate = g_unix_signal_add (SIGTERM, on_interrupt, &run);

  gst_element_set_state (pipeline.get (), GST_STATE_PLAYING);
  g_main_loop_run (run.loop); // a failed state change posts an error, which ends it
  gst_element_set_state (pipeline.get (), GST_STATE_NULL);

  for (guint source : {watch, interrupt, terminate})
    g_source_remove (source);
  g_main_loop_unref (run.loop);
  return run.interrupted ? 130 : run.failed ? 1 : 0;
}

// Installed outside GStreamer's own prefix the plug-in is not on its path; the program knows where it is.
bool
ensure_plugin ()
{
  if (!gst_registry_check_feature_version (gst_registry_get (), "llmbin", 0, 1, 0))
    gst_registry_scan_path (gst_registry_get (), MILLRACE_PLUGIN_DIRECTORY);
  if (gst_registry_check_feature_version (gst_registry_get (), "llmbin", 0, 1, 0))
    return true;
  std::fprintf (stderr, "error: the GStreamer plug-in \"millrace\" was not found in GST_PLUGIN_PATH or %s\n",
                MILLRACE_PLUGIN_DIRECTORY);
  return false;
}

int
command_run (int argc, char **argv)
{
  RunOptions options;
  const GOptionEntry entries[] = {
      {"model", 'm', 0, G_OPTION_ARG_FILENAME, &options.model,
       "Model folder, or a name in the model path (default: demo)", "PATH"},
      {"weights", 0, 0, G_OPTION_ARG_STRING, &options.weights, "auto, f32, f16, bf16 or int8", "FORMAT"},
      {"threads", 't', 0, G_OPTION_ARG_INT, &options.threads, "Threads (default: usable cores)", "N"},
      {"max-tokens", 'n', 0, G_OPTION_ARG_INT, &options.max_tokens,
       "Tokens to generate at most (default: 256)", "N"},
      {"temperature", 0, 0, G_OPTION_ARG_DOUBLE, &options.temperature, "0: greedy (default)", "T"},
      {"seed", 0, 0, G_OPTION_ARG_INT64, &options.seed, "Of the random numbers (default: 0)", "N"},
      {"chat", 'c', 0, G_OPTION_ARG_NONE, &options.chat, "Take the prompt as a user's message", nullptr},
      {"system", 0, 0, G_OPTION_ARG_STRING, &options.system, "System message, with --chat", "TEXT"},
      {"jsonl", 0, 0, G_OPTION_ARG_NONE, &options.jsonl, "Requests and results as JSON Lines", nullptr},
      {"print-pipeline", 0, 0, G_OPTION_ARG_NONE, &options.print_pipeline, "Print the pipeline and exit",
       nullptr},
      {"stats", 's', 0, G_OPTION_ARG_NONE, &options.stats, "Print tokens and times of each request", nullptr},
      {nullptr, 0, 0, G_OPTION_ARG_NONE, nullptr, nullptr, nullptr}};
  GOptionContext *context = g_option_context_new ("PROMPT|- — complete a prompt");
  g_option_context_add_main_entries (context, entries, nullptr);
  g_option_context_add_group (context, gst_init_get_option_group ());
  GError *error = nullptr;
  const bool parsed = g_option_context_parse (context, &argc, &argv, &error);
  g_option_context_free (context);
  if (!parsed || (argc != 2 && !options.print_pipeline)) {
    std::fprintf (stderr, "error: %s\n", error ? error->message : "give one prompt, or - for standard input");
    g_clear_error (&error);
    return 2;
  }

  int result = 0;
  const std::string text = pipeline_string (options);
  if (options.print_pipeline) {
    std::printf ("%s\n", text.c_str ());
  } else if (!ensure_plugin ()) {
    result = 1;
  } else if (std::strcmp (argv[1], "-") != 0 && !feed (argv[1])) {
    std::fprintf (stderr, "error: cannot hand over the prompt: %s\n", g_strerror (errno));
    result = 1;
  } else {
    result = play (text, options.stats);
  }
  g_free (options.model);
  g_free (options.weights);
  g_free (options.system);
  return result;
}

int
usage (FILE *to)
{
  std::fprintf (to, "Usage: millrace COMMAND\n\n"
                    "  run PROMPT|-   complete a prompt (see millrace run --help)\n"
                    "  version        print the version\n");
  return to == stderr ? 2 : 0;
}

} // namespace

int
main (int argc, char **argv)
{
  const std::string command = argc > 1 ? argv[1] : "";
  if (command == "run")
    return command_run (argc - 1, argv + 1);
  if (command == "version" || command == "--version") {
    std::printf ("millrace %s\n", MILLRACE_VERSION);
    return 0;
  }
  return usage (command == "help" || command == "--help" ? stdout : stderr);
}
