#include "bench/llm_bench/options.hpp"

#include "bench/arguments.hpp"
#include "engine/tensor/thread_pool.hpp"

#include <algorithm>
#include <cstdio>
#include <stdexcept>
#include <string_view>
#include <utility>

namespace millrace::bench
{

namespace
{

constexpr int kMostTokens = 1 << 20;
constexpr int kMostThreads = 1024;
constexpr int kMostRepetitions = 10'000;

std::vector<KvType>
parse_kv_types (std::string_view list)
{
  std::vector<KvType> types;
  for (const std::string &part : parts (list))
    types.push_back (parse_kv_type (part));
  return types;
}

/// A flag with a value.
void
set_option (Options &options, std::string_view flag, std::string_view value)
{
  if (flag == "-m" || flag == "--model")
    options.model = value;
  else if (flag == "-p" || flag == "--n-prompt")
    options.prompts = parse_numbers (flag, value, 0, kMostTokens);
  else if (flag == "-n" || flag == "--n-gen")
    options.generations = parse_numbers (flag, value, 0, kMostTokens);
  else if (flag == "-d" || flag == "--n-depth")
    options.depths = parse_numbers (flag, value, 0, kMostTokens);
  else if (flag == "-b" || flag == "--batch")
    options.streams = parse_numbers (flag, value, 1, kMaxStreams);
  else if (flag == "-t" || flag == "--threads")
    options.threads = parse_numbers (flag, value, 1, kMostThreads);
  else if (flag == "-ub" || flag == "--ubatch-size")
    options.pass_tokens = parse_number (flag, value, 1, kMostTokens);
  else if (flag == "-r" || flag == "--repetitions")
    options.repetitions = parse_number (flag, value, 1, kMostRepetitions);
  else if (flag == "-ctk" || flag == "--kv-type")
    options.kv_types = parse_kv_types (value);
  else if (flag == "--weights")
    options.weights = parse_weights (value);
  else if (flag == "-o" || flag == "--output")
    options.json = parse_output (value);
  else if (flag == "--peer")
    options.peers.emplace_back (value);
  else if (flag == "--peer-args")
    options.peer_arguments = value;
  else if (flag == "--peer-model")
    options.peer_model = value;
  else
    throw std::invalid_argument ("unknown option " + std::string (flag) + "; see --help");
}

} // namespace

Options
parse_options (std::span<char *const> arguments)
{
  Options options;
  options.threads = {usable_cores ()};
  for (size_t i = 0; i < arguments.size (); i++) {
    const std::string_view flag = arguments[i];
    if (flag == "--roofs") {
      options.roofs_only = true;
    } else if (flag == "--budget") {
      options.budget = true;
    } else if (flag == "--no-roofs") {
      options.without_roofs = true;
    } else {
      if (i + 1 == arguments.size ())
        throw std::invalid_argument (std::string (flag) + " is unknown or lacks a value; see --help");
      set_option (options, flag, arguments[++i]);
    }
  }
  if (options.model.empty () && !options.roofs_only)
    throw std::invalid_argument ("which model? -m FILE or FOLDER; see --help");
  return options;
}

void
print_help ()
{
  std::fputs (
      "llm-bench -m MODEL [OPTION…]   tokens a second of prompts (pp) and answers (tg)\n"
      "llm-bench --roofs [-t N,…]     what the machine can do at most\n"
      "\n"
      "Lists (N,…) are tried in every combination. Flags mean what they mean to llama-bench, except for -b.\n"
      "  -m FILE|FOLDER     the model\n"
      "  -p N,…             pp: tokens of a prompt, computed in passes of -ub with logits of the last token "
      "alone\n"
      "                     (default 512; 0: none)\n"
      "  -n N,…             tg: tokens of an answer, one by one with logits each (default 128; 0: none)\n"
      "  -d N,…             depth: positions before the first measured token (default 0). Their KV is not "
      "computed,\n"
      "                     which could take minutes: the first 16 positions are, and copied to all others. "
      "Speed\n"
      "                     does not depend on what KV says\n"
      "  -b N,…             streams, 1 to 16: sequences that get a token each in every step of tg; tokens/s "
      "are of\n"
      "                     all together (default 1; pp is of one sequence)\n"
      "  -t N,…             threads (default: cores that this process may use)\n"
      "  -ub N              tokens of one pass (default 512)\n"
      "  -ctk, --kv-type T,…  of keys and values: f32, f16 (default, as the peers'), bf16, q8, k8v4\n"
      "  --weights FORMAT   auto (default: as the file has them), f32, f16, bf16, int8, int4\n"
      "  -r N               repetitions (default 5), after a warm-up\n"
      "  -o table|json\n"
      "  --budget           say where the time goes: of each kind of operation, once more\n"
      "  --no-roofs         leave out measuring how fast memory is read\n"
      "\n"
      "  --peer COMMAND     a llama-bench (a shell command that takes its flags; may be given several "
      "times). It runs\n"
      "                     once for each repetition, in turn with ours; ratio: the median of ours / theirs "
      "of\n"
      "                     neighbours, so that slow phases of the machine hit both. Peers have no -b above "
      "1. A peer\n"
      "                     that cannot run a case is left out of it, and the exit code is then 1\n"
      "  --peer-args TEXT   more flags for all peers\n"
      "  --peer-model FILE  what peers load, if not MODEL\n"
      "\n"
      "GB/s: bytes of weights and KV that a step of tg must read, per second; \"of roof\": divided by what "
      "the\n"
      "same threads read of the weights, and do nothing else, between the steps (of models that caches may "
      "hold: of\n"
      "memory, at the start).\n",
      stdout);
}

} // namespace millrace::bench
