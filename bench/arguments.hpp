// What the benchmark programs' command lines have in common. What is wrong throws std::invalid_argument.
#pragma once

#include "engine/backend/backend.hpp"

#include <cstdio>
#include <exception>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace millrace::bench
{

/// The parts of "a,b,c"; of an empty text one that is empty.
std::vector<std::string> parts (std::string_view list);
/// `flag` is named in errors.
int parse_number (std::string_view flag, std::string_view text, int least, int most);
/// A list of them.
std::vector<int> parse_numbers (std::string_view flag, std::string_view list, int least, int most);
WeightFormat parse_weights (std::string_view text);
KvType parse_kv_type (std::string_view text);
/// "table": false, "json": true.
bool parse_output (std::string_view text);

/// The main () of `program`: help when it is asked for, else run (arguments), whose errors are told. Returns the exit code.
template <typename Help, typename Run>
int
run_program (const char *program, int argc, char **argv, Help help, Run run)
{
  const auto arguments = std::span<char *const> (argv, static_cast<size_t> (argc)).subspan (1);
  for (const std::string_view argument : arguments) {
    if (argument == "-h" || argument == "--help") {
      help ();
      return 0;
    }
  }
  try {
    return run (arguments);
  } catch (const std::exception &error) {
    std::fprintf (stderr, "%s: %s\n", program, error.what ());
    return 2;
  }
}

} // namespace millrace::bench
