// millrace serve: an HTTP endpoint.
#include "pipelines/commands.hpp"
#include "pipelines/launch.hpp"

#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

namespace millrace
{

namespace
{

/// An option that becomes a property of an element in the pipeline string.
struct Option {
  const char *name;
  char letter;
  enum Element { kSource, kPrompt, kScheduler } element;
  const char *property;
  const char *help, *argument;
  char *value = nullptr;
};

std::vector<Option>
options ()
{
  return {
      {"model", 'm', Option::kSource, "model", "Model folder, or a name in the model path (default: demo)",
       "PATH"},
      {"weights", 0, Option::kSource, "weights", "auto, f32, f16, bf16, int8 or int4", "FORMAT"},
      {"threads", 't', Option::kSource, "threads", "Threads of computation (default: usable cores)", "N"},
      {"weight-cache", 0, Option::kSource, "weight-cache",
       "Keep packed weights there for the next start; model: beside the model", "FOLDER"},
      {"address", 'a', Option::kSource, "address",
       "IP address to listen on (default: 127.0.0.1; 0.0.0.0: all)", "IP"},
      {"port", 'p', Option::kSource, "port", "TCP port (default: 8080; 0: any)", "PORT"},
      {"api-key", 0, Option::kSource, "api-key",
       "Keys that callers may use, separated by commas (or $MILLRACE_API_KEY)", "KEYS"},
      {"api-key-file", 0, Option::kSource, "api-key-file", "File with keys, one a line", "FILE"},
      {"tls-certificate", 0, Option::kSource, "tls-certificate",
       "PEM file; with it the endpoint speaks HTTPS", "FILE"},
      {"tls-key", 0, Option::kSource, "tls-key", "PEM file of the private key", "FILE"},
      {"cors-origins", 0, Option::kSource, "cors-origins",
       "Origins whose pages may call, separated by commas", "ORIGINS"},
      {"model-names", 0, Option::kSource, "model-names",
       "Names that requests may call the model by; * is any", "NAMES"},
      {"max-body-size", 0, Option::kSource, "max-body-size", "Bytes of a request's body (default: 16777216)",
       "BYTES"},
      {"max-connections", 0, Option::kSource, "max-connections", "Connections at a time (default: 1024)",
       "N"},
      {"requests-per-minute", 0, Option::kSource, "requests-per-minute",
       "Of one key or address (default: any number)", "N"},
      {"max-concurrent", 0, Option::kSource, "max-concurrent", "Requests of one key or address at a time",
       "N"},
      {"slow-client-timeout", 0, Option::kSource, "slow-client-timeout",
       "Until a client that reads nothing is let go", "MS"},
      {"max-batch", 'b', Option::kScheduler, "max-batch", "Requests that run together", "N"},
      {"max-queued", 0, Option::kScheduler, "max-queued", "Requests that wait; more get 429", "N"},
      {"kv-memory", 0, Option::kScheduler, "kv-memory",
       "Bytes for keys and values (default: from free memory)", "BYTES"},
      {"kv-type", 0, Option::kScheduler, "kv-type", "f32, f16, bf16, q8 or k8v4", "TYPE"},
      {"cache-directory", 0, Option::kScheduler, "cache-directory",
       "Keep cached prefixes there over restarts", "PATH"},
      {"max-tokens", 'n', Option::kPrompt, "max-tokens",
       "For requests that do not say (default 0: the context's rest)", "N"},
      {"timeout-ms", 0, Option::kPrompt, "timeout-ms", "For requests that do not say (default 0: none)",
       "MS"},
  };
}

std::string
pipeline_string (const std::vector<Option> &all, bool quiet, bool log_bodies, bool lock_memory)
{
  std::string source, prompt = " model-defaults=true", scheduler = " when-full=reject";
  bool has_max_tokens = false;
  for (const auto &option : all) {
    if (!option.value)
      continue;
    std::string &element = option.element == Option::kSource   ? source
                           : option.element == Option::kPrompt ? prompt
                                                               : scheduler;
    element += std::string (" ") + option.property + "=" + quoted_value (option.value);
    has_max_tokens |= std::string_view (option.property) == "max-tokens";
  }
  if (!has_max_tokens)
    prompt += " max-tokens=0";
  if (lock_memory)
    source += " lock-memory=true";
  if (!quiet)
    source += " log-requests=true";
  if (log_bodies)
    source += " log-bodies=true";
  return "llmhttpsrc" + source + " ! llmprompt" + prompt + " ! llmtokenizer ! llmscheduler" + scheduler +
         " ! llmprefill ! llmngramdrafter ! llmverifier ! llmsampler ! llmdetokenizer"
         " ! queue max-size-buffers=0 max-size-bytes=0 max-size-time=0 ! llmhttpsink";
}

void
print_address (GstElement *pipeline)
{
  GstIterator *sources = gst_bin_iterate_sources (GST_BIN (pipeline));
  GValue item = G_VALUE_INIT;
  if (gst_iterator_next (sources, &item) == GST_ITERATOR_OK) {
    g_autofree char *address = nullptr, *certificate = nullptr;
    int port = 0;
    g_object_get (g_value_get_object (&item), "address", &address, "bound-port", &port, "tls-certificate",
                  &certificate, nullptr);
    const char *host = g_strcmp0 (address, "0.0.0.0") == 0 ? "localhost" : address;
    std::fprintf (stderr, "listening on %s://%s:%d/v1\n", certificate ? "https" : "http", host, port);
    g_value_unset (&item);
  }
  gst_iterator_free (sources);
}

} // namespace

int
command_serve (int argc, char **argv)
{
  auto all = options ();
  gboolean print = FALSE, quiet = FALSE, log_bodies = FALSE, lock_memory = FALSE;
  int drain_timeout_s = 30;
  std::vector<GOptionEntry> entries;
  for (auto &option : all)
    entries.push_back (
        {option.name, option.letter, 0, G_OPTION_ARG_STRING, &option.value, option.help, option.argument});
  entries.push_back ({"drain-timeout", 0, 0, G_OPTION_ARG_INT, &drain_timeout_s,
                      "Seconds that running requests have after SIGTERM (default: 30)", "S"});
  entries.push_back (
      {"lock-memory", 0, 0, G_OPTION_ARG_NONE, &lock_memory, "Keep the weights in RAM", nullptr});
  entries.push_back ({"quiet", 'q', 0, G_OPTION_ARG_NONE, &quiet, "No line for each request", nullptr});
  entries.push_back (
      {"log-bodies", 0, 0, G_OPTION_ARG_NONE, &log_bodies, "Prompts and all in those lines", nullptr});
  entries.push_back (
      {"print-pipeline", 0, 0, G_OPTION_ARG_NONE, &print, "Print the pipeline and exit", nullptr});
  entries.push_back ({nullptr, 0, 0, G_OPTION_ARG_NONE, nullptr, nullptr, nullptr});
  GOptionContext *context = g_option_context_new ("— serve an OpenAI-compatible HTTP endpoint");
  g_option_context_add_main_entries (context, entries.data (), nullptr);
  g_option_context_add_group (context, gst_init_get_option_group ());
  GError *error = nullptr;
  const bool parsed = g_option_context_parse (context, &argc, &argv, &error);
  g_option_context_free (context);
  int result = 2;
  if (!parsed || argc != 1) {
    std::fprintf (stderr, "error: %s\n", error ? error->message : "millrace serve takes options only");
    g_clear_error (&error);
  } else {
    const std::string text = pipeline_string (all, quiet, log_bodies, lock_memory);
    if (print) {
      std::printf ("%s\n", text.c_str ());
      result = 0;
    } else if (ensure_plugin ("llmprompt") && ensure_plugin ("llmhttpsrc")) {
      result = play (text, {.drain_timeout_s = MAX (0, drain_timeout_s), .on_playing = print_address});
    } else {
      result = 1;
    }
  }
  for (auto &option : all)
    g_free (option.value);
  return result;
}

} // namespace millrace
