// millrace inspect: what a model is, what it takes, and what is wrong with it.
#include "pipelines/commands.hpp"

#include "engine/inspection/inspection.hpp"
#include "library/model_path.hpp"

#include <glib.h>

#include <array>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>

namespace millrace
{

namespace
{

constexpr std::array<std::string_view, 6> kWeightNames{"auto", "f32",  "f16",
                                                       "bf16", "int8", "int4"}; // by WeightFormat

struct Options {
  char *weights = nullptr, *kv_type = nullptr;
  int kv_tokens = 0;
  gboolean json = FALSE;

  ~Options ()
  {
    g_free (weights);
    g_free (kv_type);
  }
};

GOptionContext *
option_context (Options &options)
{
  const GOptionEntry entries[] = {
      {"json", 0, 0, G_OPTION_ARG_NONE, &options.json, "One JSON object (docs/program.md has its members)",
       nullptr},
      {"kv-tokens", 0, 0, G_OPTION_ARG_INT, &options.kv_tokens,
       "Tokens of one sequence whose keys and values are counted (default: the context, at most 8192)", "N"},
      {"weights", 0, 0, G_OPTION_ARG_STRING, &options.weights,
       "How the weights are to be held: auto, f32, f16, bf16, int8 or int4 (default: auto)", "FORMAT"},
      {"kv-type", 0, 0, G_OPTION_ARG_STRING, &options.kv_type, "f32, f16, bf16, q8 or k8v4 (default: f32)",
       "TYPE"},
      {nullptr, 0, 0, G_OPTION_ARG_NONE, nullptr, nullptr, nullptr}};
  GOptionContext *context =
      g_option_context_new ("MODEL — what a model is, what it takes, and what is wrong with it");
  g_option_context_set_summary (
      context, "MODEL is a folder, a GGUF file or a name, as for --model. Only headers and small files are\n"
               "read, so that big models take no longer. What cannot be used is said as far as it can be.");
  g_option_context_set_description (
      context, "Exit status: 0 the model loads and fits, 1 it does not, 2 wrong usage.\n");
  g_option_context_add_main_entries (context, entries, nullptr);
  return context;
}

/// The place of `name`; none when it is no such name. Null is the first.
template <typename Names>
std::optional<int>
place_of (const char *name, const Names &names)
{
  for (size_t i = 0; i < names.size (); ++i)
    if (!name || names[i] == name)
      return static_cast<int> (i);
  return std::nullopt;
}

std::array<std::string_view, kKvTypes>
kv_names ()
{
  std::array<std::string_view, kKvTypes> names;
  for (int type = 0; type < kKvTypes; ++type)
    names[static_cast<size_t> (type)] = kv_type_name (static_cast<KvType> (type));
  return names;
}

} // namespace

int
command_inspect (int argc, char **argv)
{
  Options options;
  GOptionContext *context = option_context (options);
  GError *error = nullptr;
  const bool parsed = g_option_context_parse (context, &argc, &argv, &error);
  g_option_context_free (context);
  const auto weights = place_of (options.weights, kWeightNames),
             kv_type = place_of (options.kv_type, kv_names ());
  const char *problem = error                   ? error->message
                        : argc != 2             ? "give one model"
                        : !weights              ? "--weights must be auto, f32, f16, bf16, int8 or int4"
                        : !kv_type              ? "--kv-type must be f32, f16, bf16, q8 or k8v4"
                        : options.kv_tokens < 0 ? "--kv-tokens must be above 0"
                                                : nullptr;
  if (!parsed || problem) {
    std::fprintf (stderr, "error: %s\n", problem);
    g_clear_error (&error);
    return 2;
  }
  const Inspection inspection =
      inspect_model (find_model (argv[1]), {.weights = static_cast<WeightFormat> (*weights),
                                            .kv_type = static_cast<KvType> (*kv_type),
                                            .kv_tokens = options.kv_tokens});
  std::fputs ((options.json ? inspection_json (inspection) + "\n" : inspection_text (inspection)).c_str (),
              stdout);
  return inspection.loads () && inspection.fits () ? 0 : 1;
}

} // namespace millrace
