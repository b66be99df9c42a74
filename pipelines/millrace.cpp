// The program `millrace`: thin commands around pipeline strings that anyone could type.
//
//   millrace run "PROMPT"      completes a prompt; --print-pipeline prints the string that it runs
//   millrace run -             the prompt (or, with --jsonl, requests) from standard input
//   millrace serve             an OpenAI-compatible HTTP endpoint; --print-pipeline as well
// and commands about models' files, which run no pipeline:
//   millrace inspect MODEL
//   millrace download OWNER/NAME
//   millrace quantize IN OUT

#include "pipelines/commands.hpp"

#include <cstdio>
#include <string>

namespace
{

int
usage (FILE *to)
{
  std::fprintf (to, "Usage: millrace COMMAND\n\n"
                    "  run PROMPT|-   complete a prompt (see millrace run --help)\n"
                    "  serve          serve an OpenAI-compatible HTTP endpoint (see millrace serve --help)\n"
                    "  inspect        say what a model is and takes (see millrace inspect --help)\n"
                    "  download       fetch a model from a hub (see millrace download --help)\n"
                    "  quantize       write a model in other types (see millrace quantize --help)\n"
                    "  version        print the version\n");
  return to == stderr ? 2 : 0;
}

} // namespace

int
main (int argc, char **argv)
{
  const std::string command = argc > 1 ? argv[1] : "";
  if (command == "run")
    return millrace::command_run (argc - 1, argv + 1);
  if (command == "serve")
    return millrace::command_serve (argc - 1, argv + 1);
  if (command == "download")
    return millrace::command_download (argc - 1, argv + 1);
  if (command == "inspect")
    return millrace::command_inspect (argc - 1, argv + 1);
  if (command == "quantize")
    return millrace::command_quantize (argc - 1, argv + 1);
  if (command == "version" || command == "--version") {
    std::printf ("millrace %s\n", MILLRACE_VERSION);
    return 0;
  }
  return usage (command == "help" || command == "--help" ? stdout : stderr);
}
