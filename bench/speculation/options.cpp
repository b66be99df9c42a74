#include "bench/speculation/options.hpp"

#include "bench/arguments.hpp"
#include "bench/speculation/prompts.hpp"

#include <cstdio>
#include <stdexcept>
#include <utility>

namespace millrace::bench
{

namespace
{

constexpr int kMostThreads = 1024, kMostStreams = 16, kMostTokens = 4096, kMostRepetitions = 1000,
              kMostMicroseconds = 1'000'000'000;

/// FIRST,MORE of the model and, optionally, of the draft model.
void
set_times (SpecOptions &options, std::string_view flag, std::string_view value)
{
  const std::vector<int> times = parse_numbers (flag, value, 1, kMostMicroseconds);
  if (times.size () != 2 && times.size () != 4)
    throw std::invalid_argument (std::string (flag) + " wants two numbers, or four with a draft model");
  options.model_time = PassTime{times[0], times[1]};
  if (times.size () == 4)
    options.draft_model_time = PassTime{times[2], times[3]};
}

/// A flag with a value.
void
set_option (SpecOptions &options, std::string_view flag, std::string_view value)
{
  if (flag == "-m" || flag == "--model")
    options.model = value;
  else if (flag == "-md" || flag == "--draft-model")
    options.draft_model = value;
  else if (flag == "--replay-costs")
    options.replay_costs = value;
  else if (flag == "--simulate")
    set_times (options, flag, value);
  else if (flag == "--prompts")
    options.prompts = value;
  else if (flag == "-c" || flag == "--categories")
    options.filters = parts (value);
  else if (flag == "-s" || flag == "--streams") {
    options.streams = parse_numbers (flag, value, 1, kMostStreams);
  } else if (flag == "--modes") {
    options.modes.clear ();
    for (const std::string &part : parts (value))
      if (const Mode &mode = mode_of (part); &mode != &modes ()[0])
        options.modes.push_back (&mode);
  } else if (flag == "-t" || flag == "--threads")
    options.threads = parse_number (flag, value, 1, kMostThreads);
  else if (flag == "-n" || flag == "--n-gen")
    options.tokens = parse_number (flag, value, 2, kMostTokens);
  else if (flag == "-r" || flag == "--repetitions")
    options.repetitions = parse_number (flag, value, 1, kMostRepetitions);
  else if (flag == "--cost-samples")
    options.cost_samples = parse_number (flag, value, 1, kMostRepetitions);
  else if (flag == "--most-prompts")
    options.most_prompts = parse_number (flag, value, 1, kMostTokens);
  else if (flag == "-ctk" || flag == "--kv-type")
    options.kv_type = parse_kv_type (value);
  else if (flag == "--weights")
    options.weights = parse_weights (value);
  else if (flag == "-o" || flag == "--output")
    options.json = parse_output (value);
  else
    throw std::invalid_argument ("unknown option " + std::string (flag) + "; see --help");
}

} // namespace

SpecOptions
parse_spec_options (std::span<char *const> arguments)
{
  SpecOptions options;
  options.model = MILLRACE_SOURCE_DIR "/models/demo";
  options.prompts = MILLRACE_SOURCE_DIR "/bench/speculation/prompts";
  bool named = false;
  for (size_t i = 0; i < arguments.size (); i++) {
    const std::string_view flag = arguments[i];
    if (flag == "--show") {
      options.show = true;
      continue;
    }
    if (i + 1 == arguments.size ())
      throw std::invalid_argument (std::string (flag) + " is unknown or lacks a value; see --help");
    set_option (options, flag, arguments[++i]);
    named = named || flag == "--modes";
  }
  const bool with_model = !options.draft_model.empty ();
  const bool costs_known = options.replay_costs.empty () || options.draft_model_time;
  for (const Mode &mode : modes ().subspan (1))
    if (!named && (!mode.needs_draft_model || (with_model && costs_known)))
      options.modes.push_back (&mode);
  for (const Mode *mode : options.modes) {
    if (mode->needs_draft_model && !with_model)
      throw std::invalid_argument ("mode " + std::string (mode->name) + " wants a draft model: -md FOLDER");
    if (mode->needs_draft_model && !costs_known)
      throw std::invalid_argument (
          "mode " + std::string (mode->name) +
          " cannot be replayed: what the draft model costs belongs to the model it is for");
    if (mode->needs_draft_model && options.model_time && !options.draft_model_time)
      throw std::invalid_argument ("mode " + std::string (mode->name) +
                                   " wants four numbers after --simulate");
  }
  return options;
}

void
print_spec_help ()
{
  std::fputs (
      "llm-spec-bench [OPTION…]   what drafts bring on real prompts, against decoding without any\n"
      "\n"
      "Each prompt is answered without drafts and with each mode's by turns, -r times; answers must "
      "be the same, or\n"
      "the exit code is 1. Times are from the last stream's first token to each one's end; of several "
      "streams the\n"
      "geometric mean of their rates counts (\"to the end\": of all tokens until the last has ended). "
      "Speed-ups are medians of the\n"
      "repetitions' ratios, in each of which all take turns every 16 tokens. From six repetitions on "
      "the interval\n"
      "holds the true median in 95 of 100 cases; of fewer it is the lowest and the highest.\n"
      "  -m FOLDER|FILE     the model, with a chat template (default: the demo model)\n"
      "  -md FOLDER|FILE    a draft model, for the modes that have one (default: none, and such "
      "modes are left out)\n"
      "  -s N,…             streams at a time, 1 to 16 (default 1,4,8): a prompt and those after it "
      "in its category\n"
      "  -n N               tokens of an answer at most (default 256)\n"
      "  -r N               repetitions (default 5), after a warm-up at each temperature\n"
      "  -t N               threads (default: cores that this process may use)\n"
      "  -c NAME,…          categories whose name contains one of these (default all):\n"
      "                    ",
      stdout);
  for (const Category &category : categories ())
    std::printf (" %s", std::string (category.name).c_str ());
  std::printf ("\n  --modes NAME,…     (default all that are possible)\n");
  for (const Mode &mode : modes ())
    std::printf ("                     %s: %s\n", std::string (mode.name).c_str (),
                 std::string (mode.what).c_str ());
  std::fputs (
      "  --replay-costs M   answers are the model's, times are those of model M that is made to say them\n"
      "                     (any model with at least as large a vocabulary: bench/make_model writes some)\n"
      "  --simulate A,B[,C,D]  steps take A + B (n - 1) microseconds of a clock of their own, passes of the "
      "draft\n"
      "                     model C + D (n - 1): the same in every run; with --replay-costs of a tiny model, "
      "quick\n"
      "  -ctk, --kv-type T  f32 (default), f16, bf16, q8, k8v4\n"
      "  --weights FORMAT   auto (default: as the file has them), f32, f16, bf16, int8, int4\n"
      "  --cost-samples N   steps by which the cost of each number of scored tokens is measured (default "
      "24)\n"
      "  --most-prompts N   of each category\n"
      "  --prompts FOLDER   other prompts: FOLDER/CATEGORY/NAME.txt\n"
      "  --show             print the answers and measure nothing\n"
      "  -o table|json\n",
      stdout);
}

} // namespace millrace::bench
