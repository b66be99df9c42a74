// millrace quantize: writes a model again in other types.
#include "pipelines/commands.hpp"
#include "pipelines/progress.hpp"

#include "engine/conversion/conversion.hpp"
#include "engine/size_text.hpp"
#include "library/model_path.hpp"

#include <glib.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <stdexcept>
#include <string>

namespace millrace
{

namespace
{

std::atomic<bool> stopped = false;

struct Options {
  char *type = nullptr;
  char **overrides = nullptr;
  int threads = 0;
  gboolean quiet = FALSE;

  ~Options ()
  {
    g_free (type);
    g_strfreev (overrides);
  }
};

/// While a model is written: signals stop it, and what is there of it goes away.
class SignalsStop
{
public:
  SignalsStop ()
  {
    struct sigaction action = {};
    action.sa_handler = [] (int) { stopped = true; };
    sigaction (SIGINT, &action, &interrupt_);
    sigaction (SIGTERM, &action, &terminate_);
  }
  ~SignalsStop ()
  {
    sigaction (SIGINT, &interrupt_, nullptr);
    sigaction (SIGTERM, &terminate_, nullptr);
  }
  SignalsStop (const SignalsStop &) = delete;
  SignalsStop &operator= (const SignalsStop &) = delete;

private:
  struct sigaction interrupt_ = {}, terminate_ = {};
};

GOptionContext *
option_context (Options &options)
{
  const GOptionEntry entries[] = {
      {"type", 't', 0, G_OPTION_ARG_STRING, &options.type, "Of the matrices, see below", "TYPE"},
      {"override", 0, 0, G_OPTION_ARG_STRING_ARRAY, &options.overrides,
       "Another type for tensors whose names, as written, fit a shell's pattern; the last one counts",
       "PATTERN=TYPE"},
      {"threads", 0, 0, G_OPTION_ARG_INT, &options.threads, "Threads (default: usable cores)", "N"},
      {"quiet", 'q', 0, G_OPTION_ARG_NONE, &options.quiet, "No progress and no summary", nullptr},
      {nullptr, 0, 0, G_OPTION_ARG_NONE, nullptr, nullptr, nullptr}};
  GOptionContext *context = g_option_context_new ("IN OUT — write a model in other types");
  g_option_context_set_summary (
      context,
      "IN is a model as --model takes it. OUT is a GGUF file when its name ends in .gguf, otherwise a\n"
      "folder of safetensors, which must not be there yet.");
  const std::string description =
      "Types: " + wanted_type_names () +
      ".\n\nThose with numbers and _K, and MXFP4, are of GGUF files; names with _S, _M and _L are mixes, as "
      "llama.cpp has\n"
      "them. affineBgG is for folders: codes of B bits in groups of G, as MLX has them. Norms, biases, "
      "convolutions\n"
      "and what chooses experts stay floats.\n\n"
      "The file or folder gets its name when it is whole. The same input gives the same bytes on any number "
      "of threads.\n\n"
      "Exit status: 0 written, 1 failed, 2 wrong usage, 130 stopped by a signal.\n";
  g_option_context_set_description (context, description.c_str ());
  g_option_context_add_main_entries (context, entries, nullptr);
  return context;
}

void
print_summary (const ConversionSummary &summary, Progress &progress)
{
  for (const std::string &note : summary.notes)
    progress.note ("note: " + note);
  uint64_t elements = 0, bytes = 0;
  for (const auto &[name, type] : summary.types) {
    elements += type.elements;
    bytes += type.bytes;
    progress.note (name + ": " + std::to_string (type.tensors) +
                   (type.tensors == 1 ? " tensor, " : " tensors, ") + count_text (type.elements) +
                   " parameters, " + size_text (type.bytes));
  }
  char bits[32];
  std::snprintf (bits, sizeof bits, "%.2f",
                 8.0 * static_cast<double> (bytes) / static_cast<double> (MAX (elements, 1u)));
  progress.note ("in all " + count_text (elements) + " parameters, " + size_text (bytes) + ", " + bits +
                 " bits each");
}

/// Throws std::invalid_argument.
ConversionRequest
request_of (const Options &options, const char *from, const char *to)
{
  if (!options.type)
    throw std::invalid_argument ("--type is missing; types are " + wanted_type_names ());
  const auto type = parse_wanted_type (options.type);
  if (!type)
    throw std::invalid_argument ("\"" + std::string (options.type) + "\" is no type; types are " +
                                 wanted_type_names ());
  if (options.threads < 0 || options.threads > 1024)
    throw std::invalid_argument ("--threads must be from 0 to 1024");
  ConversionRequest request{find_model (from), to, *type, {}, options.threads, {}};
  for (char **override = options.overrides; override && *override; ++override)
    request.overrides.push_back (parse_type_override (*override));
  return request;
}

} // namespace

int
command_quantize (int argc, char **argv)
{
  Options options;
  GOptionContext *context = option_context (options);
  GError *error = nullptr;
  const bool parsed = g_option_context_parse (context, &argc, &argv, &error);
  g_option_context_free (context);
  if (!parsed || argc != 3) {
    std::fprintf (stderr, "error: %s\n",
                  error ? error->message : "give a model, and a file or folder to write");
    g_clear_error (&error);
    return 2;
  }
  try {
    ConversionRequest request = request_of (options, argv[1], argv[2]);
    Progress progress (options.quiet != FALSE, count_text);
    request.progress.cancelled = &stopped;
    request.progress.report = [&] (uint64_t done, uint64_t total, const std::string &name) {
      progress.draw (done, total, 0, name);
    };
    const SignalsStop signals;
    const ConversionSummary summary = convert_model (request);
    if (!options.quiet)
      print_summary (summary, progress);
    return 0;
  } catch (const Cancelled &) {
    std::fprintf (stderr, "stopped; nothing is left of it\n");
    return 130;
  } catch (const std::invalid_argument &wrong) {
    std::fprintf (stderr, "error: %s\n", wrong.what ());
    return 2;
  } catch (const std::exception &failure) {
    std::fprintf (stderr, "error: %s\n", failure.what ());
    return 1;
  }
}

} // namespace millrace
