// What speculation brings on real prompts: every way of drafting against decoding without any.
//
//   llm-spec-bench -md models/demo-draft -o json
//   llm-spec-bench -c code-edit,json -s 1 --replay-costs /tmp/0.6b.gguf
//
// `--help` says what the flags mean. Exit code 0, 1 when answers with drafts differ from those without, 2 when something is
// wrong with the command line, the model or the prompts. Targets that are missed are told about and do not change it.
#include "bench/arguments.hpp"
#include "bench/speculation/report.hpp"

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string_view>

using namespace millrace;
using namespace millrace::bench;

namespace
{

constexpr double kIdleLoad = 0.5;

void
warn_when_busy ()
{
  double load = 0;
  if (getloadavg (&load, 1) == 1 && load > kIdleLoad)
    std::fprintf (stderr,
                  "llm-spec-bench: the machine is not idle (load %.1f): figures near a limit mean little\n",
                  load);
}

void
show (Suite &suite)
{
  for (size_t i = 0; i < suite.prompts ().size (); i++) {
    const Prompt &prompt = suite.prompts ()[i];
    const auto answer = suite.answers (i, 1)[0];
    std::printf ("===== %s/%s, temperature %g: %zu tokens, answer %zu\n%s\n",
                 std::string (prompt.category->name).c_str (), prompt.name.c_str (), prompt.temperature,
                 prompt.tokens.size (), answer.size (), suite.model ().tokenizer->decode (answer).c_str ());
  }
}

int
run (const SpecOptions &options)
{
  Suite suite (options);
  if (options.show) {
    show (suite);
    return 0;
  }
  warn_when_busy ();
  suite.warm_up ();
  if (!options.json)
    print_preface (suite, options);
  std::vector<RowResult> rows;
  const Category *last = nullptr;
  for (size_t i = 0; i < suite.prompts ().size (); i++) {
    const Category *category = suite.prompts ()[i].category;
    const bool random = category->nature == Nature::kRandom;
    if (!options.json && (!last || (random && last != category)))
      print_table_head (random);
    last = category;
    for (const int streams : options.streams) {
      rows.push_back (suite.measure (i, streams));
      if (!options.json)
        print_rows (rows.back ());
    }
  }
  const std::vector<Check> checks = check_all (rows, !options.replay_costs.empty ());
  if (options.json)
    print_spec_json (suite, options, rows, checks);
  else
    print_summary (rows, checks, suite.differing ());
  return suite.differing () > 0 ? 1 : 0;
}

} // namespace

int
main (int argc, char **argv)
{
  return run_program ("llm-spec-bench", argc, argv, print_spec_help,
                      [] (std::span<char *const> arguments) { return run (parse_spec_options (arguments)); });
}
