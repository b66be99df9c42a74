// millrace run: completes a prompt.
#include "pipelines/commands.hpp"
#include "pipelines/launch.hpp"

#include <cstdio>
#include <cstring>
#include <string>
#include <sys/mman.h>
#include <unistd.h>

namespace millrace
{

namespace
{

struct RunOptions {
  char *model = nullptr;
  char *weights = nullptr;
  char *weight_cache = nullptr;
  int threads = 0;
  int max_tokens = 256;
  double temperature = 0;
  gint64 seed = 0;
  char *system = nullptr;
  gboolean lock_memory = FALSE, chat = FALSE, jsonl = FALSE, print_pipeline = FALSE, stats = FALSE;
};

std::string
pipeline_string (const RunOptions &options)
{
  std::string text = "fdsrc ! llmbin";
  if (options.model)
    text += " model=" + quoted_value (options.model);
  if (options.weights)
    text += " weights=" + quoted_value (options.weights);
  if (options.threads)
    text += " threads=" + std::to_string (options.threads);
  if (options.weight_cache)
    text += " weight-cache=" + quoted_value (options.weight_cache);
  if (options.lock_memory)
    text += " lock-memory=true";
  text += " prompt::max-tokens=" + std::to_string (options.max_tokens);
  if (options.temperature != 0)
    text += " prompt::temperature=" + number_value (options.temperature) +
            " prompt::seed=" + std::to_string (options.seed);
  if (options.chat)
    text += " prompt::chat=true";
  if (options.system)
    text += " prompt::system-prompt=" + quoted_value (options.system);
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

} // namespace

int
command_run (int argc, char **argv)
{
  RunOptions options;
  const GOptionEntry entries[] = {
      {"model", 'm', 0, G_OPTION_ARG_FILENAME, &options.model,
       "Model folder, or a name in the model path (default: demo)", "PATH"},
      {"weights", 0, 0, G_OPTION_ARG_STRING, &options.weights, "auto, f32, f16, bf16, int8 or int4",
       "FORMAT"},
      {"threads", 't', 0, G_OPTION_ARG_INT, &options.threads, "Threads (default: usable cores)", "N"},
      {"weight-cache", 0, 0, G_OPTION_ARG_FILENAME, &options.weight_cache,
       "Keep packed weights there for the next start; model: beside the model", "FOLDER"},
      {"lock-memory", 0, 0, G_OPTION_ARG_NONE, &options.lock_memory, "Keep the weights in RAM", nullptr},
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
  } else if (!ensure_plugin ("llmbin")) {
    result = 1;
  } else if (std::strcmp (argv[1], "-") != 0 && !feed (argv[1])) {
    std::fprintf (stderr, "error: cannot hand over the prompt: %s\n", g_strerror (errno));
    result = 1;
  } else {
    result = play (text, {.stats = options.stats != FALSE, .fail_with_request = true});
  }
  g_free (options.model);
  g_free (options.weights);
  g_free (options.weight_cache);
  g_free (options.system);
  return result;
}

} // namespace millrace
