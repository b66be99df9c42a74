// Another program's llama-bench, run as a process for the same case.
#pragma once

#include "bench/llm_bench/speed_test.hpp"

#include <filesystem>
#include <optional>
#include <string>

namespace millrace::bench
{

class Peer
{
public:
  /// `command` is for the shell. Asks it for its flags; throws std::runtime_error when it cannot be run.
  Peer (std::string command, const std::string &arguments);

  const std::string &command () const { return command_; }
  /// Whether it has such a test: several streams, and prompts behind a depth without -d, are missing.
  bool can (const TestCase &test) const;
  /// One repetition: tokens a second. Throws std::runtime_error with the command when it fails or says nothing of use.
  double run (const std::filesystem::path &model, const TestCase &test) const;

private:
  std::string command_;
  std::string arguments_;
  bool has_depth_ = false; ///< knows -d; ik_llama.cpp has -gp instead
};

} // namespace millrace::bench
